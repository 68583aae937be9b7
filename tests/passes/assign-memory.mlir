// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-assign-memory | %FileCheck %s

// Persistent buffers come first, each at a multiple of 64. The others follow by size:
// @a, @b and @c are alive at once; @d is born after @a died and takes its place.
// CHECK: plan.stage @chain 0 arena 576 {
// CHECK: plan.buffer @in "inputs" bytes 60 persistent offset 0
// CHECK: plan.buffer @a "activations" bytes 120 offset 320
// CHECK: plan.buffer @b "activations" bytes 120 offset 448
// CHECK: plan.buffer @c "activations" bytes 128 offset 192
// CHECK: plan.buffer @d "activations" bytes 100 offset 320
// CHECK: plan.buffer @out "outputs" bytes 80 persistent offset 64
plan.kernel @k hand_tuned "embedding" version 1 {
^bb0:
}
plan.stage @chain 0 {
  plan.buffer @in "inputs" bytes 60 persistent : tensor<15xf32>
  plan.buffer @a "activations" bytes 120 : tensor<30xf32>
  plan.buffer @b "activations" bytes 120 : tensor<30xf32>
  plan.buffer @c "activations" bytes 128 : tensor<32xf32>
  plan.buffer @d "activations" bytes 100 : tensor<25xf32>
  plan.buffer @out "outputs" bytes 80 persistent : tensor<20xf32>
  plan.program "decode" inputs {} outputs {} {
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["in"] writes ["a"]
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["a"] writes ["b"]
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["a", "b"] writes ["c"]
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["b", "c"] writes ["d"]
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["d"] writes ["out"]
  }
}
// -----

// The gather of @g is under way from its start to the wait of the compute stream: @x and
// @y, which are born between, get no byte of it; @z, born after its last reader, does.
// CHECK: plan.stage @asynchronous 0 arena 448 {
// CHECK: plan.buffer @g "gathered_parameters" bytes 256 offset 64
// CHECK: plan.buffer @x "activations" bytes 64 offset 320
// CHECK: plan.buffer @y "activations" bytes 64 offset 384
// CHECK: plan.buffer @r "activations" bytes 64 offset 320
// CHECK: plan.buffer @z "activations" bytes 64 offset 64
plan.kernel @k hand_tuned "embedding" version 1 {
^bb0:
}
plan.stage @asynchronous 0 {
  plan.buffer @w "parameters" bytes 64 persistent : tensor<16xf32>
  plan.buffer @g "gathered_parameters" bytes 256 : tensor<64xf32>
  plan.buffer @x "activations" bytes 64 : tensor<16xf32>
  plan.buffer @y "activations" bytes 64 : tensor<16xf32>
  plan.buffer @r "activations" bytes 64 : tensor<16xf32>
  plan.buffer @z "activations" bytes 64 : tensor<16xf32>
  plan.program "decode" inputs {} outputs {} {
    plan.record_event 0 stream 0
    plan.wait_event 0 stream 1
    plan.collective "all_gather" ["dp"] "w" to "g" bytes 64 of f32 {stream = 1 : i64}
    plan.record_event 1 stream 1
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["w"] writes ["x"]
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["x"] writes ["y"]
    plan.wait_event 1 stream 0
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["y", "g"] writes ["r"]
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["r"] writes ["z"]
  }
}

// -----

// Two entries of a stage share what lies above the persistent buffers: one runs at a time.
// CHECK: plan.stage @entries 0 arena 320 {
// CHECK: plan.buffer @cache "caches" bytes 64 persistent offset 0
// CHECK: plan.buffer @p "activations" bytes 256 offset 64
// CHECK: plan.buffer @d "activations" bytes 128 offset 64
plan.kernel @k hand_tuned "embedding" version 1 {
^bb0:
}
plan.stage @entries 0 {
  plan.buffer @cache "caches" bytes 64 persistent : tensor<16xf32>
  plan.buffer @p "activations" bytes 256 : tensor<64xf32>
  plan.buffer @d "activations" bytes 128 : tensor<32xf32>
  plan.program "prefill" inputs {} outputs {} {
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["cache"] writes ["p"]
  }
  plan.program "decode" inputs {} outputs {} {
    plan.run @k words [] slots [] grid #plan.word<rows, value = 1> x 1 reads ["cache"] writes ["d"]
  }
}
