// SPDX-License-Identifier: Apache-2.0
// The formulas of papers against the numbers that the papers print.
#include "tools/llmc/PublishedMemory.h"

#include <gtest/gtest.h>

namespace llmc {
namespace {

struct ZeroRow {
  double billionParameters;
  int dataRanks;
  double gigabytes[3]; // stages 1 to 3
};

// Rajbhandari et al. 2020, table 1: 16 bytes a parameter, K = 12.
constexpr ZeroRow kZeroRows[] = {{7.5, 64, {31.4, 16.6, 1.88}},
                                 {128, 64, {536, 284, 32}},
                                 {1000, 1024, {4011, 2013, 15.6}}};
/// Three digits are printed.
constexpr double kZeroTolerance = 5e-3;

TEST(PublishedModelStates, AgreeWithTheTable) {
  for (const ZeroRow& row : kZeroRows) {
    double parameters = row.billionParameters * 1e9;
    EXPECT_EQ(publishedModelStates(parameters, row.dataRanks, 0).sum(),
              16 * parameters);
    for (int stage = 1; stage <= 3; ++stage)
      EXPECT_NEAR(
          publishedModelStates(parameters, row.dataRanks, stage).sum() / 1e9,
          row.gigabytes[stage - 1], kZeroTolerance * row.gigabytes[stage - 1])
          << row.billionParameters << " B, stage " << stage;
  }
}

double bytesOf(const PublishedLayer& layer, const char* recompute) {
  auto bytes = publishedLayerActivations(layer, recompute);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes->bytes;
}

// Korthikanti et al. 2022, section 5: 5as/h is 80 for GPT-3 and 64 for MT-NLG,
// so that selective recomputation saves 70 % and 65 % of the activations.
TEST(PublishedActivations, AgreeWithTheTextOnGpt3AndMtNlg) {
  struct Model {
    PublishedLayer layer;
    double matrix, saved;
  };

  for (const Model& model : {Model{{2048, 1, 12288, 96}, 80, .70},
                             Model{{2048, 1, 20480, 128}, 64, .65}}) {
    PublishedLayer layer = model.layer;
    double sbh = layer.sequence * layer.microBatch * layer.hidden;
    EXPECT_DOUBLE_EQ(bytesOf(layer, "none"), sbh * (34 + model.matrix));
    layer.tensorRanks = 8;
    layer.isSequenceParallel = true;
    EXPECT_NEAR(1 - bytesOf(layer, "selective") / bytesOf(layer, "none"),
                model.saved, 5e-3);
  }
}

// Table 2 of the paper, with numbers small enough to work out by hand: s=4,
// b=3, h=8, a=2, so that sbh = 96 and 5as/h = 5.
TEST(PublishedActivations, AgreeWithTheTableOfFormulas) {
  PublishedLayer layer{4, 3, 8, 2};
  EXPECT_DOUBLE_EQ(bytesOf(layer, "none"), 96 * 39);
  EXPECT_DOUBLE_EQ(bytesOf(layer, "selective"), 96 * 34);
  EXPECT_DOUBLE_EQ(bytesOf(layer, "full"), 2 * 96);
  layer.tensorRanks = 4;
  EXPECT_DOUBLE_EQ(bytesOf(layer, "none"), 96 * (10 + 6 + 1.25));
  EXPECT_DOUBLE_EQ(bytesOf(layer, "selective"), 96 * (10 + 6));
  EXPECT_DOUBLE_EQ(bytesOf(layer, "full"), 2 * 96);
  layer.isSequenceParallel = true;
  EXPECT_DOUBLE_EQ(bytesOf(layer, "none"), 24 * 39);
  EXPECT_DOUBLE_EQ(bytesOf(layer, "selective"), 24 * 34);
  EXPECT_DOUBLE_EQ(bytesOf(layer, "full"), 2 * 96);
  EXPECT_FALSE(publishedLayerActivations(layer, "some").ok());
}

} // namespace
} // namespace llmc
