// SPDX-License-Identifier: Apache-2.0
#include "runtime/training/TrainingCheckpoint.h"

#include "runtime/base/Error.h"
#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/ExportHuggingFace.h"

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"

namespace llmrt {
namespace {

constexpr const char* kDataNote = "data";
constexpr const char* kSequencesNote = "sequences_per_epoch";
constexpr const char* kSourceNote = "source_folder";
constexpr const char* kSkippedNote = "skipped_steps";
constexpr const char* kReferenceNote = "reference";
constexpr const char* kReferencePathNote = "reference_path";

std::string nameIn(const LogicalTensor& tensor) {
  if (tensor.role == LogicalRole::Weight)
    return tensor.parameter;
  return momentName(tensor.parameter,
                    tensor.role == LogicalRole::Moment1 ? 1 : 2);
}

CheckpointBox boxOf(const LogicalBox& box, int64_t rowStride) {
  return {box.rowBegin, box.numRows, box.colBegin, box.numCols, rowStride};
}

std::vector<CheckpointTensor> listTensors(const LogicalTensors& tensors) {
  std::vector<CheckpointTensor> list;
  for (const LogicalTensor& tensor : tensors.tensors())
    list.push_back(
        {nameIn(tensor),
         tensor.role == LogicalRole::Weight ? CheckpointPart::Model
                                            : CheckpointPart::Optimizer,
         tensor.dtype == DType::BF16 ? SourceType::BF16 : SourceType::F32,
         tensor.shape});
  return list;
}

std::vector<CheckpointSource> listSources(const LogicalTensors& tensors) {
  std::vector<CheckpointSource> sources;
  for (const LogicalTensor& tensor : tensors.tensors()) {
    if (tensor.role != LogicalRole::Weight)
      continue;
    const fb::Parameter& p = *tensor.source;
    sources.push_back({tensor.parameter,
                       p.source() && p.source()->size() > 0 ? p.source()->str()
                                                            : tensor.parameter,
                       p.transposed(), p.source_row_begin(),
                       p.source_row_end()});
  }
  return sources;
}

std::string meshText(const fb::Plan& plan) {
  std::string text;
  for (const fb::Axis* axis : *plan.axes())
    absl::StrAppend(&text, text.empty() ? "" : ",", axis->name()->str(), "=",
                    axis->size());
  return text;
}

CheckpointMeta metaOf(const fb::Plan& plan, const LogicalTensors& tensors,
                      const TrainingPosition& at,
                      const TrainingIdentity& identity) {
  CheckpointMeta meta;
  meta.step = at.step;
  meta.updates = at.updates;
  meta.epoch = at.sequences / identity.sequencesPerEpoch;
  meta.dataPosition = at.sequences % identity.sequencesPerEpoch;
  meta.tokens = at.tokens;
  meta.seed = identity.seed;
  meta.options = identity.commandLine;
  meta.mesh = meshText(plan);
  meta.notes = {{kDataNote, identity.data},
                {kSequencesNote, absl::StrCat(identity.sequencesPerEpoch)},
                {kSourceNote, identity.source},
                {kSkippedNote, absl::StrCat(at.skipped)}};
  if (!identity.reference.contents.empty()) {
    meta.notes.push_back({kReferenceNote, identity.reference.contents});
    meta.notes.push_back({kReferencePathNote, identity.reference.path});
  }
  if (!identity.config.empty()) {
    meta.notes.push_back({kConfigNote, identity.config});
    meta.notes.push_back({kTokenizerNote, identity.tokenizer});
  }
  meta.sources = listSources(tensors);
  return meta;
}

std::string noteOf(const CheckpointMeta& meta, absl::string_view name) {
  for (const auto& [key, value] : meta.notes)
    if (key == name)
      return value;
  return "";
}

absl::Status resumeMismatch(const std::string& path, const std::string& what,
                            const std::string& advice) {
  return makeError(ErrorCode::ResumeMismatch,
                   absl::StrCat("cannot continue ", path, ": ", what), advice);
}

absl::Status checkIdentity(const Checkpoint& checkpoint,
                           const TrainingIdentity& identity) {
  const CheckpointMeta& meta = checkpoint.meta();
  if (meta.seed != identity.seed)
    return resumeMismatch(checkpoint.path(),
                          absl::StrCat("it was written with --seed=", meta.seed,
                                       ", this run has --seed=", identity.seed),
                          absl::StrCat("give --seed=", meta.seed));
  if (noteOf(meta, kDataNote) != identity.data ||
      noteOf(meta, kSequencesNote) != absl::StrCat(identity.sequencesPerEpoch))
    return resumeMismatch(
        checkpoint.path(),
        absl::StrCat("it was trained on other data, tokenizer or sequence "
                     "length: an epoch has ",
                     noteOf(meta, kSequencesNote), " sequences there, ",
                     identity.sequencesPerEpoch, " here"),
        "give the same data; to train the result on other data, export it and "
        "begin a new run from the export");
  const ReferenceIdentity& reference = identity.reference;
  std::string written = noteOf(meta, kReferenceNote);
  if (!written.empty() && !reference.contents.empty() &&
      written != reference.contents)
    return resumeMismatch(checkpoint.path(),
                          absl::StrCat("its reference model was ",
                                       noteOf(meta, kReferencePathNote),
                                       ", this run has ", reference.path,
                                       " with other weights"),
                          absl::StrCat("give --weights=reference=",
                                       noteOf(meta, kReferencePathNote)));
  return absl::OkStatus();
}

absl::Status checkTensors(const Checkpoint& checkpoint,
                          const LogicalTensors& tensors) {
  absl::flat_hash_set<std::string> names;
  for (const LogicalTensor& tensor : tensors.tensors()) {
    names.insert(nameIn(tensor));
    if (tensor.role != LogicalRole::Weight &&
        !checkpoint.find(nameIn(tensor)) && checkpoint.find(tensor.parameter))
      return makeError(ErrorCode::CheckpointMismatch,
                       absl::StrCat(checkpoint.path(), " has no moments of ",
                                    tensor.parameter,
                                    ": it was frozen in the run that wrote it"),
                       "compile with the --freeze of that run, or export the "
                       "checkpoint and begin a new run from it");
    LLMRT_RETURN_IF_ERROR(
        checkpoint.require(nameIn(tensor), tensor.shape).status());
  }
  for (const CheckpointTensor& tensor : checkpoint.tensors())
    if (tensor.part == CheckpointPart::Model && !names.contains(tensor.name))
      return makeError(ErrorCode::CheckpointMismatch,
                       absl::StrCat(checkpoint.path(), " has a parameter ",
                                    tensor.name, ", which the plan has not"),
                       "resume with a plan of the same model");
  return absl::OkStatus();
}

absl::StatusOr<TrainingPosition> load(const std::string& path,
                                      const TrainingIdentity& identity,
                                      LogicalTensors& tensors) {
  LLMRT_ASSIGN_OR_RETURN(auto checkpoint, Checkpoint::open(path));
  LLMRT_RETURN_IF_ERROR(checkTensors(*checkpoint, tensors));
  LLMRT_RETURN_IF_ERROR(checkIdentity(*checkpoint, identity));
  std::vector<std::string> names;
  for (const LogicalTensor& tensor : tensors.tensors())
    names.push_back(nameIn(tensor));
  LLMRT_RETURN_IF_ERROR(tensors.read([&](int tensor, const LogicalBox& box,
                                         float* values, int64_t rowStride) {
    return checkpoint->readBox(names[tensor], boxOf(box, rowStride), values);
  }));
  const CheckpointMeta& meta = checkpoint->meta();
  TrainingPosition at;
  at.step = meta.step;
  at.updates = meta.updates;
  at.sequences = meta.epoch * identity.sequencesPerEpoch + meta.dataPosition;
  at.tokens = meta.tokens;
  if (!absl::SimpleAtoi(noteOf(meta, kSkippedNote), &at.skipped))
    at.skipped = 0;
  return at;
}

} // namespace

absl::StatusOr<CheckpointResult> saveTraining(const fb::Plan& plan,
                                              const LogicalTensors& tensors,
                                              const SaveRequest& request,
                                              Communicator* all) {
  CheckpointRequest files;
  files.folder = request.folder;
  files.keep = request.keep;
  files.tensors = listTensors(tensors);
  files.meta = metaOf(plan, tensors, request.position, *request.identity);
  LLMRT_ASSIGN_OR_RETURN(auto writer, CheckpointWriter::begin(files, all));
  // commit() returns the error, on all ranks.
  (void)tensors.write([&](int tensor, const LogicalBox& box,
                          const float* values, int64_t rowStride) {
    return writer->writeBox(files.tensors[tensor].name, boxOf(box, rowStride),
                            values);
  });
  return writer->commit();
}

std::string sourceFolderOf(const CheckpointMeta& meta) {
  return noteOf(meta, kSourceNote);
}

absl::StatusOr<TrainingPosition> loadTraining(const std::string& path,
                                              const TrainingIdentity& identity,
                                              LogicalTensors& tensors,
                                              Communicator* all) {
  absl::StatusOr<TrainingPosition> at = load(path, identity, tensors);
  LLMRT_RETURN_IF_ERROR(RankGroup(all).agree(at.status(), "resume"));
  return at;
}

} // namespace llmrt
