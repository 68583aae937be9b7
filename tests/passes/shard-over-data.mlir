// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s -split-input-file --llmc-shard-over-data | %FileCheck %s

// ZeRO 0, two data ranks with two tensor-split ranks each. Gradients are added as a whole, once
// a step; backward has no exchange. Even so the norm counts runs: 70 outputs are two panels of
// 64, one for each data rank, so that every stage of ZeRO adds the same terms. What all ranks
// hold is counted on the first alone. Ranks of tp hold the same loss.
// CHECK: llm.param @w : tensor<70x18xf32> {llm.run_elements = 1152 : i64}
// CHECK: llm.state @w.gradient : tensor<70x18xf32> role  gradient of @w{{$}}
// CHECK: llm.state @w.moment1 : tensor<70x18xf32> role  moment1 of @w{{$}}
// CHECK-LABEL: func.func @step.prologue
// CHECK: %[[OWN:.*]] = llm.count_labels
// CHECK-NEXT: %[[COUNT:.*]] = dist.all_reduce %[[OWN]] ["dp"] {pass = "shard-over-data", subject = "count"}
// CHECK-NEXT: llm.accumulate %[[COUNT]] into @count
// CHECK-LABEL: func.func @step.backward
// CHECK-NOT: dist.
// CHECK-LABEL: func.func @step.loss
// CHECK-NEXT: %[[LOSS:.*]] = llm.read_state @loss
// CHECK-NEXT: dist.all_reduce %[[LOSS]] ["dp"] {pass = "shard-over-data", subject = "loss"}
// CHECK-LABEL: func.func @step.optimizer
// CHECK: %[[G:.*]] = llm.read_state @w.gradient
// CHECK-NEXT: %[[SUM:.*]] = dist.all_reduce %[[G]] ["dp"] {{.*}}subject = "w"
// CHECK-NEXT: llm.square_sum %[[SUM]] into @norm_terms[0] {counted = [#dist.by_coordinate<"tp", [1, 0]>], llm.is_run, llm.run_offsets = #dist.by_coordinate<"dp", [0, 4608]>}
// CHECK: %[[GN:.*]] = llm.read_state @norm.gradient
// CHECK-NEXT: %[[SUMN:.*]] = dist.all_reduce %[[GN]] ["dp"]
// CHECK-NEXT: llm.square_sum %[[SUMN]] into @norm_terms[1] {counted = [#dist.by_coordinate<"tp", [1, 0]>, #dist.by_coordinate<"dp", [1, 0]>]}
// CHECK: %[[TERM:.*]] = llm.sum_terms
// CHECK-NEXT: %[[ALL:.*]] = dist.all_gather %[[TERM]] ["dp", "tp"] dim 0 {pass = "shard-over-data", subject = "norm"} : (tensor<1xf64>) -> tensor<4xf64>
// CHECK-NEXT: llm.global_norm %[[ALL]]
// CHECK: llm.adamw @w with %[[SUM]], {{.*}} decay : tensor<70x18xf32>
// CHECK: llm.adamw @norm with %[[SUMN]]
// CHECK-NOT: dist.
// CHECK: return
module attributes {llm.options = {zero = 0 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]
  llm.param @w : tensor<70x18xf32>
  llm.param @norm : tensor<18xf32>
  llm.state @count : tensor<1xf32> role scalar
  llm.state @loss : tensor<1xf32> role scalar
  llm.state @norm_terms : tensor<2xf64> role scalar
  llm.state @w.gradient : tensor<70x18xf32> role gradient of @w
  llm.state @w.moment1 : tensor<70x18xf32> role moment1 of @w
  llm.state @w.moment2 : tensor<70x18xf32> role moment2 of @w
  llm.state @norm.gradient : tensor<18xf32> role gradient of @norm
  llm.state @norm.moment1 : tensor<18xf32> role moment1 of @norm
  llm.state @norm.moment2 : tensor<18xf32> role moment2 of @norm
  func.func @step.prologue(%labels: tensor<4x3xi32> {llm.name = "labels"}) attributes {llm.entry = "prologue"} {
    %0 = llm.count_labels %labels : (tensor<4x3xi32>) -> tensor<1xf32>
    llm.accumulate %0 into @count : tensor<1xf32>
    return
  }
  func.func @step.backward(%dy: tensor<6x70xf32>, %x: tensor<6x18xf32>) attributes {llm.entry = "backward"} {
    %0 = llm.linear_weight_gradient %dy, %x : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32>
    llm.accumulate %0 into @w.gradient : tensor<70x18xf32>
    %1 = llm.sum_rows %x : (tensor<6x18xf32>) -> tensor<18xf32>
    llm.accumulate %1 into @norm.gradient : tensor<18xf32>
    return
  }
  func.func @step.loss() attributes {llm.entry = "loss"} {
    return
  }
  func.func @step.optimizer(%hyper: tensor<16xf32> {llm.name = "hyper"}) -> (tensor<4xf32> {llm.name = "norm"}) attributes {llm.entry = "optimizer"} {
    %0 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.square_sum %0 into @norm_terms[0] : tensor<70x18xf32>
    %1 = llm.read_state @norm.gradient : tensor<18xf32>
    llm.square_sum %1 into @norm_terms[1] : tensor<18xf32>
    %2 = llm.read_state @norm_terms : tensor<2xf64>
    %3 = llm.sum_terms %2 : (tensor<2xf64>) -> tensor<1xf64>
    %4 = llm.global_norm %3, %hyper : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
    %5 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.adamw @w with %5, %4, %hyper moment1 @w.moment1 moment2 @w.moment2 decay : tensor<70x18xf32>, tensor<4xf32>, tensor<16xf32>
    %6 = llm.read_state @norm.gradient : tensor<18xf32>
    llm.adamw @norm with %6, %4, %hyper moment1 @norm.moment1 moment2 @norm.moment2 : tensor<18xf32>, tensor<4xf32>, tensor<16xf32>
    return %4 : tensor<4xf32>
  }
}

