// SPDX-License-Identifier: Apache-2.0
#include "tests/values/StepSession.h"

#include "compiler/passes/Pipeline.h"
#include "runtime/base/Philox.h"

#include "mlir/Pass/Pass.h"
#include "mlir/Pass/PassManager.h"

#include <cmath>

using namespace mlir;

namespace llmc {

LogicalResult compileTo(ModuleOp model, const StepSetup& setup, StringRef phase,
                        StringRef last) {
  Options options = Options::read(model);
  options.batch = setup.batch;
  options.chunk = setup.chunk;
  options.seq = setup.seq;
  options.zero = setup.zero;
  options.sequenceParallel = setup.sequenceParallel;
  options.write(model);
  OpBuilder builder = OpBuilder::atBlockBegin(model.getBody());
  dist::MeshOp::create(builder, model.getLoc(), "mesh",
                       builder.getStrArrayAttr({"dp", "pp", "tp"}),
                       {setup.dp, setup.pp, setup.tp});
  PipelineRequest request;
  request.to = phase.str();
  if (failed(runPipeline(model, request)))
    return failure();
  if (last.empty())
    return success();
  // The passes of the next phase, up to one of them.
  PassManager manager(model.getContext());
  bool isAfter = false;
  for (const PipelineStep& step : pipelineSteps()) {
    isAfter |= step.phase == "kernels";
    if (isAfter)
      manager.addPass(step.create());
    if (step.name == last)
      break;
  }
  return manager.run(model);
}

ParameterSource randomParameters(uint64_t seed) {
  return [seed](llm::ParamOp op) {
    auto type = cast<RankedTensorType>(op.getType());
    bool isVector = type.getRank() == 1;
    double scale = isVector ? 0.3 : 1 / std::sqrt(double(type.getDimSize(1)));
    uint64_t stream = llmrt::philoxStream(op.getSymName().str());
    std::vector<double> values(type.getNumElements());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = (isVector ? 1 : 0) + scale * llmrt::normal(seed, stream, i);
    return values;
  };
}

std::vector<int64_t> randomTokens(int64_t count, int64_t vocab, uint64_t seed) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(
        llmrt::philox4x32({uint32_t(i), 0, 0, 0}, llmrt::philoxKey(seed))[0] %
        vocab);
  return tokens;
}

StepSession::StepSession(ModuleOp step, const StepSetup& setup,
                         ParameterSource parameters)
    : setup_(setup), pages_((setup.seq + 63) / 64),
      interpreter_(step, std::move(parameters)) {}

/// Idle sequences; pages of neighbouring slots interleave, in descending order.
NamedTensors StepSession::emptyInputs(int64_t sequences, int64_t rows,
                                      int64_t firstSlot) {
  NamedTensors inputs;
  inputs["ids"] = Tensor({sequences, rows});
  inputs["positions"] = Tensor({sequences, rows});
  for (double& position : inputs["positions"].values)
    position = -1;
  Tensor& table = inputs["block_table"] = Tensor({sequences, pages_});
  for (int64_t s = 0; s < sequences; ++s)
    for (int64_t p = 0; p < pages_; ++p)
      table.row(s)[p] = (pages_ - 1 - p) * setup_.batch + firstSlot + s;
  for (const char* name : {"valid_rows", "temperature", "top_k", "top_p",
                           "seed", "sequence", "sample_positions"})
    inputs[name] = Tensor({sequences});
  return inputs;
}

