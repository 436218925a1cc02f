"""Which integer arithmetic this processor has, and whether the sums of an INT8 file are exact on it.

ONNX Runtime multiplies unsigned 8-bit activations with signed 8-bit weights (U8S8). x86 processors with VNNI, and all
ARM processors, add the products in 32 bits. x86 processors without VNNI add pairs of products in 16 bits that saturate
(`vpmaddubsw`): two large weights of the same sign that stand side by side give a wrong sum, without any message. A
bundle says in its provenance, as `exact_on`, on which arithmetic its sums are exact: `["any"]` where no pair of its
weights can saturate (always so with 7 bits or fewer), else those that do not saturate.
"""

import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast

from edgepress.core.artifact import Program

Arithmetic = Literal["vnni", "dotprod", "neon", "saturating", "unknown"]
"""How products of bytes are added: by x86 VNNI, by ARM dot products, by ARM NEON without them (exact, slower), in pairs
of saturating 16 bits (x86 without VNNI), or nobody knows."""

ANY = "any"
NOT_SATURATING: tuple[Arithmetic, ...] = ("vnni", "dotprod", "neon")
PROVENANCE = "exact_on"
"""The entry of a bundle's provenance. It lies there because a manifest with a new field would be refused by older
readers, while provenance is free for new entries."""

CURE = "quantize with `weights: 7, first_last: 7`, whose sums are exact everywhere, and export again"

_X86_VNNI = {"avx512_vnni", "avx_vnni"}
_KINDS: dict[Arithmetic, str] = {
    "vnni": "INT8 products are added in 32 bits by VNNI: exact, fast",
    "dotprod": "INT8 products are added in 32 bits by dot-product instructions: exact, fast",
    "neon": "INT8 products are added in 32 bits, without dot-product instructions: exact, slower",
    "saturating": "no VNNI: fast INT8 kernels saturate in 16 bits; files that could be wrong run on exact, slower ones",
    "unknown": "unknown: this system does not say what its processor can do",
}


class HardwareWarning(UserWarning):
    """What is asked of this processor it does correctly, but not at full speed."""


@dataclass(frozen=True)
class Hardware:
    """A processor as its operating system describes it."""

    architecture: Literal["x86", "arm", "unknown"]
    features: frozenset[str]
    """Instruction sets by the names that Linux gives them (`avx2`, `avx512_vnni`, `asimddp`)."""

    @property
    def arithmetic(self) -> Arithmetic:
        """How this processor adds products of bytes."""
        if self.architecture == "unknown" or not self.features:
            return "unknown"
        if self.architecture == "arm":
            return "dotprod" if "asimddp" in self.features else "neon"
        return "vnni" if self.features & _X86_VNNI else "saturating"

    def describe(self) -> str:
        """Return one line for `edgepress doctor`."""
        return _KINDS[self.arithmetic]


def from_cpuinfo(text: str) -> Hardware:
    """Return what a Linux `/proc/cpuinfo` says; of processors that differ, what all of them have."""
    lines = re.findall(r"^(flags|Features)[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
    if not lines:
        return Hardware("unknown", frozenset())
    common = frozenset[str].intersection(*(frozenset(names.split()) for _, names in lines))
    return Hardware("x86" if lines[0][0] == "flags" else "arm", common)


def from_sysctl(text: str) -> Hardware:
    """Return what macOS says, from the lines `name: value` of `sysctl hw.optional machdep.cpu`."""
    values = dict(re.findall(r"^([\w.]+):[ \t]*(.*)$", text, re.MULTILINE))
    if values.get("hw.optional.arm64") == "1":
        names = {"hw.optional.neon": "asimd", "hw.optional.arm.FEAT_DotProd": "asimddp"}
        found = {"asimd", *(feature for name, feature in names.items() if values.get(name) == "1")}
        return Hardware("arm", frozenset(found))
    listed = f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}".split()
    if not listed:
        return Hardware("unknown", frozenset())
    renamed = {"AVX512VNNI": "avx512_vnni", "AVXVNNI": "avx_vnni"}
    return Hardware("x86", frozenset(renamed.get(name, name.lower()) for name in listed))


@cache
def this_machine() -> Hardware:
    """Return the processor this runs on."""
    if sys.platform == "linux":
        return from_cpuinfo(_cpuinfo(Path("/proc/cpuinfo")))
    if sys.platform == "darwin":
        return from_sysctl(_sysctl())
    if platform.machine().lower() in ("arm64", "aarch64"):
        return Hardware("arm", frozenset({"asimd"}))  # what every 64-bit ARM processor has
    return Hardware("unknown", frozenset())


def exact_on(program: Program) -> tuple[str, ...]:
    """Return on which arithmetic the sums of `program` are exact.

    A bundle with integer weights that does not say so (of an older edgepress, or damaged there) counts as one with
    8-bit weights.
    """
    stated: object = program.provenance.get(PROVENANCE)
    known = {ANY, *NOT_SATURATING}
    if isinstance(stated, Sequence) and not isinstance(stated, str):
        words = cast("Sequence[object]", stated)
        if words and all(isinstance(word, str) and word in known for word in words):
            return tuple(str(word) for word in words)
    return NOT_SATURATING if re.match(r"w[2-8](-\d+)?a\d", program.precision) else (ANY,)


def may_saturate(program: Program, here: Hardware | None = None) -> bool:
    """Return whether fast integer kernels could add the products of `program` wrongly on `here`, by default this
    machine. An unknown processor counts as one that adds exactly."""
    here = here or this_machine()
    return here.arithmetic == "saturating" and not {ANY, "saturating"} & set(exact_on(program))


def explain(program: Program) -> str:
    """Return the warning for a program that may saturate here: the reason, what is done about it, and the cure."""
    return (
        "this processor has no VNNI: its fast INT8 kernels add products in 16 bits, which the weights of this "
        f"{program.precision} bundle can overflow (exact on: {', '.join(exact_on(program))}). It runs on exact but "
        f"slower kernels instead. For full speed here, {CURE}"
    )


def _cpuinfo(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sysctl() -> str:
    try:
        done = subprocess.run(
            ["sysctl", "hw.optional", "machdep.cpu"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