// -----

// ZeRO 1: moments of matrices are runs. A rank gets its run of the gradient once a step,
// updates that run of the parameter in place, and the others' runs are gathered. The vector
// stays whole.
// CHECK: llm.state @w.gradient : tensor<70x18xf32> role  gradient of @w{{$}}
// CHECK: llm.state @w.moment1 : tensor<1152xf32> role  moment1 of @w shard #dist.shard<["dp"], 1152>
// CHECK: llm.state @norm.moment1 : tensor<18xf32> role  moment1 of @norm{{$}}
// CHECK-LABEL: func.func @step.backward
// CHECK-NOT: dist.
// CHECK-LABEL: func.func @step.optimizer
// CHECK: %[[G:.*]] = llm.read_state @w.gradient : tensor<70x18xf32>
// CHECK-NEXT: %[[SHARD:.*]] = dist.reduce_scatter %[[G]] ["dp"] {pass = "shard-over-data", subject = "w"} : (tensor<70x18xf32>) -> tensor<1152xf32>
// CHECK-NEXT: llm.square_sum %[[SHARD]] into @norm_terms[0] {{{.*}}llm.is_run} : tensor<1152xf32>
// CHECK: %[[SUMN:.*]] = dist.all_reduce %{{.*}} ["dp"] {{.*}}subject = "norm"
// CHECK: llm.adamw @w with %[[SHARD]], {{.*}} decay {llm.is_run, llm.run_offsets = #dist.by_coordinate<"dp", [0, 4608]>} : tensor<1152xf32>
// CHECK-NEXT: %[[W:.*]] = llm.get_param @w : tensor<70x18xf32>
// CHECK-NEXT: dist.gather_in_place %[[W]] ["dp"] run 1152 {pass = "shard-over-data", subject = "w"}
// CHECK: llm.adamw @norm with %[[SUMN]]
// CHECK-NOT: dist.
// CHECK: return
module attributes {llm.options = {zero = 1 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]
  llm.param @w : tensor<70x18xf32>
  llm.param @norm : tensor<18xf32>
  llm.state @count : tensor<1xf32> role scalar
  llm.state @loss : tensor<1xf32> role scalar
  llm.state @norm_terms : tensor<2xf64> role scalar
  llm.state @w.gradient : tensor<70x18xf32> role gradient of @w
  llm.state @w.moment1 : tensor<70x18xf32> role moment1 of @w
  llm.state @w.moment2 : tensor<70x18xf32> role moment2 of @w
  llm.state @norm.gradient : tensor<18xf32> role gradient of @norm
  llm.state @norm.moment1 : tensor<18xf32> role moment1 of @norm
  llm.state @norm.moment2 : tensor<18xf32> role moment2 of @norm
  func.func @step.prologue(%labels: tensor<4x3xi32> {llm.name = "labels"}) attributes {llm.entry = "prologue"} {
    %0 = llm.count_labels %labels : (tensor<4x3xi32>) -> tensor<1xf32>
    llm.accumulate %0 into @count : tensor<1xf32>
    return
  }
  func.func @step.backward(%dy: tensor<6x70xf32>, %x: tensor<6x18xf32>) attributes {llm.entry = "backward"} {
    %0 = llm.linear_weight_gradient %dy, %x : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32>
    llm.accumulate %0 into @w.gradient : tensor<70x18xf32>
    %1 = llm.sum_rows %x : (tensor<6x18xf32>) -> tensor<18xf32>
    llm.accumulate %1 into @norm.gradient : tensor<18xf32>
    return
  }
  func.func @step.optimizer(%hyper: tensor<16xf32> {llm.name = "hyper"}) -> (tensor<4xf32> {llm.name = "norm"}) attributes {llm.entry = "optimizer"} {
    %0 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.square_sum %0 into @norm_terms[0] : tensor<70x18xf32>
    %1 = llm.read_state @norm.gradient : tensor<18xf32>
    llm.square_sum %1 into @norm_terms[1] : tensor<18xf32>
    %2 = llm.read_state @norm_terms : tensor<2xf64>
    %3 = llm.sum_terms %2 : (tensor<2xf64>) -> tensor<1xf64>
    %4 = llm.global_norm %3, %hyper : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
    %5 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.adamw @w with %5, %4, %hyper moment1 @w.moment1 moment2 @w.moment2 decay : tensor<70x18xf32>, tensor<4xf32>, tensor<16xf32>
    %6 = llm.read_state @norm.gradient : tensor<18xf32>
    llm.adamw @norm with %6, %4, %hyper moment1 @norm.moment1 moment2 @norm.moment2 : tensor<18xf32>, tensor<4xf32>, tensor<16xf32>
    return %4 : tensor<4xf32>
  }
}

