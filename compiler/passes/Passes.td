// SPDX-License-Identifier: Apache-2.0
// Every pass of the compiler: name, why, what it needs and leaves. Order is in
// Pipeline.cpp alone. All compile options are attributes of the module (`llm.options`,
// `dist.mesh`), so that a dump compiles again without flags.
#ifndef LLMC_COMPILER_PASSES_PASSES_TD
#define LLMC_COMPILER_PASSES_PASSES_TD

include "mlir/Pass/PassBase.td"

class Llmc_Pass<string stem> : Pass<"llmc-" # stem, "::mlir::ModuleOp"> {
  let dependentDialects = ["::mlir::func::FuncDialect", "::llmc::llm::LlmDialect", "::llmc::dist::DistDialect",
                           "::llmc::plan::PlanDialect"];
}

def BuildInferenceStep : Llmc_Pass<"build-inference-step"> {
  let summary = "Make the entry points of inference from the model";
  let description = [{
    A model says what one forward pass over whole sequences computes. Serving runs it in
    pieces over a key/value cache. This pass makes three entries from `@forward`:
    `prefill` (1 sequence x a chunk of rows, the last row reaches the head), `decode`
    (batch x 1) and `score` (1 x chunk, logits of all rows). It fixes every rounding point:
    matrices and caches take the compute dtype, activations and sums stay f32. With
    `weights_format` matrices get a `storage` in blocks of that format (tables and the head
    q8_0); their types stay.

    Needs `llm.options` (batch, seq, chunk, dtype, weights_format). Leaves static shapes, block functions
    specialised to each block of rows, caches as symbols, `llm.sample` in prefill and decode.

    Before: `%o = llm.attention %q, %k, %v, %positions ...`
    After:  `llm.kv_append %keys, %k, %positions, %table ...`
            `llm.kv_append %values, %v, %positions, %table ...`
            `%o = llm.cached_attention %q, %keys, %values, %positions, %table ...`
  }];
}

def BuildTrainingStep : Llmc_Pass<"build-training-step"> {
  let summary = "Make the segments of a training step from the model";
  let description = [{
    One optimizer step is four segments: `prologue` zeroes the gradients and counts the labels,
    `forward` and `backward` run one micro-batch, `optimizer` updates (docs/design/training.md).
    Every block function is split into a forward half, which also returns what the
    backward half reads, and a backward half built by DifferentiableOpInterface. A value that
    both segments name (`saved.N`) is one buffer. Parameters that match the option `freeze`
    get no gradient.

    Needs `llm.options` (batch, seq, microbatches, dtype, freeze). Leaves static shapes,
    states as symbols.

    Before: `%y = llm.linear %x, %w`
    After:  in `@layer.forward.backward`: `%dx = llm.linear_input_gradient %dy, %w`,
            `%dw = llm.linear_weight_gradient %dy, %saved`
  }];
}

def RecomputeActivations : Llmc_Pass<"recompute-activations"> {
  let summary = "Compute values again in backward instead of saving them";
  let description = [{
    Activations that wait for `backward` are most of a step's memory. The option `recompute`
    says which of them `backward` makes itself, by copies of the ops that made them
    (Chen et al. 2016; Korthikanti et al. 2022):

      none       nothing.
      selective  results of norms, activations, rotations and sums whose operands are
                 arguments, saved, or computed again themselves. Attention saves no matrix
                 of scores in any mode.
      full       everything inside a block: only its inputs are saved. The head is treated
                 as in `selective`: its backward pass follows at once.

    Works on the two halves of each block function and of the step itself. The same kernels
    run on the same values, so no bit changes.

    Needs the segments of a training step. Leaves fewer results of `forward`, fewer
    arguments of `backward`; `saved.N` are numbered anew.

    Before: `@layer.forward.backward(%dy, %x, %nw, %w, %saved)`
    After:  `@layer.forward.backward(%dy, %x, %nw, %w)` with `%n = llm.rms_norm %x, %nw`
  }];
}

