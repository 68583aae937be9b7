// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-lower-to-plan | %FileCheck %s

// Functions become programs. Names tell what a buffer holds; inputs that nobody reads
// have none.
// CHECK-NOT: func.func
// CHECK: plan.entry @entry_prefill sequences 1 rows 6 pages 2
// CHECK: plan.stage @stage0 0 {
// A third of the panels of 40 outputs: 32 x 18 x 4 bytes.
// CHECK: plan.parameter @w in "w" "panel" {shard_bytes = 2304 : i64}
// CHECK: plan.parameter @bias in "bias" "row_major"
// CHECK-NOT: prefill.ids
// CHECK: plan.buffer @prefill.positions "inputs" bytes 24 persistent : tensor<1x6xi32>
// CHECK: plan.buffer @prefill.logits "outputs" bytes 432 persistent
// CHECK: plan.buffer @w "parameters" bytes 2304 persistent
// Gathered runs are stored with their padding: three times 2304.
// CHECK: plan.buffer @prefill.gathered.w "gathered_parameters" bytes 6912 {padding_bytes = 4032 : i64} : tensor<40x18xf32>
// CHECK: plan.buffer @rope_table "constants" bytes 2048 persistent : tensor<128x2x2xf32>
// A product that only its slot reads is workspace.
// CHECK: plan.buffer @prefill.product "workspace" bytes 960 : tensor<6x40xf32>

// CHECK: plan.program "prefill" inputs {positions = "prefill.positions", x = "prefill.x"} outputs {logits = "prefill.logits"} {
// A started collective runs on the communication stream: it waits for what was computed
// so far, and the first reader waits for it.
// CHECK-NEXT: plan.record_event 0 stream 0
// CHECK-NEXT: plan.wait_event 0 stream 1
// CHECK-NEXT: plan.collective "all_gather" ["dp"] "w" to "prefill.gathered.w" bytes 2304 of f32 {pass = "insert-zero-gathers", stream = 1 : i64, subject = "w"}
// CHECK-NEXT: plan.record_event 1 stream 1
// The block of a generated kernel: rows, inputs, results.
// CHECK-NEXT: plan.run @scale18 words [#plan.word<rows, value = 1>, #plan.word<address, buffer = "prefill.x">, #plan.word<address, buffer = "prefill.layers.0">] slots [] grid <rows, value = 1> x 18 reads ["prefill.x"] writes ["prefill.layers.0"]
// CHECK-NEXT: plan.wait_event 1 stream 0
// The block of a hand-tuned kernel: every word of Kernels.def, zero where nothing is bound
// (w1 and on); the slot has a block of its own.
// CHECK-NEXT: plan.run @linear words [#plan.word<rows, value = 1>, #plan.word<address, buffer = "prefill.layers.0">, {{.*}}#plan.word<address, buffer = "prefill.gathered.w">, #plan.word<address, buffer = "prefill.product">, #plan.word<integer, value = 40>, #plan.word<integer>, #plan.word<slot_kernel>, #plan.word<slot_words>, {{.*}}] slots [#plan.slot_words<@scale18, [<rows, value = 1>, <address, buffer = "prefill.x">, <address, buffer = "prefill.product.1">]>] grid <rows, value = 1> x 64 reads ["prefill.layers.0", "prefill.gathered.w", "prefill.x"] writes ["prefill.product", "prefill.product.1"]
// A sum is made in place; a slice is a copy from this rank's offset.
// CHECK-NEXT: plan.collective "all_reduce" ["tp"] "prefill.product.1" to "prefill.product.1" bytes 432 of f32 {pass = "p", subject = "product"}
// CHECK-NEXT: plan.collective "copy" [] "prefill.product.1" to "prefill.rows" bytes 216 of i8 {send_offset = #dist.by_coordinate<"tp", [0, 216]>}
// CHECK-NEXT: plan.collective "all_gather" ["tp"] "prefill.rows" to "prefill.whole" bytes 216 of f32
// CHECK-NEXT: plan.run @rope words [{{.*}}#plan.word<address, buffer = "rope_table">{{.*}}reads ["prefill.whole", "prefill.positions", "rope_table"]
// The last launch writes the output itself.
// CHECK-NEXT: plan.run @add_bias18 {{.*}} writes ["prefill.logits"]
// CHECK-NEXT: }