// -----

// ZeRO 2: the gradient is a run too, so each micro-batch scatters what it adds. The optimizer
// finds its run in place.
// CHECK: llm.state @w.gradient : tensor<1152xf32> role  gradient of @w shard #dist.shard<["dp"], 1152>
// CHECK: llm.state @norm.gradient : tensor<18xf32> role  gradient of @norm{{$}}
// CHECK-LABEL: func.func @step.backward
// CHECK: %[[D:.*]] = llm.linear_weight_gradient
// CHECK-NEXT: %[[SHARD:.*]] = dist.reduce_scatter %[[D]] ["dp"] {pass = "shard-over-data", subject = "w"} : (tensor<70x18xf32>) -> tensor<1152xf32>
// CHECK-NEXT: llm.accumulate %[[SHARD]] into @w.gradient : tensor<1152xf32>
// CHECK-NEXT: %[[DN:.*]] = llm.sum_rows
// CHECK-NEXT: llm.accumulate %[[DN]] into @norm.gradient
// CHECK-LABEL: func.func @step.optimizer
// CHECK-NOT: dist.reduce_scatter
// CHECK: %[[G:.*]] = llm.read_state @w.gradient : tensor<1152xf32>
// CHECK-NEXT: llm.square_sum %[[G]]
// CHECK: llm.adamw @w with %[[G]], {{.*}}llm.is_run
// CHECK: dist.gather_in_place
// CHECK-NOT: dist.
// CHECK: return
module attributes {llm.options = {zero = 2 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 1, 2]
  llm.param @w : tensor<70x18xf32>
  llm.param @norm : tensor<18xf32>
  llm.state @count : tensor<1xf32> role scalar
  llm.state @loss : tensor<1xf32> role scalar
  llm.state @norm_terms : tensor<2xf64> role scalar
  llm.state @w.gradient : tensor<70x18xf32> role gradient of @w
  llm.state @w.moment1 : tensor<70x18xf32> role moment1 of @w
  llm.state @w.moment2 : tensor<70x18xf32> role moment2 of @w
  llm.state @norm.gradient : tensor<18xf32> role gradient of @norm
  llm.state @norm.moment1 : tensor<18xf32> role moment1 of @norm
  llm.state @norm.moment2 : tensor<18xf32> role moment2 of @norm
  func.func @step.prologue(%labels: tensor<4x3xi32> {llm.name = "labels"}) attributes {llm.entry = "prologue"} {
    %0 = llm.count_labels %labels : (tensor<4x3xi32>) -> tensor<1xf32>
    llm.accumulate %0 into @count : tensor<1xf32>
    return
  }
  func.func @step.backward(%dy: tensor<6x70xf32>, %x: tensor<6x18xf32>) attributes {llm.entry = "backward"} {
    %0 = llm.linear_weight_gradient %dy, %x : (tensor<6x70xf32>, tensor<6x18xf32>) -> tensor<70x18xf32>
    llm.accumulate %0 into @w.gradient : tensor<70x18xf32>
    %1 = llm.sum_rows %x : (tensor<6x18xf32>) -> tensor<18xf32>
    llm.accumulate %1 into @norm.gradient : tensor<18xf32>
    return
  }
  func.func @step.optimizer(%hyper: tensor<16xf32> {llm.name = "hyper"}) -> (tensor<4xf32> {llm.name = "norm"}) attributes {llm.entry = "optimizer"} {
    %0 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.square_sum %0 into @norm_terms[0] : tensor<70x18xf32>
    %1 = llm.read_state @norm.gradient : tensor<18xf32>
    llm.square_sum %1 into @norm_terms[1] : tensor<18xf32>
    %2 = llm.read_state @norm_terms : tensor<2xf64>
    %3 = llm.sum_terms %2 : (tensor<2xf64>) -> tensor<1xf64>
    %4 = llm.global_norm %3, %hyper : (tensor<1xf64>, tensor<16xf32>) -> tensor<4xf32>
    %5 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.adamw @w with %5, %4, %hyper moment1 @w.moment1 moment2 @w.moment2 decay : tensor<70x18xf32>, tensor<4xf32>, tensor<16xf32>
    %6 = llm.read_state @norm.gradient : tensor<18xf32>
    llm.adamw @norm with %6, %4, %hyper moment1 @norm.moment1 moment2 @norm.moment2 : tensor<18xf32>, tensor<4xf32>, tensor<16xf32>
    return %4 : tensor<4xf32>
  }
}