FailureOr<std::vector<Rows>>
StepSession::call(StringRef entry, const std::vector<NamedTensors>& replicas) {
  std::vector<NamedTensors> inputs;
  for (int64_t r = 0; r < interpreter_.numRanks(); ++r)
    inputs.push_back(replicas[interpreter_.state(r).coordinate("dp")]);
  FailureOr<std::vector<NamedTensors>> results =
      interpreter_.run(entry, inputs);
  if (failed(results))
    return failure();
  std::vector<Rows> logits(setup_.dp);
  sampled_.assign(setup_.dp, {});
  for (int64_t r = 0; r < interpreter_.numRanks(); ++r) {
    int64_t replica = interpreter_.state(r).coordinate("dp");
    if (auto found = (*results)[r].find("logits");
        found != (*results)[r].end()) {
      Rows rows;
      for (int64_t i = 0; i < found->second.rows(); ++i)
        rows.emplace_back(found->second.row(i),
                          found->second.row(i) + found->second.width());
      if (logits[replica].empty())
        logits[replica] = rows;
      // Tensor-split ranks of one replica must agree to the bit.
      if (relativeDifference(rows, logits[replica]) != 0)
        return failure();
    }
    if (auto found = (*results)[r].find("next_ids");
        found != (*results)[r].end()) {
      std::vector<int64_t> ids(found->second.values.begin(),
                               found->second.values.end());
      if (sampled_[replica].empty())
        sampled_[replica] = ids;
      if (sampled_[replica] != ids)
        return failure();
    }
  }
  return logits;
}

FailureOr<std::vector<Rows>> StepSession::feed(StringRef entry, int64_t slot,
                                               const PerReplica& tokens) {
  size_t longest = 0;
  for (const std::vector<int64_t>& sequence : tokens)
    longest = std::max(longest, sequence.size());
  std::vector<Rows> all(setup_.dp);
  for (size_t begin = 0; begin < longest; begin += setup_.chunk) {
    std::vector<NamedTensors> inputs;
    std::vector<int64_t> counts;
    for (const std::vector<int64_t>& sequence : tokens) {
      NamedTensors& in =
          inputs.emplace_back(emptyInputs(1, setup_.chunk, slot));
      // A replica whose sequence is over runs along, masked.
      int64_t left = int64_t(sequence.size()) - int64_t(begin);
      int64_t count = std::clamp<int64_t>(left, 0, setup_.chunk);
      counts.push_back(count);
      for (int64_t i = 0; i < count; ++i) {
        in["ids"].values[i] = sequence[begin + i];
        in["positions"].values[i] = begin + i;
      }
      in["valid_rows"].values[0] = count;
    }
    FailureOr<std::vector<Rows>> logits = call(entry, inputs);
    if (failed(logits))
      return failure();
    for (auto [replica, count] : llvm::enumerate(counts)) {
      Rows& rows = (*logits)[replica];
      if (count > 0 && entry == "prefill")
        all[replica] = rows;
      else if (count > 0)
        all[replica].insert(all[replica].end(), rows.begin(),
                            rows.begin() + count);
    }
  }
  return all;
}

FailureOr<std::vector<Rows>>
StepSession::decode(const std::vector<std::vector<int64_t>>& tokens,
                    const std::vector<std::vector<int64_t>>& positions) {
  std::vector<NamedTensors> inputs;
  for (int64_t replica = 0; replica < setup_.dp; ++replica) {
    NamedTensors& in = inputs.emplace_back(emptyInputs(setup_.batch, 1, 0));
    for (int64_t slot = 0; slot < setup_.batch; ++slot) {
      if (tokens[replica][slot] < 0)
        continue;
      in["ids"].values[slot] = tokens[replica][slot];
      in["positions"].values[slot] = positions[replica][slot];
      in["valid_rows"].values[slot] = 1;
    }
  }
  return call("decode", inputs);
}

double relativeDifference(const Rows& a, const Rows& reference) {
  double worst = 0, scale = 0;
  if (a.size() != reference.size())
    return INFINITY;
  for (size_t r = 0; r < a.size(); ++r) {
    if (a[r].size() != reference[r].size())
      return INFINITY;
    for (size_t c = 0; c < a[r].size(); ++c) {
      double difference = std::abs(a[r][c] - reference[r][c]);
      worst =
          std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
      scale = std::max(scale, std::abs(reference[r][c]));
    }
  }
  return worst == 0 ? 0 : worst / scale;
}

} // namespace llmc
