// SPDX-License-Identifier: Apache-2.0
// The `plan` dialect and its attributes. The ops are in PlanOps.td.
#ifndef LLMC_DIALECTS_PLAN_PLANDIALECT_TD
#define LLMC_DIALECTS_PLAN_PLANDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::llmc::plan";
  let summary = "when a transformer runs, and with which memory";
  let description = [{
    In the `kernels` phase: kernels and launches on tensors. In the `plan` phase: stages
    with buffers, arenas and programs of commands, one-to-one with runtime/plan/plan.fbs.
  }];
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = ["::llmc::llm::LlmDialect", "::llmc::dist::DistDialect"];
}

class Plan_Attr<string name, string attrMnemonic> : AttrDef<Plan_Dialect, name> {
  let mnemonic = attrMnemonic;
}

class Plan_Enum<string name, string summary, list<I32EnumCase> cases>
    : I32Enum<name, summary, cases> {
  let cppNamespace = "::llmc::plan";
}

def Plan_WordKind : Plan_Enum<"WordKind", "what a word of an argument block is", [
  I32EnumCase<"integer", 0>, I32EnumCase<"real", 1>, I32EnumCase<"address", 2>,
  I32EnumCase<"coordinate", 3>, I32EnumCase<"rows", 4>, I32EnumCase<"sequences", 5>,
  I32EnumCase<"rows_shard", 6>, I32EnumCase<"slot_kernel", 7>,
  I32EnumCase<"slot_words", 8>]>;

def Plan_WordAttr : Plan_Attr<"Word", "word"> {
  let summary = "one word of an argument block";
  let description = [{
    As `WordKind` of plan.fbs. `value`: the integer, bits of the real, byte offset of the
    address, factor of rows, or slot number. `buffer`: of an address. `coordinates`: of a
    coordinate, or bytes added to an address. `axis`: of rows_shard.
    Example: `#plan.word<address, buffer = "x3">`, `#plan.word<rows, value = 1>`.
  }];
  let parameters = (ins EnumParameter<Plan_WordKind>:$kind,
    DefaultValuedParameter<"int64_t", "0">:$value,
    OptionalParameter<"::mlir::StringAttr">:$buffer,
    OptionalParameter<"::llmc::dist::ByCoordinateAttr">:$coordinates,
    OptionalParameter<"::mlir::StringAttr">:$axis);
  let assemblyFormat =
    "`<` $kind (`,` struct($value, $buffer, $coordinates, $axis)^)? `>`";
}

def Plan_SlotAttr : Plan_Attr<"Slot", "slot"> {
  let summary = "a generated kernel called by a hand-tuned one";
  let description = [{
    On a launch: `operands` and `results` are numbers of the launch's operands and results
    that the slot kernel reads and writes. -1 among the results stands for the scratch of
    the calling kernel (a prologue's output).
  }];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$kernel,
    "::mlir::StringAttr":$word,
    ArrayRefParameter<"int64_t">:$operands, ArrayRefParameter<"int64_t">:$results);
  let assemblyFormat = "`<` $kernel `at` $word `(` `[` $operands `]` `->` `[` $results `]` `)` `>`";
}

def Plan_SlotWordsAttr : Plan_Attr<"SlotWords", "slot_words"> {
  let summary = "kernel and argument block of a slot, in a plan";
  let description = [{Example: `#plan.slot_words<@add_64, [<rows, value = 1>, <address, buffer = "x">]>`.}];
  let parameters = (ins "::mlir::FlatSymbolRefAttr":$kernel,
                        ArrayRefParameter<"::llmc::plan::WordAttr">:$words);
  let assemblyFormat = "`<` $kernel `,` `[` $words `]` `>`";
}

#endif
