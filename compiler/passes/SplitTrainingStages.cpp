// SPDX-License-Identifier: Apache-2.0
// Cuts the segments of a training step into one function for each pipeline
// stage, and with virtual stages for each chunk of it. Layers go to stages as
// AssignPipelineStages decided for `forward`; `backward` mirrors it. What
// crosses leaves a segment as `sent_...` and comes into the next as
// `received_...`; small segments of their own send and receive it, so that a
// schedule can place them. Layers are cut by global stage: chunk * stages +
// stage.
#include "compiler/passes/Options.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/SelectTrainingKernels.h"
#include "compiler/passes/Shardings.h"
#include "compiler/passes/TrainingForward.h"

#include "mlir/IR/IRMapping.h"
#include "llvm/ADT/StringSet.h"

#include <map>

using namespace mlir;

namespace llmc {
#define GEN_PASS_DEF_SPLITTRAININGSTAGES
#include "compiler/passes/Passes.h.inc"

namespace {

constexpr StringLiteral kPassName = "split-training-stages";

class TrainingSplitter {
public:
  TrainingSplitter(ModuleOp module, int64_t stages, int64_t chunks)
      : module_(module), stages_(stages), chunks_(chunks), symbols_(module),
        builder_(module.getContext()), used_(stages) {}

  LogicalResult run() {
    std::map<std::string, func::FuncOp> entries;
    for (auto func : module_.getOps<func::FuncOp>())
      if (auto entry =
              func->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr))
        entries[entry.getValue().str()] = func;
    for (const char* name :
         {"prologue", "forward", "backward", "loss", "optimizer"})
      if (!entries.count(name))
        return module_.emitError("expects a segment \"") << name << "\"";
    func::FuncOp forward = entries["forward"], backward = entries["backward"];
    if (failed(mirrorStages(forward, backward)))
      return failure();
    assignOps(forward, 0);
    assignOps(backward, numGlobal() - 1);
    // What is saved where must be known of all stages first.
    for (int64_t g = 0; g < numGlobal(); ++g)
      splitSegment(forward, g, "activation");
    for (int64_t g = 0; g < numGlobal(); ++g)
      splitSegment(backward, g, "gradient");
    findHomes();
    for (int64_t s = 0; s < stages_; ++s) {
      splitPrologue(entries["prologue"], s);
      finish(createFunction(entries["loss"], "loss", s));
      splitOptimizer(entries["optimizer"], s);
    }
    for (auto& [name, func] : entries)
      func.erase();
    return success();
  }

private:
  int64_t numGlobal() const { return stages_ * chunks_; }

  static int64_t stageOfCall(func::CallOp call) {
    return call->getAttrOfType<IntegerAttr>("dist.stage").getInt();
  }

  /// Gives the calls of `backward` the stages of their layers and marks what
  /// crosses. The first layers have no gradient if nothing below them, nor in
  /// them, is trained.
  LogicalResult mirrorStages(func::FuncOp forward, func::FuncOp backward) {
    SmallVector<func::CallOp> layers(llvm::make_filter_range(
        forward.getOps<func::CallOp>(),
        [](func::CallOp call) { return !call->hasAttr(kReferenceAttr); }));
    SmallVector<func::CallOp> gradients(backward.getOps<func::CallOp>());
    if (layers.size() < gradients.size())
      return backward.emitError("expects one call for each layer at most");
    int64_t current = numGlobal() - 1;
    for (auto [layer, call] : llvm::zip(llvm::reverse(layers), gradients)) {
      int64_t stage = stageOfCall(layer);
      call->setAttr("dist.stage", builder_.getI64IntegerAttr(stage));
      if (stage == current)
        continue;
      current = stage;
      beginStageAt(call, stage);
    }
    return success();
  }

  void assignOps(func::FuncOp entry, int64_t stage) {
    for (Operation& op : entry.getBody().front()) {
      if (auto crossing = dyn_cast<dist::PipelineStageOp>(op))
        stage = crossing.getStage();
      stageOf_[&op] = stage;
    }
  }

  /// The function of a segment that each chunk of a stage has its own of.
  func::FuncOp createChunkFunction(func::FuncOp like, StringRef entry,
                                   int64_t global) {
    func::FuncOp func = createFunction(like, entry, global % stages_);
    if (chunks_ == 1)
      return func;
    int64_t chunk = global / stages_;
    func.setName((func.getName() + ".chunk" + Twine(chunk)).str());
    func->setAttr("dist.chunk", builder_.getI64IntegerAttr(chunk));
    return func;
  }

