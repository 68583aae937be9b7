// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-propagate-tensor-split -verify-diagnostics | %FileCheck %s

// Columns of one product and rows of the next are cut; what is between works on a part,
// the sum over ranks is made whole. 20 columns do not divide by 3: types stay global.
// CHECK-LABEL: @columns_then_rows
// CHECK: %[[U:.*]] = llm.get_param @up {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 0, unit = 1, group = 1, global = 20>]>]} : tensor<20x18xf32>
// CHECK: %[[N:.*]] = llm.rms_norm %{{.*}}, %{{.*}} {eps
// CHECK: %[[Y:.*]] = llm.linear %[[N]], %[[U]] {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 1, unit = 1, group = 1, global = 20>]>]}
// CHECK: %[[A:.*]] = llm.activation %[[Y]] {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 1
// CHECK: %[[PART:.*]] = llm.linear %[[A]], %{{.*}} {dist.sharding = [#dist.sharding<partial["tp"]>]}
// CHECK: %[[SUM:.*]] = dist.reshard %[[PART]] from <partial["tp"]> to <> {pass = "propagate-tensor-split", subject = "down"}
// CHECK: llm.add %{{.*}}, %[[SUM]] : tensor<6x18xf32>
module attributes {llm.options = {sequence_parallel = false}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 3]
  llm.param @up : tensor<20x18xf32> split #llm.split<dim = 0>
  llm.param @down : tensor<18x20xf32> split #llm.split<dim = 1>
  llm.param @norm : tensor<18xf32>
  func.func @columns_then_rows(%ids: tensor<1x6xi32>, %x: tensor<6x18xf32>) -> tensor<6x18xf32> attributes {llm.entry = "prefill"} {
    %u = llm.get_param @up : tensor<20x18xf32>
    %d = llm.get_param @down : tensor<18x20xf32>
    %n = llm.get_param @norm : tensor<18xf32>
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<6x18xf32>, tensor<18xf32>
    %1 = llm.linear %0, %u : (tensor<6x18xf32>, tensor<20x18xf32>) -> tensor<6x20xf32>
    %2 = llm.activation %1 {kind = #llm.activation<relu>} : tensor<6x20xf32>
    %3 = llm.linear %2, %d : (tensor<6x20xf32>, tensor<18x20xf32>) -> tensor<6x18xf32> loc("down")
    %4 = llm.add %x, %3 : tensor<6x18xf32>
    return %4 : tensor<6x18xf32>
  }
}

// -----

// With sequence parallelism each rank gets a run of the rows of every sum: the norm and
// the residual add work on two of six rows.
// CHECK-LABEL: @rows_between_products
// CHECK: %[[E:.*]] = llm.embedding %{{.*}} {dist.sharding = [#dist.sharding<partial["tp"]>]}
// CHECK: %[[X:.*]] = dist.reshard %[[E]] from <partial["tp"]> to <[<axis = "tp", dim = 0, unit = 1, group = 1, global = 6>]>
// CHECK: %[[N:.*]] = llm.rms_norm %[[X]], %{{.*}} {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 0,
// CHECK: %[[WHOLE:.*]] = dist.reshard %[[N]] from <[<axis = "tp", dim = 0, unit = 1, group = 1, global = 6>]> to <>
// CHECK: llm.linear %[[WHOLE]], %{{.*}} {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 1,
// CHECK: %[[PART:.*]] = llm.linear {{.*}}partial["tp"]
// CHECK: %[[ROWS:.*]] = dist.reshard %[[PART]] from <partial["tp"]> to <[<axis = "tp", dim = 0,
// CHECK: %[[SUM:.*]] = llm.add %[[X]], %[[ROWS]] {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 0,
// CHECK: %[[RESULT:.*]] = dist.reshard %[[SUM]] from <[<axis = "tp", dim = 0, unit = 1, group = 1, global = 6>]> to <>
// CHECK: return %[[RESULT]]
module attributes {llm.options = {sequence_parallel = true}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 3]
  llm.param @embed : tensor<31x18xf32> split #llm.split<dim = 0>
  llm.param @up : tensor<20x18xf32> split #llm.split<dim = 0>
  llm.param @down : tensor<18x20xf32> split #llm.split<dim = 1>
  llm.param @norm : tensor<18xf32>
  func.func @rows_between_products(%ids: tensor<1x6xi32>) -> tensor<6x18xf32> attributes {llm.entry = "prefill"} {
    %e = llm.get_param @embed : tensor<31x18xf32>
    %x = llm.embedding %ids, %e : (tensor<1x6xi32>, tensor<31x18xf32>) -> tensor<6x18xf32>
    %u = llm.get_param @up : tensor<20x18xf32>
    %d = llm.get_param @down : tensor<18x20xf32>
    %n = llm.get_param @norm : tensor<18xf32>
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<6x18xf32>, tensor<18xf32>
    %1 = llm.linear %0, %u : (tensor<6x18xf32>, tensor<20x18xf32>) -> tensor<6x20xf32>
    %2 = llm.activation %1 {kind = #llm.activation<relu>} : tensor<6x20xf32>
    %3 = llm.linear %2, %d : (tensor<6x20xf32>, tensor<18x20xf32>) -> tensor<6x18xf32>
    %4 = llm.add %x, %3 : tensor<6x18xf32>
    return %4 : tensor<6x18xf32>
  }
}

