// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-overlap-reductions | %FileCheck %s

// Three layers, last one first. A reduction starts where its gradient is made. It is waited
// for and added behind the last start of the layer that follows; the last layer's at the
// end. Vectors, which nobody exchanges here, are added at once.
// CHECK-LABEL: func.func @step.backward
// CHECK: %[[U2:.*]] = llm.linear_weight_gradient
// CHECK-NEXT: %[[PU2:.*]] = dist.start "reduce_scatter" %[[U2]] {axes = ["dp"]} {pass = "shard-over-data", subject = "up2"} : (tensor<70x18xf32>) -> !dist.pending<tensor<1152xf32>>
// CHECK-NEXT: llm.linear_input_gradient
// CHECK-NEXT: %[[D2:.*]] = llm.linear_weight_gradient
// CHECK-NEXT: %[[PD2:.*]] = dist.start "reduce_scatter" %[[D2]]
// CHECK-NOT: dist.wait
// CHECK: llm.accumulate %{{.*}} into @norm.gradient
// CHECK: %[[PU1:.*]] = dist.start "reduce_scatter"
// CHECK-NEXT: %[[W2:.*]] = dist.wait %[[PU2]] : (!dist.pending<tensor<1152xf32>>) -> tensor<1152xf32>
// CHECK-NEXT: llm.accumulate %[[W2]] into @up2.gradient
// CHECK-NEXT: %[[WD2:.*]] = dist.wait %[[PD2]]
// CHECK-NEXT: llm.accumulate %[[WD2]] into @down2.gradient
// CHECK: %[[PU0:.*]] = dist.start "all_reduce"
// CHECK-NEXT: dist.wait %[[PU1]]
// CHECK-NEXT: llm.accumulate %{{.*}} into @up1.gradient
// CHECK: llm.sum_rows
// CHECK: dist.wait %[[PU0]]
// CHECK-NEXT: llm.accumulate %{{.*}} into @up0.gradient
// CHECK-NEXT: return
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]
  llm.param @up0 : tensor<70x18xf32>
  llm.param @up1 : tensor<70x18xf32>
  llm.param @up2 : tensor<70x18xf32>
  llm.param @down2 : tensor<70x18xf32>
  llm.param @norm : tensor<18xf32>
  llm.state @up0.gradient : tensor<70x18xf32> role gradient of @up0
  llm.state @up1.gradient : tensor<1152xf32> role gradient of @up1 shard #dist.shard<["dp"], 1152>
  llm.state @up2.gradient : tensor<1152xf32> role gradient of @up2 shard #dist.shard<["dp"], 1152>
  llm.state @down2.gradient : tensor<1152xf32> role gradient of @down2 shard #dist.shard<["dp"], 1152>
  llm.state @norm.gradient : tensor<18xf32> role gradient of @norm
  func.func @step.backward(%dy: tensor<6x70xf32>, %x: tensor<6x18xf32>, %w: tensor<70x18xf32>) attributes {llm.entry = "backward"} {
    %u2 = llm.linear_weight_gradient %dy, %x : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32> loc("layers.2")
    %dx2 = llm.linear_input_gradient %dy, %w : (tensor<6x70xf32>, tensor<70x18xf32>) -> tensor<6x18xf32> loc("layers.2")
    %d2 = llm.linear_weight_gradient %dy, %dx2 : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32> loc("layers.2")
    %n2 = llm.sum_rows %dx2 : (tensor<6x18xf32>) -> tensor<18xf32> loc("layers.2")
    %su2 = dist.reduce_scatter %u2 ["dp"] {pass = "shard-over-data", subject = "up2"} : (tensor<70x18xf32>) -> tensor<1152xf32> loc("layers.2")
    llm.accumulate %su2 into @up2.gradient : tensor<1152xf32>
    %sd2 = dist.reduce_scatter %d2 ["dp"] {pass = "shard-over-data", subject = "down2"} : (tensor<70x18xf32>) -> tensor<1152xf32> loc("layers.2")
    llm.accumulate %sd2 into @down2.gradient : tensor<1152xf32>
    llm.accumulate %n2 into @norm.gradient : tensor<18xf32>
    %u1 = llm.linear_weight_gradient %dy, %dx2 : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32> loc("layers.1")
    %su1 = dist.reduce_scatter %u1 ["dp"] {pass = "shard-over-data", subject = "up1"} : (tensor<70x18xf32>) -> tensor<1152xf32> loc("layers.1")
    llm.accumulate %su1 into @up1.gradient : tensor<1152xf32>
    %u0 = llm.linear_weight_gradient %dy, %dx2 : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32> loc("layers.0")
    %su0 = dist.all_reduce %u0 ["tp"] : tensor<70x18xf32> loc("layers.0")
    llm.accumulate %su0 into @up0.gradient : tensor<70x18xf32>
    %n0 = llm.sum_rows %x : (tensor<6x18xf32>) -> tensor<18xf32> loc("layers.0")
    llm.accumulate %n0 into @norm.gradient : tensor<18xf32>
    return
  }
}

