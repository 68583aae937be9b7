// SPDX-License-Identifier: Apache-2.0
// The input is what propagate-tensor-split decided.
// RUN: llmc-opt %s -split-input-file --llmc-propagate-tensor-split --llmc-partition-tensor-split | %FileCheck %s

// 31 tokens on three ranks: runs of 11, the last one of 9 and padding. The embedding
// learns where its part begins.
// CHECK: llm.param @embed : tensor<31x18xf32> split <dim = 0> local tensor<11x18xf32> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 11, 22], counts = [11, 11, 9]>
// CHECK: llm.param @norm : tensor<18xf32>{{$}}
// CHECK-LABEL: @vocabulary
// CHECK: llm.get_param @embed : tensor<11x18xf32>
// CHECK: llm.embedding %{{.*}} {vocab_begin = #dist.by_coordinate<"tp", [0, 11, 22]>} : (tensor<1x6xi32>, tensor<11x18xf32>) -> tensor<6x18xf32>
// CHECK: dist.reshard %{{.*}} : (tensor<6x18xf32>) -> tensor<2x18xf32>
// CHECK: %[[N:.*]] = llm.rms_norm {{.*}} : tensor<2x18xf32>, tensor<18xf32>
// CHECK: dist.reshard %[[N]] {{.*}} : (tensor<2x18xf32>) -> tensor<6x18xf32>
// CHECK: %[[LOGITS:.*]] = llm.linear {{.*}} -> tensor<6x11xf32>
// CHECK: dist.reshard %[[LOGITS]] {{.*}} : (tensor<6x11xf32>) -> tensor<6x31xf32>
// CHECK-NOT: dist.sharding = [
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 3]
  llm.param @embed : tensor<31x18xf32> split #llm.split<dim = 0>
  llm.param @norm : tensor<18xf32>
  func.func @vocabulary(%ids: tensor<1x6xi32>) -> tensor<6x31xf32> attributes {llm.entry = "score"} {
    %e = llm.get_param @embed : tensor<31x18xf32>
    %x = llm.embedding %ids, %e : (tensor<1x6xi32>, tensor<31x18xf32>) -> tensor<6x18xf32>
    %n = llm.get_param @norm : tensor<18xf32>
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<6x18xf32>, tensor<18xf32>
    %1 = llm.linear %0, %e : (tensor<6x18xf32>, tensor<31x18xf32>) -> tensor<6x31xf32>
    return %1 : tensor<6x31xf32>
  }
}

// -----

// Nine query heads of width 6 on two ranks: five and four. Rank 1 begins in the middle of
// the second group, so that both ranks hold key/value head 1.
// CHECK: llm.param @q : {{.*}} local tensor<30x18xf32> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 30], counts = [30, 24]>
// CHECK: llm.param @k : {{.*}} local tensor<12x18xf32> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 6], counts = [12, 12]>
// CHECK: llm.param @o : {{.*}} local tensor<18x30xf32> slice #dist.slice<axis = "tp", dim = 1, offsets = [0, 30], counts = [30, 24]>
// CHECK: llm.cache @keys : memref<2x64x2x6xf32>
// CHECK-LABEL: func.func private @layer
// CHECK-SAME: tensor<30x18xf32>, %{{.*}}: tensor<12x18xf32>, %{{.*}}: tensor<18x30xf32>, %{{.*}}: tensor<2x1xi32>, %{{.*}}: memref<2x64x2x6xf32>) -> tensor<2x18xf32>
// CHECK: llm.kv_append {{.*}} : memref<2x64x2x6xf32>, tensor<2x12xf32>
// CHECK: llm.cached_attention {{.*}} head_offset = #dist.by_coordinate<"tp", [0, 2]>{{.*}} -> tensor<2x30xf32>
// CHECK-LABEL: @two_ranks
// CHECK: call @layer({{.*}}tensor<30x18xf32>, tensor<12x18xf32>, tensor<18x30xf32>
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  llm.param @q : tensor<54x18xf32> split #llm.split<dim = 0, unit = 6>
  llm.param @k : tensor<18x18xf32> split #llm.split<dim = 0, unit = 6, group = 3>
  llm.param @o : tensor<18x54xf32> split #llm.split<dim = 1, unit = 6>
  llm.cache @keys : memref<2x64x3x6xf32> split #llm.split<dim = 2, group = 3>
  func.func private @layer(%x: tensor<2x18xf32>, %p: tensor<2x1xi32>, %wq: tensor<54x18xf32>, %wk: tensor<18x18xf32>, %wo: tensor<18x54xf32>, %bt: tensor<2x1xi32>, %kc: memref<2x64x3x6xf32>) -> tensor<2x18xf32> attributes {llm.block} {
    %q = llm.linear %x, %wq : (tensor<2x18xf32>, tensor<54x18xf32>) -> tensor<2x54xf32>
    %k = llm.linear %x, %wk : (tensor<2x18xf32>, tensor<18x18xf32>) -> tensor<2x18xf32>
    llm.kv_append %kc, %k, %p, %bt : memref<2x64x3x6xf32>, tensor<2x18xf32>, tensor<2x1xi32>, tensor<2x1xi32>
    %a = llm.cached_attention %q, %kc, %kc, %p, %bt {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<2x54xf32>, memref<2x64x3x6xf32>, memref<2x64x3x6xf32>, tensor<2x1xi32>, tensor<2x1xi32>) -> tensor<2x54xf32>
    %y = llm.linear %a, %wo : (tensor<2x54xf32>, tensor<18x54xf32>) -> tensor<2x18xf32>
    return %y : tensor<2x18xf32>
  }
  func.func @two_ranks(%ids: tensor<2x1xi32>, %x: tensor<2x18xf32>, %bt: tensor<2x1xi32>) -> tensor<2x18xf32> attributes {llm.entry = "decode"} {
    %wq = llm.get_param @q : tensor<54x18xf32>
    %wk = llm.get_param @k : tensor<18x18xf32>
    %wo = llm.get_param @o : tensor<18x54xf32>
    %kc = llm.get_cache @keys : memref<2x64x3x6xf32>
    %0 = call @layer(%x, %ids, %wq, %wk, %wo, %bt, %kc) : (tensor<2x18xf32>, tensor<2x1xi32>, tensor<54x18xf32>, tensor<18x18xf32>, tensor<18x54xf32>, tensor<2x1xi32>, memref<2x64x3x6xf32>) -> tensor<2x18xf32>
    return %0 : tensor<2x18xf32>
  }
}

