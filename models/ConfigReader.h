// SPDX-License-Identifier: Apache-2.0
// Reads the fields of a config.json strictly: a field that is missing, of
// another type, out of range or contradicts another is one coded error that
// names it. The first error is kept and later reads return harmless values, so
// that a family reads all its fields in a row and asks status() once. It knows
// no family.
#pragma once

#include "models/ModelConfig.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

#include <map>
#include <set>
#include <string>
#include <vector>

namespace llmc {

class ConfigReader {
public:
  /// `fileName` is for messages; so is `shownNames`: what a field is called
  /// where it came from, if that is not config.json.
  ConfigReader(nlohmann::json config, std::string fileName,
               std::map<std::string, std::string> shownNames = {})
      : config_(std::move(config)), fileName_(std::move(fileName)),
        shownNames_(std::move(shownNames)) {}

  /// Parses a config.json. Errors  FileNotReadable, ConfigCorrupt.
  static absl::StatusOr<ConfigReader> open(const std::string& path);

  /// Returns true if the field is there and not null.
  bool has(const std::string& field);

  int64_t integer(const std::string& field, int64_t min, int64_t max);
  int64_t integerOr(const std::string& field, int64_t value, int64_t min,
                    int64_t max);
  double number(const std::string& field, double min, double max);
  double numberOr(const std::string& field, double value, double min,
                  double max);
  /// `missing` if the field is not there, 0 if it is null.
  double numberOrNull(const std::string& field, double missing, double min,
                      double max);
  bool booleanOr(const std::string& field, bool value);
  std::string textOr(const std::string& field, const std::string& value);
  /// An integer or a list of integers; empty if missing.
  std::vector<int64_t> integersOrNone(const std::string& field, int64_t min,
                                      int64_t max);
  std::vector<std::string> textsOrNone(const std::string& field);

  /// Returns a reader of a nested object, empty if missing. Hand its error back
  /// with take().
  ConfigReader object(const std::string& field);

  void take(const ConfigReader& nested) { keep(nested.status_); }

  /// Keeps a ConfigContradiction unless `holds`.
  void require(bool holds, const std::string& what);
  /// Keeps a ConfigUnsupported that names `field` and its value.
  void refuse(const std::string& field, const std::string& supported);
  /// Refuses a boolean that would change the model in a way no family here has.
  void refuseIfTrue(const std::string& field);

  /// Returns true if something asked for `field`.
  bool isUsed(const std::string& field) const { return used_.count(field); }

  /// Returns what `field` is called where it came from.
  std::string shown(const std::string& field) const;

  const absl::Status& status() const { return status_; }

  const std::string& fileName() const { return fileName_; }

  const nlohmann::json& fields() const { return config_; }

private:
  const nlohmann::json* find(const std::string& field);
  const nlohmann::json* need(const std::string& field);
  double checkedNumber(const std::string& field, const nlohmann::json& value,
                       double min, double max);
  int64_t checkedInteger(const std::string& field, const nlohmann::json& value,
                         int64_t min, int64_t max);
  void invalid(const std::string& field, const std::string& wanted);

  void keep(const absl::Status& status) {
    if (status_.ok())
      status_ = status;
  }

  nlohmann::json config_;
  std::string fileName_;
  std::string prefix_; // of a nested object: "rope_scaling."
  std::map<std::string, std::string> shownNames_;
  std::set<std::string> used_;
  absl::Status status_;
};

/// Bounds of fields; anything outside is absurd, not large.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 2000;
constexpr int64_t kMaxContext = int64_t{1} << 30;

/// Reads what every rotary decoder has (sizes, norm, activation, rope, special
/// tokens). Windows are all 0.
struct DecoderDefaults {
  bool isHeadTied = false;
  double ropeTheta = 10000;
  std::string activationField = "hidden_act";
  std::string activation = "silu";
  int64_t kvHeads = 0; // 0: as many as query heads
  int64_t headDim = 0; // 0: hidden / heads
};

void readDecoder(ConfigReader& reader, const DecoderDefaults& defaults,
                 ModelConfig& config);

/// Reads one rotary object (rope_scaling, or rope_parameters as transformers 5
/// writes it).
RopeConfig readRope(ConfigReader& parameters, double theta);

/// Keeps a ConfigContradiction if rope_parameters and rope_scaling are both
/// there and differ: versions of transformers disagree on which one counts.
void requireOneRope(ConfigReader& reader);

/// Reads the special token ids and checks them against the vocabulary.
void readSpecialTokens(ConfigReader& reader, ModelConfig& config);

/// Reads an activation function by its Hugging Face name.
Activation readActivation(ConfigReader& reader, const std::string& field,
                          const std::string& value);

/// Sets the window of each layer from layer_types if it is there, else from
/// `isSliding`.
void readWindows(ConfigReader& reader, int64_t window,
                 const std::vector<bool>& isSliding, ModelConfig& config);

} // namespace llmc
