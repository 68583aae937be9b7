// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-build-training-step -verify-diagnostics | %FileCheck %s

// Four sequences in two micro-batches: rows are 2 x 3. Matrices and vectors have a gradient
// and two moments, all f32; a parameter kept in bf16 has a master too.
// CHECK: llm.param @embed : tensor<12x6xf32>
// CHECK: llm.state @count : tensor<1xf32> role  scalar
// CHECK: llm.state @loss : tensor<1xf32> role  scalar
// CHECK: llm.state @norm_terms : tensor<4xf64> role  scalar
// CHECK: llm.state @w.gradient : tensor<6x6xf32> role  gradient of @w
// CHECK-NEXT: llm.state @w.moment1 : tensor<6x6xf32> role  moment1 of @w
// CHECK-NEXT: llm.state @w.moment2 : tensor<6x6xf32> role  moment2 of @w
// CHECK-NOT: .master

// Forward returns what backward reads: logits, the sum of each row of the loss, the input of
// the head, the input of the layer and what the layer saved (its normed rows).
// CHECK-LABEL: func.func @step.forward(
// CHECK-SAME: %[[IDS:.*]]: tensor<2x3xi32> {llm.name = "ids"}
// CHECK-SAME: -> (tensor<6x12xf32> {llm.name = "saved.0"}, tensor<6xf32> {llm.name = "saved.1"}, tensor<6x6xf32> {llm.name = "saved.2"}, tensor<6x6xf32> {llm.name = "saved.3"}, tensor<6x6xf32> {llm.name = "saved.4"}) attributes {llm.entry = "forward"}
// CHECK: %[[X:.*]] = llm.embedding %[[IDS]]
// CHECK: %[[Y:.*]]:2 = call @layer.forward(%[[X]],
// CHECK-NOT: llm.output_rows
// CHECK: %[[L:.*]] = llm.linear %[[Y]]#0
// CHECK: llm.cross_entropy_statistics %[[L]]
// CHECK: %{{.*}}, %[[LOGSUM:.*]] = llm.cross_entropy_loss
// CHECK: %[[SUM:.*]] = llm.weighted_sum
// CHECK: llm.accumulate %[[SUM]] into @loss
// CHECK: return %[[L]], %[[LOGSUM]], %[[Y]]#0, %[[X]], %[[Y]]#1

// CHECK-LABEL: func.func private @layer.forward(
// CHECK: %[[N:.*]] = llm.rms_norm
// CHECK: %[[R:.*]] = llm.add
// CHECK: return %[[R]], %[[N]]

// Arguments: the gradient of the result, the arguments of the layer, what it saved. The
// residual adds to the gradient of the norm's input.
// CHECK-LABEL: func.func private @layer.forward.backward(
// CHECK-SAME: %[[DY:[a-z0-9]+]]: tensor<6x6xf32>, %[[IN:[a-z0-9]+]]: tensor<6x6xf32>, %[[NW:[a-z0-9]+]]: tensor<6xf32>, %[[W:[a-z0-9]+]]: tensor<6x6xf32>, %{{.*}}: tensor<2x3xi32>, %[[SAVED:[a-z0-9]+]]: tensor<6x6xf32>)
// CHECK-NEXT: %[[DN:.*]] = llm.linear_input_gradient %[[DY]], %[[W]]
// CHECK-NEXT: %[[DW:.*]] = llm.linear_weight_gradient %[[DY]], %[[SAVED]]
// CHECK-NEXT: %[[DX:.*]], %[[SCALED:.*]] = llm.rms_norm_gradient %[[DN]], %[[IN]], %[[NW]] {eps = 1.000000e-05 : f64}
// CHECK-NEXT: %[[DNW:.*]] = llm.sum_rows %[[SCALED]] : (tensor<6x6xf32>) -> tensor<6xf32>
// CHECK-NEXT: %[[DIN:.*]] = llm.add %[[DY]], %[[DX]]
// CHECK-NEXT: return %[[DIN]], %[[DNW]], %[[DW]]