// -----

// Eight ranks, nine heads: runs of two, one rank has one head and three have none. They
// hold padding only, and their part of every sum is zero.
// CHECK: llm.param @q : {{.*}} offsets = [0, 12, 24, 36, 48, 0, 0, 0], counts = [12, 12, 12, 12, 6, 0, 0, 0]>
// CHECK: llm.param @k : {{.*}} offsets = [0, 0, 6, 12, 12, 0, 0, 0], counts = [6, 12, 6, 6, 6, 0, 0, 0]>
// CHECK-LABEL: @eight_ranks
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 8]
  llm.param @q : tensor<54x18xf32> split #llm.split<dim = 0, unit = 6>
  llm.param @k : tensor<18x18xf32> split #llm.split<dim = 0, unit = 6, group = 3>
  llm.param @o : tensor<18x54xf32> split #llm.split<dim = 1, unit = 6>
  llm.cache @keys : memref<2x64x3x6xf32> split #llm.split<dim = 2, group = 3>
  func.func @eight_ranks(%ids: tensor<2x1xi32>, %x: tensor<2x18xf32>, %bt: tensor<2x1xi32>) -> tensor<2x18xf32> attributes {llm.entry = "decode"} {
    %wq = llm.get_param @q : tensor<54x18xf32>
    %wk = llm.get_param @k : tensor<18x18xf32>
    %wo = llm.get_param @o : tensor<18x54xf32>
    %kc = llm.get_cache @keys : memref<2x64x3x6xf32>
    %q = llm.linear %x, %wq : (tensor<2x18xf32>, tensor<54x18xf32>) -> tensor<2x54xf32>
    %k = llm.linear %x, %wk : (tensor<2x18xf32>, tensor<18x18xf32>) -> tensor<2x18xf32>
    llm.kv_append %kc, %k, %ids, %bt : memref<2x64x3x6xf32>, tensor<2x18xf32>, tensor<2x1xi32>, tensor<2x1xi32>
    %a = llm.cached_attention %q, %kc, %kc, %ids, %bt {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<2x54xf32>, memref<2x64x3x6xf32>, memref<2x64x3x6xf32>, tensor<2x1xi32>, tensor<2x1xi32>) -> tensor<2x54xf32>
    %y = llm.linear %a, %wo : (tensor<2x54xf32>, tensor<18x54xf32>) -> tensor<2x18xf32>
    return %y : tensor<2x18xf32>
  }
}

// -----

// One tensor-split rank: nothing changes.
// CHECK: llm.param @embed : tensor<31x18xf32> split <dim = 0>{{$}}
// CHECK-LABEL: @one_rank
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [4, 2, 1]
  llm.param @embed : tensor<31x18xf32> split #llm.split<dim = 0>
  func.func @one_rank(%ids: tensor<1x6xi32>) -> tensor<6x18xf32> attributes {llm.entry = "score"} {
    %e = llm.get_param @embed : tensor<31x18xf32>
    %x = llm.embedding %ids, %e : (tensor<1x6xi32>, tensor<31x18xf32>) -> tensor<6x18xf32>
    return %x : tensor<6x18xf32>
  }
}
