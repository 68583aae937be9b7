# SPDX-License-Identifier: Apache-2.0
"""is everything right: kernels, communicators, whole plans, losses, memory"""
from gpusuite import gtests, parity, sanitize, text, training
from gpusuite.gtests import KERNELS, by_case, by_suite, gtest
from gpusuite.results import Item

# What the library multiplies where it is there has a kernel of ours too.
OWN_PRODUCTS = "CudaLinear*.*:CudaFusedLinear.*"
# Attention has other forms on sm_90 than elsewhere.
OWN_ATTENTION = "CudaAttention*.*"
WITHOUT_LIBRARY = {"LLMRT_CUBLASLT_LIBRARY": "off"}
WITHOUT_WGMMA = {"LLMRT_CUDA_WGMMA": "off"}
# Decode's kernels begin before those before them have ended. A kernel that a test runs by
# itself follows a copy, and never does.
WITHOUT_EARLY_LAUNCH = {"LLMRT_CUDA_EARLY_LAUNCH": "off"}
EARLY_PLANS = "Families/PlansOnGpu.*/llama3_*:Blocks/PlansOnGpu.*/qwen3_q8_0_gguf_bf16*"
# Which half is ill, when plans hang.
VARIANTS = {
    "without early launches": WITHOUT_EARLY_LAUNCH,
    "without wgmma": WITHOUT_WGMMA,
    "without cuBLASLt": WITHOUT_LIBRARY,
}
# Ranks that are threads wait for each other on the GPU: no kernel may be loaded while
# another waits, and each stream needs a queue of its own.
SHARED = {"CUDA_MODULE_LOADING": "EAGER", "CUDA_DEVICE_MAX_CONNECTIONS": "32"}


def items(suite, results):
    """What the rest stands on comes first."""
    yield from gtests.items(suite, "device", ["device-gpu-test"], "*", by_suite, 30)
    yield from gtests.items(
        suite, "kernels", KERNELS, "-CudaEmulation.*:CudaResources.*:WgmmaEmulation.*",
        by_suite, 30,
    )  # fmt: skip
    yield Item(
        "kernels without wgmma", gtest(suite, KERNELS, OWN_ATTENTION, WITHOUT_WGMMA), 5, 30
    )
    yield Item(
        "kernels without cuBLASLt", gtest(suite, KERNELS, OWN_PRODUCTS, WITHOUT_LIBRARY), 5, 30
    )
    yield Item(
        "plans without early launches",
        gtest(suite, ["plans-gpu-test"], EARLY_PLANS, WITHOUT_EARLY_LAUNCH), 10, 30,
    )  # fmt: skip
    yield Item("memcheck failed kernels", sanitize.failed_kernels(suite, results), 10, 60)
    yield from gtests.items(
        suite, "plan", ["plans-gpu-test"], "*", by_case, 20, variants=VARIANTS
    )
    yield from gtests.items(
        suite, "communicator", ["communicator-gpu-test"], "*", by_suite, 60, SHARED
    )
    yield from text.items(suite)
    yield from training.items(suite, VARIANTS)
    yield from parity.items(suite)
    yield from sanitize.items(suite)
