"""`manifest.json`: all a machine without the training code must know to feed a network and to read its answer.

It is read as untrusted input: size before content, version before fields, and any text at all gives a `Manifest`
or a `BundleError`.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, cast

from edgepress.core.artifact import Program, Signature, TaskName
from edgepress.core.config import STRICT, parse
from edgepress.core.errors import BundleError, ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.runtime.packed import PACKED

MANIFEST = "manifest.json"
FORMAT = 2
"""The newest format that is read; raised by one when an older edgepress could not read, or would misread, a bundle.

Written is the oldest that does: 2 where the weights are packed, else 1.
"""
OLDEST_FORMAT = 1

MAX_MANIFEST_BYTES = 4 << 20  # 21,841 ImageNet labels with their synonyms take 0.7 MB
MAX_BUNDLE_BYTES = 2 << 30  # protobuf, and so ONNX, ends there
MAX_SIDE = 16_384
MAX_LABELS = 100_000

# One plain name: no separator, no leading dot, nothing that a shell or another operating system reads differently.
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,119}")
_WORD = re.compile(r"(?!\.)[A-Za-z0-9_.+-]{0,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # a label is printed on terminals: no escape sequences
_SHA256 = re.compile(r"[0-9a-f]{64}")

POST: dict[TaskName, Literal["softmax", "argmax"]] = {"classification": "softmax", "segmentation": "argmax"}
"""How outputs become an answer: probabilities of the classes, or the class of each pixel. Axis 1 in both."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle: its plain name, its size and its SHA-256 in hex digits."""

    __pydantic_config__ = STRICT

    name: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if not _FILE_NAME.fullmatch(self.name) or self.name.casefold() == MANIFEST:
            raise ValueError(f"{self.name!r} is not a plain file name inside the bundle (letters, digits and '._-')")
        if not 0 <= self.bytes <= MAX_BUNDLE_BYTES:
            raise ValueError(f"{self.name} states {self.bytes} bytes; 0 to {MAX_BUNDLE_BYTES} are allowed")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"{self.name} has no SHA-256 of 64 hex digits")


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds. `provenance` says where the network comes from, `parity` what the gate measured."""

    __pydantic_config__ = STRICT

    format: int
    name: str
    task: TaskName
    input: InputSpec
    labels: tuple[str, ...]
    runtime: str
    precision: str
    files: tuple[FileEntry, ...]
    post: Literal["softmax", "argmax"]
    layout: Literal["NCHW"] = "NCHW"
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    parity: dict[str, float] = field(default_factory=dict[str, float])
    key: str = ""

    def __post_init__(self) -> None:
        if max(self.input.height, self.input.width) > MAX_SIDE:
            raise ValueError(f"an input of {self.input.height}x{self.input.width} is above {MAX_SIDE} pixels a side")
        if not 1 <= len(self.labels) <= MAX_LABELS:
            raise ValueError(f"{len(self.labels)} labels; 1 to {MAX_LABELS} are allowed")
        if any(_CONTROL.search(text) for text in (self.name, *self.labels)):
            raise ValueError("name and labels must not hold control characters")
        if any(_CONTROL.search(text) for text in _texts([self.provenance, self.parity])):
            raise ValueError("provenance and parity must not hold control characters")
        if not all(_WORD.fullmatch(text) for text in (self.runtime, self.precision, self.key)):
            raise ValueError("runtime, precision and key are words of letters, digits and '_.+-'")
        if self.post != POST[self.task]:
            raise ValueError(f"task {self.task} goes with post {POST[self.task]!r}, not {self.post!r}")
        if len({file.name.casefold() for file in self.files}) != len(self.files) or not self.files:
            raise ValueError("files must be at least one, and no name may occur twice")
        if sum(file.bytes for file in self.files) > MAX_BUNDLE_BYTES:
            raise ValueError(f"the files are above {MAX_BUNDLE_BYTES} bytes together")

    @property
    def signature(self) -> Signature:
        """What the network takes and gives."""
        return Signature(self.task, self.input, self.labels)


def _texts(value: object) -> Iterator[str]:
    """Yield every text in a JSON value, names of fields included."""
    waiting: list[object] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            waiting += [*cast("Mapping[object, object]", part), *cast("Mapping[object, object]", part).values()]
        elif isinstance(part, list | tuple):
            waiting += cast("Sequence[object]", part)


def manifest_of(program: Program, name: str) -> Manifest:
    """Return the manifest of `program`, called `name` unless its provenance has a name. Raises `BundleError`."""
    signature = program.signature
    try:
        files = tuple(FileEntry(file, len(data), digest(data)) for file, data in program.files.items())
        return Manifest(
            format=FORMAT if PACKED in program.files else OLDEST_FORMAT,
            name=str(program.provenance.get("name", name)),
            task=signature.task,
            input=signature.input,
            labels=signature.labels,
            runtime=program.runtime,
            precision=program.precision,
            files=files,
            post=POST[signature.task],
            provenance=program.provenance,
            parity=dict(program.parity),
            key=program.key,
        )
    except ValueError as error:
        raise BundleError(f"this program cannot become a bundle: {error}") from None


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` as hex digits."""
    return hashlib.sha256(data).hexdigest()


def encode(manifest: Manifest) -> bytes:
    """Return `manifest` as the text of `manifest.json`; raise `BundleError` where `decode` would refuse it."""
    try:
        text = json.dumps(dataclasses.asdict(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        data = text.encode()
    except (TypeError, ValueError) as error:  # a tensor or a path in the provenance, a NaN in the parity
        raise BundleError(f"provenance and parity must be plain JSON values: {error}") from None
    decode(data)
    return data


def decode(data: bytes, where: str = MANIFEST) -> Manifest:
    """Return the manifest in `data`. `where` names it in errors. Raises `BundleError`, and nothing else."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where}: {len(data)} bytes; a manifest has at most {MAX_MANIFEST_BYTES}")
    try:
        value: object = json.loads(data.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise BundleError(f"{where}: not readable as JSON ({_short(str(error))}); copy or export it again") from None
    if not isinstance(value, dict):
        raise BundleError(f"{where}: expected a JSON object, got {type(value).__name__}; copy or export it again")
    _check_format(value.get("format"), where)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    try:
        return parse(Manifest, value, where)  # pyright: ignore[reportUnknownArgumentType]
    except ConfigError as error:
        shown = [_short(problem) for problem in error.problems[:20]]
        raise BundleError("\n".join(shown)) from None
    except RecursionError:
        raise BundleError(f"{where}: nested too deeply") from None


def _check_format(given: object, where: str) -> None:
    if type(given) is not int:
        raise BundleError(f"{where}: field 'format' must be a whole number, got {_short(repr(given))}")
    if given > FORMAT:
        raise BundleError(
            f"{where}: format {_short(str(given))} is newer than {FORMAT}, the newest this edgepress reads; "
            "run `pip install --upgrade edgepress`, or export the bundle again with this version"
        )
    if given < OLDEST_FORMAT:
        raise BundleError(
            f"{where}: format {_short(str(given))} is older than {OLDEST_FORMAT}, the oldest this edgepress reads; "
            "export the bundle again, or install the edgepress that wrote it"
        )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field occurs twice in one object")
    return found


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
