// SPDX-License-Identifier: Apache-2.0
// The numbers of one model, whichever file they came from. A family reads them
// (readDecoder() and what is its own) and builds the model from them. It holds
// no default of any family: those are in the family's file.
#pragma once

#include "absl/strings/string_view.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llmc {

enum class Activation { Silu, Gelu, GeluTanh, Relu };
enum class RopeScaling { None, Linear, Llama3 };

struct RopeConfig {
  double theta = 10000;
  bool isInterleaved = false;
  RopeScaling scaling = RopeScaling::None;
  double factor = 1;
  double lowFreqFactor = 1;
  double highFreqFactor = 4;
  int64_t originalContext = 8192;
};

struct ModelConfig {
  std::string family;
  int64_t vocab = 0;
  int64_t hidden = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
  int64_t intermediate = 0;
  int64_t context = 0;
  double normEps = 0;
  double initStd = 0.02;
  bool isHeadTied = false;       // the output head is the embedding table
  bool hasAttentionBias = false; // q, k and v
  bool isTransposed = false;     // the checkpoint holds weights as [in, out]
  Activation activation = Activation::Silu;
  RopeConfig rope;
  RopeConfig localRope;         // of layers with a window, where it differs
  std::vector<int64_t> windows; // [layers]; 0: a row sees all rows before it
  double attentionScale = 0;
  double attentionSoftCap = 0; // 0: none
  double finalSoftCap = 0;     // 0: none
  std::optional<int64_t> bosToken;
  std::vector<int64_t> eosTokens;
};

} // namespace llmc
