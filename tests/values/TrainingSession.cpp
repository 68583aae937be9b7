// SPDX-License-Identifier: Apache-2.0
#include "tests/values/TrainingSession.h"

#include "compiler/passes/Options.h"
#include "compiler/passes/Pipeline.h"

#include <cmath>

using namespace mlir;

namespace llmc {

using llmrt::testing::TrainingBatch;
using llmrt::testing::TrainingOptimizer;

namespace {

/// Sequences [begin, begin + count) of one input of a batch.
Tensor sequencesOf(const TrainingBatch& batch, const std::vector<int32_t>& all,
                   int64_t begin, int64_t count) {
  Tensor part({count, batch.numRows});
  std::copy_n(all.begin() + begin * batch.numRows, part.numElements(),
              part.values.begin());
  return part;
}

/// `hyper` of docs/design/training.md.
Tensor hyperOf(const TrainingOptimizer& o, int64_t numUpdates) {
  Tensor hyper({16});
  hyper.values = {o.learningRate,
                  o.beta1,
                  o.beta2,
                  o.epsilon,
                  o.weightDecay,
                  1 - std::pow(o.beta1, numUpdates),
                  1 - std::pow(o.beta2, numUpdates),
                  o.clip};
  hyper.values.resize(16);
  hyper.values[10] = 1 - o.beta1;
  hyper.values[11] = 1 - o.beta2;
  return hyper;
}

} // namespace

LogicalResult compileTrainingTo(ModuleOp model, const TrainingSetup& setup,
                                StringRef phase) {
  Options options = Options::read(model);
  options.mode = "train";
  options.batch = setup.batch;
  options.seq = setup.seq;
  options.zero = setup.zero;
  options.microbatches = setup.microbatches;
  options.sequenceParallel = setup.sequenceParallel;
  options.recompute = setup.recompute;
  options.dtype = setup.dtype;
  options.freeze = setup.freeze;
  options.write(model);
  OpBuilder builder = OpBuilder::atBlockBegin(model.getBody());
  dist::MeshOp::create(builder, model.getLoc(), "mesh",
                       builder.getStrArrayAttr({"dp", "pp", "tp"}),
                       {setup.dp, setup.pp, setup.tp});
  PipelineRequest request;
  request.to = phase.str();
  return runPipeline(model, request);
}

TrainingSession::TrainingSession(ModuleOp step, const TrainingSetup& setup,
                                 ParameterSource parameters)
    : setup_(setup), interpreter_(step, std::move(parameters)) {}

/// A data rank has a run of the sequences, its micro-batches runs of that.
TrainingSession::PerRank TrainingSession::inputsOf(const TrainingBatch& batch,
                                                   int64_t microbatch) {
  int64_t count = setup_.batch / (setup_.dp * setup_.microbatches);
  PerRank inputs(interpreter_.numRanks());
  for (int64_t rank = 0; rank < interpreter_.numRanks(); ++rank) {
    int64_t replica = interpreter_.state(rank).coordinate("dp");
    int64_t begin = (replica * setup_.microbatches + microbatch) * count;
    NamedTensors& in = inputs[rank];
    in["ids"] = sequencesOf(batch, batch.ids, begin, count);
    in["positions"] = sequencesOf(batch, batch.positions, begin, count);
    in["starts"] = sequencesOf(batch, batch.starts, begin, count);
    in["labels"] = sequencesOf(batch, batch.labels, begin, count);
  }
  return inputs;
}

LogicalResult TrainingSession::accumulate(const TrainingBatch& batch) {
  PerRank labels(interpreter_.numRanks());
  int64_t perReplica = setup_.batch / setup_.dp;
  for (int64_t rank = 0; rank < interpreter_.numRanks(); ++rank)
    labels[rank]["labels"] = sequencesOf(
        batch, batch.labels,
        interpreter_.state(rank).coordinate("dp") * perReplica, perReplica);
  if (failed(interpreter_.run("prologue", labels)))
    return failure();
  for (int64_t m = 0; m < setup_.microbatches; ++m) {
    PerRank inputs = inputsOf(batch, m);
    auto saved = interpreter_.run("forward", inputs);
    if (failed(saved))
      return failure();
    for (int64_t rank = 0; rank < interpreter_.numRanks(); ++rank)
      inputs[rank].insert((*saved)[rank].begin(), (*saved)[rank].end());
    if (failed(interpreter_.run("backward", inputs)))
      return failure();
  }
  return success();
}

FailureOr<TrainingSession::Report>
TrainingSession::update(const TrainingOptimizer& optimizer,
                        int64_t numUpdates) {
  PerRank inputs(interpreter_.numRanks());
  for (NamedTensors& in : inputs)
    in["hyper"] = hyperOf(optimizer, numUpdates);
  auto results = interpreter_.run("optimizer", inputs);
  if (failed(results))
    return failure();
  Report report;
  report.loss = interpreter_.memory(0, "loss").values[0];
  report.norm = results->front().at("norm").values[0];
  return report;
}

FailureOr<TrainingSession::Report>
TrainingSession::step(const TrainingBatch& batch,
                      const TrainingOptimizer& optimizer, int64_t numUpdates) {
  if (failed(accumulate(batch)))
    return failure();
  return update(optimizer, numUpdates);
}

std::vector<double> TrainingSession::logical(llm::ParamOp param,
                                             StringRef suffix) {
  return interpreter_.memory(0, (param.getSymName() + suffix).str()).values;
}

} // namespace llmc
