// SPDX-License-Identifier: Apache-2.0
// Loading is cut into pieces of about a megabyte that threads take in turn. A
// piece is a run of elements of the local box, or of lines of its panels (a
// line: one element of K of each output of a panel), so that a ZeRO shard is a
// run like any other; of weights in blocks it is a run of blocks. Where the
// host cannot write device memory, a thread makes a piece in pinned memory and
// sends it from there.
#include "runtime/executor/LoadWeights.h"

#include "runtime/base/Error.h"
#include "runtime/executor/LocalBox.h"
#include "runtime/executor/ParameterReader.h"
#include "runtime/io/Dequantize.h"
#include "runtime/io/Quantize.h"
#include "runtime/kernels/Pack.h"
#include "runtime/plan/WeightBlocks.h"

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>

namespace llmrt {
namespace {

constexpr int64_t kPieceBytes = int64_t{1} << 20;
/// Elements of K packed at a time: 64 rows of them stay in the second-level
/// cache.
constexpr int64_t kPackedCols = 1024;
constexpr int64_t kRunElements = 16384;

struct LoadedParameter {
  std::shared_ptr<ParameterReader> reader;
  LocalBox box;
  DType dtype;
  fb::WeightLayout layout;
  uint8_t* destination = nullptr; // of byte 0 of the laid-out box, were it all
                                  // here
  uint8_t* factors = nullptr;     // of blocks: of the first one's

  bool isPanel() const { return layout == fb::WeightLayout::Panel; }

  bool isInBlocks() const { return isLayoutOfBlocks(layout); }

  SourceType blockType() const {
    return layout == fb::WeightLayout::Q8_0 ? SourceType::Q8_0
                                            : SourceType::Q4_0;
  }

  /// Of a block: without its factor.
  int64_t unitBytes() const {
    return isInBlocks() ? quantizedElementBytes(blockType())
           : isPanel()  ? kPanelBytes
                        : dtypeBytes(dtype);
  }

  /// Bytes of the factor that a unit has.
  int64_t factorBytes() const { return isInBlocks() ? kFactorBytes : 0; }
};

/// Units [begin, end): elements, lines of panels, or blocks.
struct Piece {
  const LoadedParameter* parameter;
  int64_t begin;
  int64_t end;
};

/// Where the weights of the sets are.
class WeightSets {
public:
  static absl::StatusOr<WeightSets>
  open(const std::vector<WeightLocation>& all);
  absl::StatusOr<std::unique_ptr<ParameterReader>>
  createReader(const fb::Parameter& parameter) const;

private:
  struct Set {
    std::string name;
    std::unique_ptr<WeightSource> source; // null: random
    uint64_t seed;
  };