// -----

// A tied parameter on two stages, ZeRO 1: each copy is exchanged, then the run of the copy is
// sent home and added to the home's.
// CHECK: llm.state @w.gradient : tensor<70x18xf32> role  gradient of @w{{$}}
// CHECK-NEXT: llm.state @w.gradient.exchanged : tensor<1152xf32> role  gradient of @w shard #dist.shard<["dp"], 1152>
// CHECK-LABEL: func.func @step.optimizer.stage0
// CHECK: %[[OWN:.*]] = llm.read_state @w.gradient : tensor<70x18xf32>
// CHECK-NEXT: %[[PART:.*]] = dist.reduce_scatter %[[OWN]] ["dp"] {{.*}} -> tensor<1152xf32>
// CHECK-NEXT: llm.zero_state @w.gradient.exchanged
// CHECK-NEXT: llm.accumulate %[[PART]] into @w.gradient.exchanged
// CHECK-NEXT: %[[TERM:.*]] = dist.recv "pp" peer 1 {llm.state = @w.gradient.exchanged, {{.*}}} : tensor<1152xf32>
// CHECK-NEXT: llm.accumulate %[[TERM]] into @w.gradient.exchanged
// CHECK-NEXT: %[[SUM:.*]] = llm.read_state @w.gradient.exchanged : tensor<1152xf32>
// CHECK: llm.square_sum %[[SUM]] into @norm_terms[0]
// CHECK-LABEL: func.func @step.optimizer.stage1
// CHECK: %[[COPY:.*]] = llm.read_state @w.gradient : tensor<70x18xf32>
// CHECK-NEXT: %[[SENT:.*]] = dist.reduce_scatter %[[COPY]] ["dp"]
// CHECK-NEXT: dist.send %[[SENT]] "pp" peer 0 {{.*}} : tensor<1152xf32>
module attributes {llm.options = {zero = 1 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 2, 1]
  llm.param @w : tensor<70x18xf32>
  llm.state @loss : tensor<1xf32> role scalar
  llm.state @norm_terms : tensor<1xf64> role scalar
  llm.state @w.gradient : tensor<70x18xf32> role gradient of @w
  llm.state @w.moment1 : tensor<70x18xf32> role moment1 of @w
  llm.state @w.moment2 : tensor<70x18xf32> role moment2 of @w
  func.func @step.optimizer.stage0(%hyper: tensor<16xf32> {llm.name = "hyper"}) attributes {dist.stage = 0 : i64, llm.entry = "optimizer"} {
    %t = dist.recv "pp" peer 1 {llm.state = @w.gradient, pass = "split-training-stages", subject = "w"} : tensor<70x18xf32>
    llm.accumulate %t into @w.gradient : tensor<70x18xf32>
    %0 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.square_sum %0 into @norm_terms[0] : tensor<70x18xf32>
    return
  }
  func.func @step.optimizer.stage1(%hyper: tensor<16xf32> {llm.name = "hyper"}) attributes {dist.stage = 1 : i64, llm.entry = "optimizer"} {
    %0 = llm.read_state @w.gradient : tensor<70x18xf32>
    dist.send %0 "pp" peer 0 {pass = "split-training-stages", subject = "w"} : tensor<70x18xf32>
    return
  }
}

