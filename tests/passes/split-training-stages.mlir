// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-split-training-stages | %FileCheck %s

// Two stages of one layer each, and a table that is tied: embedding on the first, head on the
// last. Rows go up as an activation; segments of their own send and receive them.
// CHECK-NOT: func.func @step.forward(
// CHECK-LABEL: func.func @step.forward.stage0(
// CHECK-SAME: -> (tensor<3x6xf32> {llm.name = "sent_activation.0"}, tensor<3x6xf32> {llm.name = "saved.4"}) attributes {dist.stage = 0 : i64, llm.entry = "forward"}
// CHECK: %[[X:.*]] = llm.embedding
// CHECK-NOT: @w1
// CHECK: %[[Y:.*]] = call @layer.forward(%[[X]],
// CHECK-NEXT: return %[[Y]], %[[X]]
// CHECK-LABEL: func.func @step.send_activation.stage0(
// CHECK-SAME: %[[SENT:.*]]: tensor<3x6xf32> {llm.name = "sent_activation.0"}) attributes {dist.stage = 0 : i64, llm.entry = "send_activation"}
// CHECK-NEXT: dist.send %[[SENT]] "pp" peer 1 {pass = "split-training-stages", subject = "layers.0"}

// The last stage has the head and the loss. What it received (saved.3) needs no second name.
// CHECK-LABEL: func.func @step.forward.stage1(
// CHECK-SAME: %[[GOT:[a-z0-9]+]]: tensor<3x6xf32> {llm.name = "received_activation.0"}) -> (tensor<3x12xf32> {llm.name = "saved.0"}, tensor<3xf32> {llm.name = "saved.1"}, tensor<3x6xf32> {llm.name = "saved.2"}) attributes
// CHECK-NOT: llm.embedding
// CHECK-NOT: @w0
// CHECK: call @layer.forward(%[[GOT]],
// CHECK: llm.accumulate %{{.*}} into @loss
// CHECK-LABEL: func.func @step.receive_activation.stage1()
// CHECK-SAME: -> (tensor<3x6xf32> {llm.name = "received_activation.0"}) attributes {dist.stage = 1 : i64, llm.entry = "receive_activation"}
// CHECK-NEXT: %[[R:.*]] = dist.recv "pp" peer 0 {{.*}} : tensor<3x6xf32>
// CHECK-NEXT: return %[[R]]

// Backward mirrors it: the gradient comes down.
// CHECK-LABEL: func.func @step.backward.stage0(
// CHECK-SAME: %[[OWN:[a-z0-9]+]]: tensor<3x6xf32> {llm.name = "saved.4"}, %[[DY:[a-z0-9]+]]: tensor<3x6xf32> {llm.name = "received_gradient.0"}) attributes {dist.stage = 0 : i64, llm.entry = "backward"}
// CHECK-NOT: llm.cross_entropy_gradient
// CHECK: %[[G:.*]]:2 = call @layer.forward.backward(%[[DY]], %[[OWN]],
// CHECK: llm.accumulate %[[G]]#1 into @w0.gradient
// CHECK: llm.embedding_gradient %{{.*}}, %[[G]]#0
// CHECK-NEXT: llm.accumulate %{{.*}} into @embed.gradient
// CHECK-LABEL: func.func @step.receive_gradient.stage0()
// CHECK: dist.recv "pp" peer 1
// CHECK-LABEL: func.func @step.backward.stage1(
// CHECK-NOT: "saved.3"
// CHECK-NOT: "saved.4"
// CHECK-SAME: %[[IN:[a-z0-9]+]]: tensor<3x6xf32> {llm.name = "received_activation.0"}) -> (tensor<3x6xf32> {llm.name = "sent_gradient.0"}) attributes
// CHECK: llm.accumulate %{{.*}} into @embed.gradient
// CHECK: %[[H:.*]]:2 = call @layer.forward.backward(%{{.*}}, %[[IN]],
// CHECK: llm.accumulate %[[H]]#1 into @w1.gradient
// CHECK: return %[[H]]#0
// CHECK-LABEL: func.func @step.send_gradient.stage1(
// CHECK: dist.send %{{.*}} "pp" peer 0

