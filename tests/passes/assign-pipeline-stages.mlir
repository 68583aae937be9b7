// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-assign-pipeline-stages -verify-diagnostics | %FileCheck %s

// Five equal layers on three stages; the head costs as much as two layers and stands on
// the last stage. No stage costs more than three, the others are even: two, two, one with the head.
// CHECK-LABEL: func.func @five_layers
// CHECK: call @layer({{.*}}) {dist.stage = 0 : i64}
// CHECK: %[[X2:.*]] = call @layer({{.*}}) {dist.stage = 0 : i64}
// CHECK: %[[C1:.*]] = dist.pipeline_stage %[[X2]] to 1 : tensor<2x6xf32>
// CHECK: call @layer(%[[C1]], %{{.*}}) {dist.stage = 1 : i64}
// CHECK: %[[X3:.*]] = call @layer({{.*}}) {dist.stage = 1 : i64}
// CHECK: %[[C2:.*]] = dist.pipeline_stage %[[X3]] to 2 : tensor<2x6xf32>
// CHECK: call @layer(%[[C2]], %{{.*}}) {dist.stage = 2 : i64}
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 3, 1]
  llm.param @w0 : tensor<6x6xf32>
  llm.param @w1 : tensor<6x6xf32>
  llm.param @w2 : tensor<6x6xf32>
  llm.param @w3 : tensor<6x6xf32>
  llm.param @w4 : tensor<6x6xf32>
  llm.param @embed : tensor<12x6xf32>
  func.func private @layer(%x: tensor<2x6xf32>, %w: tensor<6x6xf32>) -> tensor<2x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
  func.func @five_layers(%ids: tensor<2x1xi32>) -> tensor<2x12xf32> attributes {llm.entry = "decode"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<2x1xi32>, tensor<12x6xf32>) -> tensor<2x6xf32>
    %w0 = llm.get_param @w0 : tensor<6x6xf32>
    %0 = call @layer(%x, %w0) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %w1 = llm.get_param @w1 : tensor<6x6xf32>
    %1 = call @layer(%0, %w1) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %w2 = llm.get_param @w2 : tensor<6x6xf32>
    %2 = call @layer(%1, %w2) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %w3 = llm.get_param @w3 : tensor<6x6xf32>
    %3 = call @layer(%2, %w3) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %w4 = llm.get_param @w4 : tensor<6x6xf32>
    %4 = call @layer(%3, %w4) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %5 = llm.linear %4, %e : (tensor<2x6xf32>, tensor<12x6xf32>) -> tensor<2x12xf32>
    return %5 : tensor<2x12xf32>
  }
}

// -----

// A large head takes nothing from the rule that each stage has a layer.
// CHECK-LABEL: func.func @large_head
// CHECK: %[[X0:.*]] = call @layer({{.*}}) {dist.stage = 0 : i64}
// CHECK: dist.pipeline_stage %[[X0]] to 1
// CHECK: call @layer({{.*}}) {dist.stage = 1 : i64}
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 2, 1]
  llm.param @w0 : tensor<6x6xf32>
  llm.param @w1 : tensor<6x6xf32>
  llm.param @head : tensor<1200x6xf32>
  func.func private @layer(%x: tensor<2x6xf32>, %w: tensor<6x6xf32>) -> tensor<2x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
  func.func @large_head(%ids: tensor<2x1xi32>, %x: tensor<2x6xf32>) -> tensor<2x1200xf32> attributes {llm.entry = "decode"} {
    %w0 = llm.get_param @w0 : tensor<6x6xf32>
    %0 = call @layer(%x, %w0) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %w1 = llm.get_param @w1 : tensor<6x6xf32>
    %1 = call @layer(%0, %w1) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %h = llm.get_param @head : tensor<1200x6xf32>
    %2 = llm.linear %1, %h : (tensor<2x6xf32>, tensor<1200x6xf32>) -> tensor<2x1200xf32>
    return %2 : tensor<2x1200xf32>
  }
}

// -----

// More stages than layers.
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 3, 1]
  llm.param @w0 : tensor<6x6xf32>
  func.func private @layer(%x: tensor<2x6xf32>, %w: tensor<6x6xf32>) -> tensor<2x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
  // expected-error @+1 {{LLMC-E1002: pp=3 for a model of 1 layers; use at most 1}}
  func.func @few_layers(%ids: tensor<2x1xi32>, %x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.entry = "decode"} {
    %w0 = llm.get_param @w0 : tensor<6x6xf32>
    %0 = call @layer(%x, %w0) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
}

// -----

// One stage: nothing changes.
// CHECK-LABEL: func.func @one_stage
// CHECK-NOT: dist.stage
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]
  llm.param @w0 : tensor<6x6xf32>
  func.func private @layer(%x: tensor<2x6xf32>, %w: tensor<6x6xf32>) -> tensor<2x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
  func.func @one_stage(%ids: tensor<2x1xi32>, %x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.entry = "decode"} {
    %w0 = llm.get_param @w0 : tensor<6x6xf32>
    %0 = call @layer(%x, %w0) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
}

// -----

// Two stages of two chunks: global stages 0 and 2 are the chunks of stage 0.
// CHECK-LABEL: func.func @step.forward
// CHECK: %[[V0:.*]] = call @layer({{.*}}) {dist.stage = 0 : i64}
// CHECK: dist.pipeline_stage %[[V0]] to 1
// CHECK: call @layer({{.*}}) {dist.stage = 1 : i64}
// CHECK: dist.pipeline_stage %{{.*}} to 2
// CHECK: call @layer({{.*}}) {dist.stage = 2 : i64}
// CHECK: dist.pipeline_stage %{{.*}} to 3
// CHECK: call @layer({{.*}}) {dist.stage = 3 : i64}
module attributes {llm.options = {mode = "train", schedule = "interleaved", virtual_stages = 2 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 2, 1]
  llm.param @w : tensor<6x6xf32>
  func.func private @layer(%x: tensor<2x6xf32>, %w: tensor<6x6xf32>) -> tensor<2x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
  func.func @step.forward(%x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.entry = "forward"} {
    %w = llm.get_param @w : tensor<6x6xf32>
    %0 = call @layer(%x, %w) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %1 = call @layer(%0, %w) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %2 = call @layer(%1, %w) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %3 = call @layer(%2, %w) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %3 : tensor<2x6xf32>
  }
}

// -----

// Fewer layers than chunks.
module attributes {llm.options = {mode = "train", schedule = "interleaved", virtual_stages = 2 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 2, 1]
  llm.param @w : tensor<6x6xf32>
  func.func private @layer(%x: tensor<2x6xf32>, %w: tensor<6x6xf32>) -> tensor<2x6xf32> attributes {llm.block} {
    %0 = llm.linear %x, %w : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %0 : tensor<2x6xf32>
  }
  // expected-error @+1 {{LLMC-E1002: pp=2 with 2 virtual stages for a model of 3 layers; use at most 1}}
  func.func @step.forward(%x: tensor<2x6xf32>) -> tensor<2x6xf32> attributes {llm.entry = "forward"} {
    %w = llm.get_param @w : tensor<6x6xf32>
    %0 = call @layer(%x, %w) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %1 = call @layer(%0, %w) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    %2 = call @layer(%1, %w) : (tensor<2x6xf32>, tensor<6x6xf32>) -> tensor<2x6xf32>
    return %2 : tensor<2x6xf32>
  }
}
