// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-split-pipeline-stages | %FileCheck %s

// Three stages. A tied table is read where it is used: on the first and the last. Rows go
// from stage to stage, the token goes from the last to all; logits stay on the last.
// CHECK-NOT: func.func @decode(
// CHECK-LABEL: func.func @decode.stage0
// CHECK-SAME: -> (tensor<2xi32> {llm.name = "next_ids"}) attributes {dist.stage = 0 : i64, llm.entry = "decode"}
// CHECK: llm.get_param @embed
// CHECK: %[[X:.*]] = llm.embedding
// CHECK-NOT: @norm
// CHECK: dist.send %[[X]] "pp" peer 1 {pass = "split-pipeline-stages", subject = "embedding"} : tensor<2x6xf32>
// CHECK: %[[IDS:.*]] = dist.broadcast ["pp"] root 2 {pass = "split-pipeline-stages", subject = "next_ids"} : () -> tensor<2xi32>
// CHECK: return %[[IDS]] : tensor<2xi32>
// CHECK-LABEL: func.func @decode.stage1
// CHECK-NOT: @embed
// CHECK: %[[GOT:.*]] = dist.recv "pp" peer 0 {{.*}} : tensor<2x6xf32>
// CHECK: %[[N:.*]] = llm.rms_norm %[[GOT]]
// CHECK: dist.send %[[N]] "pp" peer 2
// CHECK: dist.broadcast ["pp"] root 2
// CHECK-LABEL: func.func @decode.stage2
// CHECK-SAME: -> (tensor<2x12xf32> {llm.name = "logits"}, tensor<2xi32> {llm.name = "next_ids"})
// CHECK: llm.get_param @embed
// CHECK-NOT: @norm
// CHECK: %[[LAST:.*]] = dist.recv "pp" peer 1
// CHECK: %[[LOGITS:.*]] = llm.linear %[[LAST]]
// CHECK: %[[NEXT:.*]] = llm.sample %[[LOGITS]]
// CHECK: %[[ALL:.*]] = dist.broadcast %[[NEXT]] ["pp"] root 2
// CHECK: return %[[LOGITS]], %[[ALL]]
module {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 3, 2]
  llm.param @embed : tensor<12x6xf32>
  llm.param @norm : tensor<6xf32>
  func.func @decode(%ids: tensor<2x1xi32> {llm.name = "ids"}, %t: tensor<2xf32>, %k: tensor<2xi32>, %s: tensor<2xi64>) -> (tensor<2x12xf32> {llm.name = "logits"}, tensor<2xi32> {llm.name = "next_ids"}) attributes {llm.entry = "decode"} {
    %e = llm.get_param @embed : tensor<12x6xf32>
    %x = llm.embedding %ids, %e : (tensor<2x1xi32>, tensor<12x6xf32>) -> tensor<2x6xf32> loc("embedding")
    %0 = dist.pipeline_stage %x to 1 : tensor<2x6xf32> loc("embedding")
    %n = llm.get_param @norm : tensor<6xf32>
    %1 = llm.rms_norm %0, %n {eps = 1.0e-5 : f64} : tensor<2x6xf32>, tensor<6xf32>
    %2 = dist.pipeline_stage %1 to 2 : tensor<2x6xf32>
    %3 = llm.linear %2, %e : (tensor<2x6xf32>, tensor<12x6xf32>) -> tensor<2x12xf32>
    %4 = llm.sample %3, %t, %k, %t, %s, %k, %k : (tensor<2x12xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2xf32>, tensor<2xi64>, tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
    return %3, %4 : tensor<2x12xf32>, tensor<2xi32>
  }

  // Score has no token: stages before the last return nothing.
  // CHECK-LABEL: func.func @score.stage0
  // CHECK-NOT: dist.broadcast
  // CHECK: return{{$}}
  // CHECK-LABEL: func.func @score.stage2
  // CHECK: return %{{.*}} : tensor<2x6xf32>
  func.func @score(%ids: tensor<1x2xi32>, %x: tensor<2x6xf32>) -> (tensor<2x6xf32> {llm.name = "logits"}) attributes {llm.entry = "score"} {
    %0 = dist.pipeline_stage %x to 1 : tensor<2x6xf32>
    %1 = llm.scale %0 {factor = 2.0 : f64} : tensor<2x6xf32>
    %2 = dist.pipeline_stage %1 to 2 : tensor<2x6xf32>
    %3 = llm.scale %2 {factor = 2.0 : f64} : tensor<2x6xf32>
    return %3 : tensor<2x6xf32>
  }
}
