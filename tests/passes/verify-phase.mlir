// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --split-input-file --llmc-verify-phase=phase=step -verify-diagnostics

// Rows of a step are static.
func.func @dynamic(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{has a dynamic shape in a step}}
  %0 = llm.scale %x {factor = 2.0 : f64} : tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// -----

// Only a model marks the rows that reach its head.
func.func @marker(%x: tensor<3x8xf32>) -> tensor<3x8xf32> {
  // expected-error @+1 {{belongs to a model, not to a step}}
  %0 = llm.output_rows %x : tensor<3x8xf32>
  return %0 : tensor<3x8xf32>
}