// Constant tables are computed once, by the program without a name.
// CHECK: plan.program "" inputs {} outputs {} {
// CHECK-NEXT: plan.run @rope_table words [#plan.word<integer, value = 128>, #plan.word<address, buffer = "rope_table">, #plan.word<integer, value = 4>, {{.*}}writes ["rope_table"]
module attributes {llm.options = {zero = 3 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [3, 1, 2]
  llm.param @w : tensor<40x18xf32> local tensor<40x18xf32> shard #dist.shard<["dp"], 576> {plan.layout = "panel"}
  llm.param @bias : tensor<35xf32> split #llm.split<dim = 0> local tensor<18xf32> slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 18], counts = [18, 17]> {plan.layout = "row_major"}
  llm.cache @keys : memref<4x64x3x6xf32>
  plan.kernel @scale18 elementwise {
  ^bb0(%x: tensor<?x18xf32>):
    %0 = llm.scale %x {factor = 2.0 : f64} : tensor<?x18xf32>
    plan.yield %0 : tensor<?x18xf32>
  }
  plan.kernel @add_bias18 elementwise {
  ^bb0(%x: tensor<?x18xf32>, %b: tensor<18xf32>):
    %0 = llm.add_bias %x, %b : tensor<?x18xf32>, tensor<18xf32>
    plan.yield %0 : tensor<?x18xf32>
  }
  plan.kernel @linear hand_tuned "linear" version 2 {
  ^bb0:
  }
  plan.kernel @rope hand_tuned "rope" version 2 {
  ^bb0:
  }
  func.func @prefill(%ids: tensor<1x6xi32> {llm.name = "ids"}, %positions: tensor<1x6xi32> {llm.name = "positions"}, %x: tensor<6x18xf32> {llm.name = "x"}, %bt: tensor<1x2xi32> {llm.name = "block_table"}) -> (tensor<6x18xf32> {llm.name = "logits"}) attributes {llm.entry = "prefill"} {
    %s = llm.get_param @w : tensor<576xf32>
    %p = dist.start "all_gather" %s {axes = ["dp"], dim = 0 : i64} {subject = "w", pass = "insert-zero-gathers"} : (tensor<576xf32>) -> !dist.pending<tensor<40x18xf32>>
    %0 = plan.launch @scale18(%x) inout() {columns = 18 : i64, inout_words = [], input_words = [], result_words = [], rows = #plan.word<rows, value = 1>, scalars = {}} : (tensor<6x18xf32>) -> tensor<6x18xf32> loc("layers.0")
    %w = dist.wait %p : (!dist.pending<tensor<40x18xf32>>) -> tensor<40x18xf32>
    %t = plan.rope_table #llm.rope_params<rotary = 4, theta = 10000.0> -> tensor<128x2x2xf32>
    %1:2 = plan.launch @linear(%0, %w, %x) inout() {columns = 64 : i64, inout_words = [], input_words = ["x", "w0", ""], result_words = ["y0", ""], rows = #plan.word<rows, value = 1>, scalars = {K = 18 : i64, N0 = 40 : i64, count = 1 : i64}, slots = [#plan.slot<@scale18 at "epilogue0" ([2] -> [4])>]} : (tensor<6x18xf32>, tensor<40x18xf32>, tensor<6x18xf32>) -> (tensor<6x40xf32>, tensor<6x18xf32>) loc("product")
    %2 = dist.all_reduce %1#1 ["tp"] {subject = "product", pass = "p"} : tensor<6x18xf32> loc("sum")
    %3 = dist.slice_rows %2 "tp" : (tensor<6x18xf32>) -> tensor<3x18xf32> loc("rows")
    %4 = dist.all_gather %3 ["tp"] dim 0 : (tensor<3x18xf32>) -> tensor<6x18xf32> loc("whole")
    %5 = plan.launch @rope(%4, %positions, %t) inout() {columns = 3 : i64, inout_words = [], input_words = ["x", "positions", "table"], result_words = ["out"], rows = #plan.word<rows, value = 1>, scalars = {heads = 3 : i64, offset = #dist.by_coordinate<"tp", [0, 2]>}} : (tensor<6x18xf32>, tensor<1x6xi32>, tensor<128x2x2xf32>) -> tensor<6x18xf32>
    %b = llm.get_param @bias : tensor<18xf32>
    %6 = plan.launch @add_bias18(%5, %b) inout() {columns = 18 : i64, inout_words = [], input_words = [], result_words = [], rows = #plan.word<rows, value = 1>, scalars = {}} : (tensor<6x18xf32>, tensor<18xf32>) -> tensor<6x18xf32>
    return %6 : tensor<6x18xf32>
  }
}
