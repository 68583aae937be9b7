// SPDX-License-Identifier: Apache-2.0
// The ops of the `dist` dialect: the mesh, intent ops and mechanism ops. Constraints
// carry labels (C1).. in the text, in the messages and in tests/dialects/dist.
#ifndef LLMC_DIALECTS_DIST_DISTOPS_TD
#define LLMC_DIALECTS_DIST_DISTOPS_TD

include "dialects/dist/DistDialect.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Dist_Op<string opMnemonic, list<Trait> traits = []>
    : Op<Dist_Dialect, opMnemonic, traits>;

// Why a communication is there, kept from the pass that inserted it to the plan.
defvar Dist_Why = (ins OptionalAttr<StrAttr>:$subject, OptionalAttr<StrAttr>:$pass);

def Dist_MeshOp : Dist_Op<"mesh", [Symbol]> {
  let summary = "declare the mesh of ranks";
  let description = [{
    Axes, outermost first: rank = ((c0 * n1 + c1) * n2 + c2)... The set of names is open.
    (C1) as many names as sizes, all sizes positive, names distinct.
    Example: `dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]`
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, StrArrayAttr:$axes,
                       DenseI64ArrayAttr:$sizes);
  let assemblyFormat = "$sym_name $axes $sizes attr-dict";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Size of an axis; 1 if the mesh has none of that name.
    int64_t getAxisSize(::llvm::StringRef axis);
    int64_t getNumRanks();
  }];
}

//===-- intent ----------------------------------------------------------------===//