// CHECK-LABEL: func.func @step.backward(
// CHECK-SAME: %[[LOGITS:[a-z0-9]+]]: tensor<6x12xf32> {llm.name = "saved.0"}, %[[SUMS:[a-z0-9]+]]: tensor<6xf32> {llm.name = "saved.1"}, %[[TOP:[a-z0-9]+]]: tensor<6x6xf32> {llm.name = "saved.2"}
// CHECK: %[[D:.*]] = llm.cross_entropy_gradient %[[LOGITS]], %{{.*}}, %[[SUMS]]
// CHECK: %[[DTOP:.*]] = llm.linear_input_gradient %[[D]]
// CHECK: %[[DHEAD:.*]] = llm.linear_weight_gradient %[[D]], %[[TOP]]
// CHECK: llm.accumulate %[[DHEAD]] into @head.gradient
// CHECK: %[[G:.*]]:3 = call @layer.forward.backward(%[[DTOP]],
// CHECK: llm.accumulate %[[G]]#1 into @norm.gradient
// CHECK: llm.accumulate %[[G]]#2 into @w.gradient
// CHECK: %[[DE:.*]] = llm.embedding_gradient %{{.*}}, %[[G]]#0 {param = @embed}
// CHECK: llm.accumulate %[[DE]] into @embed.gradient

// The prologue sees the labels of all micro-batches.
// CHECK-LABEL: func.func @step.prologue(
// CHECK-SAME: %[[LABELS:.*]]: tensor<4x3xi32> {llm.name = "labels"}
// CHECK-NEXT: llm.zero_state @count
// CHECK-NEXT: llm.zero_state @loss
// CHECK-NEXT: llm.zero_state @norm_terms
// CHECK-NEXT: llm.zero_state @embed.gradient
// CHECK-NEXT: llm.zero_state @norm.gradient
// CHECK-NEXT: llm.zero_state @w.gradient
// CHECK-NEXT: llm.zero_state @head.gradient
// CHECK-NEXT: %[[COUNT:.*]] = llm.count_labels %[[LABELS]]
// CHECK-NEXT: llm.accumulate %[[COUNT]] into @count

