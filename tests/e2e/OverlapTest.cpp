// SPDX-License-Identifier: Apache-2.0
// What of a plan's communication can run beside its compute: the order of the
// commands, not times, which a busy machine spoils.
#include "runtime/base/MappedFile.h"
#include "runtime/plan/PlanFile.h"
#include "tests/e2e/Workspace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace llmrt {
namespace {

constexpr int kLayers = 5;

std::string textOf(const ::flatbuffers::String* text) {
  return text ? text->str() : "";
}

/// The layer that a text like "model.layers.3.mlp.up_proj.weight" names; -1:
/// none.
int layerOf(const std::string& text) {
  size_t at = text.find("layers.");
  return at == std::string::npos ? -1 : std::atoi(text.c_str() + at + 7);
}

/// One collective on the communication stream.
struct Flight {
  fb::CommandKind kind;
  std::string subject;
  int layer;
  int start;     // its place in the program
  int wait = -1; // where the compute stream waits for it
  std::set<int> buffers;
};

/// One program of a plan, by places of commands.
struct Order {
  std::vector<Flight> flights;
  std::map<int, std::vector<int>> products; // matrix products of each layer
  std::map<int, int> lastRead;              // of each buffer
  int numInPlace = 0; // collectives of the compute stream that carry a
                      // parameter or its gradient
};

class Overlap : public testing::Test {
protected:
  void SetUp() override {
    ToolEnd end = workspace_.run(
        "llmc import --new=llama,layers=" + std::to_string(kLayers) +
        ",hidden=64,heads=2,intermediate=96,vocab=96,"
        "context=64 -o model.mlir");
    ASSERT_EQ(end.status, 0) << end.errors;
  }

  /// Compiles a training step for dp=2 and opens the plan.
  void compile(const std::string& options) {
    open("--mode=train --batch=4 --seq=16 --zero-bucket-bytes=" +
         std::to_string(bucketBytes_) + " " + options);
  }

  void open(const std::string& options) {
    ToolEnd end = workspace_.run("llmc compile model.mlir --mesh=dp=2 "
                                 "-o plan.fb " +
                                 options);
    ASSERT_EQ(end.status, 0) << options << ": " << end.errors;
    auto file = MappedFile::open(workspace_.path("plan.fb"));
    ASSERT_TRUE(file.ok()) << file.status();
    file_.emplace(*std::move(file));
    auto plan = readPlan(file_->bytes());
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan_ = *plan;
  }

  const fb::Stage& stage() const { return *plan_->stages()->Get(0); }

  const fb::Buffer& buffer(int number) const {
    return *stage().buffers()->Get(number);
  }

  std::string subjectOf(const fb::Command& command) const {
    return command.provenance() < 0
               ? ""
               : textOf(
                     plan_->provenance()->Get(command.provenance())->subject());
  }

  Order orderOf(const std::string& entry) const {
    const fb::Program* program = nullptr;
    for (const fb::Program* p : *stage().programs())
      if (textOf(plan_->entries()->Get(p->entry())->name()) == entry)
        program = p;
    Order order;
    if (!program) {
      ADD_FAILURE() << "no program " << entry;
      return order;
    }
    int numCommands = static_cast<int>(program->commands()->size());
    for (int i = 0; i < numCommands; ++i)
      add(*program, i, order);
    return order;
  }

  Workspace workspace_;
  int64_t bucketBytes_ = 0; // each matrix alone
  const fb::Plan* plan_ = nullptr;

private:
  void add(const fb::Program& program, int place, Order& order) const {
    const fb::Command& command = *program.commands()->Get(place);
    switch (command.kind()) {
    case fb::CommandKind::Launch: {
      const fb::Kernel* kernel = plan_->kernels()->Get(command.kernel());
      if (textOf(kernel->name()).rfind("linear", 0) == 0) {
        std::string op =
            textOf(plan_->provenance()->Get(command.provenance())->op());
        order.products[layerOf(op)].push_back(place);
      }
      for (const fb::Word* word : *command.words())
        if (word->kind() == fb::WordKind::Address)
          order.lastRead[word->index()] = place;
      return;
    }
    case fb::CommandKind::WaitEvent:
      if (command.stream() == 0)
        for (Flight& flight : order.flights)
          if (flight.wait < 0 &&
              eventAfter(program, flight.start) == command.event())
            flight.wait = place;
      return;
    case fb::CommandKind::AllGather:
    case fb::CommandKind::ReduceScatter:
    case fb::CommandKind::AllReduce: {
      std::string subject = subjectOf(command);
      if (command.stream() == 1)
        order.flights.push_back(
            {command.kind(),
             subject,
             layerOf(subject),
             place,
             -1,
             {command.send_buffer(), command.recv_buffer()}});
      else if (subject.find(".weight") != std::string::npos)
        ++order.numInPlace;
      return;
    }
    default:
      return;
    }
  }

