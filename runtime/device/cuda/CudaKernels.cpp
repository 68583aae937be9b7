// SPDX-License-Identifier: Apache-2.0
#include "runtime/device/cuda/CudaKernels.h"

#include "runtime/base/Error.h"
#include "runtime/device/cuda/CudaError.h"
#include "runtime/kernels/cuda/CudaKernelImages.h"

namespace llmrt {
namespace {

/// Threads of a block of generated code, whatever its tile.
constexpr int kGeneratedThreads = 256;
/// Dynamic shared memory that every launch may have without asking: 48 KiB less
/// what a kernel declares.
constexpr int64_t kPlainSharedBytes = 16 * 1024;
constexpr int64_t kMostBlocks = INT32_MAX;

absl::StatusOr<cudaLibrary_t> loadLibrary(const void* image,
                                          const std::string& what) {
  cudaLibrary_t library = nullptr;
  absl::Status status =
      cudaStatus(cudaLibraryLoadData(&library, image, nullptr, nullptr, 0,
                                     nullptr, nullptr, 0),
                 absl::StrCat("loading ", what));
  if (!status.ok())
    return status;
  // The driver may read the image only now, and say only now that it is none.
  unsigned numKernels = 0;
  LLMRT_RETURN_IF_ERROR(
      cudaStatus(cudaLibraryGetKernelCount(&numKernels, library),
                 absl::StrCat("loading ", what)));
  return library;
}

absl::StatusOr<cudaKernel_t> findIn(cudaLibrary_t library,
                                    const std::string& symbol) {
  cudaKernel_t kernel = nullptr;
  LLMRT_RETURN_IF_ERROR(
      cudaStatus(cudaLibraryGetKernel(&kernel, library, symbol.c_str()),
                 absl::StrCat("finding kernel ", symbol)));
  return kernel;
}

absl::StatusOr<dim3> gridOf(int64_t tiles, int parts) {
  if (tiles > kMostBlocks)
    return makeError(ErrorCode::DeviceUnsupported,
                     absl::StrCat("a launch has ", tiles,
                                  " blocks, a GPU takes ", kMostBlocks),
                     "compile for a smaller batch");
  return dim3(static_cast<unsigned>(tiles), parts, 1);
}

int64_t tilesOf(int64_t extent, int64_t tile) {
  return tile > 0 ? (extent + tile - 1) / tile : 1;
}

} // namespace

CudaKernels::~CudaKernels() {
  for (cudaLibrary_t library : libraries_)
    (void)cudaLibraryUnload(library);
}

absl::StatusOr<CodeId> CudaKernels::loadCode(absl::Span<const uint8_t> image) {
  // Machine code begins as an ELF file. Anything else is text, which the
  // library wants with a zero at its end.
  const bool isElf = image.size() > 4 && image[0] == 0x7F && image[1] == 'E';
  std::string text;
  if (!isElf)
    text.assign(image.begin(), image.end());
  LLMRT_ASSIGN_OR_RETURN(
      cudaLibrary_t library,
      loadLibrary(isElf ? static_cast<const void*>(image.data()) : text.c_str(),
                  "the code of the plan"));
  libraries_.push_back(library);
  return static_cast<CodeId>(libraries_.size() - 1);
}

absl::StatusOr<KernelId> CudaKernels::findKernel(CodeId code,
                                                 absl::string_view symbol) {
  LLMRT_ASSIGN_OR_RETURN(
      cudaKernel_t function,
      findIn(libraries_[static_cast<int>(code)], std::string(symbol)));
  kernels_.push_back({function, nullptr});
  return static_cast<KernelId>(kernels_.size() - 1);
}

absl::StatusOr<KernelId>
CudaKernels::findHandTunedKernel(absl::string_view name, int version) {
  const std::string_view view(name.data(), name.size());
  const CudaKernelInfo* info = findCudaKernel(view);
  if (!info || info->version != version)
    return makeError(
        ErrorCode::KernelMissing,
        absl::StrCat("there is no cuda kernel ", name, " version ", version),
        "compile the plan again with this version's llmc");
  kernels_.push_back({nullptr, info});
  return static_cast<KernelId>(kernels_.size() - 1);
}

int64_t CudaKernels::scratchBytes(KernelId kernel,
                                  const uint64_t* words) const {
  const CudaKernelInfo* info = kernels_[static_cast<int>(kernel)].info;
  return info ? cudaScratchBytes(info->name, words) : 0;
}

absl::StatusOr<cudaKernel_t>
CudaKernels::findForm(const CudaLaunchShape& shape) {
  auto known = forms_.find(shape.symbol);
  if (known != forms_.end())
    return known->second;
  auto file = files_.find(shape.file);
  if (file == files_.end()) {
    for (const CudaKernelImage& image : cudaKernelImages()) {
      if (shape.file != image.file)
        continue;
      LLMRT_ASSIGN_OR_RETURN(cudaLibrary_t library,
                             loadLibrary(image.image.data(), shape.file));
      libraries_.push_back(library);
      file = files_.emplace(shape.file, library).first;
    }
  }
  if (file == files_.end())
    return makeError(
        ErrorCode::KernelMissing,
        absl::StrCat("this program lacks the kernels of ", shape.file),
        "build it again");
  LLMRT_ASSIGN_OR_RETURN(cudaKernel_t kernel,
                         findIn(file->second, shape.symbol));
  forms_.emplace(shape.symbol, kernel);
  return kernel;
}

absl::StatusOr<PreparedLaunch>
CudaKernels::prepareHandTuned(const CudaKernelInfo& info,
                              const DeviceLaunch& launch) {
  LLMRT_ASSIGN_OR_RETURN(CudaLaunchShape shape,
                         cudaLaunchShape(info, launch.hostArguments,
                                         launch.rows, launch.cols, features_));
  return prepareForm(shape);
}

absl::StatusOr<PreparedLaunch>
CudaKernels::prepareForm(const CudaLaunchShape& shape) {
  LLMRT_ASSIGN_OR_RETURN(cudaKernel_t kernel, findForm(shape));
  if (shape.sharedBytes > kPlainSharedBytes)
    LLMRT_RETURN_IF_ERROR(
        cudaStatus(cudaKernelSetAttributeForDevice(
                       kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                       static_cast<int>(shape.sharedBytes), gpu_),
                   absl::StrCat("giving ", shape.symbol, " ", shape.sharedBytes,
                                " bytes of shared memory on sm_", level_)));
  LLMRT_ASSIGN_OR_RETURN(
      dim3 grid, gridOf(shape.rowTiles() * shape.colTiles(), shape.parts));
  PreparedLaunch prepared = {
      kernel,        shape.rows,        shape.cols,
      shape.rowTile, shape.colTile,     grid,
      shape.threads, shape.sharedBytes, shape.mayBeginEarly};
  if (shape.before) {
    LLMRT_ASSIGN_OR_RETURN(PreparedLaunch before, prepareForm(*shape.before));
    prepared.before = std::make_shared<PreparedLaunch>(std::move(before));
  }
  return prepared;
}

absl::StatusOr<PreparedLaunch>
CudaKernels::prepareGenerated(cudaKernel_t function,
                              const DeviceLaunch& launch) {
  LLMRT_ASSIGN_OR_RETURN(dim3 grid,
                         gridOf(tilesOf(launch.rows, launch.rowTile) *
                                    tilesOf(launch.cols, launch.colTile),
                                1));
  return PreparedLaunch{
      function, launch.rows,       launch.cols, launch.rowTile, launch.colTile,
      grid,     kGeneratedThreads, 0,           false};
}

absl::StatusOr<const PreparedLaunch*>
CudaKernels::prepare(const DeviceLaunch& launch) {
  auto known = launches_.find(launch.arguments);
  if (known != launches_.end() && known->second.rows == launch.rows &&
      known->second.cols == launch.cols)
    return &known->second.launch;
  const Kernel& kernel = kernels_[static_cast<int>(launch.kernel)];
  absl::StatusOr<PreparedLaunch> prepared =
      kernel.info ? prepareHandTuned(*kernel.info, launch)
                  : prepareGenerated(kernel.function, launch);
  if (!prepared.ok())
    return prepared.status();
  KnownLaunch& entry = launches_[launch.arguments];
  entry = {launch.rows, launch.cols, *prepared};
  return &entry.launch;
}

} // namespace llmrt