// A stage zeroes the gradients that it has.
// CHECK-LABEL: func.func @step.prologue.stage0(
// CHECK: llm.zero_state @embed.gradient
// CHECK-NEXT: llm.zero_state @w0.gradient
// CHECK-NEXT: llm.count_labels
// CHECK-LABEL: func.func @step.prologue.stage1(
// CHECK: llm.zero_state @embed.gradient
// CHECK-NEXT: llm.zero_state @w1.gradient
// CHECK-NEXT: llm.count_labels

// The tied table has its home on the first stage: its gradient arrives and is added before the
// norm, and the new value goes back after the update.
// CHECK-LABEL: func.func @step.optimizer.stage0(
// CHECK-NEXT: %[[TERM:.*]] = dist.recv "pp" peer 1 {llm.state = @embed.gradient, pass = "split-training-stages", subject = "embed"} : tensor<12x6xf32>
// CHECK-NEXT: llm.accumulate %[[TERM]] into @embed.gradient
// CHECK-NEXT: %[[ALL:.*]] = llm.read_state @embed.gradient
// CHECK-NEXT: llm.square_sum %[[ALL]] into @norm_terms[0]
// CHECK: llm.adamw @embed
// CHECK: llm.adamw @w0
// CHECK-NOT: llm.adamw
// CHECK: %[[NEW:.*]] = llm.get_param @embed
// CHECK-NEXT: dist.send %[[NEW]] "pp" peer 1 {pass = "split-training-stages", subject = "embed"}
// CHECK-LABEL: func.func @step.optimizer.stage1(
// CHECK-NEXT: %[[MINE:.*]] = llm.read_state @embed.gradient
// CHECK-NEXT: dist.send %[[MINE]] "pp" peer 0 {{.*}}subject = "embed"
// CHECK-NOT: @norm_terms[0]
// CHECK: llm.square_sum %{{.*}} into @norm_terms[2]
// CHECK-NOT: llm.adamw @embed
// CHECK: llm.adamw @w1
// CHECK-NEXT: %[[COPY:.*]] = llm.get_param @embed
// CHECK-NEXT: dist.receive_in_place %[[COPY]] "pp" peer 0 {pass = "split-training-stages", subject = "embed"}
// CHECK-NOT: func.func
module attributes {llm.options = {batch = 2 : i64, dtype = "f32", microbatches = 2 : i64, mode = "train", seq = 3 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 2, 1]
  llm.param @embed : tensor<12x6xf32>
  llm.param @w0 : tensor<6x6xf32>
  llm.param @w1 : tensor<6x6xf32>
  llm.state @count : tensor<1xf32> role scalar
  llm.state @loss : tensor<1xf32> role scalar
  llm.state @norm_terms : tensor<3xf64> role scalar
  llm.state @embed.gradient : tensor<12x6xf32> role gradient of @embed
  llm.state @embed.moment1 : tensor<12x6xf32> role moment1 of @embed
  llm.state @embed.moment2 : tensor<12x6xf32> role moment2 of @embed
  llm.state @w0.gradient : tensor<6x6xf32> role gradient of @w0
  llm.state @w0.moment1 : tensor<6x6xf32> role moment1 of @w0
  llm.state @w0.moment2 : tensor<6x6xf32> role moment2 of @w0
  llm.state @w1.gradient : tensor<6x6xf32> role gradient of @w1
  llm.state @w1.moment1 : tensor<6x6xf32> role moment1 of @w1
  llm.state @w1.moment2 : tensor<6x6xf32> role moment2 of @w1
  func.func @step.forward(%arg0: tensor<1x3xi32> {llm.name = "ids"}, %arg1: tensor<1x3xi32> {llm.name = "positions"}, %arg2: tensor<1x3xi32> {llm.name = "starts"}, %arg3: tensor<1x3xi32> {llm.name = "labels"}) -> (tensor<3x12xf32> {llm.name = "saved.0"}, tensor<3xf32> {llm.name = "saved.1"}, tensor<3x6xf32> {llm.name = "saved.2"}, tensor<3x6xf32> {llm.name = "saved.3"}, tensor<3x6xf32> {llm.name = "saved.4"}) attributes {llm.entry = "forward"} {
    %0 = llm.get_param @embed : tensor<12x6xf32>
    %1 = llm.embedding %arg0, %0 : (tensor<1x3xi32>, tensor<12x6xf32>) -> tensor<3x6xf32>
    %2 = llm.get_param @w0 : tensor<6x6xf32>
    %3 = llm.get_param @w1 : tensor<6x6xf32>
    %4 = call @layer.forward(%1, %2, %arg2) {dist.stage = 0 : i64} : (tensor<3x6xf32>, tensor<6x6xf32>, tensor<1x3xi32>) -> tensor<3x6xf32>
    %5 = dist.pipeline_stage %4 to 1 : tensor<3x6xf32> loc("layers.0")
    %6 = call @layer.forward(%5, %3, %arg2) {dist.stage = 1 : i64} : (tensor<3x6xf32>, tensor<6x6xf32>, tensor<1x3xi32>) -> tensor<3x6xf32>
    %7 = llm.linear %6, %0 : (tensor<3x6xf32>, tensor<12x6xf32>) -> tensor<3x12xf32>
    %8 = llm.cross_entropy_statistics %7, %arg3 : (tensor<3x12xf32>, tensor<1x3xi32>) -> tensor<1x3x3xf32>
    %loss, %log_sum = llm.cross_entropy_loss %8, %arg3 : (tensor<1x3x3xf32>, tensor<1x3xi32>) -> (tensor<3xf32>, tensor<3xf32>)
    %9 = llm.read_state @count : tensor<1xf32>
    %10 = llm.token_weights %arg3, %9 : (tensor<1x3xi32>, tensor<1xf32>) -> tensor<3xf32>
    %11 = llm.weighted_sum %loss, %10 : (tensor<3xf32>, tensor<3xf32>) -> tensor<1xf32>
    llm.accumulate %11 into @loss : tensor<1xf32>
    return %7, %log_sum, %6, %5, %1 : tensor<3x12xf32>, tensor<3xf32>, tensor<3x6xf32>, tensor<3x6xf32>, tensor<3x6xf32>
  }
  func.func private @layer.forward(%arg0: tensor<3x6xf32>, %arg1: tensor<6x6xf32>, %arg2: tensor<1x3xi32>) -> tensor<3x6xf32> attributes {llm.block} {
    %0 = llm.linear %arg0, %arg1 : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    return %0 : tensor<3x6xf32>
  }
  func.func private @layer.forward.backward(%arg0: tensor<3x6xf32>, %arg1: tensor<3x6xf32>, %arg2: tensor<6x6xf32>, %arg3: tensor<1x3xi32>) -> (tensor<3x6xf32>, tensor<6x6xf32>) attributes {llm.block} {
    %0 = llm.linear_input_gradient %arg0, %arg2 : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    %1 = llm.linear_weight_gradient %arg0, %arg1 : (tensor<3x6xf32>, tensor<3x6xf32>) -> tensor<6x6xf32>
    return %0, %1 : tensor<3x6xf32>, tensor<6x6xf32>
  }
  func.func @step.backward(%arg0: tensor<1x3xi32> {llm.name = "ids"}, %arg1: tensor<1x3xi32> {llm.name = "positions"}, %arg2: tensor<1x3xi32> {llm.name = "starts"}, %arg3: tensor<1x3xi32> {llm.name = "labels"}, %arg4: tensor<3x12xf32> {llm.name = "saved.0"}, %arg5: tensor<3xf32> {llm.name = "saved.1"}, %arg6: tensor<3x6xf32> {llm.name = "saved.2"}, %arg7: tensor<3x6xf32> {llm.name = "saved.3"}, %arg8: tensor<3x6xf32> {llm.name = "saved.4"}) attributes {llm.entry = "backward"} {
    %0 = llm.get_param @embed : tensor<12x6xf32>
    %1 = llm.get_param @w1 : tensor<6x6xf32>
    %2 = llm.get_param @w0 : tensor<6x6xf32>
    %3 = llm.read_state @count : tensor<1xf32>
    %4 = llm.token_weights %arg3, %3 : (tensor<1x3xi32>, tensor<1xf32>) -> tensor<3xf32>
    %5 = llm.cross_entropy_gradient %arg4, %arg3, %arg5, %4 : (tensor<3x12xf32>, tensor<1x3xi32>, tensor<3xf32>, tensor<3xf32>) -> tensor<3x12xf32>
    %6 = llm.linear_input_gradient %5, %0 : (tensor<3x12xf32>, tensor<12x6xf32>) -> tensor<3x6xf32>
    %7 = llm.linear_weight_gradient %5, %arg6 : (tensor<3x12xf32>, tensor<3x6xf32>) -> tensor<12x6xf32>
    llm.accumulate %7 into @embed.gradient : tensor<12x6xf32>
    %8:2 = call @layer.forward.backward(%6, %arg7, %1, %arg2) : (tensor<3x6xf32>, tensor<3x6xf32>, tensor<6x6xf32>, tensor<1x3xi32>) -> (tensor<3x6xf32>, tensor<6x6xf32>)
    llm.accumulate %8#1 into @w1.gradient : tensor<6x6xf32>
    %9:2 = call @layer.forward.backward(%8#0, %arg8, %2, %arg2) : (tensor<3x6xf32>, tensor<3x6xf32>, tensor<6x6xf32>, tensor<1x3xi32>) -> (tensor<3x6xf32>, tensor<6x6xf32>)
    llm.accumulate %9#1 into @w0.gradient : tensor<6x6xf32>
    %10 = llm.embedding_gradient %arg0, %9#0 {param = @embed} : (tensor<1x3xi32>, tensor<3x6xf32>) -> tensor<12x6xf32>
    llm.accumulate %10 into @embed.gradient : tensor<12x6xf32>
    return
  }
  func.func @step.prologue(%arg0: tensor<2x3xi32> {llm.name = "labels"}) attributes {llm.entry = "prologue"} {
    llm.zero_state @count
    llm.zero_state @loss
    llm.zero_state @norm_terms
    llm.zero_state @embed.gradient
    llm.zero_state @w0.gradient
    llm.zero_state @w1.gradient
    %0 = llm.count_labels %arg0 : (tensor<2x3xi32>) -> tensor<1xf32>
    llm.accumulate %0 into @count : tensor<1xf32>
    return
  }
  func.func @step.loss() attributes {llm.entry = "loss"} {
    return
  }
  func.func @step.optimizer(%arg0: tensor<16xf32> {llm.name = "hyper"}) -> (tensor<4xf32> {llm.name = "norm"}) attributes {llm.entry = "optimizer"} {
    %0 = llm.read_state @embed.gradient : tensor<12x6xf32>
    llm.square_sum %0 into @norm_terms[0] : tensor<12x6xf32>
    %1 = llm.read_state @w0.gradient : tensor<6x6xf32>
    llm.square_sum %1 into @norm_terms[1] : tensor<6x6xf32>
    %2 = llm.read_state @w1.gradient : tensor<6x6xf32>
    llm.square_sum %2 into @norm_terms[2] : tensor<6x6xf32>
    %3 = llm.read_state @norm_terms : tensor<3xf64>
    %4 = llm.sum_terms %3 : (tensor<3xf64>) -> tensor<1xf64>
    %5 = llm.global_norm %4, %arg0 : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
    %6 = llm.read_state @embed.gradient : tensor<12x6xf32>
    llm.adamw @embed with %6, %5, %arg0 moment1 @embed.moment1 moment2 @embed.moment2 decay : tensor<12x6xf32>, tensor<4xf32>, tensor<16xf32>
    %7 = llm.read_state @w0.gradient : tensor<6x6xf32>
    llm.adamw @w0 with %7, %5, %arg0 moment1 @w0.moment1 moment2 @w0.moment2 decay : tensor<6x6xf32>, tensor<4xf32>, tensor<16xf32>
    %8 = llm.read_state @w1.gradient : tensor<6x6xf32>
    llm.adamw @w1 with %8, %5, %arg0 moment1 @w1.moment1 moment2 @w1.moment2 decay : tensor<6x6xf32>, tensor<4xf32>, tensor<16xf32>
    return %5 : tensor<4xf32>
  }
}
