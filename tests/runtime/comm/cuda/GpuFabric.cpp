// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/comm/cuda/GpuFabric.h"

#include <gtest/gtest.h>

#include <cuda_runtime_api.h>
#include <vector>

namespace llmrt::testing {
namespace {

/// The host's buffers of one call, on the GPU. Memory is of the stream, so that
/// giving it back waits for nobody.
class OnGpu {
public:
  explicit OnGpu(cudaStream_t stream) : stream_(stream) {}

  ~OnGpu() {
    for (const Range& range : ranges_)
      check(cudaFreeAsync(range.copy, stream_));
    check(cudaStreamSynchronize(stream_));
  }

  /// Returns the place of a buffer. One that lies in an earlier one is part of
  /// its copy.
  void* move(const void* host, int64_t sizeBytes) {
    const auto* begin = static_cast<const uint8_t*>(host);
    for (const Range& range : ranges_)
      if (begin >= range.host && begin + sizeBytes <= range.host + range.size)
        return range.copy + (begin - range.host);
    Range range{begin, sizeBytes, nullptr};
    check(cudaMallocAsync(reinterpret_cast<void**>(&range.copy),
                          std::max<int64_t>(sizeBytes, 1), stream_));
    if (sizeBytes > 0)
      check(cudaMemcpyAsync(range.copy, host, sizeBytes, cudaMemcpyDefault,
                            stream_));
    ranges_.push_back(range);
    return range.copy;
  }

  void fetch(void* host, int64_t sizeBytes) {
    if (sizeBytes > 0)
      check(cudaMemcpyAsync(host, move(host, sizeBytes), sizeBytes,
                            cudaMemcpyDefault, stream_));
  }

  static void check(cudaError_t result) {
    EXPECT_EQ(result, cudaSuccess) << cudaGetErrorString(result);
  }

private:
  struct Range {
    const uint8_t* host;
    int64_t size;
    uint8_t* copy;
  };

  cudaStream_t stream_;
  std::vector<Range> ranges_;
};

class GpuCommunicator final : public Communicator {
public:
  GpuCommunicator(std::unique_ptr<Communicator> inner, Fabric& fabric,
                  cudaStream_t stream)
      : inner_(std::move(inner)), fabric_(fabric), stream_(stream) {}

  int rank() const override { return inner_->rank(); }

  int size() const override { return inner_->size(); }

  int64_t reservedBytes() const override { return inner_->reservedBytes(); }

  absl::Status allGatherBucket(absl::Span<const BucketPart> parts,
                               const CollectiveTag& tag) override {
    OnGpu gpu(stream_);
    std::vector<BucketPart> moved;
    for (const BucketPart& part : parts) {
      void* recv = gpu.move(part.recv, part.size * size());
      moved.push_back({gpu.move(part.send, part.size), recv, part.size});
    }
    absl::Status status = finish(inner_->allGatherBucket(moved, onStream(tag)));
    for (const BucketPart& part : parts)
      gpu.fetch(part.recv, part.size * size());
    return status;
  }

  absl::Status reduceScatterBucket(absl::Span<const BucketPart> parts,
                                   DType dtype,
                                   const CollectiveTag& tag) override {
    OnGpu gpu(stream_);
    const int64_t elementBytes = dtypeBytes(dtype);
    std::vector<BucketPart> moved;
    for (const BucketPart& part : parts) {
      const void* send = gpu.move(part.send, part.size * elementBytes * size());
      moved.push_back(
          {send, gpu.move(part.recv, part.size * elementBytes), part.size});
    }
    absl::Status status =
        finish(inner_->reduceScatterBucket(moved, dtype, onStream(tag)));
    for (const BucketPart& part : parts)
      gpu.fetch(part.recv, part.size * elementBytes);
    return status;
  }

  absl::Status allReduce(void* data, int64_t numElements, DType dtype,
                         const CollectiveTag& tag) override {
    OnGpu gpu(stream_);
    const int64_t sizeBytes = numElements * dtypeBytes(dtype);
    absl::Status status = finish(inner_->allReduce(
        gpu.move(data, sizeBytes), numElements, dtype, onStream(tag)));
    gpu.fetch(data, sizeBytes);
    return status;
  }

  absl::Status allToAll(const void* send, void* recv, int64_t sizeBytes,
                        const CollectiveTag& tag) override {
    OnGpu gpu(stream_);
    const void* from = gpu.move(send, sizeBytes * size());
    absl::Status status = finish(inner_->allToAll(
        from, gpu.move(recv, sizeBytes * size()), sizeBytes, onStream(tag)));
    gpu.fetch(recv, sizeBytes * size());
    return status;
  }

  absl::Status broadcast(void* data, int64_t sizeBytes, int root,
                         const CollectiveTag& tag) override {
    OnGpu gpu(stream_);
    absl::Status status = finish(inner_->broadcast(
        gpu.move(data, sizeBytes), sizeBytes, root, onStream(tag)));
    gpu.fetch(data, sizeBytes);
    return status;
  }

  absl::Status exchange(const void* send, int64_t sendBytes, int sendPeer,
                        void* recv, int64_t recvBytes, int recvPeer,
                        const CollectiveTag& tag) override {
    OnGpu gpu(stream_);
    const void* from = sendPeer < 0 ? send : gpu.move(send, sendBytes);
    void* to = recvPeer < 0 ? recv : gpu.move(recv, recvBytes);
    absl::Status status = finish(inner_->exchange(
        from, sendBytes, sendPeer, to, recvBytes, recvPeer, onStream(tag)));
    if (recvPeer >= 0)
      gpu.fetch(recv, recvBytes);
    return status;
  }

  absl::Status barrier(const CollectiveTag& tag) override {
    return finish(inner_->barrier(onStream(tag)));
  }

private:
  CollectiveTag onStream(CollectiveTag tag) {
    tag.stream = stream_;
    return tag;
  }

  absl::Status finish(const absl::Status& status) {
    OnGpu::check(cudaStreamSynchronize(stream_));
    return status.ok() ? fabric_.abortStatus() : status;
  }

  std::unique_ptr<Communicator> inner_;
  Fabric& fabric_;
  cudaStream_t stream_;
};

class GpuFabric final : public Fabric {
public:
  explicit GpuFabric(Fabric& inner) : inner_(inner) {
    OnGpu::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  }

  ~GpuFabric() override { OnGpu::check(cudaStreamDestroy(stream_)); }

  int rank() const override { return inner_.rank(); }

  int size() const override { return inner_.size(); }

  const char* name() const override { return inner_.name(); }

  absl::StatusOr<std::unique_ptr<Communicator>>
  createCommunicator(absl::Span<const int> worldRanks) override {
    auto made = inner_.createCommunicator(worldRanks);
    if (!made.ok())
      return made.status();
    return std::make_unique<GpuCommunicator>(std::move(*made), inner_, stream_);
  }

  void abort(const absl::Status& reason) override { inner_.abort(reason); }

  absl::Status abortStatus() const override { return inner_.abortStatus(); }

private:
  Fabric& inner_;
  cudaStream_t stream_ = nullptr;
};

} // namespace

void runOnGpuStream(Fabric& fabric, const std::function<void(Fabric&)>& body) {
  GpuFabric onGpu(fabric);
  body(onGpu);
}

} // namespace llmrt::testing
