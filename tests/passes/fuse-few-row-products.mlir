// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-fuse-few-row-products --mlir-print-local-scope | %FileCheck %s

module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 1]
  llm.cache @keys : memref<4x64x2x6xbf16>
  llm.cache @values : memref<4x64x2x6xbf16> values

  // Norm, three products with biases, norm of heads, rope and both appends are one launch
  // before attention; its grid has 5 query, 2 key and 2 value heads.
  // CHECK-LABEL: func.func @heads
  // CHECK-SAME: (%[[IDS:[a-z0-9]*]]: tensor<3x1xi32>, %[[X:[a-z0-9]*]]: tensor<3x16xf32>, %[[BT:[a-z0-9]*]]: tensor<3x2xi32>, %[[N:[a-z0-9]*]]: tensor<16xf32>, %[[WQ:[a-z0-9]*]]: tensor<30x16xbf16>, %[[WK:[a-z0-9]*]]: tensor<12x16xbf16>, %[[WV:[a-z0-9]*]]: tensor<12x16xbf16>, %[[BQ:[a-z0-9]*]]: tensor<30xf32>, %[[NQ:[a-z0-9]*]]: tensor<6xf32>, %[[NK:[a-z0-9]*]]: tensor<6xf32>
  // CHECK-NOT: llm.rms_norm
  // CHECK: %[[KC:.*]] = llm.get_cache @keys
  // CHECK: %[[VC:.*]] = llm.get_cache @values
  // CHECK-NEXT: %[[TABLE:.*]] = plan.rope_table
  // CHECK-NEXT: %[[Q:.*]] = plan.launch @linear_rope_append(%[[N]], %[[X]], %[[WQ]], %[[BQ]], %[[WK]], %[[WV]], %[[NQ]], %[[NK]], %[[TABLE]], %[[IDS]], %[[BT]]) inout(%[[KC]], %[[VC]]) {columns = 9 : i64
  // CHECK-SAME: input_words = ["normWeight", "x", "w0", "bias0", "w1", "w2", "headNormQ", "headNormK", "table", "positions", "blockTable"], result_words = ["qOut"], rows = #plan.word<rows, value = 1>
  // CHECK-SAME: scalars = {D = 6 : i64, H = 5 : i64, K = 16 : i64, KV = 2 : i64, R = 1 : i64, cacheDtype = 1 : i64, dtype = 1 : i64, eps = 1.000000e-05 : f64, headEps = 5.000000e-01 : f64, headOffset = 1.000000e+00 : f64, ldo = 30 : i64, ldx = 16 : i64, norm = 1 : i64, offset = 0.000000e+00 : f64, pages = 2 : i64, rotary = 4 : i64, style = 0 : i64}
  // CHECK-NEXT: llm.cached_attention %[[Q]], %[[KC]], %[[VC]]
  func.func @heads(%ids: tensor<3x1xi32>, %x: tensor<3x16xf32>, %bt: tensor<3x2xi32>, %n: tensor<16xf32>, %wq: tensor<30x16xbf16>, %wk: tensor<12x16xbf16>, %wv: tensor<12x16xbf16>, %bq: tensor<30xf32>, %nq: tensor<6xf32>, %nk: tensor<6xf32>) -> tensor<3x30xf32> attributes {llm.entry = "decode"} {
    %kc = llm.get_cache @keys : memref<4x64x2x6xbf16>
    %vc = llm.get_cache @values : memref<4x64x2x6xbf16>
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<3x16xf32>, tensor<16xf32>
    %1 = llm.linear %0, %wq : (tensor<3x16xf32>, tensor<30x16xbf16>) -> tensor<3x30xf32>
    %2 = llm.add_bias %1, %bq : tensor<3x30xf32>, tensor<30xf32>
    %3 = llm.linear %0, %wk : (tensor<3x16xf32>, tensor<12x16xbf16>) -> tensor<3x12xf32>
    %4 = llm.linear %0, %wv : (tensor<3x16xf32>, tensor<12x16xbf16>) -> tensor<3x12xf32>
    %5 = llm.rms_norm %2, %nq {eps = 0.5 : f64, offset = 1.0 : f64} : tensor<3x30xf32>, tensor<6xf32>
    %6 = llm.rms_norm %3, %nk {eps = 0.5 : f64, offset = 1.0 : f64} : tensor<3x12xf32>, tensor<6xf32>
    %7 = llm.rope %5, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 4, theta = 10000.0>} : tensor<3x30xf32>, tensor<3x1xi32>
    %8 = llm.rope %6, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 4, theta = 10000.0>} : tensor<3x12xf32>, tensor<3x1xi32>
    llm.kv_append %kc, %8, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    llm.kv_append %vc, %4, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    %9 = llm.cached_attention %7, %kc, %vc, %ids, %bt {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<3x30xf32>, memref<4x64x2x6xbf16>, memref<4x64x2x6xbf16>, tensor<3x1xi32>, tensor<3x2xi32>) -> tensor<3x30xf32>
    return %9 : tensor<3x30xf32>
  }

  // Learned positions: nothing turns, and the launch has no table.
  // CHECK-LABEL: func.func @learned_positions
  // CHECK: plan.launch @linear_rope_append(
  // CHECK-NOT: rotary
  // CHECK-NOT: llm.kv_append
  // CHECK: llm.cached_attention
  func.func @learned_positions(%ids: tensor<3x1xi32>, %x: tensor<3x16xf32>, %bt: tensor<3x2xi32>, %w: tensor<12x16xbf16>) -> tensor<3x12xf32> attributes {llm.entry = "other"} {
    %kc = llm.get_cache @keys : memref<4x64x2x6xbf16>
    %vc = llm.get_cache @values : memref<4x64x2x6xbf16>
    %0 = llm.linear %x, %w : (tensor<3x16xf32>, tensor<12x16xbf16>) -> tensor<3x12xf32>
    %1 = llm.linear %x, %w : (tensor<3x16xf32>, tensor<12x16xbf16>) -> tensor<3x12xf32>
    %2 = llm.linear %x, %w : (tensor<3x16xf32>, tensor<12x16xbf16>) -> tensor<3x12xf32>
    llm.kv_append %kc, %1, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    llm.kv_append %vc, %2, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    %3 = llm.cached_attention %0, %kc, %vc, %ids, %bt {group = 1 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<3x12xf32>, memref<4x64x2x6xbf16>, memref<4x64x2x6xbf16>, tensor<3x1xi32>, tensor<3x2xi32>) -> tensor<3x12xf32>
    return %3 : tensor<3x12xf32>
  }

  // Norm, gate and partner, activation are one launch; product, norm behind it and residual
  // the other.
  // CHECK-LABEL: func.func @mlp
  // CHECK-SAME: (%[[IDS:[a-z0-9]*]]: tensor<3x1xi32>, %[[X:[a-z0-9]*]]: tensor<3x16xf32>, %[[N:[a-z0-9]*]]: tensor<16xf32>, %[[P:[a-z0-9]*]]: tensor<16xf32>, %[[G:[a-z0-9]*]]: tensor<20x16xf32>, %[[U:[a-z0-9]*]]: tensor<20x16xf32>, %[[D:[a-z0-9]*]]: tensor<16x20xf32>
  // CHECK-NEXT: %[[A:.*]] = plan.launch @fused_linear(%[[N]], %[[X]], %[[G]], %[[U]]) inout() {columns = 20 : i64, inout_words = [], input_words = ["normWeight", "x", "w0", "w1"], result_words = ["y"], rows = #plan.word<rows, value = 1>, scalars = {K = 16 : i64, N = 20 : i64, activation = 3 : i64, count = 2 : i64, dtype = 0 : i64, eps = 1.000000e-05 : f64, ldx = 16 : i64, ldy = 20 : i64, norm = 1 : i64, offset = 1.000000e+00 : f64}}
  // CHECK-NEXT: %[[R:.*]] = plan.launch @fused_linear(%[[A]], %[[D]], %[[P]], %[[X]]) inout() {columns = 16 : i64, inout_words = [], input_words = ["x", "w0", "postWeight", "residual"], result_words = ["y"], rows = #plan.word<rows, value = 1>, scalars = {K = 20 : i64, N = 16 : i64, count = 1 : i64, dtype = 0 : i64, ldr = 16 : i64, ldx = 20 : i64, ldy = 16 : i64, postEps = 5.000000e-01 : f64, postOffset = 1.000000e+00 : f64}}
  // CHECK-NEXT: return %[[R]]
  func.func @mlp(%ids: tensor<3x1xi32>, %x: tensor<3x16xf32>, %n: tensor<16xf32>, %p: tensor<16xf32>, %g: tensor<20x16xf32>, %u: tensor<20x16xf32>, %d: tensor<16x20xf32>) -> tensor<3x16xf32> attributes {llm.entry = "decode"} {
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64, offset = 1.0 : f64} : tensor<3x16xf32>, tensor<16xf32>
    %1 = llm.linear %0, %g : (tensor<3x16xf32>, tensor<20x16xf32>) -> tensor<3x20xf32>
    %2 = llm.linear %0, %u : (tensor<3x16xf32>, tensor<20x16xf32>) -> tensor<3x20xf32>
    %3 = llm.gated_activation %1, %2 {kind = #llm.activation<gelu_tanh>} : tensor<3x20xf32>
    %4 = llm.linear %3, %d : (tensor<3x20xf32>, tensor<16x20xf32>) -> tensor<3x16xf32>
    %5 = llm.rms_norm %4, %p {eps = 0.5 : f64, offset = 1.0 : f64} : tensor<3x16xf32>, tensor<16xf32>
    %6 = llm.add %x, %5 : tensor<3x16xf32>
    return %6 : tensor<3x16xf32>
  }

  // Layer norm, bias and activation.
  // CHECK-LABEL: func.func @layer_norm
  // CHECK-NEXT: plan.launch @fused_linear({{.*}}) inout() {columns = 20 : i64, inout_words = [], input_words = ["normWeight", "normBias", "x", "w0", "bias0"], {{.*}}activation = 2 : i64{{.*}}norm = 2 : i64
  // CHECK-NEXT: return
  func.func @layer_norm(%ids: tensor<3x1xi32>, %x: tensor<3x16xf32>, %n: tensor<16xf32>, %w: tensor<20x16xf32>, %b: tensor<20xf32>) -> tensor<3x20xf32> attributes {llm.entry = "decode"} {
    %0 = llm.layer_norm %x, %n, %n {eps = 1.0e-5 : f64} : tensor<3x16xf32>, tensor<16xf32>, tensor<16xf32>
    %1 = llm.linear %0, %w : (tensor<3x16xf32>, tensor<20x16xf32>) -> tensor<3x20xf32>
    %2 = llm.add_bias %1, %b : tensor<3x20xf32>, tensor<20xf32>
    %3 = llm.activation %2 {kind = #llm.activation<gelu>} : tensor<3x20xf32>
    return %3 : tensor<3x20xf32>
  }

  // A norm that something else reads is made once; a product that something else reads has
  // nothing behind it.
  // CHECK-LABEL: func.func @other_readers
  // CHECK: %[[N:.*]] = llm.rms_norm
  // CHECK-NEXT: %[[Y:.*]] = plan.launch @fused_linear(%[[N]], %{{.*}}, %[[N]]) {{.*}}input_words = ["x", "w0", "residual"]
  // CHECK-NEXT: %[[Z:.*]] = plan.launch @fused_linear(%[[Y]], %{{[^,]*}}) inout()
  // CHECK-NEXT: %[[S:.*]] = llm.add %[[N]], %[[Z]]
  // CHECK-NEXT: return %[[S]], %[[Z]]
  func.func @other_readers(%ids: tensor<3x1xi32>, %x: tensor<3x16xf32>, %n: tensor<16xf32>, %w: tensor<16x16xf32>) -> (tensor<3x16xf32>, tensor<3x16xf32>) attributes {llm.entry = "decode"} {
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<3x16xf32>, tensor<16xf32>
    %1 = llm.linear %0, %w : (tensor<3x16xf32>, tensor<16x16xf32>) -> tensor<3x16xf32>
    %2 = llm.add %0, %1 : tensor<3x16xf32>
    %3 = llm.linear %2, %w : (tensor<3x16xf32>, tensor<16x16xf32>) -> tensor<3x16xf32>
    %4 = llm.add %0, %3 : tensor<3x16xf32>
    return %4, %3 : tensor<3x16xf32>, tensor<3x16xf32>
  }

  // Products of the same rows with nothing around them are for merge-linears; a row of 9
  // floats is no multiple of 16 bytes.
  // CHECK-LABEL: func.func @left_alone
  // CHECK-NOT: plan.launch
  // CHECK: return
  func.func @left_alone(%ids: tensor<3x1xi32>, %x: tensor<3x16xf32>, %v: tensor<16x16xf32>, %y: tensor<3x9xf32>, %w: tensor<9x9xf32>) -> (tensor<3x16xf32>, tensor<3x16xf32>, tensor<3x9xf32>) attributes {llm.entry = "decode"} {
    %0 = llm.linear %x, %v : (tensor<3x16xf32>, tensor<16x16xf32>) -> tensor<3x16xf32>
    %1 = llm.linear %x, %v : (tensor<3x16xf32>, tensor<16x16xf32>) -> tensor<3x16xf32>
    %2 = llm.linear %y, %w : (tensor<3x9xf32>, tensor<9x9xf32>) -> tensor<3x9xf32>
    %3 = llm.add %2, %y : tensor<3x9xf32>
    return %0, %1, %3 : tensor<3x16xf32>, tensor<3x16xf32>, tensor<3x9xf32>
  }

  // More than 16 rows are bound by arithmetic.
  // CHECK-LABEL: func.func @many_rows
  // CHECK-NOT: plan.launch
  // CHECK: return
  func.func @many_rows(%ids: tensor<1x17xi32>, %x: tensor<17x16xf32>, %w: tensor<16x16xf32>) -> tensor<17x16xf32> attributes {llm.entry = "prefill"} {
    %0 = llm.linear %x, %w : (tensor<17x16xf32>, tensor<16x16xf32>) -> tensor<17x16xf32>
    %1 = llm.add %x, %0 : tensor<17x16xf32>
    return %1 : tensor<17x16xf32>
  }
}
