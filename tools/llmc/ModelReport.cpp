// SPDX-License-Identifier: Apache-2.0
#include "tools/llmc/ModelReport.h"

#include "compiler/passes/Options.h"
#include "dialects/plan/Plan.h"
#include "runtime/base/MappedFile.h"
#include "tools/llmc/PlanReport.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Parser/Parser.h"
#include "nlohmann/json.hpp"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

#include <map>

using namespace mlir;
using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
std::string textOf(T printable) {
  std::string text;
  llvm::raw_string_ostream(text) << printable;
  return text;
}

/// Parameters of one kind: equal name but for layer numbers, equal type.
struct ParameterGroup {
  std::string name, type;
  int64_t count = 0, elements = 0;
};

std::vector<ParameterGroup> groupParameters(ModuleOp module) {
  std::vector<ParameterGroup> groups;
  for (auto param : module.getOps<llm::ParamOp>()) {
    std::string name = groupName(param.getSymName().str());
    auto type = cast<RankedTensorType>(param.getType());
    std::string typeText = textOf<Type>(type);
    auto found = llvm::find_if(groups, [&](const ParameterGroup& group) {
      return group.name == name && group.type == typeText;
    });
    if (found == groups.end())
      found = groups.insert(groups.end(), {name, typeText, 0, 0});
    ++found->count;
    found->elements += type.getNumElements();
  }
  return groups;
}

struct FunctionReport {
  std::string name;
  bool isEntry = false;
  int64_t calls = 0;
  std::map<std::string, int64_t> ops;
};

std::vector<FunctionReport> reportFunctions(ModuleOp module) {
  std::map<std::string, int64_t> calls;
  module.walk([&](func::CallOp call) { ++calls[call.getCallee().str()]; });
  std::vector<FunctionReport> reports;
  for (auto function : module.getOps<func::FuncOp>()) {
    FunctionReport report;
    report.name = function.getSymName().str();
    report.isEntry = function->hasAttr(llm::LlmDialect::kEntryAttr);
    report.calls = calls[report.name];
    function.walk([&](Operation* op) {
      if (op != function.getOperation())
        ++report.ops[op->getName().getStringRef().str()];
    });
    reports.push_back(std::move(report));
  }
  return reports;
}

Json attributesJson(DictionaryAttr attributes) {
  Json json = Json::object();
  for (NamedAttribute attr : attributes) {
    Json& value = json[attr.getName().str()];
    if (auto integer = dyn_cast<IntegerAttr>(attr.getValue()))
      value = integer.getType().isInteger(1) ? Json(integer.getInt() != 0)
                                             : Json(integer.getInt());
    else if (auto real = dyn_cast<FloatAttr>(attr.getValue()))
      value = real.getValueAsDouble();
    else if (auto string = dyn_cast<StringAttr>(attr.getValue()))
      value = string.getValue().str();
    else
      value = textOf(attr.getValue());
  }
  return json;
}

std::string dotText(llvm::StringRef text) {
  std::string result = "\"";
  llvm::raw_string_ostream stream(result);
  for (char c : text)
    if (c == '"' || c == '\\')
      stream << '\\' << c;
    else
      stream << (static_cast<unsigned char>(c) < 0x20 ? ' ' : c);
  return result + "\"";
}

/// Nodes and edges of one function; parameters are not drawn.
class FunctionGraph {
public:
  FunctionGraph(func::FuncOp function, int number)
      : function_(function), prefix_("f" + std::to_string(number)) {}

  std::string write() {
    stream_ << "  subgraph cluster_" << prefix_
            << " {\n    label=" << dotText(function_.getSymName()) << "\n";
    for (BlockArgument argument : function_.getArguments()) {
      // A weight of a block function is an operand used by one op: no data
      // flow.
      std::string name("%");
      name += std::to_string(argument.getArgNumber());
      if (auto loc = dyn_cast<NameLoc>(argument.getLoc()))
        name = loc.getName().str();
      std::string node =
          prefix_ + "a" + std::to_string(argument.getArgNumber());
      stream_ << "    " << node << " [shape=ellipse, label=" << dotText(name)
              << "]\n";
      nodes_[argument] = node;
    }
    function_.walk([&](Operation* op) {
      if (op != function_.getOperation() && !isa<llm::GetParamOp>(op))
        addOp(op);
    });
    stream_ << "  }\n" << edges_;
    return text_;
  }

private:
  void addOp(Operation* op) {
    std::string node = prefix_ + "o" + std::to_string(number_++);
    std::string label = op->getName().getStringRef().str();
    if (auto call = dyn_cast<func::CallOp>(op))
      label = "call " + call.getCallee().str();
    std::string where = locationName(op->getLoc());
    std::string text = dotText(label);
    if (!where.empty()) {
      text.pop_back();
      text += "\\n" + dotText(where).substr(1);
    }
    stream_ << "    " << node << " [shape=box, label=" << text << "]\n";
    for (Value operand : op->getOperands())
      if (auto from = nodes_.find(operand); from != nodes_.end())
        edges_ += "  " + from->second + " -> " + node + "\n";
    for (Value result : op->getResults())
      nodes_[result] = node;
  }

  func::FuncOp function_;
  std::string prefix_, text_, edges_;
  llvm::raw_string_ostream stream_{text_};
  llvm::DenseMap<Value, std::string> nodes_;
  int number_ = 0;
};

} // namespace

DiagnosticCollector::DiagnosticCollector(MLIRContext& context)
    : handler_(&context, [this](Diagnostic& d) {
        if (d.getSeverity() != DiagnosticSeverity::Error || !text_.empty())
          return success();
        llvm::raw_string_ostream stream(text_);
        std::string where = locationName(d.getLocation());
        if (auto file = dyn_cast<FileLineColLoc>(d.getLocation()))
          where = file.getFilename().str() + ":" +
                  std::to_string(file.getLine()) + ":" +
                  std::to_string(file.getColumn());
        if (!where.empty())
          stream << where << ": ";
        stream << d.str();
        for (Diagnostic& note : d.getNotes())
          stream << "; note: " << note.str();
        return success();
      }) {}

