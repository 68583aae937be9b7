// SPDX-License-Identifier: Apache-2.0
// Every op and attribute of the dist dialect is printed as it was written.
// RUN: llmc-opt %s | llmc-opt | %FileCheck %s
// RUN: llmc-opt %s --mlir-print-op-generic | llmc-opt | %FileCheck %s

// CHECK: dist.mesh @mesh ["dp", "pp", "tp"] [3, 1, 2]
dist.mesh @mesh ["dp", "pp", "tp"] [3, 1, 2]

// Intent. A cut names the axis, the dimension, its units and its whole size.
// CHECK-LABEL: @intent
func.func @intent(%x: tensor<5x18xf32>, %part: tensor<5x10xf32>, %shard: tensor<64xf32>) {
  // CHECK: dist.reshard %{{.*}} from <partial["tp"]> to <> {pass = "propagate-tensor-split", subject = "layer.o"} : (tensor<5x18xf32>) -> tensor<5x18xf32>
  %0 = dist.reshard %x from <partial ["tp"]> to <> {subject = "layer.o", pass = "propagate-tensor-split"} : (tensor<5x18xf32>) -> tensor<5x18xf32>
  // CHECK: dist.reshard %{{.*}} from <[<axis = "tp", dim = 1, unit = 2, group = 1, global = 18>]> to <> : (tensor<5x10xf32>) -> tensor<5x18xf32>
  %1 = dist.reshard %part from <[<axis = "tp", dim = 1, unit = 2, group = 1, global = 18>]> to <> : (tensor<5x10xf32>) -> tensor<5x18xf32>
  // CHECK: dist.zero_gather %{{.*}} ["dp"] : (tensor<64xf32>) -> tensor<7x18xf32>
  %2 = dist.zero_gather %shard ["dp"] : (tensor<64xf32>) -> tensor<7x18xf32>
  // CHECK: dist.pipeline_stage %{{.*}} to 2 : tensor<5x18xf32>
  %3 = dist.pipeline_stage %x to 2 : tensor<5x18xf32>
  return
}

// Mechanism, with why it is there.
// CHECK-LABEL: @mechanism
func.func @mechanism(%x: tensor<6x18xf32>, %ids: tensor<3xi32>, %run: tensor<64xf32>) {
  // CHECK: dist.all_gather %{{.*}} ["tp"] dim 1 {pass = "p", subject = "s"} : (tensor<6x18xf32>) -> tensor<6x35xf32>
  %0 = dist.all_gather %x ["tp"] dim 1 {pass = "p", subject = "s"} : (tensor<6x18xf32>) -> tensor<6x35xf32>
  // CHECK: dist.all_gather %{{.*}} ["dp"] dim 0 : (tensor<64xf32>) -> tensor<7x18xf32>
  %1 = dist.all_gather %run ["dp"] dim 0 : (tensor<64xf32>) -> tensor<7x18xf32>
  // CHECK: dist.reduce_scatter %{{.*}} ["tp"] : (tensor<6x18xf32>) -> tensor<3x18xf32>
  %2 = dist.reduce_scatter %x ["tp"] : (tensor<6x18xf32>) -> tensor<3x18xf32>
  // CHECK: dist.all_reduce %{{.*}} ["dp", "tp"] : tensor<6x18xf32>
  %3 = dist.all_reduce %x ["dp", "tp"] : tensor<6x18xf32>
  // CHECK: dist.broadcast %{{.*}} ["pp"] root 2 : (tensor<3xi32>) -> tensor<3xi32>
  %4 = dist.broadcast %ids ["pp"] root 2 : (tensor<3xi32>) -> tensor<3xi32>
  // CHECK: dist.broadcast ["pp"] root 2 : () -> tensor<3xi32>
  %5 = dist.broadcast ["pp"] root 2 : () -> tensor<3xi32>
  // CHECK: dist.send %{{.*}} "pp" peer 1 : tensor<6x18xf32>
  dist.send %x "pp" peer 1 : tensor<6x18xf32>
  // CHECK: dist.recv "pp" peer 0 : tensor<6x18xf32>
  %6 = dist.recv "pp" peer 0 : tensor<6x18xf32>
  // CHECK: dist.slice_rows %{{.*}} "tp" : (tensor<6x18xf32>) -> tensor<3x18xf32>
  %7 = dist.slice_rows %x "tp" : (tensor<6x18xf32>) -> tensor<3x18xf32>
  // CHECK: %[[PENDING:.*]] = dist.start "all_gather" %{{.*}} {axes = ["dp"], dim = 0 : i64} : (tensor<64xf32>) -> !dist.pending<tensor<7x18xf32>>
  %8 = dist.start "all_gather" %run {axes = ["dp"], dim = 0 : i64} : (tensor<64xf32>) -> !dist.pending<tensor<7x18xf32>>
  // CHECK: dist.wait %[[PENDING]] : (!dist.pending<tensor<7x18xf32>>) -> tensor<7x18xf32>
  %9 = dist.wait %8 : (!dist.pending<tensor<7x18xf32>>) -> tensor<7x18xf32>
  return
}
