// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-split-training-stages | %FileCheck %s
// RUN: llmc-opt %s --llmc-split-training-stages --llmc-inline-blocks --llmc-select-kernels --llmc-outline-kernels --llmc-lower-to-plan | %FileCheck %s --check-prefix=PLAN

// Virtual stages: four layers on two stages of two chunks. Layers 0 and 2 are the chunks of
// stage 0 and share a weight.
// CHECK-NOT: func.func @step.forward(
// CHECK-LABEL: func.func @step.forward.stage0.chunk0(
// CHECK-SAME: -> (tensor<3x6xf32> {llm.name = "sent_activation.0"}, {{.*}}) attributes {dist.chunk = 0 : i64, dist.stage = 0 : i64, llm.entry = "forward"}
// CHECK: llm.get_param @w0
// CHECK: call @layer(
// CHECK-NOT: call
// CHECK-LABEL: func.func @step.send_activation.stage0.chunk0(
// CHECK: dist.send %{{.*}} "pp" peer 1
// CHECK-LABEL: func.func @step.forward.stage1.chunk0(
// CHECK-LABEL: func.func @step.send_activation.stage1.chunk0(
// CHECK-SAME: attributes {dist.chunk = 0 : i64, dist.stage = 1 : i64, llm.entry = "send_activation"}
// CHECK: dist.send %{{.*}} "pp" peer 0
// CHECK-LABEL: func.func @step.receive_activation.stage1.chunk0(
// CHECK: dist.recv "pp" peer 0

// The last stage's first chunk feeds the first stage's second.
// CHECK-LABEL: func.func @step.forward.stage0.chunk1(
// CHECK-SAME: {llm.name = "received_activation.0"}) -> (tensor<3x6xf32> {llm.name = "sent_activation.0"}
// CHECK: llm.get_param @w0
// CHECK-LABEL: func.func @step.receive_activation.stage0.chunk1(
// CHECK: dist.recv "pp" peer 1
// CHECK-LABEL: func.func @step.forward.stage1.chunk1(
// CHECK-NOT: sent_activation
// CHECK: llm.accumulate %{{.*}} into @loss

// Gradients go the other way round.
// CHECK-LABEL: func.func @step.backward.stage0.chunk0(
// CHECK: llm.accumulate %{{.*}} into @w0.gradient
// CHECK-LABEL: func.func @step.backward.stage1.chunk0(
// CHECK-LABEL: func.func @step.send_gradient.stage1.chunk0(
// CHECK: dist.send %{{.*}} "pp" peer 0
// CHECK-LABEL: func.func @step.receive_gradient.stage1.chunk0(
// CHECK: dist.recv "pp" peer 0
// CHECK-LABEL: func.func @step.backward.stage0.chunk1(
// CHECK: llm.accumulate %{{.*}} into @w0.gradient
// CHECK-LABEL: func.func @step.send_gradient.stage0.chunk1(
// CHECK: dist.send %{{.*}} "pp" peer 1

// One prologue and one optimizer for all chunks: the shared weight is zeroed, counted and
// updated once, and nothing of it is exchanged.
// CHECK-LABEL: func.func @step.prologue.stage0(
// CHECK-SAME: attributes {dist.stage = 0 : i64, llm.entry = "prologue"}
// CHECK: llm.zero_state @w0.gradient
// CHECK-NEXT: llm.count_labels
// CHECK-LABEL: func.func @step.optimizer.stage0(
// CHECK-NEXT: %[[G:.*]] = llm.read_state @w0.gradient
// CHECK-NEXT: llm.square_sum %[[G]] into @norm_terms[0]
// CHECK-NEXT: llm.read_state @norm_terms
// CHECK: llm.adamw @w0
// CHECK-NEXT: return
// CHECK-LABEL: func.func @step.optimizer.stage1(
// CHECK: llm.adamw @w1
// CHECK: llm.adamw @w3

