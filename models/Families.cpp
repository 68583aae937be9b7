// SPDX-License-Identifier: Apache-2.0
// The registry: Families.def as a list.
#include "models/Family.h"

namespace llmc {

#define LLMC_FAMILY(name) extern const Family k##name##Family;
#include "models/Families.def"
#undef LLMC_FAMILY

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> list = {
#define LLMC_FAMILY(name) &k##name##Family,
#include "models/Families.def"
#undef LLMC_FAMILY
  };
  return list;
}

const Family* findFamily(const std::string& name) {
  for (const Family* family : families())
    if (family->name == name)
      return family;
  return nullptr;
}

std::string familyNames() {
  std::string names;
  for (const Family* family : families())
    names += (names.empty() ? "" : ", ") + std::string(family->name);
  return names;
}

} // namespace llmc