// -----

// Seven rows do not divide by three: rows stay whole, sums are reduced.
// CHECK-LABEL: @rows_that_do_not_divide
// CHECK: dist.reshard %{{.*}} from <partial["tp"]> to <>
// CHECK-NOT: dist.reshard
module attributes {llm.options = {sequence_parallel = true}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 3]
  llm.param @embed : tensor<31x18xf32> split #llm.split<dim = 0>
  func.func @rows_that_do_not_divide(%ids: tensor<1x7xi32>) -> tensor<7x18xf32> attributes {llm.entry = "prefill"} {
    %e = llm.get_param @embed : tensor<31x18xf32>
    %x = llm.embedding %ids, %e : (tensor<1x7xi32>, tensor<31x18xf32>) -> tensor<7x18xf32>
    %0 = llm.scale %x {factor = 2.0 : f64} : tensor<7x18xf32>
    return %0 : tensor<7x18xf32>
  }
}

// -----

// An entry returns whole values: logits of a cut vocabulary are gathered. The rows of
// decode belong to different sequences and are never cut.
// CHECK-LABEL: @logits
// CHECK: %[[PART:.*]] = llm.linear {{.*}} {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 1, unit = 1, group = 1, global = 31>]>]}
// CHECK: %[[WHOLE:.*]] = dist.reshard %[[PART]] from <[<axis = "tp", dim = 1, unit = 1, group = 1, global = 31>]> to <>
// CHECK: return %[[WHOLE]]
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 3]
  llm.param @head : tensor<31x18xf32> split #llm.split<dim = 0>
  func.func @logits(%ids: tensor<2x1xi32>, %x: tensor<2x18xf32>) -> tensor<2x31xf32> attributes {llm.entry = "decode"} {
    %h = llm.get_param @head : tensor<31x18xf32>
    %0 = llm.linear %x, %h : (tensor<2x18xf32>, tensor<31x18xf32>) -> tensor<2x31xf32>
    return %0 : tensor<2x31xf32>
  }
}

// -----

