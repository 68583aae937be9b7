// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-lower-to-collectives | %FileCheck %s

// Each reshard is one collective, which keeps the reason of the reshard.
// CHECK-LABEL: @reshards
func.func @reshards(%x: tensor<6x18xf32>, %part: tensor<6x10xf32>, %rows: tensor<2x18xf32>) {
  // A sum that everybody needs.
  // CHECK: dist.all_reduce %{{.*}} ["tp"] {pass = "p", subject = "layer.o"} : tensor<6x18xf32>
  %0 = dist.reshard %x from <partial["tp"]> to <> {pass = "p", subject = "layer.o"} : (tensor<6x18xf32>) -> tensor<6x18xf32>
  // A sum of which each rank keeps its rows.
  // CHECK: dist.reduce_scatter %{{.*}} ["tp"] {pass = "p", subject = "layer.o"} : (tensor<6x18xf32>) -> tensor<2x18xf32>
  %1 = dist.reshard %x from <partial["tp"]> to <[<axis = "tp", dim = 0, unit = 1, group = 1, global = 6>]> {pass = "p", subject = "layer.o"} : (tensor<6x18xf32>) -> tensor<2x18xf32>
  // Columns that do not divide: the padding of the last rank is dropped.
  // CHECK: dist.all_gather %{{.*}} ["tp"] dim 1 : (tensor<6x10xf32>) -> tensor<6x29xf32>
  %2 = dist.reshard %part from <[<axis = "tp", dim = 1, unit = 1, group = 1, global = 29>]> to <> : (tensor<6x10xf32>) -> tensor<6x29xf32>
  // CHECK: dist.all_gather %{{.*}} ["tp"] dim 0 : (tensor<2x18xf32>) -> tensor<6x18xf32>
  %3 = dist.reshard %rows from <[<axis = "tp", dim = 0, unit = 1, group = 1, global = 6>]> to <> : (tensor<2x18xf32>) -> tensor<6x18xf32>
  // Taking a part of a whole needs nobody else.
  // CHECK: dist.slice_rows %{{.*}} "tp" : (tensor<6x18xf32>) -> tensor<2x18xf32>
  %4 = dist.reshard %x from <> to <[<axis = "tp", dim = 0, unit = 1, group = 1, global = 6>]> : (tensor<6x18xf32>) -> tensor<2x18xf32>
  return
}

// A ZeRO gather joins flat runs.
// CHECK-LABEL: @zero
func.func @zero(%shard: tensor<64xf32>) -> tensor<7x18xf32> {
  // CHECK: dist.all_gather %{{.*}} ["dp"] dim 0 {pass = "insert-zero-gathers", subject = "w"} : (tensor<64xf32>) -> tensor<7x18xf32>
  %0 = dist.zero_gather %shard ["dp"] {pass = "insert-zero-gathers", subject = "w"} : (tensor<64xf32>) -> tensor<7x18xf32>
  return %0 : tensor<7x18xf32>
}
