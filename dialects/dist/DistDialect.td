// SPDX-License-Identifier: Apache-2.0
// The `dist` dialect and its attributes. The ops are in DistOps.td.
#ifndef LLMC_DIALECTS_DIST_DISTDIALECT_TD
#define LLMC_DIALECTS_DIST_DISTDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/OpBase.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let cppNamespace = "::llmc::dist";
  let summary = "where a transformer runs";
  let description = [{
    A mesh of named axes, intent ops (what must move and why) and mechanism ops
    (collectives). One function is one rank's program (SPMD); shapes are one rank's.
    Values that differ by rank are `by_coordinate` attributes. Words follow MLIR's
    upstream `shard` dialect where it has them (its `grid` is our mesh).
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::llmc::llm::LlmDialect"];
}

class Dist_Attr<string name, string attrMnemonic> : AttrDef<Dist_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def Dist_ByCoordinateAttr : Dist_Attr<"ByCoordinate", "by_coordinate"> {
  let summary = "a value for each coordinate of a mesh axis";
  let description = [{Example: `#dist.by_coordinate<"tp", [0, 5]>`.}];
  let parameters = (ins "::mlir::StringAttr":$axis,
                        ArrayRefParameter<"int64_t">:$values);
  let assemblyFormat = "`<` $axis `,` `[` $values `]` `>`";
}

def Dist_SplitAttr : Dist_Attr<"DimSplit", "dim_split"> {
  let summary = "how one dimension of a value is cut";
  let description = [{
    Dimension `dim` is cut along `axis` into whole units of `unit` elements.
    The `global` size is that of the uncut dimension. With `group` > 1 the units are
    key/value heads, cut as the query heads that read them (see `#llm.split`).
  }];
  let parameters = (ins "::mlir::StringAttr":$axis, "int64_t":$dim, "int64_t":$unit,
                        "int64_t":$group, "int64_t":$global);
  let assemblyFormat = "`<` struct(params) `>`";
}

def Dist_ShardingAttr : Dist_Attr<"Sharding", "sharding"> {
  let summary = "what each rank holds of a value";
  let description = [{
    Empty: all of it. `splits`: a cut of some dimensions. `partial`: a term of the sum
    along these axes.
  }];
  let parameters = (ins OptionalArrayRefParameter<"::llmc::dist::DimSplitAttr">:$splits,
                        OptionalArrayRefParameter<"::mlir::StringAttr">:$partial);
  let assemblyFormat = "`<` (`[` $splits^ `]`)? (`partial` `[` $partial^ `]`)? `>`";
}

def Dist_SliceAttr : Dist_Attr<"Slice", "slice"> {
  let summary = "the box of a logical tensor that a rank holds";
  let description = [{
    For each coordinate along `axis`, elements [offset, offset + count) of dimension
    `dim`; the rest of the local tensor is padding (zeros).
    Example: `#dist.slice<axis = "tp", dim = 0, offsets = [0, 320], counts = [320, 256]>`.
  }];
  let parameters = (ins "::mlir::StringAttr":$axis, "int64_t":$dim,
                        ArrayRefParameter<"int64_t">:$offsets,
                        ArrayRefParameter<"int64_t">:$counts);
  let assemblyFormat = [{
    `<` `axis` `=` $axis `,` `dim` `=` $dim `,` `offsets` `=` `[` $offsets `]` `,`
    `counts` `=` `[` $counts `]` `>`
  }];
}

def Dist_ShardAttr : Dist_Attr<"Shard", "shard"> {
  let summary = "the ZeRO shard of a parameter";
  let description = [{
    One of N equal runs of `elements` elements of the flattened local tensor along
    `axes`, in rank order, zero-padded.
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::StringAttr">:$axes, "int64_t":$elements);
  let assemblyFormat = "`<` `[` $axes `]` `,` $elements `>`";
}

def Dist_TokenType : TypeDef<Dist_Dialect, "Pending"> {
  let mnemonic = "pending";
  let summary = "the result of a collective under way";
  let parameters = (ins "::mlir::RankedTensorType":$type);
  let assemblyFormat = "`<` $type `>`";
}

#endif
