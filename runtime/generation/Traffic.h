// SPDX-License-Identifier: Apache-2.0
// How many bytes a decode step must read: the floor that memory bandwidth sets,
// computed from the plan alone.
#pragma once

#include "runtime/plan/PlanFile.h"

namespace llmrt {

/// Returns the bytes of the parameters that the kernels of `entry` read whole,
/// over all ranks of one replica. A table of which only the rows of the given
/// tokens are read (an embedding that is not also the output head) does not
/// count.
int64_t weightBytesRead(const fb::Plan& plan, int entry);

/// Returns the bytes of cache that attention reads for one token at `position`,
/// over all ranks of one replica: whole pages, in every layer.
int64_t cacheBytesRead(const fb::Plan& plan, int64_t position);

} // namespace llmrt
