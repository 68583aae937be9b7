// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/PlanRunner.h"

#include "runtime/base/Error.h"
#include "runtime/executor/Timeline.h"
#include "runtime/io/Npy.h"
#include "runtime/plan/Mesh.h"

#include "absl/strings/str_join.h"
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>
#include <unistd.h>

namespace llmrt {
namespace {

/// One rank's part of the run.
class RankRun {
public:
  RankRun(const fb::Plan& plan, Fabric& fabric, const RunRequest& request)
      : plan_(plan), fabric_(fabric), request_(request) {}

  absl::Status run() {
    ExecutorOptions options;
    options.numThreads = request_.numThreads;
    options.weights = {{"model", request_.weights}};
    options.checkMemory = request_.checkMemory;
    options.usesGraphs = request_.usesGraphs;
    options.keepTimeline = request_.keepTimeline;
    options.tuningCache = request_.tuningCache;
    if (request_.device) {
      int stage =
          stageOfCoordinates(plan_, coordinatesOfRank(plan_, fabric_.rank()));
      LLMRT_ASSIGN_OR_RETURN(
          executor_,
          Executor::create(plan_, fabric_, options,
                           request_.device(*plan_.stages()->Get(stage))));
    } else {
      LLMRT_ASSIGN_OR_RETURN(executor_,
                             Executor::create(plan_, fabric_, options));
    }
    LLMRT_RETURN_IF_ERROR(executor_->initialise());
    // Replica 0 along dp works; others run masked.
    isLive_ = executor_->coordinates()[0] == 0;
    LLMRT_RETURN_IF_ERROR(feedAll());
    if (std::unique_ptr<Timeline> timeline = executor_->takeTimeline())
      for (const TimelineEvent& call : timeline->row(TimelineRow::Entries))
        result.calls.emplace_back(call.subject);
    return absl::OkStatus();
  }

  RunResult result;

private:
  absl::Status feedAll() {
    int64_t numTokens = request_.tokens.size();
    if (request_.score)
      return feed("score", 0, numTokens);
    if (request_.prefill > 0)
      LLMRT_RETURN_IF_ERROR(feed("prefill", 0, request_.prefill));
    for (int64_t i = request_.prefill; i < numTokens; ++i)
      LLMRT_RETURN_IF_ERROR(decode(request_.tokens[i], i));
    for (int64_t i = 0; i < request_.greedy; ++i)
      LLMRT_RETURN_IF_ERROR(decode(lastSampled_, numTokens + i));
    return absl::OkStatus();
  }

  template <typename T>
  void fill(int entry, const char* name, T value) {
    absl::Span<uint8_t> bytes = executor_->input(entry, name);
    for (size_t i = 0; i < bytes.size() / sizeof(T); ++i)
      std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  }

  template <typename T>
  void put(int entry, const char* name, int64_t index, T value) {
    absl::Span<uint8_t> bytes = executor_->input(entry, name);
    if (!bytes.empty())
      std::memcpy(bytes.data() + index * sizeof(T), &value, sizeof(T));
  }

  /// Inputs of the request's sequence, with `count` tokens from position
  /// `begin`.
  absl::Status call(int entry, const int32_t* tokens, int64_t begin,
                    int64_t count, bool keep) {
    const fb::Entry& shape = *plan_.entries()->Get(entry);
    bool isBatch = shape.sequences() > 1;
    int64_t slot = isBatch ? request_.slot : 0;
    clearInputs(entry);
    for (int64_t s = 0; s < shape.sequences(); ++s)
      for (int64_t p = 0; p < shape.pages_per_sequence(); ++p)
        put<int32_t>(
            entry, "block_table", s * shape.pages_per_sequence() + p,
            (isBatch ? s : request_.slot) * shape.pages_per_sequence() + p);
    if (isLive_) {
      for (int64_t i = 0; i < count; ++i) {
        int64_t at = slot * shape.rows_per_sequence() + i;
        put<int32_t>(entry, "ids", at, tokens[i]);
        put<int32_t>(entry, "positions", at, begin + i);
      }
      put<int32_t>(entry, "valid_rows", slot, count);
      put<int32_t>(entry, "sample_positions", slot, begin + count - 1);
      if (isBatch && request_.hasCompanions)
        putCompanions(entry, shape);
    }
    int64_t rows =
        isBatch ? shape.sequences() * shape.rows_per_sequence() : count;
    LLMRT_RETURN_IF_ERROR(
        executor_->execute(entry, isLive_ ? rows : 0, nullptr));
    if (isLive_)
      takeOutputs(entry, slot, count, keep);
    return absl::OkStatus();
  }