def Dist_ReshardOp : Dist_Op<"reshard", [Pure]> {
  let summary = "change what each rank holds of a value";
  let description = [{
    Every rank gives its part of the value as `from` says and gets its part as `to`
    says. Lives from partition-tensor-split until lower-to-collectives.

      from partial ["tp"]: rank 0 [1 2], rank 1 [3 4]   ->   every rank [4 6]

    (C1) same element type. (C2) one of: partial to whole, partial to split, split to
    whole, whole to split. From split and partial (gradients of heads that ranks share)
    to whole adds the terms.
  }];
  let arguments = !con((ins AnyRankedTensor:$x, Dist_ShardingAttr:$from,
                            Dist_ShardingAttr:$to), Dist_Why);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $x `from` $from `to` $to attr-dict `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
}

def Dist_ZeroGatherOp : Dist_Op<"zero_gather", [Pure]> {
  let summary = "rebuild a parameter from its ZeRO shards";
  let description = [{
    The flattened parameter is cut into N equal runs, the last ones zero-padded; the i-th
    rank along `axes` holds run i. Lives from insert-zero-gathers until
    lower-to-collectives.

      rank 0 [1 2]  rank 1 [3 0]   ->   every rank [1 2 3]

    (C1) same element type. (C2) the shard is flat and its N runs hold the full tensor.
  }];
  let arguments = !con((ins AnyRankedTensor:$shard, StrArrayAttr:$axes), Dist_Why);
  let results = (outs AnyRankedTensor:$full);
  let assemblyFormat = "$shard $axes attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Dist_PipelineStageOp : Dist_Op<"pipeline_stage", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "a value crosses to the next pipeline stage";
  let description = [{
    Before it, stage `stage` - 1; after it, `stage`. Lives from assign-pipeline-stages until
    split-pipeline-stages.
  }];
  let arguments = (ins AnyRankedTensor:$x, I64Attr:$stage);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x `to` $stage attr-dict `:` type($x)";
}

//===-- mechanism -------------------------------------------------------------===//

def Dist_AllGatherOp : Dist_Op<"all_gather", [Pure]> {
  let summary = "concatenate the parts of all ranks along a dimension";
  let description = [{
    Parts in rank order; what lies beyond the result is padding of the last parts and is
    dropped.

      dim 0: rank 0 [1 2], rank 1 [3 0]   ->   every rank [1 2 3]

    (C1) same element type. (C2) result dimension `dim` is at most N times the operand's, the
    others equal; or the operand is flat and its N runs are the flattened result, then
    padding.
  }];
  let arguments = !con((ins AnyRankedTensor:$x, StrArrayAttr:$axes, I64Attr:$dim), Dist_Why);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x $axes `dim` $dim attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Dist_ReduceScatterOp : Dist_Op<"reduce_scatter", [Pure]> {
  let summary = "sum over ranks, each keeps its part of dimension 0";
  let description = [{
    Adds in rank order.

      rank 0 [1 2], rank 1 [3 4]   ->   rank 0 [4], rank 1 [6]

    (C1) same element type. (C2) dimension 0 is N times the result's, the others equal; or
    the result is flat, a run of the flattened operand, which padding follows.
  }];
  let arguments = !con((ins AnyRankedTensor:$x, StrArrayAttr:$axes), Dist_Why);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x $axes attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Dist_GatherInPlaceOp : Dist_Op<"gather_in_place", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "share the runs of a parameter that each rank updated";
  let description = [{
    The parameter is whole on every rank; rank i along `axes` has a new value of run i of its
    flattened tensor, of `run` elements. All get all runs.
    Example: `dist.gather_in_place %w ["dp"] run 165888 : tensor<576x576xf32>`
  }];
  let arguments = !con((ins AnyRankedTensor:$x, StrArrayAttr:$axes, I64Attr:$run), Dist_Why);
  let assemblyFormat = "$x $axes `run` $run attr-dict `:` type($x)";
}

def Dist_AllReduceOp : Dist_Op<"all_reduce", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "sum over ranks, in rank order";
  let description = [{
    The same bits on every rank.

      rank 0 [1 2], rank 1 [3 4]   ->   every rank [4 6]
  }];
  let arguments = !con((ins AnyRankedTensor:$x, StrArrayAttr:$axes), Dist_Why);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x $axes attr-dict `:` type($x)";
}

def Dist_BroadcastOp : Dist_Op<"broadcast"> {
  let summary = "every rank gets the value of the root";
  let description = [{
    `root` is the coordinate along the axis. A program that only other ranks run (another
    pipeline stage) has no operand.

      root 1: rank 0 -, rank 1 [3 4]   ->   every rank [3 4]

    (C1) the operand has the result's type.
  }];
  let arguments = !con((ins Optional<AnyRankedTensor>:$x, StrArrayAttr:$axes, I64Attr:$root), Dist_Why);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "($x^)? $axes `root` $root attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Dist_SendOp : Dist_Op<"send"> {
  let summary = "send to the rank at another coordinate of an axis";
  let description = [{
    To the rank whose other coordinates are equal, which receives in the order of sending.
    Lives from split-pipeline-stages on.
    Example: `dist.send %x "pp" peer 1 : tensor<2x64xf32>`
  }];
  let arguments = !con((ins AnyRankedTensor:$x, StrAttr:$axis, I64Attr:$peer), Dist_Why);
  let assemblyFormat = "$x $axis `peer` $peer attr-dict `:` type($x)";
}

def Dist_RecvOp : Dist_Op<"recv"> {
  let summary = "receive from the rank at another coordinate of an axis";
  let description = [{
    From the rank whose other coordinates are equal. Lives from split-pipeline-stages on.
    Example: `%x = dist.recv "pp" peer 0 : tensor<2x64xf32>`
  }];
  let arguments = !con((ins StrAttr:$axis, I64Attr:$peer), Dist_Why);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$axis `peer` $peer attr-dict `:` type($result)";
}

def Dist_ReceiveInPlaceOp : Dist_Op<"receive_in_place", [MemoryEffects<[MemWrite]>]> {
  let summary = "receive the new value of a parameter";
  let description = [{
    A tied parameter has a copy on each pipeline stage that uses it; its home updates it and
    sends it to them. Example: `dist.receive_in_place %w "pp" peer 0 : tensor<512x64xf32>`
  }];
  let arguments = !con((ins AnyRankedTensor:$x, StrAttr:$axis, I64Attr:$peer), Dist_Why);
  let assemblyFormat = "$x $axis `peer` $peer attr-dict `:` type($x)";
}

def Dist_CopyOp : Dist_Op<"copy", [Pure, AllTypesMatch<["x", "result"]>]> {
  let summary = "a second copy of a value on the same rank";
  let description = [{
    For a value whose memory is used again before its last reader.
    Example: `%y = dist.copy %x : tensor<2x64xf32>`
  }];
  let arguments = (ins AnyRankedTensor:$x);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x)";
}

def Dist_SliceRowsOp : Dist_Op<"slice_rows", [Pure]> {
  let summary = "this rank's run of the rows of a whole value";
  let description = [{
    Rank i of N along the axis keeps rows [i * rows/N, (i+1) * rows/N). No communication.

      every rank [1 2 3 4]   ->   rank 0 [1 2], rank 1 [3 4]

    (C1) rows are N times the result's, the other dimensions equal.
  }];
  let arguments = (ins AnyRankedTensor:$x, StrAttr:$axis);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$x $axis attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

class Dist_RowsOp<string opMnemonic> : Dist_Op<opMnemonic, [Pure]> {
  let arguments = (ins AnyRankedTensor:$x, Dist_ByCoordinateAttr:$offsets,
                       Dist_ByCoordinateAttr:$counts);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    $x `offsets` $offsets `counts` $counts attr-dict `:` functional-type(operands, results)
  }];
}

def Dist_TakeRowsOp : Dist_RowsOp<"take_rows"> {
  let summary = "this rank's rows of a whole parameter, which ranks may share";
  let description = [{
    Rank i keeps rows [offsets[i], offsets[i] + counts[i]); the rest of the result is zero. No
    communication.

      whole [1 2 3], offsets [0 1], counts [2 2]   ->   rank 0 [1 2], rank 1 [2 3]
  }];
}

def Dist_PlaceRowsOp : Dist_RowsOp<"place_rows"> {
  let summary = "this rank's rows where they belong in the whole, zeros elsewhere";
  let description = [{
    The opposite of `take_rows`: a sum over ranks then adds the terms of shared rows.

      rank 1 [2 3], offsets [0 1], counts [2 2]   ->   rank 1 [0 2 3]
  }];
}

def Dist_StartOp : Dist_Op<"start"> {
  let summary = "start a collective and go on";
  let description = [{
    `collective` is the mnemonic of a mechanism op, `args` its attributes. The operand may not be
    changed, nor the result read, before the matching `wait`. Collectives are issued in
    program order on one communication stream. (C1) the collective exists.
  }];
  let arguments = !con((ins AnyRankedTensor:$x, StrAttr:$collective, DictionaryAttr:$args), Dist_Why);
  let results = (outs Dist_TokenType:$pending);
  let assemblyFormat = "$collective $x $args attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Dist_WaitOp : Dist_Op<"wait"> {
  let summary = "wait for a started collective";
  let description = [{
    The result may be read after it. A started collective has exactly one.
    (C1) the result is the pending type.
    Example: `%w = dist.wait %p : (!dist.pending<tensor<7x6xf32>>) -> tensor<7x6xf32>`
  }];
  let arguments = (ins Dist_TokenType:$pending);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$pending attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
