// SPDX-License-Identifier: Apache-2.0
#include "runtime/executor/CreateDevice.h"

#include "runtime/base/Error.h"

namespace llmrt {
namespace {

absl::string_view viewOf(const ::flatbuffers::String* text) {
  return text ? absl::string_view(text->data(), text->size())
              : absl::string_view();
}

} // namespace

absl::Status checkMesh(const fb::Plan& plan, const Fabric& fabric) {
  if (numRanks(plan) == fabric.size())
    return absl::OkStatus();
  std::string mesh;
  for (const fb::Axis* axis : *plan.axes())
    absl::StrAppend(&mesh, mesh.empty() ? "" : ",", viewOf(axis->name()), "=",
                    axis->size());
  return makeError(ErrorCode::MeshMismatch,
                   absl::StrCat("the plan is for ", numRanks(plan),
                                " ranks (mesh ", mesh, "), ", fabric.size(),
                                " are running"),
                   absl::StrCat("start ", numRanks(plan),
                                " ranks, or compile for ", fabric.size()));
}

absl::Status checkDevice(const Fabric& fabric, const Device& device) {
  if (device.sharesHostMemory())
    return absl::OkStatus();
  if (fabric.size() > 1 && absl::string_view(fabric.name()) == "mpi")
    return makeError(
        ErrorCode::DeviceUnsupported,
        absl::StrCat("ranks of a cuda plan communicate by nccl, or share a GPU "
                     "as threads of one process; ",
                     fabric.size(), " ranks are connected by ", fabric.name()),
        "start it in one of these ways, or compile for one rank");
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Device>>
createDevice(const fb::Plan& plan, const ExecutorOptions& options) {
  absl::string_view target = viewOf(plan.target());
  if (target == "cpu")
    return createCpuDevice({.numThreads = options.numThreads});
  if (target == "cuda")
    return createCudaDevice(
        {.gpu = options.gpu, .tuningCache = options.tuningCache});
  return makeError(ErrorCode::DeviceUnsupported,
                   absl::StrCat("the plan is for target '", target,
                                "', this program runs cpu and cuda plans"),
                   "compile with --target=cpu or --target=cuda");
}

} // namespace llmrt
