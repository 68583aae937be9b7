// SPDX-License-Identifier: Apache-2.0
// llmrt bench: prefill and decode of a plan through the whole engine
// (agreement, execution, sampling), beside the ceiling that memory sets,
// measured in the same run.
#include "runtime/base/Error.h"
#include "runtime/generation/Traffic.h"
#include "tools/llmrt/BenchReport.h"
#include "tools/llmrt/Commands.h"
#include "tools/llmrt/Interrupt.h"
#include "tools/llmrt/MemoryCeilings.h"
#include "tools/llmrt/StandardOutput.h"

#include "absl/strings/str_format.h"

#include <algorithm>
#include <sys/resource.h>

namespace llmrt {
namespace {

constexpr double kBytesPerGigabyte = 1e9;

double cpuSeconds() {
  struct rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + time.tv_usec * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// One sequence of given length; adds up the time of its rounds.
class BenchClient final : public GenerationClient {
public:
  BenchClient(int64_t numPrompt, int64_t numDecode, int64_t vocabSize)
      : numPrompt_(numPrompt) {
    request_.emplace();
    // Any ids do; these are spread over the vocabulary.
    for (int64_t i = 0; i < numPrompt; ++i)
      request_->prompt.push_back(
          static_cast<int32_t>((i * 7919 + 13) % vocabSize));
    request_->maxNewTokens = numDecode + 1; // the prefill draws the first
    lastCpuSeconds_ = cpuSeconds();
  }

  absl::StatusOr<std::optional<GenerationRequest>> nextRequest() override {
    return std::exchange(request_, std::nullopt);
  }

  absl::StatusOr<bool> takeToken(int64_t, int32_t) override {
    if (firstTokenSeconds == 0)
      firstTokenSeconds = secondsSinceStart();
    return true;
  }

  absl::Status takeResult(const GenerationResult&) override {
    return absl::OkStatus();
  }

  void takeRound(const RoundStatistics& round) override {
    double cpu = cpuSeconds();
    bool isPrefill = numFed_ < numPrompt_;
    (isPrefill ? prefillSeconds : decodeSeconds) += round.seconds;
    (isPrefill ? prefillCpuSeconds : decodeCpuSeconds) += cpu - lastCpuSeconds_;
    lastCpuSeconds_ = cpu;
    numFed_ += round.rows;
  }

  bool isInterrupted() override { return isInterruptRequested(); }

  double firstTokenSeconds = 0; // since the process started
  double prefillSeconds = 0;
  double decodeSeconds = 0;
  double prefillCpuSeconds = 0;
  double decodeCpuSeconds = 0;

private:
  std::optional<GenerationRequest> request_;
  int64_t numPrompt_;
  int64_t numFed_ = 0;
  double lastCpuSeconds_ = 0;
};

struct Measurement {
  std::vector<BenchClient> repetitions;
  int64_t weightBytes = 0;
  int64_t loadedBytes = 0; // weights of rank 0, as they are used
  int64_t cacheBytes = 0;  // of one decoded token, on average
  double startSeconds = 0;
  double firstTokenSeconds = 0;
  double planSeconds = 0;
  std::string comm;
  int numRanks = 1;
  int threadsPerRank = 1;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

absl::StatusOr<RunEnd> measure(const BenchOptions& options, RankZero& rankZero,
                               Measurement& result) {
  int64_t numTokens = options.numPromptTokens + options.numDecodeTokens + 1;
  if (numTokens > rankZero.generation.contextTokens())
    return makeError(
        ErrorCode::PromptTooLong,
        absl::StrCat("--prompt-tokens and --decode-tokens make ", numTokens,
                     " tokens, and a sequence of this plan holds ",
                     rankZero.generation.contextTokens()),
        "give fewer, or compile the plan with a larger --seq, up to the "
        "model's context");
  result.startSeconds = secondsSinceStart();
  result.planSeconds = rankZero.times.planRead;
  result.comm = rankZero.comm;
  result.numRanks = rankZero.numRanks;
  result.threadsPerRank = rankZero.threadsPerRank;
  result.loadedBytes = rankZero.executor.memory()
                           .planned[static_cast<int>(MemoryClass::Parameters)];
  int decode = rankZero.executor.findEntry("decode");
  if (decode >= 0)
    result.weightBytes = weightBytesRead(rankZero.plan, decode);
  for (int64_t i = 0; i < options.numDecodeTokens; ++i)
    result.cacheBytes +=
        cacheBytesRead(rankZero.plan, options.numPromptTokens + i);
  result.cacheBytes /= std::max<int64_t>(1, options.numDecodeTokens);
  // One more than asked for: the first is the warm-up.
  for (int i = 0; i <= options.repetitions; ++i) {
    BenchClient client(options.numPromptTokens, options.numDecodeTokens,
                       rankZero.plan.model()->vocab_size());
    LLMRT_ASSIGN_OR_RETURN(RunEnd how, rankZero.generation.generate(client));
    if (how == RunEnd::Interrupted)
      return how;
    if (i == 0)
      result.firstTokenSeconds = client.firstTokenSeconds;
    else
      result.repetitions.push_back(std::move(client));
  }
  return RunEnd::Finished;
}

BenchResult summarise(const Measurement& measured, const std::string& name,
                      int64_t numTokens, double BenchClient::*seconds,
                      double BenchClient::*cpu) {
  std::vector<double> real;
  std::vector<double> used;
  for (const BenchClient& client : measured.repetitions) {
    real.push_back(client.*seconds / numTokens);
    used.push_back(client.*cpu / numTokens);
  }
  BenchResult result;
  result.name = absl::StrCat(name, "/", numTokens);
  result.iterations = numTokens * static_cast<int64_t>(real.size());
  result.realSeconds = median(real);
  result.cpuSeconds = median(used);
  result.counters = {{"tokens_per_second", 1 / result.realSeconds},
                     {"best_tokens_per_second",
                      1 / *std::min_element(real.begin(), real.end())}};
  return result;
}

BenchReport makeReport(const BenchOptions& options,
                       const Measurement& measured) {
  BenchReport report;
  report.context = {
      {"executable", "llmrt"},
      {"library_version", LLMC_VERSION},
      {"ranks", absl::StrCat(measured.numRanks)},
      {"threads_per_rank", absl::StrCat(measured.threadsPerRank)},
      {"comm", measured.comm},
      {"repetitions", absl::StrCat(options.repetitions)},
      {"plan_read_seconds", absl::StrFormat("%.4f", measured.planSeconds)},
      {"start_to_prefill_seconds",
       absl::StrFormat("%.4f", measured.startSeconds)},
      {"start_to_first_token_seconds",
       absl::StrFormat("%.4f", measured.firstTokenSeconds)}};
  if (options.measuresCeiling) {
    report.context.emplace_back("loaded_weight_bytes",
                                absl::StrCat(measured.loadedBytes));
    report.context.emplace_back(
        "copy_of_loaded_weights_seconds",
        absl::StrFormat("%.4f", measureCopySeconds(measured.loadedBytes,
                                                   measured.threadsPerRank)));
  }
  report.results.push_back(
      summarise(measured, "prefill", options.numPromptTokens,
                &BenchClient::prefillSeconds, &BenchClient::prefillCpuSeconds));
  if (options.numDecodeTokens == 0)
    return report;
  BenchResult decode =
      summarise(measured, "decode", options.numDecodeTokens,
                &BenchClient::decodeSeconds, &BenchClient::decodeCpuSeconds);
  auto bytes = static_cast<double>(measured.weightBytes + measured.cacheBytes);
  double rate = bytes / decode.realSeconds;
  decode.counters.emplace_back("weight_bytes_per_token", measured.weightBytes);
  decode.counters.emplace_back("cache_bytes_per_token", measured.cacheBytes);
  decode.counters.emplace_back("read_gigabytes_per_second",
                               rate / kBytesPerGigabyte);
  if (options.measuresCeiling) {
    double ceiling =
        measureReadCeiling(measured.numRanks * measured.threadsPerRank);
    decode.counters.emplace_back("ceiling_gigabytes_per_second",
                                 ceiling / kBytesPerGigabyte);
    if (ceiling > 0)
      decode.counters.emplace_back("share_of_ceiling", rate / ceiling);
  }
  report.results.push_back(std::move(decode));
  return report;
}

} // namespace

CommandEnd benchCommand(const BenchOptions& options) {
  absl::StatusOr<LaunchInfo> launch = detectLaunch();
  if (!launch.ok())
    return {launch.status()};
  Measurement measured;
  SessionOptions session = options.session;
  session.prepareRankZero = [] {
    watchForInterrupt();
    return absl::OkStatus();
  };
  SessionEnd end = runSession(session, *launch, [&](RankZero& rankZero) {
    return measure(options, rankZero, measured);
  });
  if (!end.how.ok())
    return {end.how.status(), false, end.isReporter, end.recorders};
  if (*end.how == RunEnd::Interrupted)
    return {absl::OkStatus(), true};
  if (launch->rank != 0)
    return {absl::OkStatus()};
  return {writeStandardOutput(
      formatBenchReport(makeReport(options, measured), options.output))};
}

} // namespace llmrt
