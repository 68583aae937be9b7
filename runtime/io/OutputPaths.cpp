// SPDX-License-Identifier: Apache-2.0
#include "runtime/io/OutputPaths.h"

#include "runtime/base/Error.h"

#include "absl/strings/str_cat.h"

#include <cerrno>
#include <filesystem>
#include <unistd.h>

namespace llmrt {
namespace {

namespace fs = std::filesystem;

bool isFile(const OutputPath& output) {
  return !output.path.empty() && output.path != "-";
}

fs::path folderOf(const std::string& path) {
  fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? "." : folder;
}

bool isSame(const fs::path& a, const fs::path& b) {
  std::error_code error;
  return fs::equivalent(a, b, error) && !error;
}

/// The same file, though it may not be there yet.
bool isSamePlace(const std::string& a, const std::string& b) {
  return isSame(a, b) || (fs::path(a).filename() == fs::path(b).filename() &&
                          isSame(folderOf(a), folderOf(b)));
}

bool isOfCheckpoint(const fs::path& path) {
  for (const char* extension :
       {".safetensors", ".json", ".gguf", ".model", ".bpe", ".txt", ".jinja"})
    if (path.extension() == extension)
      return true;
  return false;
}

bool reads(const std::string& input, const std::string& output) {
  std::error_code error;
  if (input.empty() || !fs::exists(output, error))
    return false;
  if (!fs::is_directory(input, error))
    return isSame(input, output);
  return isSame(input, folderOf(output)) && isOfCheckpoint(output);
}

absl::Status checkFolder(const std::string& path) {
  const fs::path folder = folderOf(path);
  if (::access(folder.c_str(), W_OK | X_OK) == 0)
    return absl::OkStatus();
  return makeSystemError(ErrorCode::FileNotWritable, errno, "cannot write",
                         path);
}

} // namespace

absl::Status checkOutputPaths(absl::Span<const OutputPath> outputs,
                              absl::Span<const std::string> inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const OutputPath& output = outputs[i];
    if (!isFile(output))
      continue;
    std::error_code error;
    if (fs::exists(output.path, error) &&
        !fs::is_regular_file(output.path, error))
      continue; // a device or a pipe; a folder is refused by who writes it
    LLMRT_RETURN_IF_ERROR(checkFolder(output.path));
    for (const std::string& input : inputs)
      if (reads(input, output.path))
        return makeError(ErrorCode::OptionsContradict,
                         absl::StrCat(output.option, " ", output.path,
                                      " would replace a file that this "
                                      "command reads"),
                         "write to another file");
    for (size_t other = 0; other < i; ++other)
      if (isFile(outputs[other]) &&
          isSamePlace(outputs[other].path, output.path))
        return makeError(ErrorCode::OptionsContradict,
                         absl::StrCat(outputs[other].option, " and ",
                                      output.option, " name the same file, ",
                                      output.path),
                         "give each a file of its own");
  }
  return absl::OkStatus();
}

} // namespace llmrt