  std::vector<Set> sets_;
};

absl::StatusOr<WeightSets>
WeightSets::open(const std::vector<WeightLocation>& all) {
  WeightSets sets;
  for (const WeightLocation& location : all) {
    Set set{location.set, nullptr, 0};
    absl::string_view path = location.path;
    if (!absl::ConsumePrefix(&path, "random:")) {
      LLMRT_ASSIGN_OR_RETURN(set.source, WeightSource::open(location.path));
    } else if (!absl::SimpleAtoi(path, &set.seed)) {
      return makeError(ErrorCode::WeightSeedInvalid,
                       absl::StrCat("'", path, "' is not a seed"),
                       "write --weights=random:SEED with a whole number from "
                       "0 to 2^64-1");
    }
    sets.sets_.push_back(std::move(set));
  }
  return sets;
}

absl::StatusOr<std::unique_ptr<ParameterReader>>
WeightSets::createReader(const fb::Parameter& parameter) const {
  const char* name = parameter.weight_set() && parameter.weight_set()->size()
                         ? parameter.weight_set()->c_str()
                         : "model";
  for (const Set& set : sets_)
    if (set.name == name)
      return set.source ? createFileReader(parameter, *set.source)
                        : createInitReader(parameter, set.seed);
  return makeError(ErrorCode::WeightSetMissing,
                   absl::StrCat("no weights are given for the set '", name,
                                "' of parameter ", parameter.name()->c_str()),
                   absl::StrCat("add --weights=", name, "=PATH"));
}

// Reads local elements (row, [col, col + numCols)) of one row, zeros for
// padding.
absl::Status readRow(const LoadedParameter& p, int64_t row, int64_t col,
                     int64_t numCols, float* out) {
  int64_t globalRow = p.box.globalRow(row);
  int64_t valid =
      globalRow < 0 ? 0
                    : std::clamp<int64_t>(p.box.validCols() - col, 0, numCols);
  std::fill(out + valid, out + numCols, 0.0f);
  if (valid == 0)
    return absl::OkStatus();
  return p.reader->read(globalRow, 1, p.box.firstCol() + col, valid, out,
                        valid);
}

// Copies stored elements without conversion; false if they are not stored that
// way.
bool copyRow(const LoadedParameter& p, int64_t row, int64_t col,
             int64_t numCols, uint8_t* out) {
  int64_t globalRow = p.box.globalRow(row);
  if (globalRow < 0 || col + numCols > p.box.validCols())
    return false;
  auto stored = p.reader->stored(globalRow, p.box.firstCol() + col);
  if (!stored || stored->dtype != p.dtype)
    return false;
  std::memcpy(out, stored->data, numCols * dtypeBytes(p.dtype));
  return true;
}

absl::Status loadElements(const LoadedParameter& p, int64_t begin, int64_t end,
                          std::vector<float>& staging) {
  staging.resize(std::max<size_t>(staging.size(), kRunElements));
  int64_t elementBytes = dtypeBytes(p.dtype);
  while (begin < end) {
    int64_t row = begin / p.box.cols();
    int64_t col = begin % p.box.cols();
    int64_t count = std::min({end - begin, p.box.cols() - col, kRunElements});
    uint8_t* out = p.destination + begin * elementBytes;
    if (!copyRow(p, row, col, count, out)) {
      LLMRT_RETURN_IF_ERROR(readRow(p, row, col, count, staging.data()));
      if (p.dtype == DType::F32)
        std::memcpy(out, staging.data(), count * elementBytes);
      else
        convertToBf16(staging.data(), count, reinterpret_cast<uint16_t*>(out));
    }
    begin += count;
  }
  return absl::OkStatus();
}

// Packs elements [col, col + numCols) of K of one panel.
absl::Status loadPanelPart(const LoadedParameter& p, int64_t panel, int64_t col,
                           int64_t numCols, std::vector<float>& staging) {
  int64_t panelRows = kPanelBytes / dtypeBytes(p.dtype);
  int64_t firstRow = panel * panelRows;
  int64_t globalRow = p.box.globalRow(firstRow);
  // Valid rows come first, so the panel's are the next ones of the logical
  // tensor.
  int64_t validRows = 0;
  while (validRows < panelRows && firstRow + validRows < p.box.rows() &&
         p.box.globalRow(firstRow + validRows) >= 0)
    ++validRows;
  int64_t validCols = std::clamp<int64_t>(p.box.validCols() - col, 0, numCols);

  PackPanelsArgs args;
  args.N = validRows;
  args.K = numCols;
  args.panels = p.destination + (panel * p.box.cols() + col) * kPanelBytes;
  args.panelDtype = p.dtype;
  args.panelBegin = 0;
  args.panelEnd = 1;
  std::optional<StoredRows> stored;
  if (validRows > 0 && validCols == numCols)
    stored = p.reader->stored(globalRow, p.box.firstCol() + col);
  if (stored) {
    args.source = stored->data;
    args.sourceDtype = stored->dtype;
    args.rowStride = stored->rowStride;
    packPanels(args);
    return absl::OkStatus();
  }
  if (validCols < numCols || staging.size() < size_t(panelRows * numCols))
    staging.assign(std::max<size_t>(staging.size(), panelRows * numCols), 0.0f);
  if (validRows > 0 && validCols > 0)
    LLMRT_RETURN_IF_ERROR(p.reader->read(globalRow, validRows,
                                         p.box.firstCol() + col, validCols,
                                         staging.data(), numCols));
  args.source = staging.data();
  args.sourceDtype = DType::F32;
  args.rowStride = numCols;
  packPanels(args);
  return absl::OkStatus();
}

absl::Status loadLines(const LoadedParameter& p, int64_t begin, int64_t end,
                       std::vector<float>& staging) {
  while (begin < end) {
    int64_t panel = begin / p.box.cols();
    int64_t col = begin % p.box.cols();
    int64_t count = std::min({end - begin, p.box.cols() - col, kPackedCols});
    LLMRT_RETURN_IF_ERROR(loadPanelPart(p, panel, col, count, staging));
    begin += count;
  }
  return absl::OkStatus();
}

absl::Status loadBlocks(const LoadedParameter& p, int64_t begin, int64_t end,
                        std::vector<float>& staging) {
  staging.resize(std::max<size_t>(staging.size(), kRunElements));
  const SourceType type = p.blockType();
  const int64_t rowBlocks = p.box.cols() / kQuantizedElements;
  while (begin < end) {
    const int64_t row = begin / rowBlocks;
    const int64_t col = begin % rowBlocks * kQuantizedElements;
    const int64_t count = std::min({end - begin, rowBlocks - begin % rowBlocks,
                                    kRunElements / kQuantizedElements});
    const int64_t numElements = count * kQuantizedElements;
    uint8_t* elements = p.destination + begin * p.unitBytes();
    auto* factors = reinterpret_cast<uint16_t*>(p.factors) + begin;
    const int64_t globalRow = p.box.globalRow(row);
    const uint8_t* stored = nullptr;
    if (globalRow >= 0 && col + numElements <= p.box.validCols())
      stored = p.reader->storedBlocks(type, globalRow, p.box.firstCol() + col);
    if (stored) {
      separateBlocks(type, stored, count, elements, factors);
    } else {
      LLMRT_RETURN_IF_ERROR(readRow(p, row, col, numElements, staging.data()));
      quantizeBlocks(type, staging.data(), count, elements, factors);
    }
    begin += count;
  }
  return absl::OkStatus();
}

/// Where this rank's part lies, and which ZeRO run of the box it is.
struct HeldPart {
  uint8_t* memory;
  absl::Span<const int> shardAxes;
  int64_t shardBytes;
};

// Appends the pieces of this rank's part of a parameter.
void cutIntoPieces(const HeldPart& part, const Rank& rank,
                   LoadedParameter& loaded, std::vector<Piece>& pieces) {
  int64_t unitBytes = loaded.unitBytes();
  int64_t panelRows = kPanelBytes / dtypeBytes(loaded.dtype);
  int64_t rows = loaded.isPanel()
                     ? (loaded.box.rows() + panelRows - 1) / panelRows
                     : loaded.box.rows();
  int64_t begin = 0;
  int64_t end = rows * loaded.box.cols();
  if (loaded.isInBlocks()) {
    end /= kQuantizedElements;
    loaded.factors = part.memory + end * unitBytes;
  }
  if (!part.shardAxes.empty()) {
    int64_t shardUnits = part.shardBytes / unitBytes;
    begin = shardUnits *
            indexAlongAxes(rank.plan, rank.coordinates, part.shardAxes);
    end = std::min(end, begin + shardUnits);
  }
  loaded.destination = part.memory - begin * unitBytes;
  int64_t pieceUnits = kPieceBytes / (unitBytes + loaded.factorBytes());
  for (; begin < end; begin += pieceUnits)
    pieces.push_back({&loaded, begin, std::min(end, begin + pieceUnits)});
}

/// The pieces, and the first error in their order.
class PieceQueue {
public:
  PieceQueue(const std::vector<Piece>& pieces, Device& device)
      : pieces_(pieces), device_(device) {}

