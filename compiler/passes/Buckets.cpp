// SPDX-License-Identifier: Apache-2.0
#include "compiler/passes/Buckets.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace llmc {
namespace {

/// On plan.collective: words of the further parts, three each.
constexpr StringLiteral kPartsAttr = "plan.parts";

// A back-end makes room for the transfers of so many at once (VerifyPrograms).
constexpr size_t kMostParts = 16;

/// Bytes of one rank's part.
int64_t partBytes(dist::StartOp op) {
  auto type = op.getCollective() == "all_gather"
                  ? cast<RankedTensorType>(op.getX().getType())
                  : cast<RankedTensorType>(op.getPending().getType().getType());
  return type.getNumElements() * type.getElementTypeBitWidth() / 8;
}

bool moveAlike(dist::StartOp a, dist::StartOp b) {
  auto element = [](dist::StartOp op) {
    return cast<RankedTensorType>(op.getX().getType()).getElementType();
  };
  return a.getCollective() == b.getCollective() && a.getArgs() == b.getArgs() &&
         element(a) == element(b);
}

} // namespace

void assignBuckets(ArrayRef<dist::StartOp> starts, int64_t mostBytes,
                   int64_t& numBuckets) {
  while (!starts.empty()) {
    size_t count = 1;
    int64_t bytes = partBytes(starts.front());
    while (count < std::min(starts.size(), kMostParts) &&
           moveAlike(starts.front(), starts[count]) &&
           bytes + partBytes(starts[count]) <= mostBytes)
      bytes += partBytes(starts[count++]);
    if (count > 1) {
      Builder builder(starts.front()->getContext());
      for (dist::StartOp start : starts.take_front(count))
        start->setAttr(kBucketAttr, builder.getI64IntegerAttr(numBuckets));
      ++numBuckets;
    }
    starts = starts.drop_front(count);
  }
}

bool shareBucket(dist::StartOp a, dist::StartOp b) {
  Attribute bucket = a->getAttr(kBucketAttr);
  return bucket && bucket == b->getAttr(kBucketAttr);
}

void addPart(plan::CollectiveOp op, const CollectivePart& part) {
  Builder builder(op->getContext());
  auto word = [&](plan::WordKind kind, int64_t value, StringAttr buffer) {
    return plan::WordAttr::get(op->getContext(), kind, value, buffer,
                               dist::ByCoordinateAttr(), StringAttr());
  };
  auto address = [&](StringRef buffer) {
    return word(plan::WordKind::address, 0, builder.getStringAttr(buffer));
  };
  SmallVector<Attribute> words;
  if (auto parts = op->getAttrOfType<ArrayAttr>(kPartsAttr))
    words.append(parts.begin(), parts.end());
  words.append({address(part.send), address(part.recv),
                word(plan::WordKind::integer, part.bytes, StringAttr())});
  op->setAttr(kPartsAttr, builder.getArrayAttr(words));
  size_t numFurther = words.size() / 3;
  std::string subject = op.getSubject().value_or("").str();
  if (numFurther > 1) // it names the number of parts before this one
    subject = StringRef(subject).rsplit(" and ").first.str();
  op.setSubject(subject + " and " + std::to_string(numFurther) + " more");
}

SmallVector<plan::WordAttr> partWords(plan::CollectiveOp op) {
  auto parts = op->getAttrOfType<ArrayAttr>(kPartsAttr);
  if (!parts)
    return {};
  return llvm::to_vector(parts.getAsRange<plan::WordAttr>());
}

SmallVector<CollectivePart> furtherParts(plan::CollectiveOp op) {
  SmallVector<plan::WordAttr> words = partWords(op);
  SmallVector<CollectivePart> parts;
  for (size_t i = 0; i + 2 < words.size(); i += 3)
    parts.push_back({words[i].getBuffer().getValue(),
                     words[i + 1].getBuffer().getValue(),
                     words[i + 2].getValue()});
  return parts;
}

} // namespace llmc