// -----

// ZeRO 2: the copies are exchanged in backward already.
// CHECK-NOT: .exchanged
// CHECK-LABEL: func.func @step.optimizer.stage0
// CHECK: %[[TERM:.*]] = dist.recv "pp" peer 1 {llm.state = @w.gradient, {{.*}}} : tensor<1152xf32>
// CHECK-NEXT: llm.accumulate %[[TERM]] into @w.gradient
// CHECK-NEXT: %[[SUM:.*]] = llm.read_state @w.gradient : tensor<1152xf32>
// CHECK-NEXT: llm.square_sum %[[SUM]] into @norm_terms[0]
module attributes {llm.options = {zero = 2 : i64}} {
  dist.mesh @mesh ["dp", "pp", "tp"] [2, 2, 1]
  llm.param @w : tensor<70x18xf32>
  llm.state @loss : tensor<1xf32> role scalar
  llm.state @norm_terms : tensor<1xf64> role scalar
  llm.state @w.gradient : tensor<70x18xf32> role gradient of @w
  llm.state @w.moment1 : tensor<70x18xf32> role moment1 of @w
  llm.state @w.moment2 : tensor<70x18xf32> role moment2 of @w
  func.func @step.optimizer.stage0(%hyper: tensor<16xf32> {llm.name = "hyper"}) attributes {dist.stage = 0 : i64, llm.entry = "optimizer"} {
    %t = dist.recv "pp" peer 1 {llm.state = @w.gradient, pass = "split-training-stages", subject = "w"} : tensor<70x18xf32>
    llm.accumulate %t into @w.gradient : tensor<70x18xf32>
    %0 = llm.read_state @w.gradient : tensor<70x18xf32>
    llm.square_sum %0 into @norm_terms[0] : tensor<70x18xf32>
    return
  }
  func.func @step.optimizer.stage1(%hyper: tensor<16xf32> {llm.name = "hyper"}) attributes {dist.stage = 1 : i64, llm.entry = "optimizer"} {
    %0 = llm.read_state @w.gradient : tensor<70x18xf32>
    dist.send %0 "pp" peer 0 {pass = "split-training-stages", subject = "w"} : tensor<70x18xf32>
    return
  }
}
