// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-prefetch-collectives | %FileCheck %s

// Three layers. The gathers of a layer start where the layer before begins to compute,
// beside which they run; each is waited for at its own first use. The first layer's start
// at once.
// CHECK-LABEL: @three_layers
// CHECK: %[[U0:.*]] = dist.start "all_gather" %{{.*}} {axes = ["dp"], dim = 0 : i64} {pass = "insert-zero-gathers", subject = "up0"} : (tensor<64xf32>) -> !dist.pending<tensor<7x6xf32>>
// CHECK: %[[D0:.*]] = dist.start {{.*}}"down0"
// CHECK: %[[WU0:.*]] = dist.wait %[[U0]]
// CHECK: %[[U1:.*]] = dist.start {{.*}}"up1"
// CHECK: %[[D1:.*]] = dist.start {{.*}}"down1"
// CHECK: llm.linear %{{.*}}, %[[WU0]]
// CHECK: dist.wait %[[D0]]
// CHECK: llm.linear
// CHECK: dist.wait %[[U1]]
// CHECK: %[[U2:.*]] = dist.start {{.*}}"up2"
// CHECK: llm.linear
// CHECK: dist.wait %[[D1]]
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

// -----

// Neighbours share a bucket up to its bytes, here 512 of one rank's runs: two of @a, @b and
// @c; @c stays alone. The waits stay at the first readers.
// CHECK-LABEL: @buckets
// CHECK: %[[A:.*]] = dist.start "all_gather" %{{.*}} {dist.bucket = 0 : i64, subject = "a"}
// CHECK-NEXT: %[[B:.*]] = dist.start "all_gather" %{{.*}} {dist.bucket = 0 : i64, subject = "b"}
// CHECK-NEXT: %[[C:.*]] = dist.start "all_gather" %{{.*}} {subject = "c"}
// CHECK-NEXT: dist.wait %[[A]]
// CHECK-NEXT: llm.linear
// CHECK-NEXT: dist.wait %[[B]]
// CHECK-NEXT: llm.linear
// CHECK-NEXT: dist.wait %[[C]]
module attributes {llm.options = {mode = "train", zero = 3 : i64, zero_bucket_bytes = 512 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [3, 1, 2]
  llm.param @a : tensor<6x6xf32> shard #dist.shard<["dp"], 64>
  llm.param @b : tensor<6x6xf32> shard #dist.shard<["dp"], 64>
  llm.param @c : tensor<6x6xf32> shard #dist.shard<["dp"], 64>
  func.func @buckets(%x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.entry = "forward"} {
    %sa = llm.get_param @a : tensor<64xf32>
    %sb = llm.get_param @b : tensor<64xf32>
    %sc = llm.get_param @c : tensor<64xf32>
    %a = dist.all_gather %sa ["dp"] dim 0 {subject = "a"} : (tensor<64xf32>) -> tensor<6x6xf32> loc("layers.0")
    %b = dist.all_gather %sb ["dp"] dim 0 {subject = "b"} : (tensor<64xf32>) -> tensor<6x6xf32> loc("layers.0")
    %c = dist.all_gather %sc ["dp"] dim 0 {subject = "c"} : (tensor<64xf32>) -> tensor<6x6xf32> loc("layers.0")
    %0 = llm.linear %x, %a : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %1 = llm.linear %0, %b : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %2 = llm.linear %1, %c : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %2 : tensor<2x6xf32>
  }
}
