// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/TrainingMemory.h"

#include "runtime/kernels/KernelAbi.h"
#include "tools/llmc/StepReport.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace llmc {
namespace {

int64_t axisSize(const fb::Plan& plan, absl::string_view name) {
  for (const fb::Axis* axis : listOf(plan.axes()))
    if (textOf(axis->name()) == name)
      return axis->size();
  return 1;
}

/// A compile option as the plan records it: {recompute = "none", zero = 2 :
/// i64}.
std::string optionOf(const fb::Plan& plan, absl::string_view name) {
  for (absl::string_view part :
       absl::StrSplit(textOf(plan.options()), absl::ByAnyChar("{},"))) {
    std::vector<std::string> words =
        absl::StrSplit(part, absl::ByAnyChar(" \""), absl::SkipEmpty());
    if (words.size() >= 3 && words[0] == name)
      return words[2];
  }
  return "";
}

int zeroStage(const fb::Plan& plan) {
  std::string zero = optionOf(plan, "zero");
  return zero.size() == 1 ? zero[0] - '0' : 0;
}

int64_t roundUp(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

/// Elements of the box that a rank holds, the largest over the ranks.
int64_t boxElements(const fb::Parameter& parameter) {
  std::vector<int64_t> shape = listOf(parameter.global_shape());
  for (const fb::BoxDim* dim : listOf(parameter.box())) {
    auto counts = listOf(dim->count()->values());
    shape[dim->dim()] = *std::max_element(counts.begin(), counts.end());
  }
  int64_t elements = 1;
  for (int64_t n : shape)
    elements *= n;
  return elements;
}

std::set<int> trainedParameters(const fb::Stage& stage) {
  std::set<int> trained;
  for (const fb::State* state : listOf(stage.states()))
    if (state->role() == fb::StateRole::Gradient)
      trained.insert(state->parameter());
  return trained;
}

/// Of the whole model: every rank has a term of the gradient norm for each.
double trainedTensors(const fb::Plan& plan) {
  std::set<std::string> names;
  for (const fb::Stage* stage : listOf(plan.stages()))
    for (int i : trainedParameters(*stage))
      if (i >= 0)
        names.insert(textOf(stage->parameters()->Get(i)->name()));
  return static_cast<double>(names.size());
}

/// What one layer looks like, from the launches of the plan.
PublishedLayer layerOf(const fb::Plan& plan) {
  PublishedLayer layer;
  layer.tensorRanks = static_cast<double>(axisSize(plan, "tp"));
  layer.isSequenceParallel = optionOf(plan, "sequence_parallel") == "true";
  for (const StageProgram& program : programsOf(plan)) {
    if (program.entry != "forward")
      continue;
    const fb::Entry* entry = plan.entries()->Get(program.program->entry());
    layer.sequence = static_cast<double>(entry->rows_per_sequence());
    layer.microBatch = static_cast<double>(entry->sequences());
    for (const fb::Command* command : listOf(program.program->commands())) {
      if (command->kind() != fb::CommandKind::Launch)
        continue;
      std::string kernel =
          textOf(plan.kernels()->Get(command->kernel())->name());
      if (kernel == "embedding")
        layer.hidden = static_cast<double>(launchWord(plan, *command, "C"));
      if (kernel == "attention_rows")
        layer.heads = static_cast<double>(launchWord(plan, *command, "H")) *
                      layer.tensorRanks;
    }
  }
  return layer;
}

// ---- Text ----

std::string bytesCell(double bytes) {
  return absl::StrFormat("%14.0f %10s", bytes, shortBytes(std::llround(bytes)));
}

std::string statesText(const fb::Plan& plan, int stage) {
  StageParameters held = parametersOfStage(plan, stage);
  int zero = zeroStage(plan);
  int64_t dp = axisSize(plan, "dp");
  ModelStates own{
      static_cast<double>(classBytes(plan, stage, fb::MemoryClass::Parameters)),
      static_cast<double>(classBytes(plan, stage, fb::MemoryClass::Gradients)),
      static_cast<double>(classBytes(plan, stage, fb::MemoryClass::Optimizer))};
  ModelStates formula = ownModelStates(plan, stage);
  ModelStates paper = publishedModelStates(held.trainedElements, dp, zero);
  // It trains every parameter.
  paper.parameters = publishedModelStates(held.elements, dp, zero).parameters;
  std::string text = absl::StrFormat(
      "\nmodel states of a rank of stage %d: %d parameters, %d of them "
      "trained, ZeRO stage %d over dp=%d\n%-12s  %25s  %25s  %25s\n",
      stage, held.elements, held.trainedElements, zero, dp, "", "this plan",
      "our formula", "ZeRO paper");
  for (auto [name, part] : {std::pair{"parameters", &ModelStates::parameters},
                            {"gradients", &ModelStates::gradients},
                            {"optimizer", &ModelStates::optimizer}})
    absl::StrAppendFormat(&text, "%-12s  %s  %s  %s\n", name,
                          bytesCell(own.*part), bytesCell(formula.*part),
                          bytesCell(paper.*part));
  absl::StrAppendFormat(&text, "%-12s  %s  %s  %s\n", "together",
                        bytesCell(own.sum()), bytesCell(formula.sum()),
                        bytesCell(paper.sum()));
  return text;
}

std::string whyStatesDiffer(const fb::Plan& plan) {
  bool isBf16 = plan.compute_dtype() == fb::ElementType::BF16;
  std::string text =
      isBf16 ? "The paper has 16 bytes a parameter: 2 weight, 2 gradient, 12 "
               "optimizer (master weight and\ntwo moments in f32). Here they "
               "are 18, as gradients accumulate in f32: 2 + 4 + 12.\n"
             : "The paper has 16 bytes a parameter: 2 weight, 2 gradient, 12 "
               "optimizer (master weight and\ntwo moments in f32). In f32 they "
               "are 16 too, but 4 + 4 + 8: the weight is its own master.\n";
  return text +
         "Our formula pads a matrix to equal runs of whole panels for each "
         "data rank and leaves vectors\nwhole on every rank; frozen parameters "
         "have weights only.\n";
}

std::string activationsText(const fb::Plan& plan, int stage) {
  std::string recompute = optionOf(plan, "recompute");
  PublishedLayer layer = layerOf(plan);
  int64_t rest = 0;
  std::pair<std::string, int64_t> largest;
  for (const auto& [name, bytes] : savedBytes(plan, stage)) {
    if (name.empty())
      rest = bytes;
    else if (bytes > largest.second)
      largest = {name, bytes};
  }
  int slots = 1;
  for (const fb::Buffer* buffer : listOf(plan.stages()->Get(stage)->buffers()))
    if (buffer->slot_kind() == fb::SlotKind::Saved)
      slots = std::max(slots, buffer->slots());
  std::string text = absl::StrFormat(
      "\nsaved by stage %d for backward, of one micro-batch; %d of them in "
      "flight\n%-56s  %s\n",
      stage, slots, absl::StrCat("one layer (", largest.first, ")"),
      bytesCell(static_cast<double>(largest.second)));
  if (auto paper = publishedLayerActivations(layer, recompute);
      paper.ok() && layer.hidden > 0)
    absl::StrAppendFormat(
        &text, "%-56s  %s\n",
        absl::StrCat("one layer, Korthikanti et al.: ", paper->formula),
        bytesCell(paper->bytes));
  absl::StrAppendFormat(&text, "%-56s  %s\n", "the head",
                        bytesCell(static_cast<double>(rest)));
  return text;
}

std::string whyActivationsDiffer(const fb::Plan& plan) {
  PublishedLayer layer = layerOf(plan);
  return absl::StrFormat(
      "s=%.0f, b=%.0f, h=%.0f, a=%.0f, t=%.0f%s, recomputation %s. The paper "
      "has 16-bit activations; here they are\nf32 in every precision. It keeps "
      "the attention matrix (5as/h); here attention keeps a logarithm for\n"
      "each row and head. It has dropout masks and an MLP of width 4h; here "
      "there is no dropout, and a gated\nMLP keeps three values of its "
      "width.\n",
      layer.sequence, layer.microBatch, layer.hidden, layer.heads,
      layer.tensorRanks,
      layer.tensorRanks > 1
          ? (layer.isSequenceParallel ? " with sequence parallelism"
                                      : " without sequence parallelism")
          : "",
      optionOf(plan, "recompute"));
}

} // namespace

StageParameters parametersOfStage(const fb::Plan& plan, int stage) {
  const fb::Stage& holder = *plan.stages()->Get(stage);
  std::set<int> trained = trainedParameters(holder);
  StageParameters sums;
  int number = -1;
  for (const fb::Parameter* parameter : listOf(holder.parameters())) {
    bool isTrained = trained.count(++number) > 0;
    std::vector<int64_t> shape = listOf(parameter->local_shape());
    int64_t logical = boxElements(*parameter);
    sums.elements += logical;
    sums.trainedElements += isTrained ? logical : 0;
    if (shape.size() < 2) {
      sums.vectors += shape.empty() ? 1 : shape[0];
      sums.trainedVectors += isTrained ? shape[0] : 0;
      continue;
    }
    int64_t elementBytes = parameter->dtype() == fb::ElementType::BF16 ? 2 : 4;
    // What is neither trained nor sharded needs no equal runs.
    // What is neither trained nor sharded needs no equal runs.
    bool isSharded = !listOf(parameter->shard_axes()).empty();
    bool hasRuns = isTrained || isSharded;
    bool hasPanels = hasRuns || parameter->layout() == fb::WeightLayout::Panel;
    int64_t unit = (hasPanels ? llmrt::kPanelBytes / elementBytes : 1) *
                   (hasRuns ? axisSize(plan, "dp") : 1);
    int64_t elements = roundUp(shape[0], unit);
    for (size_t i = 1; i < shape.size(); ++i)
      elements *= shape[i];
    (isSharded ? sums.shardedMatrices : sums.wholeMatrices) += elements;
    sums.trainedMatrices += isTrained ? elements : 0;
  }
  return sums;
}

ModelStates ownModelStates(const fb::Plan& plan, int stage) {
  StageParameters held = parametersOfStage(plan, stage);
  bool isBf16 = plan.compute_dtype() == fb::ElementType::BF16;
  int zero = zeroStage(plan);
  double dp = static_cast<double>(axisSize(plan, "dp"));
  auto shard = [&](double bytes, int from) {
    return zero >= from ? bytes / dp : bytes;
  };
  // Vectors are f32 in every precision and need no master copy.
  ModelStates states;
  states.parameters =
      (isBf16 ? 2.0 : 4.0) * (held.shardedMatrices / dp + held.wholeMatrices) +
      4.0 * held.vectors;
  states.gradients =
      shard(4.0 * held.trainedMatrices, 2) + 4.0 * held.trainedVectors;
  // Terms of the gradient norm, the count and the loss are not sharded.
  states.optimizer = shard((isBf16 ? 12.0 : 8.0) * held.trainedMatrices, 1) +
                     8.0 * held.trainedVectors + 8.0 * trainedTensors(plan) + 8;
  return states;
}

std::map<std::string, int64_t> savedBytes(const fb::Plan& plan, int stage) {
  const fb::Stage& holder = *plan.stages()->Get(stage);
  std::map<std::string, int64_t> bytes;
  std::set<int> seen;
  for (const StageProgram& program : programsOf(plan)) {
    if (program.holder != &holder || program.entry.rfind("backward", 0) != 0)
      continue;
    for (const fb::Command* command : listOf(program.program->commands())) {
      std::string op = originOf(plan, *command).op;
      std::string layer = op.rfind("layers.", 0) == 0
                              ? op.substr(0, op.find('/'))
                              : std::string();
      for (int buffer : buffersOf(*command)) {
        const fb::Buffer& held = *holder.buffers()->Get(buffer);
        if (held.slot_kind() == fb::SlotKind::Saved &&
            seen.insert(buffer).second)
          bytes[layer] += held.size_bytes() / held.slots();
      }
    }
  }
  return bytes;
}

std::string trainingMemoryText(const fb::Plan& plan) {
  if (textOf(plan.mode()) != "train")
    return "";
  std::string text;
  int numStages = static_cast<int>(listOf(plan.stages()).size());
  for (int stage = 0; stage < numStages; ++stage)
    text += statesText(plan, stage);
  text += whyStatesDiffer(plan);
  for (int stage = 0; stage < numStages; ++stage)
    text += activationsText(plan, stage);
  return text + whyActivationsDiffer(plan);
}

} // namespace llmc
