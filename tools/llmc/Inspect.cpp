// SPDX-License-Identifier: Apache-2.0
// llmc inspect: chooses the view of a plan or of a model. A file is a model if
// its name ends in .mlir.
#include "runtime/base/Error.h"
#include "runtime/base/NearestName.h"
#include "tools/llmc/Commands.h"
#include "tools/llmc/ModelReport.h"
#include "tools/llmc/PlanViews.h"

#include "absl/strings/match.h"

namespace llmc {
namespace {

using llmrt::ErrorCode;
using llmrt::makeError;

absl::Status checkForm(const std::string& form) {
  const std::vector<std::string> forms = {"summary", "disassembly", "json",
                                          "dot"};
  for (const std::string& known : forms)
    if (form == known)
      return absl::OkStatus();
  if (form == "html")
    return makeError(ErrorCode::Unsupported, "--output=html",
                     "use --output=dot with Graphviz, or json");
  std::string near = llmrt::nearestName(form, forms);
  return makeError(ErrorCode::BadOptionValue, "--output=" + form,
                   near.empty() ? "use summary, disassembly, json or dot"
                                : "did you mean --output=" + near);
}

absl::StatusOr<std::string> inspectPlan(const CommandLine& line) {
  LLMRT_ASSIGN_OR_RETURN(OpenPlan open,
                         OpenPlan::open(line.positional.front()));
  if (line.outputForm == "summary")
    return summarisePlan(open);
  if (line.outputForm == "disassembly")
    return disassemble(open.plan());
  if (line.outputForm == "json")
    return planJson(open);
  return commandGraph(open.plan(), line.entry);
}

absl::StatusOr<std::string> inspectModel(const CommandLine& line,
                                         mlir::MLIRContext& context) {
  if (!line.entry.empty())
    return makeError(ErrorCode::OptionsContradict,
                     "--entry with a model, which has no entries",
                     "give a plan, or leave --entry out");
  LLMRT_ASSIGN_OR_RETURN(mlir::OwningOpRef<mlir::ModuleOp> module,
                         readModule(context, line.positional.front()));
  if (line.outputForm == "summary")
    return summariseModel(*module);
  if (line.outputForm == "disassembly")
    return printModule(*module);
  if (line.outputForm == "json")
    return modelJson(*module);
  return callGraph(*module);
}

} // namespace

int runInspect(const CommandLine& line, mlir::MLIRContext& context) {
  if (line.positional.size() != 1)
    return fail(makeError(ErrorCode::BadOptionValue,
                          "llmc inspect needs one plan or model",
                          "as in llmc inspect plan.fb"));
  if (absl::Status status = checkForm(line.outputForm); !status.ok())
    return fail(status);
  if (!line.entry.empty() && line.outputForm != "dot")
    return fail(makeError(ErrorCode::OptionsContradict,
                          "--entry with --output=" + line.outputForm,
                          "--entry chooses what --output=dot draws"));
  bool isModel = absl::EndsWith(line.positional.front(), ".mlir");
  auto text = isModel ? inspectModel(line, context) : inspectPlan(line);
  if (!text.ok())
    return fail(text.status());
  absl::Status status = writeResult(line.output, *text);
  return status.ok() ? 0 : fail(status);
}

} // namespace llmc
