// SPDX-License-Identifier: Apache-2.0
// What verify-phase checks of a sharded step that was edited by hand.
// RUN: llmc-opt %s -split-input-file --llmc-verify-phase=phase=sharded -verify-diagnostics
// RUN: %not llmc-opt %s --llmc-verify-phase=phase=dreams 2>&1 | %FileCheck %s
// CHECK: no phase 'dreams'

// Attention inside the rows belongs to a model.
func.func @model_op(%x: tensor<5x18xf32>, %p: tensor<1x5xi32>) {
  // expected-error @+1 {{belongs to a model, not to a step}}
  %0 = llm.attention %x, %x, %x, %p {head_dim = 6 : i64, scale = 0.25 : f64} : tensor<5x18xf32>, tensor<5x18xf32>, tensor<1x5xi32>
  return
}

// -----

// Intent is gone after sharding.
func.func @intent(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{is intent, not a collective, after sharding}}
  %0 = dist.reshard %x from <partial["tp"]> to <> : (tensor<5x18xf32>) -> tensor<5x18xf32>
  return
}

// -----

// So are its annotations.
func.func @annotation(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{still has dist.sharding}}
  %0 = llm.scale %x {factor = 2.0 : f64, dist.sharding = [#dist.sharding<partial["tp"]>]} : tensor<5x18xf32>
  return
}
