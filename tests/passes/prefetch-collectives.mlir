// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-prefetch-collectives | %FileCheck %s

// Three layers. The gathers of a layer start where the layer before begins to compute,
// beside which they run, and are waited for at their first use. The first layer's start
// at once.
// CHECK-LABEL: @three_layers
// CHECK: %[[U0:.*]] = dist.start "all_gather" %{{.*}} {axes = ["dp"], dim = 0 : i64} {pass = "insert-zero-gathers", subject = "up0"} : (tensor<64xf32>) -> !dist.pending<tensor<7x6xf32>>
// CHECK: %[[D0:.*]] = dist.start {{.*}}"down0"
// CHECK: %[[WU0:.*]] = dist.wait %[[U0]]
// CHECK: dist.wait %[[D0]]
// CHECK: %[[U1:.*]] = dist.start {{.*}}"up1"
// CHECK: %[[D1:.*]] = dist.start {{.*}}"down1"
// CHECK: llm.linear %{{.*}}, %[[WU0]]
// CHECK: llm.linear
// CHECK: dist.wait %[[U1]]
// CHECK: dist.wait %[[D1]]
// CHECK: %[[U2:.*]] = dist.start {{.*}}"up2"
// CHECK: llm.linear
// CHECK: llm.linear
// CHECK: dist.wait %[[U2]]
// CHECK-NOT: dist.start
// Rows are gathered where they stand: they are computed just before.
// CHECK: dist.all_gather {{.*}} ["tp"] dim 0
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [3, 1, 2]
  llm.param @up0 : tensor<7x6xf32> shard #dist.shard<["dp"], 64>
  llm.param @down0 : tensor<6x7xf32> shard #dist.shard<["dp"], 64>
  llm.param @up1 : tensor<7x6xf32> shard #dist.shard<["dp"], 64>
  llm.param @down1 : tensor<6x7xf32> shard #dist.shard<["dp"], 64>
  llm.param @up2 : tensor<7x6xf32> shard #dist.shard<["dp"], 64>
  llm.param @down2 : tensor<6x7xf32> shard #dist.shard<["dp"], 64>
  func.func @three_layers(%ids: tensor<2x1xi32>, %x: tensor<2x6xf32>) -> tensor<4x6xf32> attributes {llm.entry = "decode"} {
    %su0 = llm.get_param @up0 : tensor<64xf32>
    %sd0 = llm.get_param @down0 : tensor<64xf32>
    %u0 = dist.all_gather %su0 ["dp"] dim 0 {pass = "insert-zero-gathers", subject = "up0"} : (tensor<64xf32>) -> tensor<7x6xf32> loc("layers.0")
    %d0 = dist.all_gather %sd0 ["dp"] dim 0 {pass = "insert-zero-gathers", subject = "down0"} : (tensor<64xf32>) -> tensor<6x7xf32> loc("layers.0")
    %h0 = llm.linear %x, %u0 : (tensor<2x6xf32>, tensor<7x6xf32>) -> tensor<2x7xf32> loc(callsite("up" at "layers.0"))
    %y0 = llm.linear %h0, %d0 : (tensor<2x7xf32>, tensor<6x7xf32>) -> tensor<2x6xf32> loc(callsite("down" at "layers.0"))
    %su1 = llm.get_param @up1 : tensor<64xf32>
    %sd1 = llm.get_param @down1 : tensor<64xf32>
    %u1 = dist.all_gather %su1 ["dp"] dim 0 {pass = "insert-zero-gathers", subject = "up1"} : (tensor<64xf32>) -> tensor<7x6xf32> loc("layers.1")
    %d1 = dist.all_gather %sd1 ["dp"] dim 0 {pass = "insert-zero-gathers", subject = "down1"} : (tensor<64xf32>) -> tensor<6x7xf32> loc("layers.1")
    %h1 = llm.linear %y0, %u1 : (tensor<2x6xf32>, tensor<7x6xf32>) -> tensor<2x7xf32> loc(callsite("up" at "layers.1"))
    %y1 = llm.linear %h1, %d1 : (tensor<2x7xf32>, tensor<6x7xf32>) -> tensor<2x6xf32> loc(callsite("down" at "layers.1"))
    %su2 = llm.get_param @up2 : tensor<64xf32>
    %sd2 = llm.get_param @down2 : tensor<64xf32>
    %u2 = dist.all_gather %su2 ["dp"] dim 0 {pass = "insert-zero-gathers", subject = "up2"} : (tensor<64xf32>) -> tensor<7x6xf32> loc("layers.2")
    %d2 = dist.all_gather %sd2 ["dp"] dim 0 {pass = "insert-zero-gathers", subject = "down2"} : (tensor<64xf32>) -> tensor<6x7xf32> loc("layers.2")
    %h2 = llm.linear %y1, %u2 : (tensor<2x6xf32>, tensor<7x6xf32>) -> tensor<2x7xf32> loc(callsite("up" at "layers.2"))
    %y2 = llm.linear %h2, %d2 : (tensor<2x7xf32>, tensor<6x7xf32>) -> tensor<2x6xf32> loc(callsite("down" at "layers.2"))
    %r = dist.all_gather %y2 ["tp"] dim 0 : (tensor<2x6xf32>) -> tensor<4x6xf32>
    return %r : tensor<4x6xf32>
  }
}
