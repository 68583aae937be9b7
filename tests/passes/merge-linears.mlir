// SPDX-License-Identifier: Apache-2.0
// The input is what select-kernels and outline-kernels leave.
// RUN: llmc-opt %s --llmc-select-kernels --llmc-outline-kernels --llmc-merge-linears --mlir-print-debuginfo --mlir-print-local-scope | %FileCheck %s

module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 1]
  llm.param @q : tensor<54x18xf32>
  llm.param @k : tensor<18x18xf32>
  llm.param @b : tensor<18x18xbf16>
  // Three products of one input are one launch; the fourth waits for a launch of its own,
  // and a product with other weights never joins. 54, 18 and 18 outputs are rounded up to
  // panels of 32.
  // CHECK-LABEL: func.func @qkv
  // CHECK-SAME: %[[X:[a-z0-9]*]]: tensor<6x18xf32>
  // CHECK: %[[Q:.*]] = llm.get_param @q
  // CHECK: %[[K:.*]] = llm.get_param @k
  // CHECK: %[[M:.*]]:3 = plan.launch @linear(%[[X]], %[[Q]], %[[K]], %[[K]]) inout() {columns = 128 : i64, inout_words = [], input_words = ["x", "w0", "w1", "w2"], result_words = ["y0", "y1", "y2"], {{.*}}scalars = {K = 18 : i64, N0 = 54 : i64, N1 = 18 : i64, N2 = 18 : i64, count = 3 : i64, dtype = 0 : i64, layout = 1 : i64, ldx = 18 : i64, ldy0 = 54 : i64, ldy1 = 18 : i64, ldy2 = 18 : i64, zip = 0 : i64}}
  // CHECK-SAME: loc(fused["q", "k", "v"])
  // CHECK: %[[F:.*]] = plan.launch @linear({{.*}}count = 1 : i64{{.*}}loc("fourth")
  // CHECK: %[[B:.*]] = plan.launch @linear({{.*}}dtype = 1 : i64{{.*}}loc("bf16")
  // CHECK: return %[[M]]#0, %[[M]]#1, %[[M]]#2, %[[F]], %[[B]]
  func.func @qkv(%ids: tensor<1x6xi32>, %x: tensor<6x18xf32>) -> (tensor<6x54xf32>, tensor<6x18xf32>, tensor<6x18xf32>, tensor<6x18xf32>, tensor<6x18xf32>) attributes {llm.entry = "prefill"} {
    %q = llm.get_param @q : tensor<54x18xf32>
    %k = llm.get_param @k : tensor<18x18xf32>
    %b = llm.get_param @b : tensor<18x18xbf16>
    %0 = llm.linear %x, %q : (tensor<6x18xf32>, tensor<54x18xf32>) -> tensor<6x54xf32> loc("q")
    %1 = llm.linear %x, %k : (tensor<6x18xf32>, tensor<18x18xf32>) -> tensor<6x18xf32> loc("k")
    %2 = llm.linear %x, %k : (tensor<6x18xf32>, tensor<18x18xf32>) -> tensor<6x18xf32> loc("v")
    %3 = llm.linear %x, %k : (tensor<6x18xf32>, tensor<18x18xf32>) -> tensor<6x18xf32> loc("fourth")
    %4 = llm.linear %x, %b : (tensor<6x18xf32>, tensor<18x18xbf16>) -> tensor<6x18xf32> loc("bf16")
    return %0, %1, %2, %3, %4 : tensor<6x54xf32>, tensor<6x18xf32>, tensor<6x18xf32>, tensor<6x18xf32>, tensor<6x18xf32>
  }

  // Two products that one elementwise kernel reads are zipped: columns are those of one.
  // CHECK-LABEL: func.func @gate
  // CHECK: %[[M:.*]]:2 = plan.launch @linear({{.*}} {columns = 32 : i64, {{.*}}count = 2 : i64, {{.*}}zip = 1 : i64}
  // CHECK: plan.launch @{{.*}}(%[[M]]#0, %[[M]]#1)
  func.func @gate(%ids: tensor<1x6xi32>, %x: tensor<6x18xf32>) -> tensor<6x18xf32> attributes {llm.entry = "score"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %0 = llm.linear %x, %k : (tensor<6x18xf32>, tensor<18x18xf32>) -> tensor<6x18xf32> loc("gate")
    %1 = llm.linear %x, %k : (tensor<6x18xf32>, tensor<18x18xf32>) -> tensor<6x18xf32> loc("up")
    %2 = llm.gated_activation %0, %1 {kind = #llm.activation<silu>} : tensor<6x18xf32>
    return %2 : tensor<6x18xf32>
  }

  // The first product is read before the second could run: they stay apart.
  // CHECK-LABEL: func.func @chain
  // CHECK: plan.launch @linear({{.*}}count = 1
  // CHECK: plan.launch @scale_18
  // CHECK: plan.launch @linear({{.*}}count = 1
  func.func @chain(%ids: tensor<1x6xi32>, %x: tensor<6x18xf32>) -> tensor<6x18xf32> attributes {llm.entry = "decode"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %0 = llm.linear %x, %k : (tensor<6x18xf32>, tensor<18x18xf32>) -> tensor<6x18xf32>
    %1 = llm.scale %0 {factor = 2.0 : f64} : tensor<6x18xf32>
    %2 = llm.linear %x, %k : (tensor<6x18xf32>, tensor<18x18xf32>) -> tensor<6x18xf32>
    %3 = llm.add %1, %2 : tensor<6x18xf32>
    return %3 : tensor<6x18xf32>
  }
}