// Matrices decay, vectors do not.
// CHECK-LABEL: func.func @step.optimizer(
// CHECK: llm.square_sum %{{.*}} into @norm_terms[0]
// CHECK: llm.square_sum %{{.*}} into @norm_terms[3]
// CHECK: %[[NORM:.*]] = llm.global_norm
// CHECK: llm.adamw @embed with %{{.*}}, %[[NORM]], %{{.*}} moment1 @embed.moment1 moment2 @embed.moment2 decay :
// CHECK: llm.adamw @norm with %{{.*}} moment2 @norm.moment2 :
// CHECK: %[[GW:.*]] = llm.read_state @w.gradient
// CHECK: llm.adamw @w with %[[GW]], {{.*}} moment2 @w.moment2 decay :
// CHECK: return %[[NORM]]
module attributes {llm.options = {batch = 4 : i64, seq = 3 : i64, microbatches = 2 : i64, dtype = "f32"}} {
  llm.param @embed : tensor<12x6xf32>
  llm.param @norm : tensor<6xf32>
  llm.param @w : tensor<6x6xf32>
  llm.param @head : tensor<12x6xf32>
  func.func private @layer(%x: tensor<?x6xf32>, %n: tensor<6xf32>, %w: tensor<6x6xf32>) -> tensor<?x6xf32> attributes {llm.block} {
    %0 = llm.rms_norm %x, %n {eps = 1.0e-5 : f64} : tensor<?x6xf32>, tensor<6xf32>
    %1 = llm.linear %0, %w : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    %2 = llm.add %x, %1 : tensor<?x6xf32>
    return %2 : tensor<?x6xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %n = llm.get_param @norm : tensor<6xf32>
    %w = llm.get_param @w : tensor<6x6xf32>
    %y = call @layer(%x, %n, %w) : (tensor<?x6xf32>, tensor<6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    %o = llm.output_rows %y : tensor<?x6xf32>
    %h = llm.get_param @head : tensor<12x6xf32>
    %l = llm.linear %o, %h : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// A frozen parameter has no states, no gradient and no update; the gradient still runs through
// it. Trained matrices of a bf16 model have a master. Of the mesh only dp counts: 4 / (2 x 2).
// CHECK: llm.param @w : tensor<6x6xbf16> {{.*}}llm.frozen
// CHECK: llm.state @norm_terms : tensor<1xf64>
// CHECK-NOT: @w.
// CHECK: llm.state @head.moment2 : tensor<12x6xf32>
// CHECK-NEXT: llm.state @head.master : tensor<12x6xf32> role  master of @head
// CHECK-NOT: @w.
// CHECK-LABEL: func.func @step.forward(
// CHECK-SAME: tensor<1x3xi32> {llm.name = "ids"}
// CHECK-NOT: @w.gradient
// CHECK: llm.linear_weight_gradient
// CHECK: llm.accumulate %{{.*}} into @head.gradient
// CHECK-NOT: @w.gradient
// CHECK: llm.adamw @head with {{.*}} master @head.master decay
// CHECK-NOT: llm.adamw
module attributes {llm.options = {batch = 4 : i64, seq = 3 : i64, microbatches = 2 : i64, dtype = "bf16", freeze = "w*"}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 1]
  llm.param @w : tensor<6x6xf32>
  llm.param @w2 : tensor<12x6xf32>
  llm.param @head : tensor<12x6xf32>
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @w2 : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %w = llm.get_param @w : tensor<6x6xf32>
    %y = llm.linear %x, %w : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    %h = llm.get_param @head : tensor<12x6xf32>
    %l = llm.linear %y, %h : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// expected-error @+1 {{LLMC-E1002: a batch of 6 sequences cannot be cut into 4 equal parts (dp x microbatches); use a multiple of 4}}
module attributes {llm.options = {batch = 6 : i64, seq = 3 : i64, microbatches = 2 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 1]
  llm.param @head : tensor<12x6xf32>
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %h = llm.get_param @head : tensor<12x6xf32>
    %x = llm.embedding %ids, %h : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %l = llm.linear %x, %h : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// expected-error @+1 {{LLMC-E0102: --freeze='*': every parameter matches, and nothing is left to train}}
module attributes {llm.options = {batch = 2 : i64, seq = 3 : i64, microbatches = 1 : i64, freeze = "*"}} {
  llm.param @head : tensor<12x6xf32>
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %h = llm.get_param @head : tensor<12x6xf32>
    %x = llm.embedding %ids, %h : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %l = llm.linear %x, %h : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// Preference optimisation: the frozen reference stands beside the model, layer by layer, in
// parameters of its own that have no states. Pairs are counted, two sequences each.
// CHECK: llm.param @embed : tensor<12x6xf32>
// CHECK: llm.state @loss : tensor<6xf32>
// CHECK-NOT: llm.state @reference
// CHECK: llm.param @reference.w : tensor<6x6xf32> weight_set "reference" {llm.frozen}
// CHECK-LABEL: func.func @step.forward(
// CHECK-SAME: %[[HYPER:[a-z0-9]+]]: tensor<16xf32> {llm.name = "hyper"}) -> (tensor<6x12xf32> {llm.name = "saved.0"}, tensor<6xf32> {llm.name = "saved.1"}, tensor<6xf32> {llm.name = "saved.2"}
// CHECK: %[[RE:.*]] = llm.get_param @reference.embed
// CHECK: %[[RX:.*]] = llm.embedding %{{.*}}, %[[RE]]
// CHECK: %[[X:.*]] = llm.embedding
// CHECK: %[[RY:.*]] = call @layer.reference(%[[RX]], {{.*}}) {llm.reference}
// CHECK: %[[Y:.*]] = call @layer.forward(%[[X]],
// CHECK: %[[RL:.*]] = llm.linear %[[RY]], %[[RE]]
// CHECK: %[[L:.*]] = llm.linear %[[Y]]
// CHECK: %[[S:.*]] = llm.cross_entropy_statistics %[[L]]
// CHECK: %[[LOSS:.*]], %[[LOGSUM:.*]] = llm.cross_entropy_loss %[[S]]
// CHECK: %[[RS:.*]] = llm.cross_entropy_statistics %[[RL]]
// CHECK: %[[RLOSS:.*]], %{{.*}} = llm.cross_entropy_loss %[[RS]]
// CHECK: %[[W:.*]], %[[T:.*]] = llm.preference_loss %[[LOSS]], %[[RLOSS]], %{{.*}}, %{{.*}}, %[[HYPER]] hinge
// CHECK: llm.accumulate %[[T]] into @loss
// CHECK: return %[[L]], %[[LOGSUM]], %[[W]]
// CHECK-LABEL: func.func @step.backward(
// CHECK-NOT: reference
// CHECK-LABEL: func.func @step.prologue(
// CHECK: llm.count_labels %{{.*}} {unit = 6 : i64}
// CHECK-LABEL: func.func @step.loss() attributes {llm.entry = "loss"}
module attributes {llm.options = {batch = 2 : i64, seq = 3 : i64, objective = "dpo", preference_loss = "hinge"}} {
  llm.param @embed : tensor<12x6xf32>
  llm.param @w : tensor<6x6xf32>
  func.func private @layer(%x: tensor<?x6xf32>, %w: tensor<6x6xf32>) -> tensor<?x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    return %0 : tensor<?x6xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %w = llm.get_param @w : tensor<6x6xf32>
    %y = call @layer(%x, %w) : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    %l = llm.linear %y, %e : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// Computed before: the reference's losses come in, the model's go out.
// CHECK-NOT: @reference
// CHECK-LABEL: func.func @step.forward(
// CHECK-SAME: %[[R:[a-z0-9]+]]: tensor<6xf32> {llm.name = "reference_loss"})
// CHECK-SAME: tensor<6xf32> {llm.name = "row_loss"})
// CHECK: %[[LOSS:.*]], %{{.*}} = llm.cross_entropy_loss
// CHECK: llm.preference_loss %[[LOSS]], %[[R]], {{.*}} sigmoid
// CHECK: return {{.*}}, %[[LOSS]] :
module attributes {llm.options = {batch = 2 : i64, seq = 3 : i64, objective = "dpo", reference = "precompute"}} {
  llm.param @embed : tensor<12x6xf32>
  llm.param @w : tensor<6x6xf32>
  func.func private @layer(%x: tensor<?x6xf32>, %w: tensor<6x6xf32>) -> tensor<?x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    return %0 : tensor<?x6xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %w = llm.get_param @w : tensor<6x6xf32>
    %y = call @layer(%x, %w) : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    %l = llm.linear %y, %e : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}

// -----

// expected-error @+1 {{LLMC-E1002: a micro-batch of 1 sequences cannot hold pairs of chosen and rejected answers; use a batch that is a multiple of 4}}
module attributes {llm.options = {batch = 2 : i64, seq = 3 : i64, microbatches = 2 : i64, objective = "dpo"}} {
  llm.param @embed : tensor<12x6xf32>
  llm.param @w : tensor<6x6xf32>
  func.func private @layer(%x: tensor<?x6xf32>, %w: tensor<6x6xf32>) -> tensor<?x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    return %0 : tensor<?x6xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x12xf32> attributes {llm.entry = "forward"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<?x?xi32>, tensor<12x6xf32>) -> tensor<?x6xf32>
    %w = llm.get_param @w : tensor<6x6xf32>
    %y = call @layer(%x, %w) : (tensor<?x6xf32>, tensor<6x6xf32>) -> tensor<?x6xf32>
    %l = llm.linear %y, %e : (tensor<?x6xf32>, tensor<12x6xf32>) -> tensor<?x12xf32>
    return %l : tensor<?x12xf32>
  }
}