def PropagateTensorSplit : Llmc_Pass<"propagate-tensor-split"> {
  let summary = "Decide what each tensor-split rank holds of every value";
  let description = [{
    Parameters say how they may be cut (`split`). Sharding rules carry the cut through the
    ops; where an op cannot work on what its operand is, a `dist.reshard` is put between.
    Between two matrix products rows may be cut instead (sequence parallelism: option
    `sequence_parallel`), so that norms work on a part of the rows.

    Needs a step and the mesh. Leaves global types, `dist.sharding` on every result that
    is not whole, and reshards.

    Before: `%y = llm.linear %x, %w`            (w split along dim 1)
    After:  `%y = llm.linear %x, %w {dist.sharding = #dist.sharding<partial ["tp"]>}`
            `%z = dist.reshard %y from #dist.sharding<partial ["tp"]> to #dist.sharding<>`
  }];
}

def PartitionTensorSplit : Llmc_Pass<"partition-tensor-split"> {
  let summary = "Rewrite values to what one tensor-split rank holds";
  let description = [{
    Types become local. Units that do not divide are padded; key/value heads that several
    ranks read are replicated. Parameters get `local_type` and `slice`; values that differ by
    rank become `#dist.by_coordinate`.

    Needs `dist.sharding` attributes. Leaves none.

    Before: `llm.param @embed : tensor<31x18xf32> split <dim = 0>`
    After:  `llm.param @embed : tensor<31x18xf32> split <dim = 0> local tensor<11x18xf32>
            slice #dist.slice<axis = "tp", dim = 0, offsets = [0, 11, 22], counts = [11, 11, 9]>`
  }];
}

def AssignPipelineStages : Llmc_Pass<"assign-pipeline-stages"> {
  let summary = "Give each layer to a pipeline stage, balanced by cost";
  let description = [{
    Layers (calls of block functions) are cut into `pp` contiguous runs so that the largest
    cost is smallest. A cost is the bytes of parameters that a call reads: decode is bound by
    them. The head's count on the last stage; the embedding reads rows, not its table.
    With V virtual stages there are `pp` * V runs, the chunks; chunk c of stage p is global
    stage c * pp + p. Needs at least one layer for each.
    Leaves `dist.pipeline_stage` on each value that crosses, and `dist.stage` on calls: both
    name global stages.

    Before: `%1 = call @layer(%0, ...)`
    After:  `%x = dist.pipeline_stage %0 to 1`, `%1 = call @layer(%x, ...) {dist.stage = 1}`
  }];
}

def SplitPipelineStages : Llmc_Pass<"split-pipeline-stages"> {
  let summary = "Make one function for each entry and pipeline stage";
  let description = [{
    Stages run different programs at the same time. Values that cross become `dist.send` and
    `dist.recv`; the sampled token is broadcast from the last stage to all, for it is the
    next input of the first; logits stay on the last. Parameters are read on each stage that
    uses them, so that a tied one has a copy on both ends.

    Before: `@decode` with `dist.pipeline_stage`
    After:  `@decode.stage0`, `@decode.stage1`, ... with attribute `dist.stage`
  }];
}

def SplitTrainingStages : Llmc_Pass<"split-training-stages"> {
  let summary = "Make one function for each segment of a training step and pipeline stage";
  let description = [{
    `backward` runs on the stages of `forward` in reverse. A value that crosses is a result
    `sent_activation.N` (or `sent_gradient.N`) of one stage's segment and an argument
    `received_activation.N` of the next one's; segments `send_...` and `receive_...` move it.
    Saved values stay on their stage. A tied parameter has a home, the first stage that uses it:
    the others send it their gradient, and it sends the new value back.
    With virtual stages these segments are made for each chunk of a stage, which attribute
    `dist.chunk` names; `prologue` and `optimizer` are one for all chunks of a stage.

    Before: `@step.forward` with `dist.pipeline_stage`
    After:  `@step.forward.stage0`, `@step.send_activation.stage0`,
            `@step.receive_activation.stage1`, `@step.forward.stage1`, ...
  }];
}

