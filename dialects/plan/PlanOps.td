// SPDX-License-Identifier: Apache-2.0
// The ops of the `plan` dialect. First those of the `kernels` phase, on tensors; then
// those of the `plan` phase, without SSA values, one-to-one with plan.fbs.
#ifndef LLMC_DIALECTS_PLAN_PLANOPS_TD
#define LLMC_DIALECTS_PLAN_PLANOPS_TD

include "dialects/plan/PlanDialect.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Plan_Op<string opMnemonic, list<Trait> traits = []>
    : Op<Plan_Dialect, opMnemonic, traits>;

//===-- kernels phase -----------------------------------------------------------===//

def Plan_YieldOp : Plan_Op<"yield", [Pure, Terminator, ReturnLike]> {
  let summary = "results of a fused region or kernel body";
  let description = [{Ends a `plan.fused` or a generated `plan.kernel`.}];
  let arguments = (ins Variadic<AnyRankedTensor>:$values);
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

def Plan_FusedOp : Plan_Op<"fused", [Pure, IsolatedFromAbove, SingleBlock]> {
  let summary = "row ops that become one generated kernel";
  let description = [{
    The body computes on block arguments, which stand for the operands. Lives from
    fuse-row-ops until outline-kernels. (C1) block arguments match operands, yielded
    values match results.
  }];
  let arguments = (ins Variadic<AnyRankedTensor>:$inputs);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `(` $inputs `)` attr-dict-with-keyword `:` functional-type(operands, results) $body
  }];
  let hasVerifier = 1;
}

def Plan_KernelOp : Plan_Op<"kernel", [Symbol, IsolatedFromAbove, SingleBlock, NoTerminator]> {
  let summary = "declare a kernel";
  let description = [{
    Hand-tuned: `hand_tuned` names a kernel of Kernels.def and `version` its version; the
    body is empty. Generated: the body holds row ops (`llm`) on block arguments with
    dynamic rows and ends with `plan.yield`. Its argument block is: rows, the address of
    each block argument, the address of each result. `elementwise`: any columns of a
    tile may be computed alone (column tile 64); else a tile is whole rows (row tile 1).
    Rank-1 arguments are vectors shared by all rows. A per-head norm is a row kernel of
    its own whose rows are heads.
    (C1) a hand-tuned kernel has no body. (C2) a generated body ends with `plan.yield`.
    Example:
      plan.kernel @add_rms_norm {
      ^bb0(%x: tensor<?x576xf32>, %r: tensor<?x576xf32>, %w: tensor<576xf32>):
        %0 = llm.add %x, %r : tensor<?x576xf32>
        %1 = llm.rms_norm %0, %w {eps = 1.0e-5 : f64} : tensor<?x576xf32>, tensor<576xf32>
        plan.yield %0, %1 : tensor<?x576xf32>, tensor<?x576xf32>
      }
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, OptionalAttr<StrAttr>:$hand_tuned,
    OptionalAttr<I64Attr>:$version, UnitAttr:$elementwise);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $sym_name (`hand_tuned` $hand_tuned^ `version` $version)? (`elementwise` $elementwise^)?
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    bool isGenerated() { return !getHandTuned(); }
  }];
}

