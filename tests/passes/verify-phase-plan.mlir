// SPDX-License-Identifier: Apache-2.0
// What verify-phase checks of a plan that was edited by hand.
// RUN: llmc-opt %s -split-input-file --llmc-verify-phase=phase=plan -verify-diagnostics

// A function is left over.
// expected-error @+1 {{is left over in a plan}}
func.func @decode(%x: tensor<5x18xf32>) {
  return
}

// -----

// A buffer beyond the end of its arena, however large the numbers.
plan.stage @stage0 0 arena 128 {
  // expected-error @+1 {{lies outside the arena of 128 bytes}}
  plan.buffer @x "activations" bytes 9223372036854775807 offset 64 : tensor<5xf32>
}

// -----

// A buffer without an offset.
plan.stage @stage0 0 arena 128 {
  // expected-error @+1 {{lies outside the arena}}
  plan.buffer @x "activations" bytes 64 : tensor<16xf32>
}

// -----

// A buffer outside of stages.
// expected-error @+1 {{belongs to no stage}}
plan.buffer @x "activations" bytes 64 offset 0 : tensor<16xf32>

// -----

// An output that no buffer holds.
plan.entry @entry_decode sequences 1 rows 1 pages 1
plan.stage @stage0 0 arena 128 {
  // expected-error @+1 {{names a buffer that the stage lacks: decode.logits}}
  plan.program "decode" inputs {} outputs {logits = "decode.logits"} {
  }
}

// -----

// A collective of an unknown buffer; no buffer is "".
plan.entry @entry_decode sequences 1 rows 1 pages 1
plan.stage @stage0 0 arena 128 {
  plan.buffer @x "activations" bytes 64 offset 0 : tensor<16xf32>
  plan.program "decode" inputs {} outputs {} {
    plan.collective "recv" ["pp"] "" to "x" bytes 64 of f32 {peer = 0 : i64}
    // expected-error @+1 {{names a buffer that the stage lacks: y}}
    plan.collective "send" ["pp"] "y" to "" bytes 64 of f32 {peer = 1 : i64}
  }
}

// -----

// A word with the address of an unknown buffer, inside a slot.
plan.entry @entry_decode sequences 1 rows 1 pages 1
plan.kernel @k hand_tuned "linear" version 2 {
^bb0:
}
plan.stage @stage0 0 arena 128 {
  plan.program "decode" inputs {} outputs {} {
    // expected-error @+1 {{names a buffer that the stage lacks: y}}
    plan.run @k words [] slots [#plan.slot_words<@k, [<address, buffer = "y">]>] grid <rows, value = 1> x 1 reads [] writes []
  }
}

// -----

// An unknown kernel.
plan.entry @entry_decode sequences 1 rows 1 pages 1
plan.stage @stage0 0 arena 128 {
  plan.program "decode" inputs {} outputs {} {
    // expected-error @+1 {{names what the plan lacks}}
    plan.run @k words [] slots [] grid <rows, value = 1> x 1 reads [] writes []
  }
}

// -----

// A program of no entry.
plan.stage @stage0 0 arena 128 {
  // expected-error @+1 {{names what the plan lacks}}
  plan.program "decode" inputs {} outputs {} {
  }
}

// -----

// A buffer for a parameter that is not declared.
plan.stage @stage0 0 arena 128 {
  plan.buffer @w "parameters" bytes 64 offset 0 : tensor<16xf32>
  // expected-error @+1 {{names what the plan lacks}}
  plan.parameter @w in "w" "row_major"
}