def InsertZeroGathers : Llmc_Pass<"insert-zero-gathers"> {
  let summary = "Shard parameters over the data axis and gather them at their uses";
  let description = [{
    ZeRO stage 3 (Rajbhandari et al. 2020): a rank holds one run of each matrix and
    gathers the whole just before use; the copy dies after its last use. Vectors stay whole:
    they are small and a gather costs a latency. The unit of a run is one panel of outputs
    (128 bytes of rows), so that a run can be stored as the matrix product wants it.

    With `zero_live_bytes` in the options of a training step, copies stay from the forward to the
    backward pass, where they are read without a second gather, as long as their sum on a stage
    is at most that. Taken are those first that the forward pass uses last, whose next use is
    nearest. `dist.kept` marks the gather that makes a copy and the `llm.get_param` that reads it.
    Before: `%w = llm.get_param @q : tensor<576x576xf32>`
    After:  `%s = llm.get_param @q : tensor<184320xf32>`
            `%w = dist.zero_gather %s ["dp"] : (tensor<184320xf32>) -> tensor<576x576xf32>`
  }];
}

def ShardOverData : Llmc_Pass<"shard-over-data"> {
  let summary = "Exchange gradients over the data axis and shard what ZeRO shards";
  let description = [{
    Data ranks see different sequences, so their gradients are added: as a whole once a step
    (stage 0), or so that each rank gets one run of a matrix, once a step (1) or once a
    micro-batch (2, 3). Moments and, from stage 2 on, gradients are then runs; the updated runs
    of a parameter that is whole are gathered (0 < stage < 3). Vectors stay whole. Also sums the
    loss and the label count, and gathers the terms of the norm over all ranks, each tensor
    counted once.

    Needs a training step with functions per stage. Leaves collectives and shard attributes.

    Before: `%g = llm.read_state @q.gradient : tensor<576x576xf32>`
    After:  `%r = dist.reduce_scatter %g ["dp"] : (tensor<576x576xf32>) -> tensor<165888xf32>`
  }];
}

def LowerToCollectives : Llmc_Pass<"lower-to-collectives"> {
  let summary = "Turn reshards and gathers into collectives";
  let description = [{
    Passes before say what must move; from here on the IR says how. Partial to whole:
    all_reduce. Partial to split: reduce_scatter. Split to whole: all_gather. Whole to split:
    slice_rows. zero_gather: all_gather of flat runs. Subject and pass go along.

    Before: `%1 = dist.reshard %0 from <partial["tp"]> to <>`
    After:  `%1 = dist.all_reduce %0 ["tp"]`
  }];
}

def InlineBlocks : Llmc_Pass<"inline-blocks"> {
  let summary = "Inline block functions into the entries";
  let description = [{
    From here on layers are neighbours: fusion, prefetch and memory are decided at call
    sites. Locations become "layers.3/attn.q". Leaves one flat function per entry and stage.

    Before: `%1 = call @layer.decode(%0, ...) loc("layers.3")`
    After:  its body, each op with `loc(callsite("layer.attn.q" at "layers.3"))`
  }];
}

def SplitWeightGradients : Llmc_Pass<"split-weight-gradients"> {
  let summary = "Cut the backward pass into input and weight gradients";
  let description = [{
    Schedule zero-bubble (Qi et al. 2023) fills the bubbles of a pipeline with weight gradients,
    which no other stage waits for. Every op of `backward` whose results end in states alone
    goes to `backward_weight`; what it reads of the rest becomes a result `deferred.N` of
    `backward_input`. Does nothing for other schedules.

    Before: `@step.backward.stage0`
    After:  the same as `backward_input`, and `@step.backward.stage0.weight`
  }];
}

