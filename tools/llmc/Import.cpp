// SPDX-License-Identifier: Apache-2.0
// `llmc import`: a checkpoint, or a new model, as a module.
#include "models/Import.h"
#include "runtime/base/Error.h"
#include "runtime/io/OutputPaths.h"
#include "tools/llmc/Commands.h"
#include "tools/llmc/ModelInput.h"
#include "tools/llmc/ModelReport.h"
#include "tools/llmc/PlanReport.h"

using namespace mlir;
using llmrt::ErrorCode;
using llmrt::makeError;

namespace llmc {

int runImport(const CommandLine& line, MLIRContext& context) {
  std::string output = line.output.empty() ? "-" : line.output;
  if (line.newModel.empty() == line.positional.empty() ||
      line.positional.size() > 1)
    return fail(makeError(ErrorCode::BadOptionValue,
                          "llmc import needs one checkpoint, or --new=FAMILY",
                          "see llmc --help"));
  absl::Status paths =
      llmrt::checkOutputPaths({{"-o", line.output}}, line.positional);
  if (!paths.ok())
    return fail(paths);
  auto module = line.newModel.empty()
                    ? importModel(context, line.positional.front(), line.output)
                    : llmc::newModel(context, line.newModel);
  if (!module.ok())
    return fail(module.status());
  absl::Status status = writeResult(output, printModule(**module));
  return status.ok() ? 0 : fail(status);
}

} // namespace llmc
