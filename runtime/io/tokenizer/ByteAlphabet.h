// SPDX-License-Identifier: Apache-2.0
// The two ways in which vocabularies write bytes. Byte-level ones use GPT-2's
// alphabet: each of the 256 bytes has a printable character (a space is
// U+0120), so that files hold no control characters. SentencePiece ones have a
// token <0x0A> for each byte. The tokenizer itself works on bytes; this is for
// reading files.
#pragma once

#include <string>
#include <string_view>

namespace llmrt {

/// Turns a token written in the byte alphabet into its bytes, appended to
/// `out`. Returns false, and appends nothing, if a character is outside the
/// alphabet.
bool appendBytesOfAlphabet(std::string_view written, std::string& out);

/// Returns the byte that a token such as "<0x0A>" stands for, or -1.
int byteOfToken(std::string_view token);

} // namespace llmrt