def PrefetchCollectives : Llmc_Pass<"prefetch-collectives"> {
  let summary = "Start parameter gathers one layer ahead";
  let description = [{
    A gather that starts when it is needed stalls the compute stream. Each ZeRO gather becomes
    start and wait; the start moves to the first use of the previous group of gathers (the
    gathers of one layer), so that it runs beside that layer's compute. At most two layers of
    gathered parameters live at a time. The first group starts at the beginning of the segment.
    Each gather is waited for before its own first reader. Switched off, gathers run in place.

    Before: `%w = dist.all_gather %shard ["dp"] dim 0`
    After:  `%p = dist.start "all_gather" %shard {axes = ["dp"], dim = 0}` one layer earlier,
            `%w = dist.wait %p` before the first reader
  }];
}

def OverlapReductions : Llmc_Pass<"overlap-reductions"> {
  let summary = "Exchange gradients beside compute";
  let description = [{
    A reduction that runs where its result is added stalls the compute stream for as long as the
    link needs. In backward segments each reduce_scatter or all_reduce whose result is added to
    a state starts where the gradient is made. It is waited for, and added, after the last start
    of the layer that follows (the end of the segment for the last layer): at most two layers of
    whole gradients live at a time. A state that the segment adds to more than once, or reads,
    keeps its order. In the optimizer segment all exchanges start before the first sum of squares
    waits, and `dist.gather_in_place` runs beside the updates that follow. No sum changes: the
    same terms are added in the same order. Switched off, reductions run in place.

    Before: `%r = dist.reduce_scatter %g ["dp"]`, `llm.accumulate %r into @q.gradient`
    After:  `%p = dist.start "reduce_scatter" %g {axes = ["dp"]}` right after `%g`;
            `%r = dist.wait %p`, `llm.accumulate %r into @q.gradient` one layer later
  }];
}

def MergeLinears : Llmc_Pass<"merge-linears"> {
  let summary = "Run matrix products that share their input as one";
  let description = [{
    Query, key and value products (up to three) read the same rows; one launch fills the
    threads better and reads x once. A gate and an up product that one elementwise kernel reads
    are zipped, so that a tile has both. Needs launches. Bits do not change: each product is
    summed as before.

    Before: `%q = plan.launch @linear(%x, %wq)`, `%k = plan.launch @linear(%x, %wk)`
    After:  `%q, %k = plan.launch @linear(%x, %wq, %wk) {... count = 2}`
  }];
}

def FuseFewRowProducts : Llmc_Pass<"fuse-few-row-products"> {
  let summary = "Run a product of at most 16 rows and what surrounds it as one kernel";
  let description = [{
    In a decode step a launch costs as much as a megabyte of weights, and cuda has no slots
    (fuse-slots) to put row kernels into a product. Two hand-tuned kernels take the chains of a
    transformer, whose parts are chosen by words. `linear_rope_append`: norm, products of
    queries, keys and values with biases, norm of heads, rope, and both appends before a
    `cached_attention`. `fused_linear`: norm, one product or a gate and its partner, biases,
    activation, soft cap, norm behind it, residual. A layer of decode is then five launches:
    these two, attention, and `fused_linear` for the other two products. A norm that several
    products read is computed in each. What fits no chain keeps its kernels; so do products of
    which a row is not a multiple of 16 bytes. Sums have another order: for cuda only, whose
    contract that is.

    Before: `%1 = llm.rms_norm %x, %n`, `%2 = llm.linear %1, %w`, `%3 = llm.add %r, %2`
    After:  `%3 = plan.launch @fused_linear(%n, %x, %w, %r) {scalars = {norm = 1, ...}}`
  }];
}

