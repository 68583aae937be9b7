// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-select-kernels | %FileCheck %s

// A matrix that a product reads is stored in panels, one that is only looked up in rows.
// CHECK: llm.param @tied : {{.*}} {plan.layout = "panel"}
// CHECK: llm.param @positions : {{.*}} {plan.layout = "row_major"}
// CHECK: llm.param @norm : {{.*}} {plan.layout = "row_major"}
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  llm.param @tied : tensor<31x18xbf16> split #llm.split<dim = 0> local tensor<16x18xbf16> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 16], counts = [16, 15]>
  llm.param @positions : tensor<128x18xf32>
  llm.param @norm : tensor<18xf32>
  llm.cache @keys : memref<4x64x2x6xbf16>
  llm.cache @values : memref<4x64x2x6xbf16> values

  // The ends of a step. Vocabulary cut in two: the embedding knows where its part begins,
  // logits are gathered as blocks and interleaved, without the padding. 16 outputs of bf16
  // are one panel of 64 columns.
  // CHECK-LABEL: func.func @ends
  // CHECK: %[[E:.*]] = llm.get_param @tied
  // CHECK: plan.launch @embedding({{.*}}, %[[E]]) inout() {columns = 18 : i64, {{.*}}rows = #plan.word<rows, value = 1>, scalars = {C = 18 : i64, dtype = 1 : i64, layout = 1 : i64, vocabBegin = #dist.by_coordinate<"tp", [0, 16]>, vocabCount = 16 : i64}}
  // CHECK: dist.all_reduce
  // CHECK: %[[PART:.*]] = plan.launch @linear(%{{.*}}, %[[E]]) inout() {columns = 64 : i64, inout_words = [], input_words = ["x", "w0"], result_words = ["y0"], rows = #plan.word<rows, value = 1>, scalars = {K = 18 : i64, N0 = 16 : i64, count = 1 : i64, dtype = 1 : i64, layout = 1 : i64, ldx = 18 : i64, ldy0 = 16 : i64, zip = 0 : i64}}
  // CHECK: %[[BLOCKS:.*]] = dist.all_gather %[[PART]] ["tp"] dim 0 {pass = "p", subject = "logits"} : (tensor<3x16xf32>) -> tensor<6x16xf32>
  // CHECK: %[[LOGITS:.*]] = plan.launch @unstack(%[[BLOCKS]]) inout() {columns = 31 : i64, {{.*}}scalars = {C = 31 : i64, Cl = 16 : i64, T = 2 : i64, rowStride = 3 : i64}}
  // CHECK: plan.launch @sample(%[[LOGITS]], {{.*}} {columns = 1 : i64, {{.*}}input_words = ["logits", "temperature", "topK", "topP", "seed", "sequenceId", "positions"], result_words = ["out"]{{.*}}scalars = {V = 31 : i64}}
  func.func @ends(%ids: tensor<3x1xi32>, %real: tensor<3xf32>, %ints: tensor<3xi32>, %bt: tensor<3x2xi32>, %seed: tensor<3xi64>) -> (tensor<3x31xf32>, tensor<3xi32>) attributes {llm.entry = "decode"} {
    %e = llm.get_param @tied : tensor<16x18xbf16>
    %0 = llm.embedding %ids, %e {vocab_begin = #dist.by_coordinate<"tp", [0, 16]>} : (tensor<3x1xi32>, tensor<16x18xbf16>) -> tensor<3x18xf32>
    %1 = dist.all_reduce %0 ["tp"] : tensor<3x18xf32>
    %2 = llm.linear %1, %e : (tensor<3x18xf32>, tensor<16x18xbf16>) -> tensor<3x16xf32>
    %3 = dist.all_gather %2 ["tp"] dim 1 {pass = "p", subject = "logits"} : (tensor<3x16xf32>) -> tensor<3x31xf32>
    %4 = llm.sample %3, %real, %ints, %real, %seed, %ints, %ints : (tensor<3x31xf32>, tensor<3xf32>, tensor<3xi32>, tensor<3xf32>, tensor<3xi64>, tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
    return %3, %4 : tensor<3x31xf32>, tensor<3xi32>
  }

  // A chunk of a layer. What row op fusion left becomes a region of its own; appends know
  // whether they write keys or values; selected rows are sequences.
  // CHECK-LABEL: func.func @chunk
  // CHECK: plan.launch @embedding({{.*}}scalars = {C = 18 : i64, dtype = 0 : i64, layout = 0 : i64, vocabBegin = 0 : i64, vocabCount = 128 : i64}
  // CHECK: %[[N:.*]] = plan.fused(%{{.*}}, %{{.*}}) : (tensor<6x18xf32>, tensor<18xf32>) -> tensor<6x18xf32> {
  // CHECK: llm.rms_norm
  // CHECK: %[[TABLE:.*]] = plan.rope_table {{.*}} -> tensor<128x2x3xf32>
  // CHECK: %[[Q:.*]] = plan.launch @rope(%[[N]], %{{.*}}, %[[TABLE]]) inout() {columns = 3 : i64, {{.*}}scalars = {D = 6 : i64, heads = 3 : i64, inverse = 0 : i64, ldo = 18 : i64, ldx = 18 : i64, rotary = 6 : i64, style = 1 : i64}}
  // CHECK: plan.launch @kv_append(%{{.*}}, %{{.*}}, %{{.*}}) inout(%[[KC:.*]]) {columns = 2 : i64, inout_words = ["cache"], input_words = ["x", "positions", "blockTable"], result_words = [], {{.*}}scalars = {D = 6 : i64, KV = 2 : i64, R = 6 : i64, dtype = 1 : i64, kind = 0 : i64, ldx = 12 : i64, pages = 2 : i64}}
  // CHECK: plan.launch @kv_append({{.*}}kind = 1 : i64
  // CHECK: plan.launch @attention(%[[Q]], {{.*}}) inout(%[[KC]], %{{.*}}) {columns = 3 : i64, {{.*}}scalars = {D = 6 : i64, H = 3 : i64, KV = 2 : i64, R = 6 : i64, dtype = 1 : i64, group = 3 : i64, headOffset = #dist.by_coordinate<"tp", [0, 2]>, ldo = 18 : i64, ldq = 18 : i64, pages = 2 : i64, scale = 2.500000e-01 : f64, softcap = 5.000000e+01 : f64, window = 9 : i64}}
  // CHECK: plan.launch @select_rows({{.*}} {columns = 18 : i64, {{.*}}rows = #plan.word<sequences, value = 1>, scalars = {C = 18 : i64, R = 6 : i64}}
  func.func @chunk(%ids: tensor<1x6xi32>, %valid: tensor<1xi32>, %kv: tensor<6x12xf32>, %bt: tensor<1x2xi32>) -> tensor<1x18xf32> attributes {llm.entry = "prefill"} {
    %kc = llm.get_cache @keys : memref<4x64x2x6xbf16>
    %vc = llm.get_cache @values : memref<4x64x2x6xbf16>
    %n = llm.get_param @norm : tensor<18xf32>
    %p = llm.get_param @positions : tensor<128x18xf32>
    %x = llm.embedding %ids, %p : (tensor<1x6xi32>, tensor<128x18xf32>) -> tensor<6x18xf32>
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<6x18xf32>, tensor<18xf32>
    %q = llm.rope %0, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 6, theta = 10000.0, interleaved = true>} : tensor<6x18xf32>, tensor<1x6xi32>
    llm.kv_append %kc, %kv, %ids, %bt : memref<4x64x2x6xbf16>, tensor<6x12xf32>, tensor<1x6xi32>, tensor<1x2xi32>
    llm.kv_append %vc, %kv, %ids, %bt : memref<4x64x2x6xbf16>, tensor<6x12xf32>, tensor<1x6xi32>, tensor<1x2xi32>
    %a = llm.cached_attention %q, %kc, %vc, %ids, %bt {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64, window = 9 : i64, softcap = 50.0 : f64, head_offset = #dist.by_coordinate<"tp", [0, 2]>} : (tensor<6x18xf32>, memref<4x64x2x6xbf16>, memref<4x64x2x6xbf16>, tensor<1x6xi32>, tensor<1x2xi32>) -> tensor<6x18xf32>
    %s = llm.select_rows %a, %valid : (tensor<6x18xf32>, tensor<1xi32>) -> tensor<1x18xf32>
    return %s : tensor<1x18xf32>
  }
}