def Plan_LaunchOp : Plan_Op<"launch", [AttrSizedOperandSegments,
    DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "run a kernel on tensors";
  let description = [{
    `inputs` are read, `inouts` (caches, states, parameters) changed in place. `input_words`, `inout_words` and
    `result_words` name the words of Kernels.def they bind to (a generated kernel takes
    inputs, then results, in order, and has no names; a result word "" is written only by
    a slot). `scalars` gives the other words: integers, reals or `by_coordinate`. `rows`
    says what word 0 is: `rows`, `sequences`, `rows_shard(axis)` or a fixed count,
    times a factor; the grid has as many rows and `columns` columns. `temporary` numbers
    results that only slots read: workspace.
    (C1) as many names as values. (C2) the kernel exists.
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, Variadic<AnyRankedTensor>:$inputs,
    Variadic<AnyShaped>:$inouts, StrArrayAttr:$input_words, StrArrayAttr:$inout_words,
    StrArrayAttr:$result_words, DictionaryAttr:$scalars, Plan_WordAttr:$rows,
    I64Attr:$columns, OptionalAttr<ArrayAttr>:$slots);
  let results = (outs Variadic<AnyRankedTensor>:$results);
  let assemblyFormat = [{
    $kernel `(` $inputs `)` `inout` `(` $inouts `)` attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Plan_RopeTableOp : Plan_Op<"rope_table", [Pure]> {
  let summary = "cosines and sines of all positions";
  let description = [{
    A constant `[positions, 2, rotary / 2]` f32, computed once by the initialise program.
    Equal tables of a stage are one buffer.
  }];
  let arguments = (ins AnyAttr:$params);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$params attr-dict `->` type($result)";
}

//===-- plan phase ----------------------------------------------------------------===//

def Plan_EntryOp : Plan_Op<"entry", [Symbol]> {
  let summary = "declare an entry point";
  let description = [{
    What the runtime may call: `sequences` at once, each with `rows` rows and `pages` pages of
    cache. `all_rows`: logits of every row, else of the last of each sequence.
    Example: `plan.entry @entry_decode sequences 4 rows 1 pages 32`
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$sequences, I64Attr:$rows,
    I64Attr:$pages, UnitAttr:$all_rows);
  let assemblyFormat = [{
    $sym_name `sequences` $sequences `rows` $rows `pages` $pages (`all_rows` $all_rows^)? attr-dict
  }];
}

def Plan_StageOp : Plan_Op<"stage", [Symbol, SymbolTable, SingleBlock, NoTerminator,
    NoRegionArguments]> {
  let summary = "what the ranks of one pipeline stage hold and do";
  let description = [{
    Buffers, parameters, caches and programs of the ranks whose `pp` coordinate is `stage`.
    They run the same program: what differs by rank is a `coordinate` word. `arena_bytes`
    is set by assign-memory.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I64Attr:$stage,
                       OptionalAttr<I64Attr>:$arena_bytes);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$sym_name $stage (`arena` $arena_bytes^)? attr-dict-with-keyword $body";
}

def Plan_BufferOp : Plan_Op<"buffer", [Symbol]> {
  let summary = "an interval of the arena";
  let description = [{
    `memory_class` as in plan.fbs (snake case). `element`: dtype and shape for inspection. A
    buffer `persistent` is alive all the time; others from their first to their last use
    in a program. `bytes` are of all slots; `slot_kind` (SlotKind of plan.fbs, snake case)
    says what chooses one. `offset` is set by assign-memory.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrAttr:$memory_class, I64Attr:$bytes,
    TypeAttr:$type, UnitAttr:$persistent, DefaultValuedAttr<I64Attr, "0">:$padding_bytes,
    OptionalAttr<StrAttr>:$slot_kind, DefaultValuedAttr<I64Attr, "1">:$slots,
    OptionalAttr<I64Attr>:$offset);
  let assemblyFormat = [{
    $sym_name $memory_class `bytes` $bytes (`persistent` $persistent^)?
    (`offset` $offset^)? attr-dict `:` $type
  }];
}

def Plan_ParameterOp : Plan_Op<"parameter"> {
  let summary = "bind a parameter to a buffer";
  let description = [{
    `layout` is row_major or panel; `shard_bytes` is 0 without ZeRO.
    Example: `plan.parameter @layers.0.q in "layers.0.q" "panel"`
  }];
  let arguments = (ins FlatSymbolRefAttr:$param, StrAttr:$buffer, StrAttr:$layout,
                       DefaultValuedAttr<I64Attr, "0">:$shard_bytes);
  let assemblyFormat = "$param `in` $buffer $layout attr-dict";
}

def Plan_StateOp : Plan_Op<"state"> {
  let summary = "bind a state to a buffer";
  let description = [{
    `shard_bytes` is 0 without ZeRO. Example: `plan.state @q.moment1 in "q.moment1"`
  }];
  let arguments = (ins FlatSymbolRefAttr:$state, StrAttr:$buffer,
                       DefaultValuedAttr<I64Attr, "0">:$shard_bytes);
  let assemblyFormat = "$state `in` $buffer attr-dict";
}

def Plan_ActionOp : Plan_Op<"action"> {
  let summary = "one line of a training step's schedule";
  let description = [{
    Runs the program of `entry` for a micro-batch. `slots`: numbers by slot kind, from saved on
    (saved, deferred, received activation, received gradient, sent activation, sent
    gradient); -1 where there is none.
    Example: `plan.action "forward" micro_batch 3 slots [1, -1, 0, -1, 0, -1]`
  }];
  let arguments = (ins StrAttr:$entry, DefaultValuedAttr<I64Attr, "-1">:$micro_batch,
                       DenseI64ArrayAttr:$slots);
  let assemblyFormat = "$entry (`micro_batch` $micro_batch^)? `slots` $slots attr-dict";
}

def Plan_CacheOp : Plan_Op<"cache"> {
  let summary = "bind a cache to a buffer";
  let description = [{
    `pages` pages of all sequences. Example: `plan.cache @layers.0.keys in "layers.0.keys" pages 32`
  }];
  let arguments = (ins FlatSymbolRefAttr:$cache, StrAttr:$buffer, I64Attr:$pages);
  let assemblyFormat = "$cache `in` $buffer `pages` $pages attr-dict";
}

def Plan_ProgramOp : Plan_Op<"program", [SingleBlock, NoTerminator, NoRegionArguments]> {
  let summary = "commands of one entry on one stage";
  let description = [{
    `entry` is empty for the program that runs once after the weights are loaded. `inputs` and
    `outputs` map names of the entry to buffers.
  }];
  let arguments = (ins StrAttr:$entry, DictionaryAttr:$inputs, DictionaryAttr:$outputs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$entry `inputs` $inputs `outputs` $outputs attr-dict-with-keyword $body";
}

def Plan_RunOp : Plan_Op<"run"> {
  let summary = "command: launch a kernel";
  let description = [{
    `words` is the argument block, `slots` the blocks of the kernels it calls (words
    `slot_kernel` and `slot_words` point to them). The grid has `grid_rows` rows and
    `grid_columns` columns. `reads` and `writes` name all buffers it touches: lifetimes and
    the check of lifetimes rest on them.
  }];
  let arguments = (ins FlatSymbolRefAttr:$kernel, ArrayAttr:$words, ArrayAttr:$slots,
    Plan_WordAttr:$grid_rows, I64Attr:$grid_columns,
    StrArrayAttr:$reads, StrArrayAttr:$writes, DefaultValuedAttr<I64Attr, "0">:$stream);
  let assemblyFormat = [{
    $kernel `words` $words `slots` $slots `grid` $grid_rows `x` $grid_columns
    `reads` $reads `writes` $writes attr-dict
  }];
}

def Plan_CollectiveOp : Plan_Op<"collective"> {
  let summary = "command: communicate";
  let description = [{
    `kind` is a mechanism op of `dist`, or `copy`, which stays on the rank. `bytes` as in
    plan.fbs: one rank's part. Buffers may be empty. `stream` 1 is the communication
    stream. `send_offset`: bytes into the send buffer, for each coordinate.
  }];
  let arguments = (ins StrAttr:$kind, StrArrayAttr:$axes, StrAttr:$send, StrAttr:$recv,
    I64Attr:$bytes, TypeAttr:$element, DefaultValuedAttr<I64Attr, "-1">:$root,
    DefaultValuedAttr<I64Attr, "-1">:$peer, DefaultValuedAttr<I64Attr, "0">:$stream,
    OptionalAttr<StrAttr>:$subject, OptionalAttr<StrAttr>:$pass,
    OptionalAttr<AnyAttr>:$send_offset);
  let assemblyFormat = "$kind $axes $send `to` $recv `bytes` $bytes `of` $element attr-dict";
}

def Plan_RecordEventOp : Plan_Op<"record_event"> {
  let summary = "command: an event happens when the stream gets here";
  let description = [{Events are numbers of a program; each is recorded once.}];
  let arguments = (ins I64Attr:$event, I64Attr:$stream);
  let assemblyFormat = "$event `stream` $stream attr-dict";
}

def Plan_WaitEventOp : Plan_Op<"wait_event"> {
  let summary = "command: the stream waits for an event";
  let description = [{
    `plan.record_event 0 stream 1`, `plan.wait_event 0 stream 0`: what follows on stream 0
    reads what stream 1 wrote before.
  }];
  let arguments = (ins I64Attr:$event, I64Attr:$stream);
  let assemblyFormat = "$event `stream` $stream attr-dict";
}

#endif
