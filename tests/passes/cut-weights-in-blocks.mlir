// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-propagate-tensor-split --llmc-partition-tensor-split --llmc-insert-zero-gathers -verify-diagnostics | %FileCheck %s

// Rows may be cut anywhere, columns between blocks.
// CHECK: llm.param @up : tensor<100x64xf32> split <dim = 0> storage "q8_0" local tensor<50x64xf32>
// CHECK: llm.param @down : tensor<64x128xf32> split <dim = 1> storage "q8_0" local tensor<64x64xf32>
module attributes {llm.options = {mode = "infer", target = "cuda:ptx", weights_format = "q8_0"}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  llm.param @up : tensor<100x64xf32> split #llm.split<dim = 0> storage "q8_0"
  llm.param @down : tensor<64x128xf32> split #llm.split<dim = 1> storage "q8_0"
  func.func @decode(%ids: tensor<1x1xi32>, %x: tensor<1x64xf32>, %y: tensor<1x128xf32>) -> (tensor<1x100xf32>, tensor<1x64xf32>) attributes {llm.entry = "decode"} {
    %u = llm.get_param @up : tensor<100x64xf32>
    %d = llm.get_param @down : tensor<64x128xf32>
    %0 = llm.linear %x, %u : (tensor<1x64xf32>, tensor<100x64xf32>) -> tensor<1x100xf32>
    %1 = llm.linear %y, %d : (tensor<1x128xf32>, tensor<64x128xf32>) -> tensor<1x64xf32>
    return %0, %1 : tensor<1x100xf32>, tensor<1x64xf32>
  }
}

// -----

module attributes {llm.options = {mode = "infer", target = "cuda:ptx", weights_format = "q4_0"}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [1, 1, 2]
  // expected-error @+1 {{LLMC-E1002: tp=2 cuts the columns of down at 48, inside a block of 32 elements of q4_0; use another tp or --weights-format=dense}}
  llm.param @down : tensor<64x96xf32> split #llm.split<dim = 1> storage "q4_0"
  func.func @decode(%ids: tensor<1x1xi32>, %y: tensor<1x96xf32>) -> tensor<1x64xf32> attributes {llm.entry = "decode"} {
    %d = llm.get_param @down : tensor<64x96xf32>
    %1 = llm.linear %y, %d : (tensor<1x96xf32>, tensor<64x96xf32>) -> tensor<1x64xf32>
    return %1 : tensor<1x64xf32>
  }
}

// -----

module attributes {llm.options = {mode = "infer", target = "cuda:ptx", weights_format = "q8_0", zero = 3 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 1]
  // expected-error @+1 {{LLMC-E1003: --zero=3 with --weights-format=q8_0: weights in blocks are not gathered; use --zero=0, or --weights-format=dense}}
  llm.param @w : tensor<64x96xf32> storage "q8_0"
  func.func @decode(%ids: tensor<1x1xi32>, %y: tensor<1x96xf32>) -> tensor<1x64xf32> attributes {llm.entry = "decode"} {
    %d = llm.get_param @w : tensor<64x96xf32>
    %1 = llm.linear %y, %d : (tensor<1x96xf32>, tensor<64x96xf32>) -> tensor<1x64xf32>
    return %1 : tensor<1x64xf32>
  }
}