// A block function takes the cuts of its first call. Nine query heads and three key/value
// heads on two ranks: both are cut as query heads (group = 3), and so are the caches; a
// norm of heads leaves the cut alone.
// CHECK-LABEL: func.func private @layer
// CHECK-SAME: tensor<18x18xf32> {dist.sharding = #dist.sharding<[<axis = "tp", dim = 0, unit = 6, group = 3, global = 18>]>}
// CHECK-SAME: memref<2x64x3x6xf32> {dist.sharding = #dist.sharding<[<axis = "tp", dim = 2, unit = 1, group = 3, global = 3>]>}
// CHECK: llm.rms_norm {{.*}} {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 1, unit = 6, group = 1, global = 54>]>]
// CHECK: llm.kv_append
// CHECK: llm.cached_attention {{.*}} {dist.sharding = [#dist.sharding<[<axis = "tp", dim = 1, unit = 6, group = 1, global = 54>]>]
// CHECK: %[[PART:.*]] = llm.linear {{.*}}partial["tp"]
// CHECK: dist.reshard %[[PART]] from <partial["tp"]> to <>
// CHECK-LABEL: @heads
// CHECK-NOT: dist.reshard
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  llm.param @q : tensor<54x18xf32> split #llm.split<dim = 0, unit = 6>
  llm.param @k : tensor<18x18xf32> split #llm.split<dim = 0, unit = 6, group = 3>
  llm.param @o : tensor<18x54xf32> split #llm.split<dim = 1, unit = 6>
  llm.param @qnorm : tensor<6xf32>
  llm.cache @keys : memref<2x64x3x6xf32> split #llm.split<dim = 2, group = 3>
  llm.cache @values : memref<2x64x3x6xf32> values split #llm.split<dim = 2, group = 3>
  func.func private @layer(%x: tensor<2x18xf32>, %p: tensor<2x1xi32>, %wq: tensor<54x18xf32>, %wk: tensor<18x18xf32>, %wo: tensor<18x54xf32>, %n: tensor<6xf32>, %bt: tensor<2x1xi32>, %kc: memref<2x64x3x6xf32>, %vc: memref<2x64x3x6xf32>) -> tensor<2x18xf32> attributes {llm.block} {
    %q = llm.linear %x, %wq : (tensor<2x18xf32>, tensor<54x18xf32>) -> tensor<2x54xf32>
    %k = llm.linear %x, %wk : (tensor<2x18xf32>, tensor<18x18xf32>) -> tensor<2x18xf32>
    %qn = llm.rms_norm %q, %n {eps = 1.0e-6 : f64} : tensor<2x54xf32>, tensor<6xf32>
    llm.kv_append %kc, %k, %p, %bt : memref<2x64x3x6xf32>, tensor<2x18xf32>, tensor<2x1xi32>, tensor<2x1xi32>
    llm.kv_append %vc, %k, %p, %bt : memref<2x64x3x6xf32>, tensor<2x18xf32>, tensor<2x1xi32>, tensor<2x1xi32>
    %a = llm.cached_attention %qn, %kc, %vc, %p, %bt {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<2x54xf32>, memref<2x64x3x6xf32>, memref<2x64x3x6xf32>, tensor<2x1xi32>, tensor<2x1xi32>) -> tensor<2x54xf32>
    %y = llm.linear %a, %wo : (tensor<2x54xf32>, tensor<18x54xf32>) -> tensor<2x18xf32>
    return %y : tensor<2x18xf32>
  }
  func.func @heads(%ids: tensor<2x1xi32>, %x: tensor<2x18xf32>, %bt: tensor<2x1xi32>) -> tensor<2x18xf32> attributes {llm.entry = "decode"} {
    %wq = llm.get_param @q : tensor<54x18xf32>
    %wk = llm.get_param @k : tensor<18x18xf32>
    %wo = llm.get_param @o : tensor<18x54xf32>
    %n = llm.get_param @qnorm : tensor<6xf32>
    %kc = llm.get_cache @keys : memref<2x64x3x6xf32>
    %vc = llm.get_cache @values : memref<2x64x3x6xf32>
    %0 = call @layer(%x, %ids, %wq, %wk, %wo, %n, %bt, %kc, %vc) : (tensor<2x18xf32>, tensor<2x1xi32>, tensor<54x18xf32>, tensor<18x18xf32>, tensor<18x54xf32>, tensor<6xf32>, tensor<2x1xi32>, memref<2x64x3x6xf32>, memref<2x64x3x6xf32>) -> tensor<2x18xf32>
    return %0 : tensor<2x18xf32>
  }
}

// -----

// Key/value heads that several ranks hold have no order to gather them in.
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  llm.param @k : tensor<18x18xf32> split #llm.split<dim = 0, unit = 6, group = 3>
  func.func @keys(%ids: tensor<2x1xi32>, %x: tensor<2x18xf32>) -> tensor<2x18xf32> attributes {llm.entry = "decode"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %0 = llm.linear %x, %k : (tensor<2x18xf32>, tensor<18x18xf32>) -> tensor<2x18xf32>
    // expected-error @+1 {{LLMC-E1002: key/value heads that several ranks hold cannot be gathered}}
    return %0 : tensor<2x18xf32>
  }
}
