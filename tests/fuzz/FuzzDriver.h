// SPDX-License-Identifier: Apache-2.0
// How a reader of files is fuzzed. One source file per reader defines the two
// functions below; llmc_fuzz(NAME RUNS .. SOURCES .. DEPS ..) in CMakeLists.txt
// makes two programs of it.
//
// NAME_fuzz_short is an ordinary program with FuzzDriver.cpp's main. It mutates
// the seeds by a fixed random sequence, in ctest and in every preset.
//
//   NAME_fuzz_short --runs=1000000 --seed=1
//   NAME_fuzz_short FILE...              one run for each file
//   NAME_fuzz_short --write-seeds=DIR    a corpus to begin from
//   NAME_fuzz_short --seed=1 --from=RUN --save=FILE
//
// A crash prints the number of the run; the last line writes its input.
//
// NAME_fuzz is libFuzzer, guided by coverage. It needs a clang with its
// runtime; on Debian 12: clang-14 and libclang-rt-14-dev.
//
//   cmake -S . -B build/fuzz -G Ninja -DLLMC_BUILD_FUZZERS=ON
//     -DLLMC_BUILD_COMPILER=OFF -DCMAKE_CXX_COMPILER=clang++-14
//     -DCMAKE_CXX_FLAGS="-fsanitize=fuzzer-no-link,address,undefined
//     -fno-sanitize-recover=undefined"
//   build/fuzz/bin/NAME_fuzz -runs=1000000 -max_len=8192 CORPUS
//
// A target calls the reader on a span of exactly the given bytes and then uses
// all it returns, so that a wrong span is touched under the address sanitizer.
// Bad input must give a status; a checksum over the input must be switched off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

/// Runs the reader on one input. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t sizeBytes);

/// Returns a few valid inputs, small (a few KiB) and different.
std::vector<std::string> fuzzSeeds();
