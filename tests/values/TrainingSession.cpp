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
  options.virtualStages = setup.virtualStages;
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
    : module_(step), setup_(setup), interpreter_(step, std::move(parameters)) {}

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
    // What the ranks hold for each of their chunks.
    std::vector<PerRank> held(setup_.virtualStages, inputsOf(batch, m));
    int64_t last = setup_.pp * setup_.virtualStages - 1;
    for (int64_t g = 0; g <= last; ++g)
      if (failed(runOn({{g, "forward"}}, held)) ||
          (g < last &&
           failed(runOn({{g, "send_activation"}, {g + 1, "receive_activation"}},
                        held))))
        return failure();
    for (int64_t g = last; g >= 0; --g)
      if (failed(runOn({{g, "backward"}}, held)) ||
          (g > 0 &&
           failed(runOn({{g, "send_gradient"}, {g - 1, "receive_gradient"}},
                        held))))
        return failure();
  }
  return success();
}

LogicalResult
TrainingSession::runOn(const std::map<int64_t, StringRef>& segments,
                       std::vector<PerRank>& held) {
  auto globalOf = [&](const RankState& state) -> int64_t {
    for (const auto& [global, entry] : segments)
      if (global % setup_.pp == state.coordinate("pp"))
        return global;
    return -1;
  };
  PerRank inputs(interpreter_.numRanks());
  for (int64_t rank = 0; rank < interpreter_.numRanks(); ++rank)
    if (int64_t global = globalOf(interpreter_.state(rank)); global >= 0)
      inputs[rank] = held[global / setup_.pp][rank];
  using Segment = Interpreter::Segment;
  auto results = interpreter_.runSegments(
      [&](const RankState& state) -> std::optional<Segment> {
        int64_t global = globalOf(state);
        if (global < 0)
          return std::nullopt;
        bool hasChunks = setup_.virtualStages > 1;
        return Segment{segments.at(global),
                       hasChunks ? global / setup_.pp : -1};
      },
      inputs);
  if (failed(results))
    return failure();
  for (int64_t rank = 0; rank < interpreter_.numRanks(); ++rank)
    if (int64_t global = globalOf(interpreter_.state(rank)); global >= 0)
      for (auto& [name, tensor] : (*results)[rank])
        held[global / setup_.pp][rank][name] = std::move(tensor);
  return success();
}

FailureOr<TrainingSession::Report>
TrainingSession::update(const TrainingOptimizer& optimizer,
                        int64_t numUpdates) {
  PerRank inputs(interpreter_.numRanks());
  if (failed(interpreter_.run("loss", inputs)))
    return failure();
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

/// `x`, or NaN if it is not what was there.
static double agreeing(double x, double before) {
  return x == before ? x : NAN;
}

/// Whether the ranks of a stage read the parameter.
bool TrainingSession::isOnStage(llm::ParamOp param, int64_t stage) {
  bool isRead = setup_.pp == 1;
  for (auto func : module_.getOps<func::FuncOp>()) {
    auto attr = func->getAttrOfType<IntegerAttr>("dist.stage");
    if (attr && attr.getInt() == stage)
      for (auto get : func.getOps<llm::GetParamOp>())
        isRead |= get.getParam() == param.getSymName();
  }
  return isRead;
}

/// What a rank of the tensor axis computes with, of all data ranks. Stages that
/// share a parameter have equal copies, and each its own terms of the gradient;
/// other states are at home, on the first of them.
std::vector<double> TrainingSession::localOf(llm::ParamOp param,
                                             StringRef suffix,
                                             int64_t tensorRank) {
  std::vector<double> local;
  for (int64_t stage = 0; stage < setup_.pp; ++stage) {
    bool isHere = local.empty() || suffix.empty() || suffix == ".gradient";
    if (!isHere || !isOnStage(param, stage))
      continue;
    std::vector<double> here = localOn(stage, param, suffix, tensorRank);
    if (local.empty()) {
      local = here;
      continue;
    }
    for (size_t i = 0; i < here.size(); ++i)
      local[i] =
          suffix.empty() ? agreeing(here[i], local[i]) : local[i] + here[i];
  }
  return local;
}

std::vector<double> TrainingSession::localOn(int64_t stage, llm::ParamOp param,
                                             StringRef suffix,
                                             int64_t tensorRank) {
  std::string symbol = (param.getSymName() + suffix).str();
  Operation* op = SymbolTable::lookupSymbolIn(module_, symbol);
  auto state = dyn_cast<llm::StateOp>(op);
  bool isShard =
      state ? bool(state.getShardAttr())
            : param.getShardAttr() && param.getComputeType().getRank() == 2;
  bool isSum = state && state.getRole() == llm::StateRole::gradient;
  std::vector<double> local;
  for (int64_t rank = 0; rank < interpreter_.numRanks(); ++rank) {
    const RankState& where = interpreter_.state(rank);
    if (where.coordinate("tp") != tensorRank || where.coordinate("pp") != stage)
      continue;
    const std::vector<double>& part = interpreter_.memory(rank, symbol).values;
    if (local.empty() || isShard) {
      local.insert(local.end(), part.begin(), part.end());
      continue;
    }
    for (size_t i = 0; i < part.size(); ++i)
      local[i] = isSum ? local[i] + part[i] : agreeing(part[i], local[i]);
  }
  return local;
}

std::vector<double> TrainingSession::logical(llm::ParamOp param,
                                             StringRef suffix) {
  auto whole = cast<RankedTensorType>(param.getType());
  RankedTensorType type = param.getComputeType();
  auto slice = dyn_cast_or_null<dist::SliceAttr>(param.getSliceAttr());
  std::vector<double> result(whole.getNumElements());
  std::vector<bool> isSet(result.size());
  bool isPaddingZero = true;
  int64_t dim = slice ? slice.getDim() : 0;
  int64_t inner = 1;
  for (int64_t d = dim + 1; d < type.getRank(); ++d)
    inner *= type.getDimSize(d);
  for (int64_t t = 0; t < setup_.tp; ++t) {
    std::vector<double> local = localOf(param, suffix, t);
    int64_t offset = slice ? slice.getOffsets()[t] : 0;
    int64_t count = slice ? slice.getCounts()[t] : type.getDimSize(0);
    for (int64_t i = 0; i < int64_t(local.size()); ++i) {
      int64_t outer = i / inner / type.getDimSize(dim);
      int64_t place = i / inner % type.getDimSize(dim);
      if (i >= type.getNumElements() || place >= count) {
        isPaddingZero &= local[i] == 0;
        continue;
      }
      int64_t at =
          (outer * whole.getDimSize(dim) + offset + place) * inner + i % inner;
      result[at] = isSet[at] ? agreeing(local[i], result[at]) : local[i];
      isSet[at] = true;
    }
  }
  if (!isPaddingZero)
    std::fill(result.begin(), result.end(), NAN);
  return result;
}

} // namespace llmc