  func::FuncOp createFunction(func::FuncOp like, StringRef entry,
                              int64_t stage) {
    builder_.setInsertionPoint(like);
    auto func =
        func::FuncOp::create(builder_, like.getLoc(),
                             ("step." + entry + ".stage" + Twine(stage)).str(),
                             builder_.getFunctionType({}, {}));
    func->setAttr(llm::LlmDialect::kEntryAttr, builder_.getStringAttr(entry));
    func->setAttr("dist.stage", builder_.getI64IntegerAttr(stage));
    func.getBody().push_back(new Block());
    return func;
  }

  Value addArgument(func::FuncOp func, Type type, std::string name) {
    argNames_.push_back(name);
    return func.getBody().front().addArgument(
        type, NameLoc::get(builder_.getStringAttr(name)));
  }

  void addResult(Value value, std::string name) {
    results_.push_back(value);
    resultNames_.push_back(name);
  }

  DictionaryAttr named(StringRef name) {
    return builder_.getDictionaryAttr(
        builder_.getNamedAttr("llm.name", builder_.getStringAttr(name)));
  }

  void finish(func::FuncOp func) {
    Block& body = func.getBody().front();
    builder_.setInsertionPointToEnd(&body);
    func::ReturnOp::create(builder_, func.getLoc(), results_);
    func.setFunctionType(builder_.getFunctionType(
        body.getArgumentTypes(),
        SmallVector<Type>(ValueRange(results_).getTypes())));
    SmallVector<DictionaryAttr> args, results;
    for (const std::string& name : argNames_)
      args.push_back(named(name));
    for (const std::string& name : resultNames_)
      results.push_back(named(name));
    func.setAllArgAttrs(args);
    func.setAllResultAttrs(results);
    argNames_.clear();
    resultNames_.clear();
    results_.clear();
  }

  /// A function that only sends or receives what crosses between two global
  /// stages.
  void createTransfer(func::FuncOp like, bool isSend, StringRef what,
                      ArrayRef<Type> types, int64_t global, int64_t peer,
                      Location loc) {
    std::string entry = (isSend ? "send_" : "receive_") + what.str();
    func::FuncOp func = createChunkFunction(like, entry, global);
    auto subject = builder_.getStringAttr(locationName(loc));
    auto pass = builder_.getStringAttr(kPassName);
    auto pp = builder_.getStringAttr("pp");
    auto to = builder_.getI64IntegerAttr(peer % stages_);
    for (auto [i, type] : llvm::enumerate(types)) {
      std::string number = "." + std::to_string(i);
      if (isSend) {
        Value x = addArgument(func, type, "sent_" + what.str() + number);
        builder_.setInsertionPointToEnd(&func.getBody().front());
        dist::SendOp::create(builder_, loc, x, pp, to, subject, pass);
        continue;
      }
      builder_.setInsertionPointToEnd(&func.getBody().front());
      Value x =
          dist::RecvOp::create(builder_, loc, type, pp, to, subject, pass);
      addResult(x, "received_" + what.str() + number);
    }
    finish(func);
  }

  /// `stage` is global here.
  void splitSegment(func::FuncOp entry, int64_t stage, StringRef what) {
    StringRef name =
        entry->getAttrOfType<StringAttr>(llm::LlmDialect::kEntryAttr);
    func::FuncOp func = createChunkFunction(entry, name, stage);
    IRMapping mapping;
    SmallVector<Type> sent, received;
    Location loc = entry.getLoc();
    int64_t from = stage, to = stage;
    // A saved value that this stage received is there under that name.
    for (BlockArgument arg : entry.getArguments()) {
      StringRef argName =
          entry.getArgAttrOfType<StringAttr>(arg.getArgNumber(), "llm.name");
      auto renamed = renamed_.find({argName.str(), stage});
      bool isMine =
          !argName.starts_with("saved.") || savedBy_.lookup(argName) == stage;
      if (!isMine)
        continue;
      mapping.map(arg,
                  addArgument(func, arg.getType(),
                              renamed == renamed_.end() ? argName.str()
                                                        : renamed->second));
    }
    for (Operation& op : entry.getBody().front()) {
      if (auto ret = dyn_cast<func::ReturnOp>(op)) {
        returnSaved(entry, ret, stage, mapping);
        continue;
      }
      if (auto crossing = dyn_cast<dist::PipelineStageOp>(op)) {
        Operation* def = crossing.getX().getDefiningOp();
        if (stageOf_.lookup(def) == stage) {
          addResult(mapping.lookup(crossing.getX()),
                    "sent_" + what.str() + "." + std::to_string(sent.size()));
          sent.push_back(crossing.getX().getType());
          to = crossing.getStage();
          loc = crossing.getLoc();
        }
        if (static_cast<int64_t>(crossing.getStage()) == stage) {
          std::string number = std::to_string(received.size());
          Value x = addArgument(func, crossing.getResult().getType(),
                                "received_" + what.str() + "." + number);
          mapping.map(crossing.getResult(), x);
          received.push_back(crossing.getResult().getType());
          from = what == "activation" ? stage - 1 : stage + 1;
          loc = crossing.getLoc();
        }
        continue;
      }
      if (!isOf(&op, stage))
        continue;
      builder_.setInsertionPointToEnd(&func.getBody().front());
      builder_.clone(op, mapping);
      if (auto accumulate = dyn_cast<llm::AccumulateOp>(op))
        used_[stage % stages_].insert(accumulate.getState());
    }
    finish(func);
    if (!sent.empty())
      createTransfer(entry, true, what, sent, stage, to, loc);
    if (!received.empty())
      createTransfer(entry, false, what, received, stage, from, loc);
  }