// The plan has an entry for each segment of a chunk. Chunks share what is received and sent;
// values saved are each chunk's own.
// PLAN: plan.entry @entry_forward.chunk0
// PLAN: plan.stage @stage0 0 {
// PLAN: plan.parameter @w0
// PLAN-NOT: plan.parameter
// PLAN-COUNT-1: plan.buffer @sent_activation.0
// PLAN-NOT: plan.buffer @sent_activation
// PLAN: plan.program "send_activation.chunk1"
// Transfers run on the communication stream.
// PLAN-NEXT: plan.collective "send" ["pp"] "sent_activation.0"{{.*}} stream = 1 : i64
// PLAN: plan.action "prologue"
// PLAN-NEXT: plan.action "forward.chunk0" micro_batch 0
// PLAN: plan.action "receive_activation.chunk1" micro_batch 0
// PLAN: plan.action "forward.chunk1" micro_batch 0
// PLAN: plan.action "backward.chunk1" micro_batch 0
// PLAN: plan.action "backward.chunk0" micro_batch 1
// PLAN: plan.action "optimizer"
module attributes {llm.options = {batch = 2 : i64, dtype = "f32", microbatches = 2 : i64, mode = "train", schedule = "interleaved", seq = 3 : i64, virtual_stages = 2 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 2, 1]
  llm.param @w0 : tensor<6x6xf32>
  llm.param @w1 : tensor<6x6xf32>
  llm.param @w3 : tensor<6x6xf32>
  llm.state @count : tensor<1xf32> role scalar
  llm.state @loss : tensor<1xf32> role scalar
  llm.state @norm_terms : tensor<3xf64> role scalar
  llm.state @w0.gradient : tensor<6x6xf32> role gradient of @w0
  llm.state @w0.moment1 : tensor<6x6xf32> role moment1 of @w0
  llm.state @w0.moment2 : tensor<6x6xf32> role moment2 of @w0
  llm.state @w1.gradient : tensor<6x6xf32> role gradient of @w1
  llm.state @w1.moment1 : tensor<6x6xf32> role moment1 of @w1
  llm.state @w1.moment2 : tensor<6x6xf32> role moment2 of @w1
  llm.state @w3.gradient : tensor<6x6xf32> role gradient of @w3
  llm.state @w3.moment1 : tensor<6x6xf32> role moment1 of @w3
  llm.state @w3.moment2 : tensor<6x6xf32> role moment2 of @w3
  func.func @step.forward(%ids: tensor<1x3xi32> {llm.name = "ids"}, %labels: tensor<1x3xi32> {llm.name = "labels"}) -> (tensor<3x6xf32> {llm.name = "saved.0"}, tensor<3xf32> {llm.name = "saved.1"}, tensor<3x6xf32> {llm.name = "saved.2"}, tensor<3x6xf32> {llm.name = "saved.3"}, tensor<3x6xf32> {llm.name = "saved.4"}, tensor<3x6xf32> {llm.name = "saved.5"}) attributes {llm.entry = "forward"} {
    %0 = llm.get_param @w0 : tensor<6x6xf32>
    %1 = llm.get_param @w1 : tensor<6x6xf32>
    %3 = llm.get_param @w3 : tensor<6x6xf32>
    %x0 = llm.embedding %ids, %0 : (tensor<1x3xi32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    %y0 = call @layer(%x0, %0) {dist.stage = 0 : i64} : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    %x1 = dist.pipeline_stage %y0 to 1 : tensor<3x6xf32>
    %y1 = call @layer(%x1, %1) {dist.stage = 1 : i64} : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    %x2 = dist.pipeline_stage %y1 to 2 : tensor<3x6xf32>
    %y2 = call @layer(%x2, %0) {dist.stage = 2 : i64} : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    %x3 = dist.pipeline_stage %y2 to 3 : tensor<3x6xf32>
    %y3 = call @layer(%x3, %3) {dist.stage = 3 : i64} : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    %s = llm.cross_entropy_statistics %y3, %labels : (tensor<3x6xf32>, tensor<1x3xi32>) -> tensor<1x3x3xf32>
    %loss, %log_sum = llm.cross_entropy_loss %s, %labels : (tensor<1x3x3xf32>, tensor<1x3xi32>) -> (tensor<3xf32>, tensor<3xf32>)
    %count = llm.read_state @count : tensor<1xf32>
    %weights = llm.token_weights %labels, %count : (tensor<1x3xi32>, tensor<1xf32>) -> tensor<3xf32>
    %sum = llm.weighted_sum %loss, %weights : (tensor<3xf32>, tensor<3xf32>) -> tensor<1xf32>
    llm.accumulate %sum into @loss : tensor<1xf32>
    return %y3, %log_sum, %x3, %x2, %x1, %x0 : tensor<3x6xf32>, tensor<3xf32>, tensor<3x6xf32>, tensor<3x6xf32>, tensor<3x6xf32>, tensor<3x6xf32>
  }
  func.func private @layer(%x: tensor<3x6xf32>, %w: tensor<6x6xf32>) -> tensor<3x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    return %0 : tensor<3x6xf32>
  }
  func.func private @layer.backward(%dy: tensor<3x6xf32>, %x: tensor<3x6xf32>, %w: tensor<6x6xf32>) -> (tensor<3x6xf32>, tensor<6x6xf32>) attributes {llm.block} {
    %0 = llm.linear_input_gradient %dy, %w : (tensor<3x6xf32>, tensor<6x6xf32>) -> tensor<3x6xf32>
    %1 = llm.linear_weight_gradient %dy, %x : (tensor<3x6xf32>, tensor<3x6xf32>) -> tensor<6x6xf32>
    return %0, %1 : tensor<3x6xf32>, tensor<6x6xf32>
  }
  func.func @step.backward(%ids: tensor<1x3xi32> {llm.name = "ids"}, %labels: tensor<1x3xi32> {llm.name = "labels"}, %y3: tensor<3x6xf32> {llm.name = "saved.0"}, %log_sum: tensor<3xf32> {llm.name = "saved.1"}, %x3: tensor<3x6xf32> {llm.name = "saved.2"}, %x2: tensor<3x6xf32> {llm.name = "saved.3"}, %x1: tensor<3x6xf32> {llm.name = "saved.4"}, %x0: tensor<3x6xf32> {llm.name = "saved.5"}) attributes {llm.entry = "backward"} {
    %0 = llm.get_param @w0 : tensor<6x6xf32>
    %1 = llm.get_param @w1 : tensor<6x6xf32>
    %3 = llm.get_param @w3 : tensor<6x6xf32>
    %count = llm.read_state @count : tensor<1xf32>
    %weights = llm.token_weights %labels, %count : (tensor<1x3xi32>, tensor<1xf32>) -> tensor<3xf32>
    %d4 = llm.cross_entropy_gradient %y3, %labels, %log_sum, %weights : (tensor<3x6xf32>, tensor<1x3xi32>, tensor<3xf32>, tensor<3xf32>) -> tensor<3x6xf32>
    %d3, %g3 = call @layer.backward(%d4, %x3, %3) : (tensor<3x6xf32>, tensor<3x6xf32>, tensor<6x6xf32>) -> (tensor<3x6xf32>, tensor<6x6xf32>)
    llm.accumulate %g3 into @w3.gradient : tensor<6x6xf32>
    %d2, %g2 = call @layer.backward(%d3, %x2, %0) : (tensor<3x6xf32>, tensor<3x6xf32>, tensor<6x6xf32>) -> (tensor<3x6xf32>, tensor<6x6xf32>)
    llm.accumulate %g2 into @w0.gradient : tensor<6x6xf32>
    %d1, %g1 = call @layer.backward(%d2, %x1, %1) : (tensor<3x6xf32>, tensor<3x6xf32>, tensor<6x6xf32>) -> (tensor<3x6xf32>, tensor<6x6xf32>)
    llm.accumulate %g1 into @w1.gradient : tensor<6x6xf32>
    %d0, %g0 = call @layer.backward(%d1, %x0, %0) : (tensor<3x6xf32>, tensor<3x6xf32>, tensor<6x6xf32>) -> (tensor<3x6xf32>, tensor<6x6xf32>)
    llm.accumulate %g0 into @w0.gradient : tensor<6x6xf32>
    return
  }
  func.func @step.prologue(%labels: tensor<2x3xi32> {llm.name = "labels"}) attributes {llm.entry = "prologue"} {
    llm.zero_state @count
    llm.zero_state @loss
    llm.zero_state @norm_terms
    llm.zero_state @w0.gradient
    llm.zero_state @w1.gradient
    llm.zero_state @w3.gradient
    %0 = llm.count_labels %labels : (tensor<2x3xi32>) -> tensor<1xf32>
    llm.accumulate %0 into @count : tensor<1xf32>
    return
  }
  func.func @step.optimizer(%hyper: tensor<16xf32> {llm.name = "hyper"}) -> (tensor<4xf32> {llm.name = "norm"}) attributes {llm.entry = "optimizer"} {
    %g0 = llm.read_state @w0.gradient : tensor<6x6xf32>
    llm.square_sum %g0 into @norm_terms[0] : tensor<6x6xf32>
    %g1 = llm.read_state @w1.gradient : tensor<6x6xf32>
    llm.square_sum %g1 into @norm_terms[1] : tensor<6x6xf32>
    %g2 = llm.read_state @w3.gradient : tensor<6x6xf32>
    llm.square_sum %g2 into @norm_terms[2] : tensor<6x6xf32>
    %t = llm.read_state @norm_terms : tensor<3xf64>
    %s = llm.sum_terms %t : (tensor<3xf64>) -> tensor<1xf64>
    %n = llm.global_norm %s, %hyper : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
    llm.adamw @w0 with %g0, %n, %hyper moment1 @w0.moment1 moment2 @w0.moment2 decay : tensor<6x6xf32>, tensor<4xf32>, tensor<16xf32>
    llm.adamw @w1 with %g1, %n, %hyper moment1 @w1.moment1 moment2 @w1.moment2 decay : tensor<6x6xf32>, tensor<4xf32>, tensor<16xf32>
    llm.adamw @w3 with %g2, %n, %hyper moment1 @w3.moment1 moment2 @w3.moment2 decay : tensor<6x6xf32>, tensor<4xf32>, tensor<16xf32>
    return %n : tensor<4xf32>
  }
}