def RoundFactors : Llmc_Pass<"round-factors"> {
  let summary = "Round what products of the training step read once, where it is made";
  let description = [{
    On cuda a product of more than 16 rows with a bf16 weight rounds its f32 factors to bf16.
    Forward, input gradient and weight gradient each did so for themselves, once for each weight
    that reads a value. Here the rounding is an op behind what makes the value: fusion
    makes it part of that kernel, which often need not write the f32 value at all. A value that
    is saved for the backward pass, and there read by products alone, is saved in bf16.
    Results have the same bits. Left alone: widths that are no multiple of 8, at most 16 rows,
    and weight gradients of uneven shares of a tensor split, whose padding products leave out.
    For cuda, in training with `--dtype=bf16`.

    Before: `%1 = llm.rms_norm %0, %g`, `%2 = llm.linear %1, %w`, `return %1` as `saved.3`
    After:  `%1 = llm.rms_norm %0, %g`, `%2 = llm.round %1`, `%3 = llm.linear %2, %w`,
            `return %2`
  }];
}

def FuseManyRowProducts : Llmc_Pass<"fuse-many-row-products"> {
  let summary = "Run a product of more than 16 rows and what follows it as one kernel";
  let description = [{
    What cuBLASLt has epilogues for saves a trip of the result through memory: a bias, gelu by
    tanh, and a residual (as the addend of the product). They become words of `fused_linear`,
    which the device gives to the library, or, where there is none, to a kernel that does the
    same. Gelu and a residual do not go together, and nothing else is fused: not what is
    before the product, no gate, no soft cap. Needs a product that no other reads the rows of,
    which merge-linears would take, and of which a row is a multiple of 16 bytes. For cuda
    only, in inference and in training.

    Before: `%1 = llm.linear %0, %w`, `%2 = llm.add_bias %1, %b`, `%3 = llm.add %r, %2`
    After:  `%3 = plan.launch @fused_linear(%0, %w, %b, %r) {input_words = ["x", "w0", "bias0",
            "residual"], ...}`
  }];
}

def FuseRowOps : Llmc_Pass<"fuse-row-ops"> {
  let summary = "Group row ops that follow each other into one kernel";
  let description = [{
    Norms, residual adds, activations and biases are bound by memory. Neighbours in data flow
    on the same rows become one `plan.fused`, which keeps intermediate rows in registers.
    With the few rows of decode an add and a norm between two products stay apart: they
    belong inside those (fuse-slots); on cuda fuse-few-row-products has taken them already. Switched off, each op
    is a `plan.fused` of its own.

    Before: `%1 = llm.add %x, %r`, `%2 = llm.rms_norm %1, %w`
    After:  `%1, %2 = plan.fused (%x, %r, %w) {...}`
  }];
}

def FuseRopeAppend : Llmc_Pass<"fuse-rope-append"> {
  let summary = "Turn queries and keys and fill the cache in one kernel";
  let description = [{
    Four walks over small rows become one. Needs the rope of q and of k to have the same
    parameters and positions and no other reader; a model with learned positions, or a norm
    between rope and append, keeps its separate kernels.

    Before: `%q1 = llm.rope %q, %p`, `%k1 = llm.rope %k, %p`,
            `llm.kv_append %keys, %k1, ...`, `llm.kv_append %values, %v, ...`
    After:  `%q1 = plan.launch @rope_append(%q, %k, %v, %p, %table, %pages) inout(%keys, %values)`
  }];
}

def SelectKernels : Llmc_Pass<"select-kernels"> {
  let summary = "Turn the remaining ops into launches of hand-tuned kernels";
  let description = [{
    `linear`, `embedding`, `rope`, `kv_append`, `cached_attention`, `select_rows`, `sample`
    and the rearranging part of all_gather become `plan.launch` of kernels in Kernels.def; row
    ops that fusion left become `plan.fused` of their own. Decides how each parameter is
    stored (`plan.layout`): as its `storage` says, in panels if a product reads it, else in
    rows. A product of a weight in blocks is a `linear_quantized`.

    Before: `%1 = llm.linear %0, %w`
    After:  `%1 = plan.launch @linear(%0, %w) {input_words = ["x", "w0"], scalars = {K = 576, ...}}`
  }];
}

