// SPDX-License-Identifier: Apache-2.0
// The `plan` dialect: when a transformer runs, and with which memory. See
// PlanOps.td.
#pragma once

#include "dialects/dist/Dist.h"

#include "mlir/IR/RegionKindInterface.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"

#include "dialects/plan/PlanEnums.h.inc"

#include "dialects/plan/PlanDialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/plan/PlanAttrs.h.inc"

#define GET_OP_CLASSES
#include "dialects/plan/PlanOps.h.inc"