  /// The event that is recorded on the communication stream after a command.
  static int eventAfter(const fb::Program& program, int place) {
    int numCommands = static_cast<int>(program.commands()->size());
    for (int i = place + 1; i < numCommands; ++i) {
      const fb::Command* next = program.commands()->Get(i);
      if (next->kind() == fb::CommandKind::RecordEvent && next->stream() == 1)
        return next->event();
    }
    return -1;
  }

  std::optional<MappedFile> file_;
};

/// True if all matrix products of `layer` run while `flight` does.
testing::AssertionResult hides(const Order& order, const Flight& flight,
                               int layer) {
  auto products = order.products.find(layer);
  if (products == order.products.end() || products->second.empty())
    return testing::AssertionFailure()
           << "layer " << layer << " has no products";
  if (flight.start < products->second.front() &&
      products->second.back() < flight.wait)
    return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << flight.subject << " runs from command " << flight.start << " to "
         << flight.wait << ", the products of layer " << layer << " from "
         << products->second.front() << " to " << products->second.back();
}

/// Most layers of which gathered copies are alive at once.
size_t mostLayersGathered(const Order& order) {
  std::map<int, std::set<int>> layersAt; // by place
  size_t most = 0;
  for (const Flight& flight : order.flights) {
    if (flight.kind != fb::CommandKind::AllGather)
      continue;
    int last = flight.wait;
    for (int buffer : flight.buffers)
      if (auto read = order.lastRead.find(buffer); read != order.lastRead.end())
        last = std::max(last, read->second);
    for (int place = flight.start; place <= last; ++place) {
      // What belongs to no layer (embedding, head) counts as one of its own.
      layersAt[place].insert(flight.layer < 0 ? flight.start : flight.layer);
      most = std::max(most, layersAt[place].size());
    }
  }
  return most;
}

TEST_F(Overlap, InferenceGathersRunBesideTheLayerBefore) {
  open("--zero=3 --seq=64 --chunk=32");
  for (const char* entry : {"prefill", "decode", "score"}) {
    Order order = orderOf(entry);
    int numGathers = 0;
    for (const Flight& flight : order.flights)
      if (flight.kind == fb::CommandKind::AllGather && flight.layer >= 1) {
        EXPECT_TRUE(hides(order, flight, flight.layer - 1)) << entry;
        ++numGathers;
      }
    EXPECT_EQ(numGathers, 7 * (kLayers - 1)) << entry;
    EXPECT_EQ(order.numInPlace, 0) << entry;
    EXPECT_EQ(mostLayersGathered(order), 2u) << entry;
  }
}

TEST_F(Overlap, TrainingGathersRunBesideTheLayerBefore) {
  for (const char* recompute : {"none", "full"}) {
    compile(std::string("--zero=3 --recompute=") + recompute);
    Order forward = orderOf("forward"), backward = orderOf("backward");
    int numForward = 0, numBackward = 0;
    for (const Flight& flight : forward.flights)
      if (flight.kind == fb::CommandKind::AllGather && flight.layer >= 1) {
        EXPECT_TRUE(hides(forward, flight, flight.layer - 1));
        ++numForward;
      }
    for (const Flight& flight : backward.flights)
      if (flight.kind == fb::CommandKind::AllGather && flight.layer >= 0 &&
          flight.layer < kLayers - 1) {
        EXPECT_TRUE(hides(backward, flight, flight.layer + 1));
        ++numBackward;
      }
    EXPECT_EQ(numForward, 7 * (kLayers - 1));
    EXPECT_EQ(numBackward, 7 * (kLayers - 1));
    for (const Order* order : {&forward, &backward}) {
      EXPECT_EQ(order->numInPlace, 0);
      EXPECT_EQ(mostLayersGathered(*order), 2u);
    }
  }
}

TEST_F(Overlap, GradientsAreScatteredBesideTheLayerAfter) {
  for (const char* zero : {"--zero=2", "--zero=3"}) {
    compile(zero);
    Order backward = orderOf("backward");
    int numScatters = 0;
    for (const Flight& flight : backward.flights)
      if (flight.kind == fb::CommandKind::ReduceScatter && flight.layer >= 1) {
        EXPECT_TRUE(hides(backward, flight, flight.layer - 1));
        ++numScatters;
      }
    EXPECT_EQ(numScatters, 7 * (kLayers - 1));
    EXPECT_EQ(backward.numInPlace, 0);
  }
}

TEST_F(Overlap, OptimizerStartsAllExchangesFirst) {
  for (const char* zero : {"--zero=0", "--zero=1"}) {
    compile(zero);
    Order optimizer = orderOf("optimizer");
    EXPECT_EQ(optimizer.numInPlace, 0);
    int lastStart = 0, firstWait = 1 << 30, numGathers = 0;
    for (const Flight& flight : optimizer.flights)
      if (flight.kind == fb::CommandKind::AllGather) {
        ++numGathers;
      } else {
        lastStart = std::max(lastStart, flight.start);
        firstWait = std::min(firstWait, flight.wait);
      }
    EXPECT_LT(lastStart, firstWait);
    EXPECT_EQ(numGathers,
              zero == std::string("--zero=1") ? 7 * kLayers + 2 : 0);
  }
}

TEST_F(Overlap, LiveBytesKeepCopiesOfTheLastLayers) {
  auto keptBytes = [&] {
    int64_t bytes = 0;
    for (const fb::Buffer* b : *stage().buffers())
      if (textOf(b->name()).rfind("kept.", 0) == 0) {
        EXPECT_EQ(b->memory_class(), fb::MemoryClass::GatheredParameters);
        bytes += b->size_bytes();
      }
    return bytes;
  };
  compile("--zero=3");
  size_t without = orderOf("backward").flights.size();
  EXPECT_EQ(keptBytes(), 0);
  for (int64_t budget : {100'000, 400'000, 1'000'000'000}) {
    compile("--zero=3 --zero-live-bytes=" + std::to_string(budget));
    EXPECT_GT(keptBytes(), 0);
    EXPECT_LE(keptBytes(), budget);
    Order forward = orderOf("forward"), backward = orderOf("backward");
    std::set<std::string> kept, gathered;
    for (const fb::Buffer* b : *stage().buffers())
      if (textOf(b->name()).rfind("kept.", 0) == 0)
        kept.insert(textOf(b->name()).substr(5));
    for (const Flight& flight : backward.flights)
      if (flight.kind == fb::CommandKind::AllGather)
        gathered.insert(flight.subject);
    EXPECT_EQ(backward.flights.size() + kept.size(), without);
    for (const std::string& name : kept)
      EXPECT_EQ(gathered.count(name), 0u) << name;
    EXPECT_EQ(kept.count("lm_head.weight"), 1u);
    if (budget == 1'000'000'000) {
      EXPECT_TRUE(gathered.empty());
    }
    // What the forward pass uses last is kept first.
    for (const std::string& name : gathered)
      for (const std::string& other : kept)
        if (layerOf(name) >= 0 && layerOf(other) >= 0) {
          EXPECT_LE(layerOf(name), layerOf(other)) << name << " " << other;
        }
    // The forward pass gathers as before.
    EXPECT_EQ(forward.flights.size(), 7u * kLayers + 2);
  }
}

// The runs of a layer: q, k, v, o 8 KiB each, gate and up 16 (two of three
// panels), down 12.
TEST_F(Overlap, BucketsMoveMatricesTogether) {
  const std::map<int64_t, int> collectivesOfLayer = {
      {0, 7}, {16 << 10, 5}, {1 << 20, 1}};
  for (auto [bytes, number] : collectivesOfLayer) {
    bucketBytes_ = bytes;
    compile("--zero=3");
    Order forward = orderOf("forward"), backward = orderOf("backward");
    std::map<int, int> gathers, scatters;
    for (const Flight& flight : forward.flights)
      ++gathers[flight.layer];
    for (const Flight& flight : backward.flights)
      if (flight.kind == fb::CommandKind::ReduceScatter)
        ++scatters[flight.layer];
    for (int layer = 0; layer < kLayers; ++layer) {
      EXPECT_EQ(gathers[layer], number) << bytes << " " << layer;
      EXPECT_EQ(scatters[layer], number) << bytes << " " << layer;
    }
    for (const Flight& flight : forward.flights)
      if (flight.layer >= 1) {
        EXPECT_TRUE(hides(forward, flight, flight.layer - 1));
      }
    for (const Flight& flight : backward.flights)
      if (flight.kind == fb::CommandKind::ReduceScatter && flight.layer >= 1) {
        EXPECT_TRUE(hides(backward, flight, flight.layer - 1));
      }
  }
}

TEST_F(Overlap, LiveBytesNeedGatheredParameters) {
  for (const char* options :
       {"--zero=2 --zero-live-bytes=1000", "--zero-live-bytes=1000"}) {
    ToolEnd end = workspace_.run("llmc compile model.mlir --mode=train "
                                 "--batch=4 --seq=16 --mesh=dp=2 -o plan.fb " +
                                 std::string(options));
    EXPECT_EQ(end.status, 2) << options;
    EXPECT_THAT(end.errors, testing::HasSubstr("--zero-live-bytes without"));
  }
}

} // namespace
} // namespace llmrt
