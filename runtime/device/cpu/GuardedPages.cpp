// SPDX-License-Identifier: Apache-2.0
// The handler only reads a fixed table and calls mprotect. A fault elsewhere
// goes to whoever handled the signal before.
#include "runtime/device/cpu/GuardedPages.h"

#include "runtime/base/Error.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace llmrt {
namespace {

/// Of this process; local ranks are threads, each with one.
constexpr int kMostMemories = 1024;
std::atomic<GuardedPages*> memories[kMostMemories];

struct sigaction earlierAction;

thread_local bool isCommunicationThread = false;

bool isWriteFault(const void* context) {
#if defined(__x86_64__)
  constexpr greg_t kWriteBit = 2; // of the page fault's error code
  const auto* c = static_cast<const ucontext_t*>(context);
  return (c->uc_mcontext.gregs[REG_ERR] & kWriteBit) != 0;
#else
  return false;
#endif
}

void handleSignal(int signal, siginfo_t* info, void* context) {
  int errnum = errno;
  for (std::atomic<GuardedPages*>& memory : memories)
    if (GuardedPages* pages = memory.load(std::memory_order_acquire))
      if (pages->handle(info->si_addr, isWriteFault(context))) {
        errno = errnum;
        return;
      }
  if ((earlierAction.sa_flags & SA_SIGINFO) && earlierAction.sa_sigaction)
    return earlierAction.sa_sigaction(signal, info, context);
  sigaction(signal, &earlierAction, nullptr); // and faults again
}

void installHandler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = handleSignal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &earlierAction);
  });
}

} // namespace

absl::StatusOr<std::unique_ptr<GuardedPages>>
GuardedPages::create(int64_t sizeBytes) {
  auto fail = [&](absl::string_view why) {
    return makeError(ErrorCode::OutOfMemory,
                     absl::StrCat("cannot have ", sizeBytes >> 20,
                                  " MiB to check the memory of a plan: ", why),
                     "run without the check, or with a smaller model");
  };
  sizeBytes = (sizeBytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* base = mmap(nullptr, sizeBytes, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED)
    return fail(std::strerror(errno));
  // A touched page is to say nothing about its neighbours.
  madvise(base, sizeBytes, MADV_NOHUGEPAGE);
  installHandler();
  std::unique_ptr<GuardedPages> made(
      new GuardedPages(static_cast<uint8_t*>(base), sizeBytes));
  for (std::atomic<GuardedPages*>& memory : memories) {
    GuardedPages* none = nullptr;
    if (memory.compare_exchange_strong(none, made.get()))
      return made;
  }
  return fail("too many ranks in one process");
}

GuardedPages::~GuardedPages() {
  for (std::atomic<GuardedPages*>& memory : memories) {
    GuardedPages* self = this;
    memory.compare_exchange_strong(self, nullptr);
  }
  munmap(data_, sizeBytes_);
}

GuardedPages::Pages GuardedPages::pagesOf(int64_t offset,
                                          int64_t sizeBytes) const {
  if (sizeBytes <= 0)
    return {data_, 0};
  int64_t begin = offset / kPageBytes * kPageBytes;
  int64_t numPages = (offset + sizeBytes - begin + kPageBytes - 1) / kPageBytes;
  return {data_ + begin, numPages * kPageBytes};
}

// Pages come as zeros; to write them would be to touch them.
void GuardedPages::open(int64_t offset, int64_t sizeBytes, uint32_t pattern) {
  Pages pages = pagesOf(offset, sizeBytes);
  mprotect(pages.begin, pages.sizeBytes, PROT_READ | PROT_WRITE);
  if (pattern != 0)
    std::fill_n(reinterpret_cast<uint32_t*>(pages.begin), pages.sizeBytes / 4,
                pattern);
}

void GuardedPages::close(int64_t offset, int64_t sizeBytes) {
  Pages pages = pagesOf(offset, sizeBytes);
  madvise(pages.begin, pages.sizeBytes, MADV_DONTNEED);
  mprotect(pages.begin, pages.sizeBytes, PROT_NONE);
}

int64_t GuardedPages::touchedBytes(int64_t offset, int64_t sizeBytes,
                                   uint32_t) {
  Pages pages = pagesOf(offset, sizeBytes);
  int64_t numPages = pages.sizeBytes / kPageBytes;
  std::vector<unsigned char> isResident(numPages);
  if (mincore(pages.begin, pages.sizeBytes, isResident.data()) != 0)
    return 0;
  while (numPages > 0 && !(isResident[numPages - 1] & 1))
    --numPages;
  return std::clamp<int64_t>(
      pages.begin - data_ + numPages * kPageBytes - offset, 0, sizeBytes);
}

void GuardedPages::setMark(Stream stream, int64_t mark) {
  if (stream == Stream::Communication)
    isCommunicationThread = true;
  marks_[static_cast<int>(stream)].store(mark, std::memory_order_relaxed);
}

std::optional<AccessFault> GuardedPages::takeFault() {
  if (faultState_.load(std::memory_order_acquire) != Ready)
    return std::nullopt;
  AccessFault fault = fault_;
  faultState_.store(None, std::memory_order_release);
  return fault;
}

bool GuardedPages::handle(const void* address, bool isWrite) {
  int64_t offset = static_cast<const uint8_t*>(address) - data_;
  if (offset < 0 || offset >= sizeBytes_)
    return false;
  int expected = None;
  if (faultState_.compare_exchange_strong(expected, Writing)) {
    Stream stream =
        isCommunicationThread ? Stream::Communication : Stream::Compute;
    fault_ = {offset, isWrite, isCommunicationThread,
              marks_[static_cast<int>(stream)].load(std::memory_order_relaxed)};
    faultState_.store(Ready, std::memory_order_release);
  }
  return mprotect(data_ + offset / kPageBytes * kPageBytes, kPageBytes,
                  PROT_READ | PROT_WRITE) == 0;
}

} // namespace llmrt
