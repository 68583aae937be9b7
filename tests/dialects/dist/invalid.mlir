// SPDX-License-Identifier: Apache-2.0
// One case for each labelled constraint of the dist dialect.
// RUN: llmc-opt %s -split-input-file -verify-diagnostics

// mesh (C1): an axis twice.
// expected-error @+1 {{(C1) expects distinct axes with one positive size each}}
dist.mesh @mesh ["tp", "tp"] [2, 2]

// -----

// mesh (C1): a size too many.
// expected-error @+1 {{(C1) expects distinct axes with one positive size each}}
dist.mesh @mesh ["dp", "tp"] [2, 2, 2]

// -----

// mesh (C1): no ranks.
// expected-error @+1 {{(C1) expects distinct axes with one positive size each}}
dist.mesh @mesh ["dp", "tp"] [2, 0]

// -----

// reshard (C1).
func.func @f(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{(C1) expects one element type, got 'f32' and 'bf16'}}
  %0 = dist.reshard %x from <partial ["tp"]> to <> : (tensor<5x18xf32>) -> tensor<5x18xbf16>
  return
}

// -----

// reshard (C2): nothing becomes a partial sum.
func.func @f(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{(C2) expects partial to whole, partial to split, split to whole or whole to split}}
  %0 = dist.reshard %x from <> to <partial ["tp"]> : (tensor<5x18xf32>) -> tensor<5x18xf32>
  return
}

// -----

// reshard (C2): whole to whole is nothing.
func.func @f(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{(C2) expects partial to whole}}
  %0 = dist.reshard %x from <> to <> : (tensor<5x18xf32>) -> tensor<5x18xf32>
  return
}

// -----

// zero_gather (C1).
func.func @f(%x: tensor<64xbf16>) {
  // expected-error @+1 {{(C1) expects one element type, got 'bf16' and 'f32'}}
  %0 = dist.zero_gather %x ["dp"] : (tensor<64xbf16>) -> tensor<7x18xf32>
  return
}

// -----

// zero_gather (C2).
func.func @f(%x: tensor<8x8xf32>) {
  // expected-error @+1 {{(C2) expects a flat shard}}
  %0 = dist.zero_gather %x ["dp"] : (tensor<8x8xf32>) -> tensor<7x18xf32>
  return
}

// -----

// all_gather (C1).
func.func @f(%x: tensor<3x18xbf16>) {
  // expected-error @+1 {{(C1) expects one element type, got 'bf16' and 'f32'}}
  %0 = dist.all_gather %x ["tp"] dim 0 : (tensor<3x18xbf16>) -> tensor<6x18xf32>
  return
}

// -----

// all_gather (C2): the other dimension grows too.
func.func @f(%x: tensor<3x18xf32>) {
  // expected-error @+1 {{(C2) expects equal dimensions but dimension 0}}
  %0 = dist.all_gather %x ["tp"] dim 0 : (tensor<3x18xf32>) -> tensor<6x36xf32>
  return
}

// -----

// all_gather (C2): no such dimension.
func.func @f(%x: tensor<3x18xf32>) {
  // expected-error @+1 {{(C2) expects equal dimensions but dimension 2}}
  %0 = dist.all_gather %x ["tp"] dim 2 : (tensor<3x18xf32>) -> tensor<6x18xf32>
  return
}

// -----

// reduce_scatter (C1).
func.func @f(%x: tensor<6x18xf32>) {
  // expected-error @+1 {{(C1) expects one element type, got 'f32' and 'bf16'}}
  %0 = dist.reduce_scatter %x ["tp"] : (tensor<6x18xf32>) -> tensor<3x18xbf16>
  return
}

// -----

// reduce_scatter (C2): 6 rows are not a whole number of 4s.
func.func @f(%x: tensor<6x18xf32>) {
  // expected-error @+1 {{(C2) expects dimension 0 in whole parts}}
  %0 = dist.reduce_scatter %x ["tp"] : (tensor<6x18xf32>) -> tensor<4x18xf32>
  return
}

// -----

// reduce_scatter (C2): another width.
func.func @f(%x: tensor<6x18xf32>) {
  // expected-error @+1 {{(C2) expects dimension 0 in whole parts}}
  %0 = dist.reduce_scatter %x ["tp"] : (tensor<6x18xf32>) -> tensor<3x9xf32>
  return
}

// -----

// slice_rows (C1).
func.func @f(%x: tensor<6x18xf32>) {
  // expected-error @+1 {{(C1) expects rows in whole parts}}
  %0 = dist.slice_rows %x "tp" : (tensor<6x18xf32>) -> tensor<4x18xf32>
  return
}

// -----

// broadcast (C1).
func.func @f(%x: tensor<3xi32>) {
  // expected-error @+1 {{(C1) expects an operand of the result's type}}
  %0 = dist.broadcast %x ["pp"] root 0 : (tensor<3xi32>) -> tensor<4xi32>
  return
}

// -----

// start (C1): messages are not collectives.
func.func @f(%x: tensor<64xf32>) {
  // expected-error @+1 {{(C1) expects all_gather, reduce_scatter or all_reduce, got "send"}}
  %0 = dist.start "send" %x {axes = ["dp"]} : (tensor<64xf32>) -> !dist.pending<tensor<64xf32>>
  return
}

// -----

// wait (C1).
func.func @f(%x: !dist.pending<tensor<7x18xf32>>) {
  // expected-error @+1 {{(C1) expects the pending type}}
  %0 = dist.wait %x : (!dist.pending<tensor<7x18xf32>>) -> tensor<7x17xf32>
  return
}