  bool isOf(Operation* op, int64_t stage) {
    if (!isSharedByStages(op))
      return stageOf_.lookup(op) == stage;
    return llvm::any_of(op->getUsers(), [&](Operation* user) {
      return !isa<dist::PipelineStageOp, func::ReturnOp>(user) &&
             isOf(user, stage);
    });
  }

  /// Saved values stay on the stage that has them.
  void returnSaved(func::FuncOp entry, func::ReturnOp ret, int64_t stage,
                   IRMapping& mapping) {
    for (auto [i, value] : llvm::enumerate(ret.getOperands())) {
      auto name = entry.getResultAttrOfType<StringAttr>(i, "llm.name");
      Operation* def = value.getDefiningOp();
      if (stageOf_.lookup(def) != stage)
        continue;
      savedBy_[name.getValue()] = stage;
      Value mine = mapping.lookup(value);
      if (auto arg = dyn_cast<BlockArgument>(mine)) {
        renamed_[{name.str(), stage}] = argNames_[arg.getArgNumber()];
        continue;
      }
      addResult(mine, name.str());
    }
  }

  /// The home of a parameter is the first stage that has its gradient.
  void findHomes() {
    for (auto state : module_.getOps<llm::StateOp>())
      if (state.getRole() == llm::StateRole::gradient)
        for (int64_t s = 0; s < stages_; ++s)
          if (used_[s].contains(state.getSymName()))
            holders_[state.getSymName().str()].push_back(s);
  }

  ArrayRef<int64_t> holdersOf(StringRef gradient) {
    auto found = holders_.find(gradient.str());
    return found == holders_.end() ? ArrayRef<int64_t>() : found->second;
  }

  bool holds(int64_t stage, StringRef gradient) {
    return llvm::is_contained(holdersOf(gradient), stage);
  }

  bool isHome(int64_t stage, StringRef gradient) {
    ArrayRef<int64_t> holders = holdersOf(gradient);
    return !holders.empty() && holders.front() == stage;
  }

  void splitPrologue(func::FuncOp entry, int64_t stage) {
    func::FuncOp func = createFunction(entry, "prologue", stage);
    IRMapping mapping;
    for (BlockArgument arg : entry.getArguments())
      mapping.map(arg, addArgument(func, arg.getType(), "labels"));
    builder_.setInsertionPointToEnd(&func.getBody().front());
    for (Operation& op : entry.getBody().front().without_terminator()) {
      auto zero = dyn_cast<llm::ZeroStateOp>(op);
      bool isGradient =
          zero && symbols_.lookup<llm::StateOp>(zero.getState()).getRole() ==
                      llm::StateRole::gradient;
      if (!isGradient || holds(stage, zero.getState()))
        builder_.clone(op, mapping);
    }
    finish(func);
  }

  Value readGradient(StringRef gradient) {
    auto state = symbols_.lookup<llm::StateOp>(gradient);
    return llm::ReadStateOp::create(builder_, state.getLoc(), state.getType(),
                                    gradient);
  }