  /// Takes pieces until there are none. `pinned` holds one piece; null: pieces
  /// are made where they belong.
  void work(uint8_t* pinned) {
    std::vector<float> staging;
    for (size_t i = next_++; i < pieces_.size(); i = next_++) {
      absl::Status status = pinned ? sendPiece(pieces_[i], pinned, staging)
                                   : loadPiece(pieces_[i], staging);
      if (!status.ok())
        return fail(i, status);
    }
  }

  const absl::Status& status() const { return status_; }

private:
  static absl::Status loadPiece(const Piece& piece,
                                std::vector<float>& staging) {
    const LoadedParameter& p = *piece.parameter;
    if (p.isInBlocks())
      return loadBlocks(p, piece.begin, piece.end, staging);
    return p.isPanel() ? loadLines(p, piece.begin, piece.end, staging)
                       : loadElements(p, piece.begin, piece.end, staging);
  }

  // Makes the piece as if the box began that far before `pinned`.
  absl::Status sendPiece(const Piece& piece, uint8_t* pinned,
                         std::vector<float>& staging) {
    const LoadedParameter& p = *piece.parameter;
    const int64_t beginBytes = piece.begin * p.unitBytes();
    const int64_t sizeBytes = (piece.end - piece.begin) * p.unitBytes();
    const int64_t factorsBeginBytes = piece.begin * p.factorBytes();
    LoadedParameter staged = p;
    staged.destination = pinned - beginBytes;
    staged.factors = pinned + sizeBytes - factorsBeginBytes;
    LLMRT_RETURN_IF_ERROR(
        loadPiece({&staged, piece.begin, piece.end}, staging));
    std::lock_guard lock(deviceMutex_); // one thread at a time enqueues
    device_.copy(Stream::Compute, p.destination + beginBytes, pinned,
                 sizeBytes);
    if (p.isInBlocks())
      device_.copy(Stream::Compute, p.factors + factorsBeginBytes,
                   pinned + sizeBytes,
                   (piece.end - piece.begin) * p.factorBytes());
    return device_.synchronize();
  }

