// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/executor/RunRanks.h"