  /// Copies of a tied parameter send their gradient home, in the order of
  /// stages.
  void bringHome(StringRef gradient, int64_t stage) {
    auto state = symbols_.lookup<llm::StateOp>(gradient);
    auto pp = builder_.getStringAttr("pp");
    auto pass = builder_.getStringAttr(kPassName);
    auto subject = builder_.getStringAttr(*state.getParam());
    ArrayRef<int64_t> holders = holdersOf(gradient);
    if (stage != holders.front()) {
      dist::SendOp::create(builder_, state.getLoc(), readGradient(gradient), pp,
                           builder_.getI64IntegerAttr(holders.front()), subject,
                           pass);
      return;
    }
    for (int64_t from : holders.drop_front()) {
      auto received = dist::RecvOp::create(
          builder_, state.getLoc(), cast<RankedTensorType>(state.getType()), pp,
          builder_.getI64IntegerAttr(from), subject, pass);
      received->setAttr(
          kStateAttr, FlatSymbolRefAttr::get(builder_.getContext(), gradient));
      llm::AccumulateOp::create(builder_, state.getLoc(), received.getResult(),
                                gradient);
    }
  }

  /// The home sends the new value to the copies.
  void sendBack(StringRef gradient, int64_t stage) {
    auto state = symbols_.lookup<llm::StateOp>(gradient);
    auto param = symbols_.lookup<llm::ParamOp>(*state.getParam());
    auto pp = builder_.getStringAttr("pp");
    auto pass = builder_.getStringAttr(kPassName);
    auto subject = builder_.getStringAttr(param.getSymName());
    Value value = llm::GetParamOp::create(
        builder_, state.getLoc(), param.getComputeType(), param.getSymName());
    ArrayRef<int64_t> holders = holdersOf(gradient);
    if (stage != holders.front()) {
      dist::ReceiveInPlaceOp::create(
          builder_, state.getLoc(), value, pp,
          builder_.getI64IntegerAttr(holders.front()), subject, pass);
      return;
    }
    for (int64_t to : holders.drop_front())
      dist::SendOp::create(builder_, state.getLoc(), value, pp,
                           builder_.getI64IntegerAttr(to), subject, pass);
  }

  void splitOptimizer(func::FuncOp entry, int64_t stage) {
    func::FuncOp func = createFunction(entry, "optimizer", stage);
    IRMapping mapping;
    for (BlockArgument arg : entry.getArguments())
      mapping.map(arg, addArgument(func, arg.getType(), "hyper"));
    builder_.setInsertionPointToEnd(&func.getBody().front());
    SmallVector<StringRef> tied;
    for (auto& [gradient, holders] : holders_)
      if (holders.size() > 1 && holds(stage, gradient))
        tied.push_back(gradient);
    for (StringRef gradient : tied)
      bringHome(gradient, stage);
    for (Operation& op : entry.getBody().front()) {
      if (auto ret = dyn_cast<func::ReturnOp>(op)) {
        for (StringRef gradient : tied)
          sendBack(gradient, stage);
        for (auto [i, value] : llvm::enumerate(ret.getOperands()))
          addResult(mapping.lookup(value),
                    entry.getResultAttrOfType<StringAttr>(i, "llm.name").str());
        continue;
      }
      if (auto read = dyn_cast<llm::ReadStateOp>(op))
        if (!isScalar(read.getState()) && !isHome(stage, read.getState()))
          continue;
      if (auto square = dyn_cast<llm::SquareSumOp>(op))
        if (!mapping.contains(square.getX()))
          continue;
      if (auto adamw = dyn_cast<llm::AdamwOp>(op))
        if (!mapping.contains(adamw.getGradient()))
          continue;
      builder_.clone(op, mapping);
    }
    finish(func);
  }

  bool isScalar(StringRef state) {
    return symbols_.lookup<llm::StateOp>(state).getRole() ==
           llm::StateRole::scalar;
  }

  ModuleOp module_;
  int64_t stages_, chunks_; // chunks of a stage
  SymbolTable symbols_;
  OpBuilder builder_;
  // By global stage.
  DenseMap<Operation*, int64_t> stageOf_;
  llvm::StringMap<int64_t> savedBy_;
  std::map<std::pair<std::string, int64_t>, std::string> renamed_;
  // By stage.
  std::vector<llvm::StringSet<>> used_;                 // its gradient states
  std::map<std::string, SmallVector<int64_t>> holders_; // of a gradient
  SmallVector<std::string> argNames_, resultNames_;
  SmallVector<Value> results_;
};

struct SplitTrainingStagesPass
    : impl::SplitTrainingStagesBase<SplitTrainingStagesPass> {
  void runOnOperation() override {
    int64_t stages = meshAxisSize(getOperation(), "pp");
    int64_t chunks = Options::read(getOperation()).virtualStages;
    if (stages > 1 &&
        failed(TrainingSplitter(getOperation(), stages, chunks).run()))
      signalPassFailure();
  }
};

} // namespace
} // namespace llmc