absl::Status DiagnosticCollector::status(ErrorCode code,
                                         std::string_view advice) const {
  if (size_t at = text_.find("LLMC-E"); at != std::string::npos)
    return absl::InvalidArgumentError(text_.substr(at));
  return makeError(code, text_.empty() ? "compilation failed" : text_, advice);
}

absl::StatusOr<OwningOpRef<ModuleOp>> readModule(MLIRContext& context,
                                                 const std::string& path) {
  // Read here, not by the parser, for the same errors as every other file.
  LLMRT_ASSIGN_OR_RETURN(auto file, llmrt::MappedFile::open(path));
  llvm::StringRef text(reinterpret_cast<const char*>(file.bytes().data()),
                       file.bytes().size());
  // The parser would print whole lines of a file that is no text.
  if (text.contains('\0'))
    return makeError(ErrorCode::ModelInvalid, path + ": it is not text",
                     "give a .mlir file, a checkpoint folder or a .gguf file");
  DiagnosticCollector diagnostics(context);
  llvm::SourceMgr sources;
  sources.AddNewSourceBuffer(llvm::MemoryBuffer::getMemBufferCopy(text, path),
                             llvm::SMLoc());
  OwningOpRef<ModuleOp> module = parseSourceFile<ModuleOp>(sources, &context);
  if (!module)
    return diagnostics.status(ErrorCode::ModelInvalid,
                              "correct the model definition");
  return module;
}

std::string printModule(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  OpPrintingFlags flags;
  flags.enableDebugInfo(true, false);
  module.print(stream, flags);
  stream << "\n";
  return text;
}

std::string summariseModel(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream out(text);
  for (auto [name, key] : {std::pair{"model", llm::LlmDialect::kModelAttr},
                           {"options", llm::LlmDialect::kOptionsAttr}})
    if (Attribute attribute = module->getAttr(key))
      out << llvm::left_justify(name, 11) << attribute << "\n";
  for (auto mesh : module.getOps<dist::MeshOp>())
    for (auto [axis, ranks] : llvm::zip(mesh.getAxes(), mesh.getSizes()))
      out << "mesh axis  " << cast<StringAttr>(axis).getValue() << " = "
          << ranks << "\n";
  int64_t count = 0, elements = 0;
  std::vector<ParameterGroup> groups = groupParameters(module);
  for (const ParameterGroup& group : groups) {
    count += group.count;
    elements += group.elements;
  }
  out << "\n" << count << " parameters, " << elements << " elements\n";
  for (const ParameterGroup& group : groups)
    out << llvm::right_justify(std::to_string(group.count), 6) << " x "
        << group.name << " : " << group.type << "\n";
  for (const FunctionReport& function : reportFunctions(module)) {
    out << "\nfunction " << function.name;
    if (function.isEntry)
      out << ", an entry";
    if (function.calls > 0)
      out << ", called " << function.calls << " times";
    out << "\n";
    for (const auto& [op, number] : function.ops)
      out << llvm::right_justify(std::to_string(number), 6) << " x " << op
          << "\n";
  }
  for (auto stage : module.getOps<plan::StageOp>()) {
    out << "\nstage " << stage.getStage() << "\n";
    for (auto program : stage.getOps<plan::ProgramOp>())
      out << llvm::right_justify(
                 std::to_string(
                     program.getBody().front().getOperations().size()),
                 6)
          << " commands of "
          << (program.getEntry().empty() ? "the program that runs once"
                                         : program.getEntry())
          << "\n";
  }
  return text;
}

std::string modelJson(ModuleOp module) {
  Json json = {{"kind", "model"}};
  for (auto [name, key] : {std::pair{"model", llm::LlmDialect::kModelAttr},
                           {"options", llm::LlmDialect::kOptionsAttr}})
    if (auto attributes = module->getAttrOfType<DictionaryAttr>(key))
      json[name] = attributesJson(attributes);
  json["mesh"] = Json::array();
  for (auto mesh : module.getOps<dist::MeshOp>())
    for (auto [axis, ranks] : llvm::zip(mesh.getAxes(), mesh.getSizes()))
      json["mesh"].push_back({{"axis", cast<StringAttr>(axis).getValue().str()},
                              {"ranks", ranks}});
  json["parameters"] = Json::array();
  for (auto param : module.getOps<llm::ParamOp>()) {
    auto type = cast<RankedTensorType>(param.getType());
    json["parameters"].push_back(
        {{"name", param.getSymName().str()},
         {"dtype", textOf(type.getElementType())},
         {"shape", std::vector<int64_t>(type.getShape())},
         {"source", param.getSource().value_or("").str()},
         {"weight_set", param.getWeightSet().value_or("model").str()}});
  }
  json["functions"] = Json::array();
  for (const FunctionReport& function : reportFunctions(module))
    json["functions"].push_back({{"name", function.name},
                                 {"entry", function.isEntry},
                                 {"calls", function.calls},
                                 {"ops", function.ops}});
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<std::string> callGraph(ModuleOp module) {
  std::string text = "digraph model {\n  node [fontname=monospace]\n";
  int number = 0;
  for (auto function : module.getOps<func::FuncOp>())
    text += FunctionGraph(function, number++).write();
  if (number == 0)
    return makeError(ErrorCode::Unsupported,
                     "--output=dot of a module without functions",
                     "compile it and inspect the plan");
  return text + "}\n";
}

} // namespace llmc
