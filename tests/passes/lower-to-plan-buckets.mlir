// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-lower-to-plan | %FileCheck %s

// A copy that stays is one buffer of the stage, which no program frees; the other gathered
// parameter has one of the program.
// CHECK-DAG: plan.buffer @kept.a "gathered_parameters" bytes 4608 persistent {{.*}}: tensor<40x18xf32>
// CHECK-DAG: plan.buffer @prefill.gathered.b "gathered_parameters" bytes 4608 {padding_bytes

// Starts of one bucket are parts of one command: three words each, where it is sent from, where
// it is received, its bytes. Its readers wait for the same event.
// CHECK: plan.program "prefill"
// CHECK-NEXT: plan.record_event 0 stream 0
// CHECK-NEXT: plan.wait_event 0 stream 1
// CHECK-NEXT: plan.collective "all_gather" ["dp"] "a" to "kept.a" bytes 2304 of f32 {plan.parts = [#plan.word<address, buffer = "b">, #plan.word<address, buffer = "prefill.gathered.b">, #plan.word<integer, value = 2304>], stream = 1 : i64, subject = "a and 1 more"}
// CHECK-NEXT: plan.record_event 1 stream 1
// CHECK-NEXT: plan.wait_event 1 stream 0
// CHECK-NEXT: plan.run @linear {{.*}} reads ["prefill.x", "kept.a"]
// CHECK-NEXT: plan.wait_event 1 stream 0
// CHECK-NEXT: plan.run @linear {{.*}} reads ["prefill.product", "prefill.gathered.b"]
// What reads the copy later needs no command.
// CHECK-NEXT: plan.run @linear {{.*}} reads ["prefill.product.1", "kept.a"]
// CHECK-NEXT: }
module attributes {llm.options = {zero = 3 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 1]
  llm.param @a : tensor<40x18xf32> shard #dist.shard<["dp"], 576> {plan.layout = "panel"}
  llm.param @b : tensor<18x40xf32> shard #dist.shard<["dp"], 576> {plan.layout = "panel"}
  plan.kernel @linear hand_tuned "linear" version 2 {
  ^bb0:
  }
  func.func @prefill(%ids: tensor<1x6xi32> {llm.name = "ids"}, %positions: tensor<1x6xi32> {llm.name = "positions"}, %x: tensor<6x18xf32> {llm.name = "x"}, %bt: tensor<1x2xi32> {llm.name = "block_table"}) -> (tensor<6x40xf32> {llm.name = "logits"}) attributes {llm.entry = "prefill"} {
    %sa = llm.get_param @a : tensor<576xf32>
    %sb = llm.get_param @b : tensor<576xf32>
    %pa = dist.start "all_gather" %sa {axes = ["dp"], dim = 0 : i64} {dist.bucket = 0 : i64, dist.kept, subject = "a"} : (tensor<576xf32>) -> !dist.pending<tensor<40x18xf32>>
    %pb = dist.start "all_gather" %sb {axes = ["dp"], dim = 0 : i64} {dist.bucket = 0 : i64, subject = "b"} : (tensor<576xf32>) -> !dist.pending<tensor<18x40xf32>>
    %a = dist.wait %pa : (!dist.pending<tensor<40x18xf32>>) -> tensor<40x18xf32>
    %0 = plan.launch @linear(%x, %a) inout() {columns = 64 : i64, inout_words = [], input_words = ["x", "w0"], result_words = ["y0"], rows = #plan.word<rows, value = 1>, scalars = {}} : (tensor<6x18xf32>, tensor<40x18xf32>) -> tensor<6x40xf32> loc("product")
    %b = dist.wait %pb : (!dist.pending<tensor<18x40xf32>>) -> tensor<18x40xf32>
    %1 = plan.launch @linear(%0, %b) inout() {columns = 64 : i64, inout_words = [], input_words = ["x", "w0"], result_words = ["y0"], rows = #plan.word<rows, value = 1>, scalars = {}} : (tensor<6x40xf32>, tensor<18x40xf32>) -> tensor<6x18xf32> loc("product")
    %again = llm.get_param @a {dist.kept} : tensor<40x18xf32>
    %2 = plan.launch @linear(%1, %again) inout() {columns = 64 : i64, inout_words = [], input_words = ["x", "w0"], result_words = ["y0"], rows = #plan.word<rows, value = 1>, scalars = {}} : (tensor<6x18xf32>, tensor<40x18xf32>) -> tensor<6x40xf32>
    return %2 : tensor<6x40xf32>
  }
}
