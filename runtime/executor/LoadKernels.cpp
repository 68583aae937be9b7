// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/LoadKernels.h"

#include "runtime/base/Error.h"

#include <optional>

namespace llmrt {
namespace {

absl::StatusOr<CodeId> loadCode(const fb::Plan& plan, Device& device) {
  std::vector<CodeOption> options;
  for (const fb::CodeObject* code : *plan.code())
    options.push_back(
        {code->target()
             ? absl::string_view(code->target()->data(), code->target()->size())
             : absl::string_view(),
         code->level()});
  LLMRT_ASSIGN_OR_RETURN(int best, device.chooseCode(options));
  const auto* image = plan.code()->Get(best)->image();
  return device.loadCode({image->data(), image->size()});
}

} // namespace

absl::StatusOr<std::vector<KernelId>> loadKernels(const fb::Plan& plan,
                                                  Device& device) {
  std::optional<CodeId> code;
  std::vector<KernelId> kernels;
  for (unsigned i = 0; plan.kernels() && i < plan.kernels()->size(); ++i) {
    const fb::Kernel* kernel = plan.kernels()->Get(i);
    absl::string_view name(kernel->name()->data(), kernel->name()->size());
    KernelId id;
    if (kernel->kind() == fb::KernelKind::Generated) {
      if (!code) { // the reader has checked that there is some
        LLMRT_ASSIGN_OR_RETURN(code, loadCode(plan, device));
      }
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
