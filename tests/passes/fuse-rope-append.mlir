// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-fuse-rope-append --mlir-print-debuginfo --mlir-print-local-scope | %FileCheck %s

module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  llm.cache @keys : memref<4x64x2x6xbf16>
  llm.cache @values : memref<4x64x2x6xbf16> values
  // Four ops become one launch over five query and two key/value heads; the table of two
  // pages of positions is a constant. The launch carries the four locations.
  // CHECK-LABEL: func.func @fused
  // CHECK-SAME: (%[[IDS:.*]]: tensor<3x1xi32> loc{{.*}}, %[[Q:.*]]: tensor<3x30xf32> loc{{.*}}, %[[K:.*]]: tensor<3x12xf32> loc{{.*}}, %[[V:.*]]: tensor<3x12xf32> loc{{.*}}, %[[BT:.*]]: tensor<3x2xi32>
  // CHECK: %[[KC:.*]] = llm.get_cache @keys
  // CHECK: %[[VC:.*]] = llm.get_cache @values
  // CHECK-NEXT: %[[TABLE:.*]] = plan.rope_table #llm.rope_params<rotary = 4, theta = 1.000000e+04> -> tensor<128x2x2xf32> loc("rope_table")
  // CHECK-NEXT: %[[R:.*]] = plan.launch @rope_append(%[[Q]], %[[K]], %[[V]], %[[IDS]], %[[TABLE]], %[[BT]]) inout(%[[KC]], %[[VC]]) {columns = 7 : i64, inout_words = ["keyCache", "valueCache"], input_words = ["q", "k", "v", "positions", "table", "blockTable"], result_words = ["qOut"], rows = #plan.word<rows, value = 1>, scalars = {D = 6 : i64, H = 5 : i64, KV = 2 : i64, R = 1 : i64, dtype = 1 : i64, ldk = 12 : i64, ldo = 30 : i64, ldq = 30 : i64, ldv = 12 : i64, pages = 2 : i64, rotary = 4 : i64, style = 0 : i64}}
  // CHECK-SAME: loc(fused["q.rope", "k.rope", "k.append", "v.append"])
  // CHECK-NEXT: llm.cached_attention %[[R]], %[[KC]], %[[VC]]
  func.func @fused(%ids: tensor<3x1xi32>, %q: tensor<3x30xf32>, %k: tensor<3x12xf32>, %v: tensor<3x12xf32>, %bt: tensor<3x2xi32>) -> tensor<3x30xf32> attributes {llm.entry = "decode"} {
    %kc = llm.get_cache @keys : memref<4x64x2x6xbf16>
    %vc = llm.get_cache @values : memref<4x64x2x6xbf16>
    %0 = llm.rope %q, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 4, theta = 10000.0>} : tensor<3x30xf32>, tensor<3x1xi32> loc("q.rope")
    %1 = llm.rope %k, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 4, theta = 10000.0>} : tensor<3x12xf32>, tensor<3x1xi32> loc("k.rope")
    llm.kv_append %kc, %1, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32> loc("k.append")
    llm.kv_append %vc, %v, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32> loc("v.append")
    %2 = llm.cached_attention %0, %kc, %vc, %ids, %bt {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64, head_offset = #dist.by_coordinate<"tp", [0, 2]>} : (tensor<3x30xf32>, memref<4x64x2x6xbf16>, memref<4x64x2x6xbf16>, tensor<3x1xi32>, tensor<3x2xi32>) -> tensor<3x30xf32>
    return %2 : tensor<3x30xf32>
  }

  // Learned positions: nothing turns, the appends stay.
  // CHECK-LABEL: func.func @learned_positions
  // CHECK-NOT: plan.launch
  // CHECK: llm.kv_append
  // CHECK: llm.kv_append
  func.func @learned_positions(%ids: tensor<3x1xi32>, %q: tensor<3x12xf32>, %bt: tensor<3x2xi32>) -> tensor<3x12xf32> attributes {llm.entry = "prefill"} {
    %kc = llm.get_cache @keys : memref<4x64x2x6xbf16>
    %vc = llm.get_cache @values : memref<4x64x2x6xbf16>
    llm.kv_append %kc, %q, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    llm.kv_append %vc, %q, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    %2 = llm.cached_attention %q, %kc, %vc, %ids, %bt {group = 1 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<3x12xf32>, memref<4x64x2x6xbf16>, memref<4x64x2x6xbf16>, tensor<3x1xi32>, tensor<3x2xi32>) -> tensor<3x12xf32>
    return %2 : tensor<3x12xf32>
  }

  // Queries and keys that turn differently stay apart.
  // CHECK-LABEL: func.func @two_thetas
  // CHECK-NOT: plan.launch
  // CHECK: llm.rope
  // CHECK: llm.rope
  func.func @two_thetas(%ids: tensor<3x1xi32>, %q: tensor<3x12xf32>, %bt: tensor<3x2xi32>) -> tensor<3x12xf32> attributes {llm.entry = "score"} {
    %kc = llm.get_cache @keys : memref<4x64x2x6xbf16>
    %vc = llm.get_cache @values : memref<4x64x2x6xbf16>
    %0 = llm.rope %q, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 4, theta = 10000.0>} : tensor<3x12xf32>, tensor<3x1xi32>
    %1 = llm.rope %q, %ids {head_dim = 6 : i64, params = #llm.rope_params<rotary = 4, theta = 500.0>} : tensor<3x12xf32>, tensor<3x1xi32>
    llm.kv_append %kc, %1, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    llm.kv_append %vc, %q, %ids, %bt : memref<4x64x2x6xbf16>, tensor<3x12xf32>, tensor<3x1xi32>, tensor<3x2xi32>
    %2 = llm.cached_attention %0, %kc, %vc, %ids, %bt {group = 1 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<3x12xf32>, memref<4x64x2x6xbf16>, memref<4x64x2x6xbf16>, tensor<3x1xi32>, tensor<3x2xi32>) -> tensor<3x12xf32>
    return %2 : tensor<3x12xf32>
  }
}
