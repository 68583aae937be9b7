// SPDX-License-Identifier: Apache-2.0
// One case for each labelled constraint of the plan dialect.
// RUN: llmc-opt %s -split-input-file -verify-diagnostics

// fused (C1): the block argument has another type.
func.func @f(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{(C1) expects one block argument for each operand}}
  %0 = plan.fused (%x) : (tensor<5x18xf32>) -> tensor<5x18xf32> {
  ^bb0(%a: tensor<5x17xf32>):
    plan.yield %a : tensor<5x17xf32>
  }
  return
}

// -----

// fused (C1): a result without a value.
func.func @f(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{(C1) expects one yielded value for each result}}
  %0:2 = plan.fused (%x) : (tensor<5x18xf32>) -> (tensor<5x18xf32>, tensor<5x18xf32>) {
  ^bb0(%a: tensor<5x18xf32>):
    plan.yield %a : tensor<5x18xf32>
  }
  return
}

// -----

// kernel (C1).
// expected-error @+1 {{(C1) expects no body on a hand-tuned kernel}}
plan.kernel @linear hand_tuned "linear" version 1 {
^bb0(%x: tensor<?x18xf32>):
  plan.yield %x : tensor<?x18xf32>
}

// -----

// kernel (C2).
// expected-error @+1 {{(C2) expects a body that ends with plan.yield}}
plan.kernel @add {
^bb0(%x: tensor<?x18xf32>):
  %0 = llm.add %x, %x : tensor<?x18xf32>
}

// -----

// launch (C1): two inputs, one name.
plan.kernel @linear hand_tuned "linear" version 1 {
^bb0:
}
func.func @f(%x: tensor<5x18xf32>, %w: tensor<7x18xf32>) {
  // expected-error @+1 {{(C1) expects one word name for each value}}
  %0 = plan.launch @linear(%x, %w) inout() {input_words = ["x"], inout_words = [], result_words = ["y0"], scalars = {}, rows = #plan.word<rows, value = 1>, columns = 7 : i64} : (tensor<5x18xf32>, tensor<7x18xf32>) -> tensor<5x7xf32>
  return
}

// -----

// launch (C2): no such kernel.
func.func @f(%x: tensor<5x18xf32>) {
  // expected-error @+1 {{(C2) expects a kernel, got @linear}}
  %0 = plan.launch @linear(%x) inout() {input_words = [], inout_words = [], result_words = [], scalars = {}, rows = #plan.word<rows, value = 1>, columns = 7 : i64} : (tensor<5x18xf32>) -> tensor<5x7xf32>
  return
}
