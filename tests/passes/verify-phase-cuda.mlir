// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --split-input-file --llmc-verify-phase=phase=plan -verify-diagnostics

// A hand-tuned kernel without a row of its own for cuda.
module attributes {llm.options = {target = "cuda:ptx"}} {
plan.entry @entry_decode sequences 1 rows 1 pages 1
plan.kernel @k hand_tuned "cpu_only" version 1 {
^bb0:
}
plan.stage @stage0 0 arena 128 {
  plan.program "decode" inputs {} outputs {} {
    // expected-error @+1 {{LLMC-E1003: kernel cpu_only has no form on cuda}}
    plan.run @k words [] slots [] grid <rows, value = 1> x 1 reads [] writes []
  }
}
}
