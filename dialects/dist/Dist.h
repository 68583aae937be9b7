// SPDX-License-Identifier: Apache-2.0
// The `dist` dialect: where a transformer runs. See DistOps.td.
#pragma once

#include "dialects/llm/Llm.h"

#include "dialects/dist/DistDialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/dist/DistAttrs.h.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/dist/DistTypes.h.inc"

#define GET_OP_CLASSES
#include "dialects/dist/DistOps.h.inc"
