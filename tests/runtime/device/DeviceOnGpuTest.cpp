// SPDX-License-Identifier: Apache-2.0
// The cuda device on a real GPU: what every device must do, and code that a
// plan brings.
#include "runtime/base/Error.h"
#include "tests/runtime/device/DeviceSuite.h"

namespace llmrt::testing {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<Device> gpu() {
  auto device = createCudaDevice({});
  EXPECT_TRUE(device.ok()) << device.status();
  return device.ok() ? *std::move(device) : nullptr;
}

INSTANTIATE_TEST_SUITE_P(Gpu, DeviceSuite, ::testing::Values(gpu));

// out[row] = 7 for rows of the block's tile, by the ABI of kernels.
constexpr const char* kPtx = R"(
.version 8.0
.target sm_80
.address_size 64
.visible .entry writeValue(.param .u64 args, .param .u64 rows, .param .u64 cols,
                           .param .u64 rowTile, .param .u64 colTile,
                           .param .u64 scratch)
{
  .reg .u64 %d<6>;
  .reg .u32 %r<4>;
  .reg .pred %p<2>;
  ld.param.u64 %d0, [args];
  cvta.to.global.u64 %d0, %d0;
  ld.global.u64 %d1, [%d0];
  mov.u32 %r0, %ctaid.x;
  cvt.u64.u32 %d2, %r0;
  setp.ge.u64 %p0, %d2, %d1;
  mov.u32 %r1, %tid.x;
  setp.ne.u32 %p1, %r1, 0;
  or.pred %p0, %p0, %p1;
  @%p0 ret;
  ld.global.u64 %d3, [%d0+8];
  cvta.to.global.u64 %d3, %d3;
  shl.b64 %d4, %d2, 2;
  add.u64 %d5, %d3, %d4;
  mov.u32 %r2, 7;
  st.global.u32 [%d5], %r2;
  ret;
}
)";

class GpuDevice : public DeviceSuite {};

TEST_P(GpuDevice, LoadsCodeOfAPlan) {
  const std::string text = kPtx;
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  auto code = device_->loadCode({bytes, text.size()});
  ASSERT_TRUE(code.ok()) << code.status();
  auto kernel = device_->findKernel(*code, "writeValue");
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  int32_t* out = upload<int32_t>({1, 1, 1, 1, 1});
  const std::vector<uint64_t> values = {3, reinterpret_cast<uint64_t>(out)};
  uint64_t* words = upload(values);
  device_->launch({*kernel, words, values.data(), 5, 1, 1, 1, 0});
  EXPECT_THAT(download(out, 5), ::testing::ElementsAre(7, 7, 7, 1, 1));
  EXPECT_FALSE(device_->findKernel(*code, "nothing").ok());
  std::vector<uint8_t> rubbish(100, 7);
  EXPECT_THAT(device_->loadCode(rubbish).status().message(),
              HasSubstr("LLMC-E0804"));
}

TEST_P(GpuDevice, ChoosesCodeForItsArchitecture) {
  const std::vector<CodeOption> options = {{"cpu", 2}, {"cuda-ptx", 80}};
  auto chosen = device_->chooseCode(options);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(*chosen, 1);
}

INSTANTIATE_TEST_SUITE_P(Gpu, GpuDevice, ::testing::Values(gpu));

} // namespace
} // namespace llmrt::testing