def FuseSlots : Llmc_Pass<"fuse-slots"> {
  let summary = "Run row kernels inside the matrix product before or after them";
  let description = [{
    What is saved is a launch and a trip through memory. An elementwise kernel that reads
    the products of one weight of a `linear`, which nobody else reads, becomes its epilogue; a
    row kernel with a single result that only one `linear` of at most 16 rows reads becomes
    its prologue. Bits do not change: the slot runs the same generated kernel. For cpu only.

    Before: `%1 = plan.launch @linear(%0, %w)`, `%2 = plan.launch @add_576(%r, %1)`
    After:  `%1, %2 = plan.launch @linear(%0, %w, %r) {slots = [#plan.slot<@add_576 at
            "epilogue0"([2, 3] -> [4])>]}`
  }];
}

def OutlineKernels : Llmc_Pass<"outline-kernels"> {
  let summary = "Make each distinct fused region a kernel symbol, stored once";
  let description = [{
    Layers repeat, and so do their kernels: equal bodies share one, on any number of rows.
    A kernel is called after its ops and its width.

    Before: `%2 = plan.fused (%0, %1) {... llm.add ...}`
    After:  `%2 = plan.launch @add_576(%0, %1)` and `plan.kernel @add_576 elementwise {...}`
  }];
}

def LowerToPlan : Llmc_Pass<"lower-to-plan"> {
  let summary = "Turn tensors into buffers and ops into commands";
  let description = [{
    A tensor value becomes a buffer, named after what it holds; an op becomes a command
    that names its buffers. Collectives that work in place share their operand's buffer;
    started ones run on the communication stream, with an event on each side.
    Leaves `plan.stage` ops with buffers (without offsets), parameters and programs, and
    the `plan.kernel`s. Functions are gone.

    Before: `%1 = plan.launch @add_576(%r, %0)`
    After:  `plan.run @add_576 words [...] reads ["decode.r", "decode.o"] writes ["decode.add"]`
  }];
}

def AssignMemory : Llmc_Pass<"assign-memory"> {
  let summary = "Give each buffer an offset in its stage's arena";
  let description = [{
    Memory is planned, not allocated: a rank knows before it starts what it needs. Exact
    liveness in each program over the order of commands, communication included: a buffer of an asynchronous collective lives from its start to its wait. First fit by
    decreasing size (Sekiyama et al. 2018); entries of a stage share the arena, since only one
    runs at a time.
  }];
}

def LowerKernelsToGpu : Llmc_Pass<"lower-kernels-to-gpu"> {
  let summary = "Show the CUDA form of generated kernels";
  let description = [{
    For tests and for reading: the plan's writer takes the same steps for `--target=cuda`
    (docs/design/cuda.md), and no pipeline runs this pass. Every `plan.kernel` with a body
    becomes a `gpu.func` of one `gpu.module`, or with `to-nvvm` what that becomes in the nvvm
    and llvm dialects. The kernels themselves stay.

    Before: `plan.kernel @add_576 elementwise {...}`
    After:  `gpu.module @kernels { gpu.func @add_576(...) kernel {...} }` below it
  }];
  let options = [Option<"toNvvm", "to-nvvm", "bool", "false",
                        "go on to the nvvm and llvm dialects">];
}

def VerifyPhase : Llmc_Pass<"verify-phase"> {
  let summary = "Check what a phase promises";
  let description = [{
    Ends each phase. step: static shapes, no op that only a model has. sharded: collectives,
    no intent. kernels: launches and collectives. plan: no functions, all buffers inside
    their arena. What the ops' own verifiers guarantee is not checked again.
  }];
  let options = [Option<"phase", "phase", "std::string", "\"step\"",
                        "step, sharded, kernels or plan">];
}

#endif
