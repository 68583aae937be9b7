// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-build-inference-step --llmc-partition-tensor-split --llmc-insert-zero-gathers -verify-diagnostics | %FileCheck %s --check-prefix=STEP
// RUN: llmc-opt %s -split-input-file --llmc-build-inference-step --llmc-inline-blocks --llmc-fuse-few-row-products --llmc-select-kernels -verify-diagnostics | %FileCheck %s --check-prefix=LAUNCH

// With q4_0 the table and the head stay in q8_0; a vector is not a matrix. Types stay those of
// the elements.
// STEP: llm.param @table : tensor<31x64xbf16> storage "q8_0"
// STEP: llm.param @norm : tensor<64xf32>{{$}}
// STEP: llm.param @w : tensor<64x64xbf16> storage "q4_0"
// STEP: llm.param @head : tensor<31x64xbf16> storage "q8_0"

// LAUNCH: llm.param @table {{.*}} storage "q8_0" {plan.layout = "q8_0"}
// LAUNCH: llm.param @norm {{.*}} {plan.layout = "row_major"}
// LAUNCH: llm.param @w {{.*}} storage "q4_0" {plan.layout = "q4_0"}
// The formats' numbers are those of llmrt::WeightFormat. A chunk of 20 rows has a kernel of its
// own, which may compute in bf16; its last row is one row.
// LAUNCH-LABEL: func.func @prefill
// LAUNCH: plan.launch @embedding({{.*}}dtype = 16 : i64, layout = 0 : i64
// LAUNCH: plan.launch @linear_quantized({{.*}}input_words = ["x", "w"], result_words = ["y"]{{.*}}scalars = {K = 64 : i64, N = 64 : i64, compute = 1 : i64, dtype = 17 : i64, ldx = 64 : i64, ldy = 64 : i64}
// LAUNCH: plan.launch @fused_linear({{.*}}N = 31 : i64{{.*}}dtype = 16 : i64
// LAUNCH-LABEL: func.func @decode
// LAUNCH: plan.launch @fused_linear({{.*}}N = 64 : i64{{.*}}dtype = 17 : i64
// LAUNCH: plan.launch @fused_linear({{.*}}N = 31 : i64{{.*}}dtype = 16 : i64
module attributes {llm.options = {mode = "infer", target = "cuda:ptx", dtype = "bf16", weights_format = "q4_0", batch = 2 : i64, chunk = 20 : i64, seq = 64 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 1]
  llm.param @table : tensor<31x64xf32>
  llm.param @norm : tensor<64xf32>
  llm.param @w : tensor<64x64xf32>
  llm.param @head : tensor<31x64xf32>
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x31xf32> attributes {llm.entry = "forward"} {
    %t = llm.get_param @table : tensor<31x64xf32>
    %n = llm.get_param @norm : tensor<64xf32>
    %w = llm.get_param @w : tensor<64x64xf32>
    %h = llm.get_param @head : tensor<31x64xf32>
    %0 = llm.embedding %ids, %t : (tensor<?x?xi32>, tensor<31x64xf32>) -> tensor<?x64xf32>
    %1 = llm.linear %0, %w : (tensor<?x64xf32>, tensor<64x64xf32>) -> tensor<?x64xf32>
    %2 = llm.output_rows %1 : tensor<?x64xf32>
    %3 = llm.rms_norm %2, %n {eps = 1.0e-5 : f64} : tensor<?x64xf32>, tensor<64xf32>
    %4 = llm.linear %3, %h : (tensor<?x64xf32>, tensor<31x64xf32>) -> tensor<?x31xf32>
    return %4 : tensor<?x31xf32>
  }
}

// -----

// A row that is not whole blocks.
module attributes {llm.options = {mode = "infer", target = "cuda:ptx", dtype = "f32", weights_format = "q8_0", batch = 1 : i64, chunk = 20 : i64, seq = 64 : i64}} {
  // expected-error @+1 {{LLMC-E1003: --weights-format=q8_0: rows of w have 48 elements, a block has 32; compile with --weights-format=dense}}
  llm.param @w : tensor<31x48xf32>
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x31xf32> attributes {llm.entry = "forward"} {
    %w = llm.get_param @w : tensor<31x48xf32>
    %0 = llm.embedding %ids, %w : (tensor<?x?xi32>, tensor<31x48xf32>) -> tensor<?x48xf32>
    %1 = llm.linear %0, %w : (tensor<?x48xf32>, tensor<31x48xf32>) -> tensor<?x31xf32>
    return %1 : tensor<?x31xf32>
  }
}