  void fail(size_t piece, const absl::Status& status) {
    std::lock_guard lock(mutex_);
    if (status_.ok() || piece < failed_) {
      status_ = status;
      failed_ = piece;
    }
  }

  const std::vector<Piece>& pieces_;
  Device& device_;
  std::mutex deviceMutex_;
  std::atomic<size_t> next_{0};
  std::mutex mutex_;
  absl::Status status_;
  size_t failed_ = 0;
};

/// Pinned memory for a piece of each thread, where the host cannot write device
/// memory.
class PinnedPieces {
public:
  static absl::StatusOr<PinnedPieces> create(Device& device, int numThreads) {
    if (device.sharesHostMemory())
      return PinnedPieces(device, nullptr);
    LLMRT_ASSIGN_OR_RETURN(void* memory,
                           device.allocate(MemorySpace::PinnedHost,
                                           MemoryClass::Library,
                                           numThreads * kPieceBytes));
    return PinnedPieces(device, static_cast<uint8_t*>(memory));
  }

  PinnedPieces(PinnedPieces&& other) noexcept
      : device_(other.device_), memory_(std::exchange(other.memory_, nullptr)) {
  }

  PinnedPieces& operator=(PinnedPieces&&) = delete;

  ~PinnedPieces() { device_.release(memory_); }

  /// Null if pieces are made where they belong.
  uint8_t* ofThread(int thread) const {
    return memory_ ? memory_ + thread * kPieceBytes : nullptr;
  }

private:
  PinnedPieces(Device& device, uint8_t* memory)
      : device_(device), memory_(memory) {}

  Device& device_;
  uint8_t* memory_;
};

} // namespace

absl::Status loadWeights(const Rank& rank, const ExecutorOptions& options) {
  if (!rank.stage.parameters() || rank.stage.parameters()->size() == 0)
    return absl::OkStatus();
  LLMRT_ASSIGN_OR_RETURN(WeightSets sets, WeightSets::open(options.weights));
  size_t numStates = rank.stage.states() ? rank.stage.states()->size() : 0;
  std::vector<LoadedParameter> loaded;
  loaded.reserve(rank.stage.parameters()->size() + numStates); // pieces point
                                                               // into it
  std::vector<Piece> pieces;
  auto add = [&](const fb::Parameter& parameter, DType dtype,
                 const HeldPart& part) -> absl::Status {
    LLMRT_ASSIGN_OR_RETURN(std::unique_ptr<ParameterReader> reader,
                           sets.createReader(parameter));
    loaded.push_back({std::move(reader), LocalBox(parameter, rank.coordinates),
                      dtype, parameter.layout()});
    cutIntoPieces(part, rank, loaded.back(), pieces);
    return absl::OkStatus();
  };
  for (const fb::Parameter* parameter : *rank.stage.parameters())
    LLMRT_RETURN_IF_ERROR(
        add(*parameter, static_cast<DType>(parameter->dtype()),
            {rank.address(parameter->buffer()), spanOf(parameter->shard_axes()),
             parameter->shard_bytes()}));
  // Masters begin as the weights of the file, not as what bf16 leaves of them.
  for (size_t i = 0; i < numStates; ++i) {
    const fb::State& state = *rank.stage.states()->Get(i);
    if (state.role() == fb::StateRole::Master)
      LLMRT_RETURN_IF_ERROR(
          add(*rank.stage.parameters()->Get(state.parameter()), DType::F32,
              {rank.address(state.buffer()), spanOf(state.shard_axes()),
               state.shard_bytes()}));
  }
  PieceQueue queue(pieces, rank.device);
  LLMRT_ASSIGN_OR_RETURN(PinnedPieces pinned,
                         PinnedPieces::create(rank.device, options.numThreads));
  std::vector<std::thread> threads;
  for (int t = 1; t < options.numThreads; ++t)
    threads.emplace_back([&, t] { queue.work(pinned.ofThread(t)); });
  queue.work(pinned.ofThread(0));
  for (std::thread& thread : threads)
    thread.join();
  return queue.status();
}

} // namespace llmrt