  void clearInputs(int entry) {
    fill<int32_t>(entry, "ids", 0);
    fill<int32_t>(entry, "positions", -1);
    fill<int32_t>(entry, "valid_rows", 0);
    fill<float>(entry, "temperature", 0);
    fill<int32_t>(entry, "top_k", 0);
    fill<float>(entry, "top_p", 1);
    fill<int64_t>(entry, "seed", 0);
    fill<int32_t>(entry, "sequence", 0);
    fill<int32_t>(entry, "sample_positions", 0);
  }

  /// Other slots: other tokens at other positions, sampled instead of greedy.
  void putCompanions(int entry, const fb::Entry& shape) {
    for (int64_t s = 0; s < shape.sequences(); ++s) {
      if (s == request_.slot)
        continue;
      put<int32_t>(entry, "ids", s,
                   (131 * s + 29 * companionPosition_) %
                       plan_.model()->vocab_size());
      put<int32_t>(entry, "positions", s, companionPosition_);
      put<int32_t>(entry, "valid_rows", s, 1);
      put<int32_t>(entry, "sample_positions", s, companionPosition_);
      put<float>(entry, "temperature", s, 0.8f);
      put<int32_t>(entry, "top_k", s, 5);
    }
    ++companionPosition_;
  }

  void takeOutputs(int entry, int64_t slot, int64_t count, bool keep) {
    absl::Span<const uint8_t> ids = executor_->output(entry, "next_ids");
    if (!ids.empty())
      std::memcpy(&lastSampled_, ids.data() + slot * 4, 4);
    absl::Span<const uint8_t> logits = executor_->output(entry, "logits");
    if (logits.empty() || !keep)
      return;
    int64_t vocab = plan_.model()->vocab_size();
    int64_t numRows = plan_.entries()->Get(entry)->all_rows() ? count : 1;
    for (int64_t r = slot; r < slot + numRows; ++r) {
      std::vector<float> row(vocab);
      std::memcpy(row.data(), logits.data() + r * vocab * 4, vocab * 4);
      result.logits.push_back(std::move(row));
    }
    if (!ids.empty())
      result.sampled.push_back(lastSampled_);
  }

  absl::Status feed(const char* name, int64_t begin, int64_t end) {
    int entry = executor_->findEntry(name);
    int64_t chunk = plan_.entries()->Get(entry)->rows_per_sequence();
    if (request_.chunk > 0)
      chunk = std::min(chunk, request_.chunk);
    for (int64_t at = begin; at < end; at += chunk) {
      int64_t count = std::min(chunk, end - at);
      bool keep = request_.score || at + count == end;
      LLMRT_RETURN_IF_ERROR(
          call(entry, request_.tokens.data() + at, at, count, keep));
    }
    return absl::OkStatus();
  }

  absl::Status decode(int32_t token, int64_t position) {
    return call(executor_->findEntry("decode"), &token, position, 1, true);
  }

  const fb::Plan& plan_;
  Fabric& fabric_;
  const RunRequest& request_;
  std::unique_ptr<Executor> executor_;
  bool isLive_ = true;
  int32_t lastSampled_ = 0;
  int64_t companionPosition_ = 0;
};

} // namespace

absl::Status compilePlan(const std::string& model, const std::string& plan,
                         const std::vector<std::string>& options) {
  std::string command =
      absl::StrCat(environment("LLMC_BIN_DIR"), "/llmc compile '", model,
                   "' -o '", plan, "' ", absl::StrJoin(options, " "), " 2>&1");
  FILE* pipe = popen(command.c_str(), "r");
  std::string text;
  char buffer[512];
  while (pipe && std::fgets(buffer, sizeof buffer, pipe))
    text += buffer;
  int code = pipe ? pclose(pipe) : -1;
  return code == 0 ? absl::OkStatus()
                   : absl::InternalError(absl::StrCat(command, "\n", text));
}

absl::StatusOr<RunResult> runPlan(const RunRequest& request) {
  LLMRT_ASSIGN_OR_RETURN(MappedFile file, MappedFile::open(request.plan));
  LLMRT_ASSIGN_OR_RETURN(const fb::Plan* plan, readPlan(file.bytes()));
  int ranks = numRanks(*plan);
  FabricOptions fabricOptions;
  fabricOptions.timeoutSeconds = 60;
  std::vector<std::unique_ptr<Fabric>> fabrics;
  if (request.fabrics) {
    LLMRT_ASSIGN_OR_RETURN(fabrics, request.fabrics(*plan, fabricOptions));
  } else {
    fabrics = createLocalFabrics(ranks, fabricOptions);
  }
  std::vector<std::unique_ptr<RankRun>> runs;
  runs.reserve(ranks);
  std::vector<absl::Status> statuses(ranks);
  for (int r = 0; r < ranks; ++r)
    runs.push_back(std::make_unique<RankRun>(*plan, *fabrics[r], request));
  std::vector<std::thread> threads;
  threads.reserve(ranks);
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      statuses[r] = runs[r]->run();
      if (!statuses[r].ok())
        fabrics[r]->abort(statuses[r]);
    });
  for (std::thread& t : threads)
    t.join();
  for (const absl::Status& status : statuses)
    LLMRT_RETURN_IF_ERROR(status);
  // The last pipeline stage of replica 0 has the logits; all its tensor ranks
  // agree.
  RunResult* found = nullptr;
  for (auto& run : runs) {
    if (run->result.logits.empty())
      continue;
    if (found && found->logits != run->result.logits)
      return absl::InternalError("ranks of one replica have different logits");
    found = &run->result;
  }
  if (!found)
    return absl::InternalError("no rank returned logits");
  return std::move(*found);
}

