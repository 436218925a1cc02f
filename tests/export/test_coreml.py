"""Core ML: what can be told of a package on a system that cannot run it, and what its engine refuses anywhere."""

import importlib
import importlib.util
import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgepress.core.artifact import UNPROVEN
from edgepress.core.errors import BundleError, DataError, EdgepressError
from edgepress.core.inputs import InputSpec
from edgepress.export.formats import formats
from edgepress.runtime.coreml_engine import FILE, MANIFEST, MEMBERS, MODEL, CoreMlSession, unpack
from edgepress.runtime.engine import engines
from quantize.nets import images, make, quantized
from runtime.tiny import classifier

writes = pytest.mark.skipif(importlib.util.find_spec("coremltools") is None, reason="coremltools is not installed")
elsewhere = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")


def archive(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive of these members."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", how) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return data.getvalue()


@writes
@pytest.mark.filterwarnings("ignore")  # coremltools's own sources
@elsewhere
@pytest.mark.parametrize(("name", "share"), [("coreml", 4), ("coreml-fp16", 2)])
def test_a_package_is_written_anywhere_and_says_that_it_was_not_proven(name: str, share: int) -> None:
    proto: Any = importlib.import_module("coremltools.proto.Model_pb2")
    model = make("Residual")
    program = formats.get(name)(model, images(4))
    assert program.parity == {} and "Apple" in program.provenance[UNPROVEN]
    assert program.files == formats.get(name)(model, images(4)).files
    with zipfile.ZipFile(io.BytesIO(program.files[FILE])) as package:
        spec = proto.Model.FromString(package.read(MODEL))
        weights = package.read(MEMBERS[1])
    given, answer = spec.description.input[0].type.multiArrayType, spec.description.output[0].type.multiArrayType
    assert tuple(given.shape) == (1, *model.signature.input.shape)
    assert tuple(answer.shape) == (1, len(model.signature.labels))
    large = sum(p.numel() for p in model.module.parameters() if p.numel() > 1000)
    assert share * large <= len(weights) <= 1.3 * share * large


@writes
@pytest.mark.filterwarnings("ignore")  # coremltools's own sources
def test_a_quantized_network_is_refused() -> None:
    with pytest.raises(EdgepressError, match="float networks; this one is w8a8"):
        formats.get("coreml")(quantized("Residual"), images(4))


@elsewhere
def test_a_package_does_not_run_elsewhere() -> None:
    program = replace(classifier(InputSpec(8, 8)), runtime="coreml")
    with pytest.raises(BundleError, match="runs on Apple's systems only; copy it there"):
        engines.get("coreml").load(program, 1)


def test_images_go_in_one_by_one() -> None:
    def predict(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert given["image"].shape == (1, 3, 8, 8)
        return {"logits": given["image"].mean((2, 3))[:, :2]}

    about = SimpleNamespace(input=[SimpleNamespace(name="image")], output=[SimpleNamespace(name="logits")])
    model = SimpleNamespace(predict=predict, get_spec=lambda: SimpleNamespace(description=about))
    signature = replace(classifier(InputSpec(8, 8)).signature, labels=("a", "b"))
    session = CoreMlSession(model, signature)
    given = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    assert np.allclose(session(given), given.mean((2, 3))[:, :2])
    with pytest.raises(DataError, match="does not take"):
        session(given[:, :, :4])
    with pytest.raises(BundleError, match="3 labels"):
        CoreMlSession(model, replace(signature, labels=("a", "b", "c")))
    about.output.append(SimpleNamespace(name="more"))
    with pytest.raises(BundleError, match="2 outputs"):
        CoreMlSession(model, signature)


def test_the_files_of_a_package_are_written(tmp_path: Path) -> None:
    files = {name: name.encode() for name in MEMBERS}
    unpack(archive(files), tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(MEMBERS)
    assert (tmp_path / MANIFEST).read_bytes() == MANIFEST.encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda files: archive(files)[:-30],
        lambda files: archive({**files, "../evil": b"x"}),
        lambda files: archive({name: data for name, data in files.items() if name != MODEL}),
        lambda files: archive(files, zipfile.ZIP_DEFLATED),
        lambda files: archive(files).replace(b"m" * 40, b"n" * 40, 1),
        lambda files: b"",
    ],
    ids=["short", "other", "missing", "compressed", "changed", "empty"],
)
def test_other_archives_are_refused(damage: Callable[[dict[str, bytes]], bytes], tmp_path: Path) -> None:
    files: dict[str, bytes] = {name: b"m" * 100 for name in MEMBERS}
    with pytest.raises(BundleError, match="export it again"):
        unpack(damage(files), tmp_path / "inside")
    assert [path.name for path in tmp_path.iterdir()] in ([], ["inside"])
