// SPDX-License-Identifier: Apache-2.0
// Private to the executor: the buffers of inputs and outputs by name.
#pragma once

#include "runtime/plan/PlanFile.h"

#include "absl/strings/string_view.h"

namespace llmrt {

using EntryBuffersList =
    ::flatbuffers::Vector<::flatbuffers::Offset<fb::EntryBuffers>>;

inline const fb::NamedBuffer* findIn(const fb::EntryBuffers& buffers,
                                     absl::string_view name) {
  if (buffers.buffers())
    for (const fb::NamedBuffer* named : *buffers.buffers())
      if (named->name() && absl::string_view(named->name()->data(),
                                             named->name()->size()) == name)
        return named;
  return nullptr;
}

/// Returns the buffer of that name of an entry; null if there is none.
inline const fb::NamedBuffer* findNamed(const EntryBuffersList* all, int entry,
                                        absl::string_view name) {
  if (all)
    for (const fb::EntryBuffers* buffers : *all)
      if (buffers->entry() == entry)
        if (const fb::NamedBuffer* named = findIn(*buffers, name))
          return named;
  return nullptr;
}

/// Returns the number of the first buffer of that name in any entry, or -1.
inline int findInStep(const EntryBuffersList* all, absl::string_view name) {
  if (all)
    for (const fb::EntryBuffers* buffers : *all)
      if (const fb::NamedBuffer* named = findIn(*buffers, name))
        return named->buffer();
  return -1;
}

} // namespace llmrt
