// SPDX-License-Identifier: Apache-2.0
// Every op and attribute of the plan dialect is printed as it was written.
// RUN: llmc-opt %s | llmc-opt | %FileCheck %s
// RUN: llmc-opt %s --mlir-print-op-generic | llmc-opt | %FileCheck %s

// Kernels: generated ones have a body on rows whose number is not known.
// CHECK: plan.kernel @add18 elementwise {
plan.kernel @add18 elementwise {
^bb0(%x: tensor<?x18xf32>, %y: tensor<?x18xf32>):
  %0 = llm.add %x, %y : tensor<?x18xf32>
  // CHECK: plan.yield %{{.*}} : tensor<?x18xf32>
  plan.yield %0 : tensor<?x18xf32>
}
// CHECK: plan.kernel @linear hand_tuned "linear" version 1 {
plan.kernel @linear hand_tuned "linear" version 1 {
^bb0:
}

// The kernels phase, on tensors.
// CHECK-LABEL: @launches
func.func @launches(%x: tensor<5x18xf32>, %w: tensor<7x18xf32>, %r: tensor<5x7xf32>,
                    %cache: memref<2x64x1x18xf32>) {
  // CHECK: %[[TABLE:.*]] = plan.rope_table #llm.rope_params<rotary = 6, theta = 1.000000e+04> -> tensor<128x2x3xf32>
  %0 = plan.rope_table #llm.rope_params<rotary = 6, theta = 10000.0> -> tensor<128x2x3xf32>
  // CHECK: plan.fused(%{{.*}}) : (tensor<5x18xf32>) -> tensor<5x18xf32> {
  %1 = plan.fused (%x) : (tensor<5x18xf32>) -> tensor<5x18xf32> {
  ^bb0(%a: tensor<5x18xf32>):
    %2 = llm.add %a, %a : tensor<5x18xf32>
    plan.yield %2 : tensor<5x18xf32>
  }
  // CHECK: plan.launch @add18(%{{.*}}, %{{.*}}) inout() {columns = 18 : i64, {{.*}}rows = #plan.word<rows, value = 1>
  %3 = plan.launch @add18(%x, %1) inout() {input_words = [], inout_words = [], result_words = [],
    scalars = {}, rows = #plan.word<rows, value = 1>, columns = 18 : i64} : (tensor<5x18xf32>, tensor<5x18xf32>) -> tensor<5x18xf32>
  // CHECK: plan.launch @linear(%{{.*}}, %{{.*}}, %{{.*}}) inout(%{{.*}}) {{.*}}rows = #plan.word<rows_shard, value = 1, axis = "tp">{{.*}}slots = [#plan.slot<@add18 at "epilogue0"([2, 3] -> [4])>]
  %4:2 = plan.launch @linear(%x, %w, %r) inout(%cache) {input_words = ["x", "w0", ""],
    inout_words = ["y1"], result_words = ["y0", ""],
    scalars = {K = 18 : i64, scale = 0.5 : f64, headOffset = #dist.by_coordinate<"tp", [0, 2]>},
    rows = #plan.word<rows_shard, value = 1, axis = "tp">, columns = 7 : i64,
    slots = [#plan.slot<@add18 at "epilogue0" ([2, 3] -> [4])>]} : (tensor<5x18xf32>, tensor<7x18xf32>, tensor<5x7xf32>, memref<2x64x1x18xf32>) -> (tensor<5x7xf32>, tensor<5x7xf32>)
  return
}

// The plan phase: no values, only names.
// CHECK: plan.entry @entry_decode sequences 3 rows 1 pages 2
plan.entry @entry_decode sequences 3 rows 1 pages 2
// CHECK: plan.entry @entry_score sequences 1 rows 16 pages 2 all_rows
plan.entry @entry_score sequences 1 rows 16 pages 2 all_rows
// CHECK: plan.stage @stage1 1 arena 4096 {
plan.stage @stage1 1 arena 4096 {
  // CHECK: plan.buffer @w "parameters" bytes 1152 persistent offset 0 {padding_bytes = 648 : i64} : tensor<7x18xf32>
  plan.buffer @w "parameters" bytes 1152 persistent offset 0 {padding_bytes = 648 : i64} : tensor<7x18xf32>
  // CHECK: plan.buffer @x "activations" bytes 360 : tensor<5x18xf32>
  plan.buffer @x "activations" bytes 360 : tensor<5x18xf32>
  // CHECK: plan.parameter @layers.0.q in "w" "panel" {shard_bytes = 64 : i64}
  plan.parameter @layers.0.q in "w" "panel" {shard_bytes = 64 : i64}
  // CHECK: plan.cache @layers.0.keys in "c" pages 2
  plan.cache @layers.0.keys in "c" pages 2
  // CHECK: plan.program "decode" inputs {ids = "decode.ids"} outputs {logits = "decode.logits"} {
  plan.program "decode" inputs {ids = "decode.ids"} outputs {logits = "decode.logits"} {
    // CHECK: plan.run @linear words [#plan.word<rows, value = 1>, #plan.word<address, buffer = "x">, #plan.word<slot_kernel>, #plan.word<coordinate, coordinates = <"tp", [0, 2]>>] slots [#plan.slot_words<@add18, [<rows, value = 1>]>] grid <rows, value = 1> x 7 reads ["x"] writes ["y"] {stream = 1 : i64}
    plan.run @linear words [#plan.word<rows, value = 1>, #plan.word<address, buffer = "x">,
      #plan.word<slot_kernel>, #plan.word<coordinate, coordinates = #dist.by_coordinate<"tp", [0, 2]>>]
      slots [#plan.slot_words<@add18, [#plan.word<rows, value = 1>]>]
      grid #plan.word<rows, value = 1> x 7 reads ["x"] writes ["y"] {stream = 1 : i64}
    // CHECK: plan.record_event 0 stream 0
    plan.record_event 0 stream 0
    // CHECK: plan.wait_event 0 stream 1
    plan.wait_event 0 stream 1
    // CHECK: plan.collective "all_gather" ["dp"] "w" to "g" bytes 1152 of f32 {pass = "insert-zero-gathers", stream = 1 : i64, subject = "layers.0.q"}
    plan.collective "all_gather" ["dp"] "w" to "g" bytes 1152 of f32 {pass = "insert-zero-gathers", subject = "layers.0.q", stream = 1 : i64}
    // CHECK: plan.collective "send" ["pp"] "x" to "" bytes 360 of f32 {peer = 2 : i64}
    plan.collective "send" ["pp"] "x" to "" bytes 360 of f32 {peer = 2 : i64}
  }
}
