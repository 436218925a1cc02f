"""What a processor can do, read from what systems say of real ones; and what that means for a bundle."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from edgepress.core.artifact import Program
from edgepress.core.inputs import InputSpec
from edgepress.runtime import onnxruntime_engine
from edgepress.runtime.hardware import (
    Hardware,
    HardwareWarning,
    exact_on,
    explain,
    from_cpuinfo,
    from_sysctl,
    may_saturate,
    this_machine,
)
from edgepress.runtime.predictor import EnginePredictor
from runtime.tiny import classifier

COMMON = "fpu vme sse sse2 ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand abm bmi1 avx2 bmi2"

# The flags that matter, as /proc/cpuinfo of these machines lists them.
AVX512 = f"{COMMON} avx512f avx512dq avx512cd avx512bw avx512vl"
CASCADE_LAKE = f"model name\t: Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz\nflags\t\t: {AVX512} avx512_vnni\n"
SKYLAKE = f"model name\t: Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz\nflags\t\t: {AVX512}\n"
ALDER_LAKE = f"model name\t: 12th Gen Intel(R) Core(TM) i7-1260P\nflags\t\t: {COMMON} sha_ni avx_vnni vaes\n"
ZEN2 = f"model name\t: AMD EPYC 7R32\nflags\t\t: {COMMON} sse4a misalignsse 3dnowprefetch clwb sha_ni\n"
ZEN3 = f"model name\t: AMD EPYC 7R13 Processor\nflags\t\t: {COMMON} sse4a clwb sha_ni vaes vpclmulqdq\n"
ZEN4 = f"model name\t: AMD EPYC\nflags\t\t: {AVX512} avx512_bf16 avx512vbmi avx512_vnni avx512_bitalg\n"
CELERON = "model name\t: Intel(R) Celeron(R) CPU J3355 @ 2.00GHz\nflags\t\t: fpu sse sse2 ssse3 sse4_1 sse4_2\n"
PI4 = "BogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n"
PI4_32_BITS = (
    "model name\t: ARMv7 Processor rev 3 (v7l)\nFeatures\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva\n"
)
PI5 = (
    "BogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm "
    "lrcpc dcpop asimddp\nCPU part\t: 0xd0b\n"
)
RISCV = "processor\t: 0\nhart\t\t: 1\nisa\t\t: rv64imafdc\nmmu\t\t: sv39\n"
M1 = "hw.optional.arm64: 1\nhw.optional.neon: 1\nhw.optional.arm.FEAT_DotProd: 1\nmachdep.cpu.brand_string: Apple M1\n"
MAC_COFFEE_LAKE = (
    "hw.optional.avx2_0: 1\nmachdep.cpu.brand_string: Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz\n"
    "machdep.cpu.features: FPU VME SSE SSE2 SSSE3 FMA AVX1.0\nmachdep.cpu.leaf7_features: BMI1 AVX2 BMI2\n"
)
MAC_ICE_LAKE = MAC_COFFEE_LAKE.replace("AVX2 BMI2", "AVX2 BMI2 AVX512F AVX512VNNI")

MACHINES = {
    "cascade lake": (from_cpuinfo(CASCADE_LAKE), "vnni"),
    "skylake": (from_cpuinfo(SKYLAKE), "saturating"),
    "alder lake": (from_cpuinfo(ALDER_LAKE), "vnni"),
    "zen 2": (from_cpuinfo(ZEN2), "saturating"),
    "zen 3": (from_cpuinfo(ZEN3), "saturating"),
    "zen 4": (from_cpuinfo(ZEN4), "vnni"),
    "celeron": (from_cpuinfo(CELERON), "saturating"),
    "raspberry pi 4": (from_cpuinfo(PI4), "neon"),
    "raspberry pi 4, 32 bits": (from_cpuinfo(PI4_32_BITS), "neon"),
    "raspberry pi 5": (from_cpuinfo(PI5), "dotprod"),
    "risc-v": (from_cpuinfo(RISCV), "unknown"),
    "nothing": (from_cpuinfo(""), "unknown"),
    "apple m1": (from_sysctl(M1), "dotprod"),
    "mac with coffee lake": (from_sysctl(MAC_COFFEE_LAKE), "saturating"),
    "mac with ice lake": (from_sysctl(MAC_ICE_LAKE), "vnni"),
    "sysctl that says nothing": (from_sysctl("error: unknown oid\n"), "unknown"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_real_processors(name: str) -> None:
    hardware, arithmetic = MACHINES[name]
    assert hardware.arithmetic == arithmetic and hardware.describe()


def test_processors_that_differ_can_do_what_all_can() -> None:
    assert from_cpuinfo(PI5 + "\n" + PI4).arithmetic == "neon"


def test_this_machine_is_read() -> None:
    assert this_machine() is this_machine()


def program(precision: str = "w8a8", **provenance: object) -> Program:
    return replace(classifier(InputSpec(4, 4, 3)), precision=precision, provenance=provenance)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (program(exact_on=["any"]), ("any",)),
        (program(exact_on=["vnni", "dotprod", "neon"]), ("vnni", "dotprod", "neon")),
        (program(), ("vnni", "dotprod", "neon")),  # written before bundles said so
        (program("w4a8"), ("vnni", "dotprod", "neon")),  # its first layer may have 8 bits
        (program("w4a8", exact_on=["any"]), ("any",)),
        (program("w2-8a8"), ("vnni", "dotprod", "neon")),
        (program("fp32"), ("any",)),
        (program("w16a32"), ("any",)),  # weights are stored in FP16, and the arithmetic is FP32
        (program(exact_on="any"), ("vnni", "dotprod", "neon")),  # damaged: like one that does not say
        (program(exact_on=["anything"]), ("vnni", "dotprod", "neon")),
        (program(exact_on=[]), ("vnni", "dotprod", "neon")),
        (program(exact_on=[3]), ("vnni", "dotprod", "neon")),
    ],
)
def test_on_what_a_bundle_is_exact(given: Program, expected: tuple[str, ...]) -> None:
    assert exact_on(given) == expected
    assert may_saturate(given, MACHINES["zen 3"][0]) == ("any" not in expected)
    for safe in ("zen 4", "raspberry pi 4", "raspberry pi 5", "nothing"):
        assert not may_saturate(given, MACHINES[safe][0])


def loaded_on(hardware: Hardware, given: Program, monkeypatch: pytest.MonkeyPatch) -> list[warnings.WarningMessage]:
    monkeypatch.setattr(onnxruntime_engine, "may_saturate", lambda asked: may_saturate(asked, hardware))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outputs = EnginePredictor(given)(np.zeros((1, 4, 4, 3), np.uint8))
    assert np.isfinite(outputs).all()
    return caught


def test_loading_warns_with_reason_and_cure_where_sums_could_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    [caught] = loaded_on(MACHINES["zen 3"][0], program(), monkeypatch)
    assert issubclass(caught.category, HardwareWarning)
    assert all(word in str(caught.message) for word in ("no VNNI", "w8a8", "dotprod", "slower", "weights: 7"))
    assert str(caught.message) == explain(program())


@pytest.mark.parametrize(("machine", "given"), [("zen 3", program(exact_on=["any"])), ("zen 4", program())])
def test_loading_is_silent_where_sums_are_exact(machine: str, given: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not loaded_on(MACHINES[machine][0], given, monkeypatch)