std::string temporaryPath(const std::string& name) {
  return (std::filesystem::temp_directory_path() /
          absl::StrCat("llmc-e2e-", getpid(), "-", name))
      .string();
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string smolLm2File() {
  std::string path = environment("LLMC_SMOLLM2_GGUF");
  return std::filesystem::exists(path) ? path : "";
}

std::vector<int32_t> someTokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens;
  uint32_t state = 12345;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    tokens.push_back((state >> 8) % vocab);
  }
  return tokens;
}

std::vector<int32_t> readTokens(const std::string& path, const char* key) {
  std::ifstream file(path);
  return nlohmann::json::parse(file)[key].get<std::vector<int32_t>>();
}

Logits readLogits(const std::string& path) {
  Logits rows;
  absl::StatusOr<MappedFile> file = MappedFile::open(path);
  if (!file.ok())
    return rows;
  absl::StatusOr<SourceTensor> array = parseNpy(file->bytes(), path);
  if (!array.ok() || array->shape.size() != 2)
    return rows;
  int64_t width = array->shape[1];
  for (int64_t r = 0; r < array->shape[0]; ++r) {
    std::vector<float> row(width);
    std::memcpy(row.data(), array->bytes.data() + r * width * 4, width * 4);
    rows.push_back(std::move(row));
  }
  return rows;
}

absl::Status checkTouchedMemory(const Executor& executor, bool knowsZeros) {
  MemoryReport report = executor.memory();
  std::string text;
  for (int c = 0; c < kNumMemoryClasses; ++c) {
    auto memoryClass = static_cast<MemoryClass>(c);
    bool isOfArena =
        memoryClass != MemoryClass::Code && memoryClass != MemoryClass::Library;
    bool mayBeLess = !knowsZeros && memoryClass == MemoryClass::Optimizer;
    if (isOfArena && (mayBeLess ? report.touched[c] > report.planned[c] ||
                                      report.touched[c] == 0
                                : report.touched[c] != report.planned[c]))
      absl::StrAppend(&text, " ", memoryClassName(memoryClass), " ",
                      report.touched[c], " of ", report.planned[c]);
  }
  int64_t unused = report.arenaBytes - report.highestTouched;
  if (unused < 0 || (knowsZeros && unused >= kBufferAlignment))
    absl::StrAppend(&text, " arena ", report.highestTouched, " of ",
                    report.arenaBytes);
  return text.empty() ? absl::OkStatus()
                      : absl::InternalError(
                            absl::StrCat("bytes touched, planned:", text,
                                         " on stage ", executor.stage()));
}

double relativeError(const Logits& a, const Logits& reference) {
  if (a.size() != reference.size())
    return INFINITY;
  double worst = 0, scale = 0;
  for (size_t r = 0; r < a.size(); ++r) {
    if (a[r].size() != reference[r].size())
      return INFINITY;
    for (size_t c = 0; c < a[r].size(); ++c) {
      double d = std::abs(double(a[r][c]) - reference[r][c]);
      worst = std::isnan(d) ? INFINITY : std::max(worst, d);
      scale = std::max(scale, std::abs(double(reference[r][c])));
    }
  }
  return worst / scale;
}

} // namespace llmrt
