// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/LoadKernels.h"

#include "runtime/base/Error.h"
#include "runtime/kernels/KernelRegistry.h"

#include <algorithm>
#include <optional>

namespace llmrt {

absl::StatusOr<std::vector<KernelId>> loadKernels(const fb::Plan& plan,
                                                  Device& device) {
  const fb::CodeObject* best = nullptr;
  int lowest = INT32_MAX;
  for (unsigned i = 0; plan.code() && i < plan.code()->size(); ++i) {
    const fb::CodeObject* code = plan.code()->Get(i);
    lowest = std::min(lowest, code->level());
    if (code->level() <= device.codeLevel() &&
        (!best || code->level() > best->level()))
      best = code;
  }
  std::optional<CodeId> code;
  if (best) {
    LLMRT_ASSIGN_OR_RETURN(code,
                           device.loadCode(absl::Span<const uint8_t>(
                               best->image()->data(), best->image()->size())));
  }
  std::vector<KernelId> kernels;
  for (unsigned i = 0; plan.kernels() && i < plan.kernels()->size(); ++i) {
    const fb::Kernel* kernel = plan.kernels()->Get(i);
    absl::string_view name(kernel->name()->data(), kernel->name()->size());
    bool isGenerated = kernel->kind() == fb::KernelKind::Generated;
    if (isGenerated && !code) {
      auto levelName = [](int level) {
        return std::string(cpuLevelName(static_cast<CpuLevel>(level)));
      };
      return makeError(ErrorCode::CpuTooOld,
                       absl::StrCat("the plan has code for ", levelName(lowest),
                                    " and better, the ranks have ",
                                    levelName(device.codeLevel())),
                       "compile for this machine, or unset LLMRT_CPU_LEVEL");
    }
    KernelId id;
    if (isGenerated) {
      LLMRT_ASSIGN_OR_RETURN(id, device.findKernel(*code, name));
    } else {
      LLMRT_ASSIGN_OR_RETURN(
          id, device.findHandTunedKernel(name, kernel->version()));
    }
    kernels.push_back(id);
  }
  return kernels;
}

} // namespace llmrt
