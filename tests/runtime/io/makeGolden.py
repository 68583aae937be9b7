#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes Golden.inc: files and blocks made by the Python packages that define the formats.

    pip install numpy==2.4.6 safetensors==0.8.0 gguf==0.19.0
    python3 makeGolden.py > Golden.inc

Every line is an entry GOLDEN(kind, name, hex of the input, hex of the expected floats).
`Quantized`: the input is what gguf.quants.quantize makes of the floats. Dequantized values come from gguf.quants.dequantize; scales are finite, so that no NaN
payload is compared.
"""
import importlib.metadata
import io
import os
import sys
import tempfile

import gguf
import numpy
import safetensors.numpy

QUANTIZED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# Byte offsets of the f16 scales of a block.
SCALES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def emit(kind, name, data, values=b""):
    print(f'GOLDEN({kind}, "{name}", "{data.hex()}", "{values.hex()}")')


def random_blocks(random, name, count):
    kind = gguf.GGMLQuantizationType[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (count, size), dtype=numpy.uint8)
    for i in range(count):
        for offset in SCALES[name]:
            # The first block has a subnormal scale, the others any finite one.
            scale = random.integers(1, 1024) if i == 0 else random.integers(0, 0x7C00)
            scale |= random.integers(0, 2) << 15
            blocks[i, offset:offset + 2] = [scale & 255, scale >> 8]
    return kind, blocks


def emit_blocks(random):
    for name in QUANTIZED:
        kind, blocks = random_blocks(random, name, 2 if "K" in name else 4)
        values = gguf.quants.dequantize(blocks, kind)
        emit("Blocks", name, blocks.tobytes(), values.astype("<f4").tobytes())


def emit_quantized(random):
    """What gguf.quants.quantize makes of blocks: zeros, one element, halves between two
    levels, subnormal and infinite factors, and random ones of many magnitudes."""
    blocks = numpy.zeros((12, 32), dtype=numpy.float32)
    blocks[1, 5] = -3.25
    blocks[2] = (numpy.arange(32) - 16) / 2  # q8_0: many halves
    blocks[2, 0] = 127
    blocks[3] = numpy.arange(32) / 2 - 7.5  # q4_0: many halves
    blocks[3, 0] = -8
    blocks[4] = random.standard_normal(32) * 1e-7  # factor is subnormal, or 0
    blocks[5] = random.standard_normal(32) * 1e-30
    blocks[6] = random.standard_normal(32) * 1e8  # too large for a half
    blocks[7, ::3], blocks[7, 1::3] = 2.5, -2.5  # equal magnitudes
    for i in range(8, 12):
        blocks[i] = random.standard_normal(32) * 10.0 ** (2 * i - 20)
    for name in ["Q8_0", "Q4_0"]:
        with numpy.errstate(over="ignore"):
            made = gguf.quants.quantize(blocks, gguf.GGMLQuantizationType[name])
        emit("Quantized", name, made.tobytes(), blocks.astype("<f4").tobytes())


def emit_gguf(random):
    path = os.path.join(tempfile.mkdtemp(), "golden.gguf")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("t.u8", 200)
    writer.add_int8("t.i8", -100)
    writer.add_uint16("t.u16", 60000)
    writer.add_int16("t.i16", -30000)
    writer.add_uint32("t.u32", 4000000000)
    writer.add_int32("t.i32", -2000000000)
    writer.add_uint64("t.u64", 1 << 63)
    writer.add_int64("t.i64", -(1 << 62))
    writer.add_float32("t.f32", 1.5)
    writer.add_float64("t.f64", 0.1)
    writer.add_bool("t.bool", True)
    writer.add_string("t.text", "h\u00e9llo")
    writer.add_array("t.texts", ["a", "", "bcd"])
    writer.add_array("t.integers", [1, -2, 3])
    writer.add_array("t.numbers", [0.5, -2.0])
    writer.add_tensor("a.weight", numpy.arange(6, dtype=numpy.float32).reshape(2, 3))
    values = random.standard_normal((2, 64)).astype(numpy.float32)
    blocks = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    dequantized = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
    emit("Gguf", "golden.gguf", open(path, "rb").read(), dequantized.tobytes())


def emit_safetensors():
    tensors = {
        "weight": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
        "half": numpy.array([0.5, -2], dtype=numpy.float16),
        "ids": numpy.array([7, -1], dtype=numpy.int64),
        "scalar": numpy.array(3.25, dtype=numpy.float64),
        "nothing": numpy.zeros((0, 4), dtype=numpy.float32),
        "mask": numpy.array([True, False, True]),
    }
    data = safetensors.numpy.save(tensors, metadata={"format": "np"})
    emit("Safetensors", "golden.safetensors", data)


def emit_npy():
    array = numpy.arange(6, dtype=numpy.float32).reshape(2, 3) / 4
    for version in [(1, 0), (2, 0), (3, 0)]:
        file = io.BytesIO()
        numpy.lib.format.write_array(file, array, version=version)
        emit("Npy", f"version {version[0]}", file.getvalue(), array.tobytes())


print("// SPDX-License-Identifier: Apache-2.0")
print(f"// Made by makeGolden.py with numpy {numpy.__version__}, safetensors"
      f" {safetensors.__version__},")
print(f"// gguf {importlib.metadata.version('gguf')}. Do not edit. clang-format off")
generator = numpy.random.default_rng(2026)
emit_blocks(generator)
emit_gguf(generator)
emit_safetensors()
emit_npy()
emit_quantized(generator)
sys.stdout.flush()
