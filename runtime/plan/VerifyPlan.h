// SPDX-License-Identifier: Apache-2.0
// Private to runtime/plan: the checks behind readPlan(), after FlatBuffers has
// verified that every offset stays inside the file.
#pragma once

#include "runtime/plan/PlanFile.h"

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include <string>

namespace llmrt {

/// Where in the plan a check looks; its text is made only when the check fails.
struct Place {
  const Place* outer = nullptr;
  const char* field = "";
  int64_t index = -1;

  /// Returns "stages[0].programs[1].commands[17].send_buffer".
  std::string text() const;
};

/// Makes the PlanInvalid error of a place.
absl::Status invalidPlan(const Place& place, absl::string_view what);

/// Returns PlanInvalid from the enclosing function unless `condition` holds.
#define LLMRT_PLAN_CHECK(condition, place, what)                               \
  do {                                                                         \
    if (!(condition))                                                          \
      return invalidPlan(place, what);                                         \
  } while (false)

/// No size, offset or count of a plan is beyond this, so that sums of two never
/// overflow.
inline constexpr int64_t kMaxPlanInteger = int64_t{1} << 50;

template <typename T>
int64_t lengthOf(const ::flatbuffers::Vector<T>* vector) {
  return vector ? vector->size() : 0;
}

inline absl::string_view textOf(const ::flatbuffers::String* text) {
  return text ? absl::string_view(text->data(), text->size())
              : absl::string_view();
}

inline bool isWithin(int64_t value, int64_t low, int64_t high) {
  return value >= low && value <= high;
}

/// FlatBuffers checks that elements are inside the file, not that they are
/// aligned.
template <typename T>
bool isAligned(const ::flatbuffers::Vector<T>* vector) {
  return !vector ||
         reinterpret_cast<uintptr_t>(vector->Data()) % sizeof(T) == 0;
}

/// Slots of a buffer, at most.
inline constexpr int64_t kMaxSlots = 1 << 16;

inline bool isElementType(fb::ElementType type) {
  return type >= fb::ElementType::MIN && type <= fb::ElementType::MAX;
}

/// Returns the product, or -1 if a factor is negative, it exceeds
/// kMaxPlanInteger or the vector is not aligned.
int64_t productOf(const ::flatbuffers::Vector<int64_t>* shape);
int64_t multiply(int64_t a, int64_t b);

absl::Status verifyPlan(const fb::Plan& plan);

/// Checks that `value` (not null) has one value for each coordinate, each in
/// [low, high].
absl::Status verifyByCoordinate(const fb::Plan& plan,
                                const fb::ByCoordinate* value, int64_t low,
                                int64_t high, const Place& place);

/// Checks that `axes` names axes of the mesh, none twice.
absl::Status verifyAxes(const fb::Plan& plan,
                        const ::flatbuffers::Vector<int32_t>* axes,
                        const Place& place);

/// Checks a parameter of a stage; its buffers are verified already.
absl::Status verifyParameter(const fb::Plan& plan, const fb::Stage& stage,
                             const fb::Parameter& parameter,
                             const Place& place);

/// Checks the programs of a stage; its buffers are verified already.
absl::Status verifyPrograms(const fb::Plan& plan, const fb::Stage& stage,
                            const Place& place);

/// Checks the states and the schedule of a training step; buffers are verified
/// already.
absl::Status verifyStates(const fb::Plan& plan, const fb::Stage& stage,
                          const Place& place);
absl::Status verifySchedule(const fb::Plan& plan, const fb::Stage& stage,
                            const Place& place);

/// Checks that what pipeline stages send one another is received, so that no
/// entry, step or evaluation waits for ever (VerifyExchange.cpp). Needs all the
/// rest verified.
absl::Status verifyExchange(const fb::Plan& plan);

} // namespace llmrt
