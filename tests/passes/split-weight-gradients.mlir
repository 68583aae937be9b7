// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-split-weight-gradients | %FileCheck %s

// What the previous stage waits for stays; what ends in a gradient goes to a function of its
// own. It reads saved values under their names and the rest as deferred values. A received
// gradient is gone by then: it is copied. So is one that crosses to the previous stage too.
// CHECK-LABEL: func.func @step.backward.stage1(
// CHECK-SAME: %[[DY:.*]]: tensor<4x6xf32> {llm.name = "received_gradient.0"}
// CHECK-SAME: -> (tensor<4x6xf32> {llm.name = "sent_gradient.0"}, tensor<4x6xf32> {llm.name = "deferred.0"}, tensor<4x6xf32> {llm.name = "deferred.1"}, tensor<4x6xf32> {llm.name = "deferred.2"}) attributes {dist.stage = 1 : i64, llm.entry = "backward_input"}
// CHECK-NEXT: %[[KEPT:.*]] = dist.copy %[[DY]]
// CHECK-NOT: llm.linear_weight_gradient
// CHECK-NOT: llm.sum_rows
// CHECK-NOT: llm.accumulate
// CHECK: %[[D0:.*]] = llm.linear_input_gradient %[[DY]]
// CHECK-NEXT: %[[D1:.*]] = llm.linear_input_gradient %[[D0]]
// CHECK-NEXT: %[[D1KEPT:.*]] = dist.copy %[[D1]]
// CHECK-NEXT: return %[[D1]], %[[KEPT]], %[[D0]], %[[D1KEPT]]
// CHECK-LABEL: func.func @step.backward.stage1.weight(
// CHECK-SAME: %[[A:[a-z0-9]+]]: tensor<4x6xf32> {llm.name = "deferred.0"}, %[[N:[a-z0-9]+]]: tensor<4x6xf32> {llm.name = "saved.1"}, %[[B:[a-z0-9]+]]: tensor<4x6xf32> {llm.name = "deferred.1"}, %[[X:[a-z0-9]+]]: tensor<4x6xf32> {llm.name = "saved.0"}, %[[C:[a-z0-9]+]]: tensor<4x6xf32> {llm.name = "deferred.2"}) attributes {dist.stage = 1 : i64, llm.entry = "backward_weight"}
// CHECK-NEXT: %[[DW:.*]] = llm.linear_weight_gradient %[[A]], %[[N]]
// CHECK-NEXT: llm.accumulate %[[DW]] into @w.gradient
// CHECK-NEXT: %[[DV:.*]] = llm.linear_weight_gradient %[[B]], %[[X]]
// CHECK-NEXT: llm.accumulate %[[DV]] into @v.gradient
// CHECK-NEXT: %[[DB:.*]] = llm.sum_rows %[[C]]
// CHECK-NEXT: llm.accumulate %[[DB]] into @b.gradient
// CHECK-NEXT: return{{$}}
module attributes {llm.options = {schedule = "zero-bubble"}} {
  llm.param @w : tensor<6x6xf32>
  llm.param @v : tensor<6x6xf32>
  llm.param @b : tensor<6xf32>
  llm.state @w.gradient : tensor<6x6xf32> role gradient of @w
  llm.state @v.gradient : tensor<6x6xf32> role gradient of @v
  llm.state @b.gradient : tensor<6xf32> role gradient of @b
  func.func @step.backward.stage1(%dy: tensor<4x6xf32> {llm.name = "received_gradient.0"}, %x: tensor<4x6xf32> {llm.name = "saved.0"}, %n: tensor<4x6xf32> {llm.name = "saved.1"}) -> (tensor<4x6xf32> {llm.name = "sent_gradient.0"}) attributes {dist.stage = 1 : i64, llm.entry = "backward"} {
    %w = llm.get_param @w : tensor<6x6xf32>
    %v = llm.get_param @v : tensor<6x6xf32>
    %0 = llm.linear_input_gradient %dy, %w : (tensor<4x6xf32>, tensor<6x6xf32>) -> tensor<4x6xf32>
    %1 = llm.linear_weight_gradient %dy, %n : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<6x6xf32>
    llm.accumulate %1 into @w.gradient : tensor<6x6xf32>
    %2 = llm.linear_input_gradient %0, %v : (tensor<4x6xf32>, tensor<6x6xf32>) -> tensor<4x6xf32>
    %3 = llm.linear_weight_gradient %0, %x : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<6x6xf32>
    llm.accumulate %3 into @v.gradient : tensor<6x6xf32>
    %4 = llm.sum_rows %2 : (tensor<4x6xf32>) -> tensor<6xf32>
    llm.accumulate %4 into @b.gradient : tensor<6xf32>
    return %2 : tensor<4x6xf32>
  }
}

// -----

// Other schedules keep the backward pass whole.
// CHECK-LABEL: func.func @step.backward.stage0(
// CHECK-SAME: llm.entry = "backward"}
// CHECK: llm.linear_weight_gradient
// CHECK-NEXT: llm.accumulate %{{.*}} into @w.gradient
// CHECK-NOT: func.func
module attributes {llm.options = {schedule = "1f1b"}} {
  llm.param @w : tensor<6x6xf32>
  llm.state @w.gradient : tensor<6x6xf32> role gradient of @w
  func.func @step.backward.stage0(%dy: tensor<4x6xf32> {llm.name = "received_gradient.0"}, %x: tensor<4x6xf32> {llm.name = "saved.0"}) attributes {dist.stage = 0 : i64, llm.entry = "backward"} {
    %0 = llm.linear_weight_gradient %dy, %x : (tensor<4x6xf32>, tensor<4x6xf32>) -> tensor<6x6xf32>
    llm.accumulate %0 into @w.gradient : tensor<6x6xf32>
    return
  }
}
