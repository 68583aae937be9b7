// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/checkpoint/CheckpointCases.h"

#include "absl/strings/str_cat.h"

#include <algorithm>
#include <numeric>
#include <thread>

namespace llmrt::testing {
namespace {

struct Matrix {
  int64_t rows;
  int64_t cols;
};

Matrix matrixOf(const CheckpointTensor& tensor) {
  int64_t count = *countElements(tensor.shape);
  int64_t cols = tensor.shape.empty() ? 1 : tensor.shape.back();
  return {cols > 0 ? count / cols : 0, cols};
}

} // namespace

std::vector<CheckpointTensor> smallTensors() {
  std::vector<CheckpointTensor> tensors = {
      {"norm", CheckpointPart::Model, SourceType::BF16, {5}},
      {"embed", CheckpointPart::Model, SourceType::F32, {7, 5}},
      {"layers.0.w", CheckpointPart::Model, SourceType::BF16, {6, 10}},
      {"layers.0.cube", CheckpointPart::Model, SourceType::F32, {3, 2, 4}},
      {"scalar", CheckpointPart::Model, SourceType::F32, {}},
      {"empty", CheckpointPart::Model, SourceType::F32, {0, 3}},
  };
  size_t numParameters = tensors.size();
  for (size_t i = 0; i < numParameters; ++i)
    for (int moment : {1, 2})
      tensors.push_back({momentName(tensors[i].name, moment),
                         CheckpointPart::Optimizer, SourceType::F32,
                         tensors[i].shape});
  return tensors;
}

CheckpointRequest smallRequest(const std::string& folder, int64_t step) {
  CheckpointRequest request;
  request.folder = folder;
  request.meta = {.step = step,
                  .updates = step - 1,
                  .epoch = 2,
                  .dataPosition = 4711,
                  .tokens = int64_t{1} << 40,
                  .seed = ~uint64_t{0},
                  .options = "--data=\"\xC3\xA4.jsonl\" --clip=1",
                  .mesh = "dp=2,tp=3",
                  .notes = {{"skipped", "3"}, {"a", ""}}};
  request.meta.sources = {
      {"embed", "wte.weight"},
      {"layers.0.w", "h.0.c_attn.weight", true, 6, 12},
  };
  request.tensors = smallTensors();
  return request;
}

float valueOf(const CheckpointTensor& tensor, int64_t element, int64_t step) {
  size_t nameSum =
      std::accumulate(tensor.name.begin(), tensor.name.end(), size_t{0});
  auto mixed =
      static_cast<int64_t>(nameSum * 7919 % 251) + element * 31 + step * 17;
  if (tensor.dtype == SourceType::BF16)
    return static_cast<float>(mixed % 251 - 125);
  return static_cast<float>(mixed % 1000003) * 1.1f;
}

std::vector<absl::Status>
runOnRanks(int numRanks,
           const std::function<absl::Status(Communicator*)>& body) {
  if (numRanks == 1)
    return {body(nullptr)};
  FabricOptions options;
  options.timeoutSeconds = 30;
  auto fabrics = createLocalFabrics(numRanks, options);
  std::vector<absl::Status> statuses(numRanks);
  std::vector<int> worldRanks(numRanks);
  std::iota(worldRanks.begin(), worldRanks.end(), 0);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < numRanks; ++rank)
    threads.emplace_back([&, rank] {
      auto communicator = fabrics[rank]->createCommunicator(worldRanks);
      statuses[rank] =
          communicator.ok() ? body(communicator->get()) : communicator.status();
    });
  for (std::thread& thread : threads)
    thread.join();
  return statuses;
}

void writeOwnPart(CheckpointWriter& writer, const CheckpointRequest& request,
                  int rank, int numRanks) {
  for (const CheckpointTensor& tensor : request.tensors) {
    int64_t count = *countElements(tensor.shape);
    std::vector<float> values(count);
    for (int64_t i = 0; i < count; ++i)
      values[i] = valueOf(tensor, i, request.meta.step);
    Matrix matrix = matrixOf(tensor);
    if (matrix.rows > 1) {
      int64_t begin = matrix.cols * rank / numRanks;
      int64_t end = matrix.cols * (rank + 1) / numRanks;
      (void)writer.writeBox(tensor.name,
                            {.numRows = matrix.rows,
                             .colBegin = begin,
                             .numCols = end - begin,
                             .rowStride = matrix.cols},
                            values.data() + begin);
      continue;
    }
    for (int64_t begin = 0, run = 0; begin < count; begin += 3, ++run)
      if (run % numRanks == rank)
        (void)writer.write(tensor.name, begin,
                           absl::MakeConstSpan(values).subspan(begin, 3));
  }
}

std::vector<absl::Status> save(const CheckpointRequest& request, int numRanks) {
  return runOnRanks(numRanks, [&](Communicator* communicator) {
    auto writer = CheckpointWriter::begin(request, communicator);
    if (!writer.ok())
      return writer.status();
    writeOwnPart(**writer, request, communicator ? communicator->rank() : 0,
                 numRanks);
    return (*writer)->commit().status();
  });
}

std::string compareWithValues(const std::string& path, int64_t step) {
  auto checkpoint = Checkpoint::open(path);
  if (!checkpoint.ok())
    return std::string(checkpoint.status().message());
  if ((*checkpoint)->meta().step != step)
    return absl::StrCat("step ", (*checkpoint)->meta().step);
  if ((*checkpoint)->tensors().size() != smallTensors().size())
    return absl::StrCat((*checkpoint)->tensors().size(), " tensors");
  for (const CheckpointTensor& tensor : smallTensors()) {
    std::vector<float> values(*countElements(tensor.shape));
    absl::Status status =
        (*checkpoint)->read(tensor.name, 0, absl::MakeSpan(values));
    if (!status.ok())
      return std::string(status.message());
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] != valueOf(tensor, static_cast<int64_t>(i), step))
        return absl::StrCat(tensor.name, " element ", i, " is ", values[i]);
  }
  return "";
}

} // namespace llmrt::testing
