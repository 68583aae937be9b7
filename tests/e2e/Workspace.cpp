// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/Workspace.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

namespace llmrt {
namespace {

std::string readWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string encodeUtf8(int point) {
  if (point < 0x80)
    return {static_cast<char>(point)};
  return {static_cast<char>(0xC0 | point >> 6),
          static_cast<char>(0x80 | (point & 0x3F))};
}

} // namespace

Workspace::Workspace() {
  std::string pattern =
      (std::filesystem::temp_directory_path() / "llmc-e2e-XXXXXX").string();
  folder_ = ::mkdtemp(pattern.data());
}

Workspace::~Workspace() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Workspace::write(const std::string& name, const std::string& bytes) const {
  std::ofstream(path(name), std::ios::binary) << bytes;
}

std::string Workspace::read(const std::string& name) const {
  return readWhole(path(name));
}

bool Workspace::exists(const std::string& name) const {
  return std::filesystem::exists(path(name));
}

std::map<std::string, uint64_t> Workspace::files() const {
  std::map<std::string, uint64_t> found;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder_))
    if (entry.is_regular_file())
      found[entry.path().lexically_relative(folder_).string()] =
          entry.file_size();
  return found;
}

pid_t Workspace::start(const std::string& name,
                       const std::string& command) const {
  // Beside the folder, not in it: files() shows only what tools left there.
  std::string script = "cd '" + folder_ + "'; exec >'" + folder_ + "." + name +
                       ".out' 2>'" + folder_ + "." + name + ".err'; " + command;
  std::string bin =
      std::getenv("LLMC_BIN_DIR") ? std::getenv("LLMC_BIN_DIR") : ".";
  pid_t process = ::fork();
  if (process != 0)
    return process;
  ::setpgid(0, 0);
  ::setenv("PATH", (bin + ":" + std::getenv("PATH")).c_str(), 1);
  ::execl("/bin/bash", "bash", "-c", script.c_str(), nullptr);
  ::_exit(127);
}

ToolEnd Workspace::finish(const std::string& name, pid_t process,
                          int limitSeconds) const {
  using Clock = std::chrono::steady_clock;
  Clock::time_point limit = Clock::now() + std::chrono::seconds(limitSeconds);
  int status = 0;
  bool isLate = false;
  while (::waitpid(process, &status, WNOHANG) == 0) {
    isLate = Clock::now() > limit;
    if (isLate) {
      ::kill(-process, SIGKILL);
      ::waitpid(process, &status, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ToolEnd end;
  end.status = isLate              ? 124
               : WIFEXITED(status) ? WEXITSTATUS(status)
                                   : 128 + WTERMSIG(status);
  std::string stem = folder_ + "." + name;
  end.output = readWhole(stem + ".out");
  end.errors = readWhole(stem + ".err");
  std::filesystem::remove(stem + ".out");
  std::filesystem::remove(stem + ".err");
  return end;
}

ToolEnd Workspace::run(const std::string& command, int limitSeconds) const {
  return finish("run", start("run", command), limitSeconds);
}

std::string mpiLauncher(int numRanks) {
  std::string program = LLMC_MPIRUN;
  if (program.empty())
    return "";
  return program + " --allow-run-as-root --oversubscribe -n " +
         std::to_string(numRanks) + " llmrt";
}

std::string byteTokenizerJson() {
  nlohmann::ordered_json vocabulary;
  // The alphabet of byte-level tokenizers: printable bytes stand for
  // themselves, the others for characters from U+0100 on.
  int extra = 0;
  for (int byte = 0; byte < 256; ++byte) {
    bool isPrintable = (byte >= '!' && byte <= '~') ||
                       (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    vocabulary[encodeUtf8(isPrintable ? byte : 256 + extra++)] = byte;
  }
  nlohmann::ordered_json json;
  json["added_tokens"] = {
      {{"id", 256}, {"content", "<|end|>"}, {"special", true}}};
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  json["decoder"] = {{"type", "ByteLevel"}};
  json["model"] = {{"type", "BPE"},
                   {"vocab", vocabulary},
                   {"merges", nlohmann::ordered_json::array()}};
  return json.dump();
}

std::string writeByteModel(const Workspace& workspace) {
  workspace.write("tokenizer.json", byteTokenizerJson());
  ToolEnd end = workspace.run(
      "llmc import --new=llama,layers=3,hidden=72,heads=9,kv_heads=3,"
      "intermediate=100,vocab=257,context=512,init_std=0.3 -o model.mlir");
  return end.status == 0 ? "" : "llmc import: " + end.errors;
}

} // namespace llmrt