// -----

// A state that is added to twice, or read, keeps its order.
// CHECK-LABEL: func.func @step.backward
// CHECK: dist.all_reduce
// CHECK-NEXT: llm.accumulate
// CHECK: dist.all_reduce
// CHECK-NEXT: llm.accumulate
// CHECK: llm.read_state @w.own
// CHECK-NEXT: %[[P:.*]] = dist.start "reduce_scatter"
// CHECK-NEXT: dist.wait %[[P]]
// CHECK-NEXT: llm.accumulate %{{.*}} into @w.gradient
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]
  llm.param @w : tensor<70x18xf32>
  llm.state @w.own : tensor<70x18xf32> role gradient of @w
  llm.state @w.gradient : tensor<1152xf32> role gradient of @w shard #dist.shard<["dp"], 1152>
  func.func @step.backward(%dy: tensor<6x70xf32>, %x: tensor<6x18xf32>) attributes {llm.entry = "backward"} {
    llm.zero_state @w.own
    %0 = llm.linear_weight_gradient %dy, %x : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32>
    %1 = dist.all_reduce %0 ["tp"] : tensor<70x18xf32>
    llm.accumulate %1 into @w.own : tensor<70x18xf32>
    %2 = llm.linear_weight_gradient %dy, %x : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32>
    %3 = dist.all_reduce %2 ["tp"] : tensor<70x18xf32>
    llm.accumulate %3 into @w.own : tensor<70x18xf32>
    %4 = llm.read_state @w.own : tensor<70x18xf32>
    %5 = dist.reduce_scatter %4 ["dp"] : (tensor<70x18xf32>) -> tensor<1152xf32>
    llm.accumulate %5 into @w.gradient : tensor<1152xf32>
    return
  }
}

// -----

