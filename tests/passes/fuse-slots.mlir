// SPDX-License-Identifier: Apache-2.0
// The input is what select-kernels, outline-kernels and merge-linears leave.
// RUN: llmc-opt %s --llmc-select-kernels --llmc-outline-kernels --llmc-merge-linears --llmc-fuse-slots | %FileCheck %s

module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 1]
  llm.param @k : tensor<18x18xf32>
  // The residual add runs on the finished tiles of the product. Its operands and results are
  // numbers of the launch's: the residual (2), the product (3), the sum (4).
  // CHECK-LABEL: func.func @residual
  // CHECK-SAME: %[[X:[a-z0-9]*]]: tensor<20x18xf32>, %[[R:[a-z0-9]*]]: tensor<20x18xf32>
  // CHECK: %[[W:.*]] = llm.get_param
  // CHECK-NEXT: %[[F:.*]]:2 = plan.launch @linear(%[[X]], %[[W]], %[[R]]) {{.*}}input_words = ["x", "w0", ""], result_words = ["y0", ""], {{.*}}slots = [#plan.slot<@[[ADD:[a-z0-9_]*]] at "epilogue0"([2, 3] -> [4])>]
  // CHECK-NEXT: return %[[F]]#1
  func.func @residual(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %r: tensor<20x18xf32>) -> tensor<20x18xf32> attributes {llm.entry = "prefill"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %0 = llm.linear %x, %k : (tensor<20x18xf32>, tensor<18x18xf32>) -> tensor<20x18xf32>
    %1 = llm.add %r, %0 : tensor<20x18xf32>
    return %1 : tensor<20x18xf32>
  }

  // Decode: the norm before a zipped pair is its prologue (its result goes to scratch, -1),
  // the gate is its epilogue.
  // CHECK-LABEL: func.func @gate
  // CHECK-SAME: %[[X:[a-z0-9]*]]: tensor<3x18xf32>, %[[N:[a-z0-9]*]]: tensor<18xf32>
  // CHECK: %[[W:.*]] = llm.get_param
  // CHECK-NEXT: %[[F:.*]]:3 = plan.launch @linear(%[[W]], %[[W]], %[[X]], %[[N]]) {{.*}}input_words = ["w0", "w1", "", ""], result_words = ["y0", "y1", ""], {{.*}}slots = [#plan.slot<@{{.*}} at "epilogue0"([4, 5] -> [6])>, #plan.slot<@{{.*}} at "prologue"([2, 3] -> [-1])>]
  // CHECK-NEXT: return %[[F]]#2
  func.func @gate(%ids: tensor<3x1xi32>, %x: tensor<3x18xf32>, %n: tensor<18xf32>) -> tensor<3x18xf32> attributes {llm.entry = "decode"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %x1 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<3x18xf32>, tensor<18xf32>
    %0 = llm.linear %x1, %k : (tensor<3x18xf32>, tensor<18x18xf32>) -> tensor<3x18xf32>
    %1 = llm.linear %x1, %k : (tensor<3x18xf32>, tensor<18x18xf32>) -> tensor<3x18xf32>
    %2 = llm.gated_activation %0, %1 {kind = #llm.activation<silu>} : tensor<3x18xf32>
    return %2 : tensor<3x18xf32>
  }

  // Two products side by side, each with its own epilogue.
  // CHECK-LABEL: func.func @biases
  // CHECK: plan.launch @linear({{.*}}slots = [#plan.slot<@[[BIAS:.*]] at "epilogue0"([5, 3] -> [7])>, #plan.slot<@[[BIAS]] at "epilogue1"([6, 4] -> [8])>]
  func.func @biases(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %b: tensor<18xf32>, %c: tensor<18xf32>) -> (tensor<20x18xf32>, tensor<20x18xf32>) attributes {llm.entry = "score"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %0 = llm.linear %x, %k : (tensor<20x18xf32>, tensor<18x18xf32>) -> tensor<20x18xf32>
    %1 = llm.linear %x, %k : (tensor<20x18xf32>, tensor<18x18xf32>) -> tensor<20x18xf32>
    %2 = llm.add_bias %0, %b : tensor<20x18xf32>, tensor<18xf32>
    %3 = llm.add_bias %1, %c : tensor<20x18xf32>, tensor<18xf32>
    return %2, %3 : tensor<20x18xf32>, tensor<20x18xf32>
  }

  // What reads a slot's result comes after it, in a launch of its own: result 1 of the
  // launch is not the product of a second weight.
  // CHECK-LABEL: func.func @chain
  // CHECK: %[[F:.*]]:2 = plan.launch @linear({{.*}}slots = [#plan.slot<@[[BIAS]] at "epilogue0"([3, 2] -> [4])>]}
  // CHECK-NEXT: %[[S:.*]] = plan.launch @[[ADD]](%{{.*}}, %[[F]]#1)
  // CHECK-NEXT: return %[[S]]
  func.func @chain(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %b: tensor<18xf32>) -> tensor<20x18xf32> attributes {llm.entry = "chain"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %0 = llm.linear %x, %k : (tensor<20x18xf32>, tensor<18x18xf32>) -> tensor<20x18xf32>
    %1 = llm.add_bias %0, %b : tensor<20x18xf32>, tensor<18xf32>
    %2 = llm.add %x, %1 : tensor<20x18xf32>
    return %2 : tensor<20x18xf32>
  }

  // A product that somebody else reads must reach memory: the add stays a launch.
  // CHECK-LABEL: func.func @other_readers
  // CHECK: %[[Y:.*]] = plan.launch @linear
  // CHECK-NOT: slots
  // CHECK: plan.launch @[[ADD]](%{{.*}}, %[[Y]])
  func.func @other_readers(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>) -> (tensor<20x18xf32>, tensor<20x18xf32>) attributes {llm.entry = "other"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %0 = llm.linear %x, %k : (tensor<20x18xf32>, tensor<18x18xf32>) -> tensor<20x18xf32>
    %1 = llm.add %x, %0 : tensor<20x18xf32>
    return %0, %1 : tensor<20x18xf32>, tensor<20x18xf32>
  }

  // Each thread would compute a prologue of many rows again: the norm stays a launch.
  // CHECK-LABEL: func.func @norm_of_many_rows
  // CHECK: plan.launch @rms_norm
  // CHECK: plan.launch @linear
  // CHECK-NOT: slots
  func.func @norm_of_many_rows(%ids: tensor<1x20xi32>, %x: tensor<20x18xf32>, %n: tensor<18xf32>) -> tensor<20x18xf32> attributes {llm.entry = "many"} {
    %k = llm.get_param @k : tensor<18x18xf32>
    %x1 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<20x18xf32>, tensor<18xf32>
    %0 = llm.linear %x1, %k : (tensor<20x18xf32>, tensor<18x18xf32>) -> tensor<20x18xf32>
    return %0 : tensor<20x18xf32>
  }
}