// The optimizer segment: both exchanges start before the first sum of squares waits, and the
// new values are gathered beside the updates that follow.
// CHECK-LABEL: func.func @step.optimizer
// CHECK: %[[A:.*]] = dist.start "reduce_scatter"
// CHECK: %[[B:.*]] = dist.start "reduce_scatter"
// CHECK: %[[WA:.*]] = dist.wait %[[A]]
// CHECK-NEXT: llm.square_sum %[[WA]] into @norm_terms[0]
// CHECK-NEXT: %[[WB:.*]] = dist.wait %[[B]]
// CHECK-NEXT: llm.square_sum %[[WB]] into @norm_terms[1]
// CHECK-NEXT: llm.sum_terms
// CHECK: llm.adamw @a with %[[WA]]
// CHECK: dist.gather_in_place %{{.*}} {dist.asynchronous}
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 1]
  llm.param @a : tensor<70x18xf32>
  llm.param @b : tensor<70x18xf32>
  llm.state @norm_terms : tensor<2xf64> role scalar
  llm.state @a.gradient : tensor<70x18xf32> role gradient of @a
  llm.state @b.gradient : tensor<70x18xf32> role gradient of @b
  llm.state @a.moment1 : tensor<1152xf32> role moment1 of @a shard #dist.shard<["dp"], 1152>
  llm.state @a.moment2 : tensor<1152xf32> role moment2 of @a shard #dist.shard<["dp"], 1152>
  func.func @step.optimizer(%hyper: tensor<16xf32> {llm.name = "hyper"}) -> (tensor<4xf32> {llm.name = "norm"}) attributes {llm.entry = "optimizer"} {
    %0 = llm.read_state @a.gradient : tensor<70x18xf32>
    %1 = dist.reduce_scatter %0 ["dp"] : (tensor<70x18xf32>) -> tensor<1152xf32>
    llm.square_sum %1 into @norm_terms[0] : tensor<1152xf32>
    %2 = llm.read_state @b.gradient : tensor<70x18xf32>
    %3 = dist.reduce_scatter %2 ["dp"] : (tensor<70x18xf32>) -> tensor<1152xf32>
    llm.square_sum %3 into @norm_terms[1] : tensor<1152xf32>
    %4 = llm.read_state @norm_terms : tensor<2xf64>
    %5 = llm.sum_terms %4 : (tensor<2xf64>) -> tensor<1xf64>
    %6 = llm.global_norm %5, %hyper : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
    llm.adamw @a with %1, %6, %hyper moment1 @a.moment1 moment2 @a.moment2 decay : tensor<1152xf32>, tensor<4xf32>, tensor<16xf32>
    %7 = llm.get_param @a : tensor<70x18xf32>
    dist.gather_in_place %7 ["dp"] run 1152 : tensor<70x18xf32>
    return %6 : tensor<4xf32>
  }
}

// -----

// Scatters of one layer share a bucket up to its bytes; they start at the last of them.
// CHECK-LABEL: func.func @step.backward
// CHECK: llm.linear_weight_gradient
// CHECK-NEXT: llm.linear_input_gradient
// CHECK-NEXT: llm.linear_weight_gradient
// CHECK-NEXT: dist.start "reduce_scatter" %{{.*}} {dist.bucket = 0 : i64, subject = "a"}
// CHECK-NEXT: dist.start "reduce_scatter" %{{.*}} {dist.bucket = 0 : i64, subject = "b"}
module attributes {llm.options = {mode = "train", zero = 2 : i64, zero_bucket_bytes = 10000 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 1]
  llm.param @a : tensor<70x18xf32>
  llm.param @b : tensor<70x18xf32>
  llm.state @a.gradient : tensor<1152xf32> role gradient of @a shard #dist.shard<["dp"], 1152>
  llm.state @b.gradient : tensor<1152xf32> role gradient of @b shard #dist.shard<["dp"], 1152>
  func.func @step.backward(%dy: tensor<6x70xf32>, %x: tensor<6x18xf32>, %w: tensor<70x18xf32>) attributes {llm.entry = "backward"} {
    %a = llm.linear_weight_gradient %dy, %x : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32> loc("layers.0")
    %dx = llm.linear_input_gradient %dy, %w : (tensor<6x70xf32>, tensor<70x18xf32>) -> tensor<6x18xf32> loc("layers.0")
    %b = llm.linear_weight_gradient %dy, %dx : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32> loc("layers.0")
    %sa = dist.reduce_scatter %a ["dp"] {subject = "a"} : (tensor<70x18xf32>) -> tensor<1152xf32> loc("layers.0")
    llm.accumulate %sa into @a.gradient : tensor<1152xf32>
    %sb = dist.reduce_scatter %b ["dp"] {subject = "b"} : (tensor<70x18xf32>) -> tensor<1152xf32> loc("layers.0")
    llm.accumulate %sb into @b.gradient : tensor<1152xf32>
    return
  }
}
