"""`unpack`: the plain ONNX file of a bundle."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from cli.helpers import Call, Small, fresh
from edgepress.core.artifact import Program
from edgepress.runtime.bundle import read_bundle, save_bundle
from edgepress.runtime.packed import MAGIC, PACKED, PLAIN


@pytest.fixture
def packed(small: Small, tmp_path: Path) -> tuple[Path, Program]:
    """A bundle whose file is packed, and the program with the plain one."""
    plain = read_bundle(small.bundle)
    outline = b"\0\0" + plain.files[PLAIN]
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = stream.compress(outline) + stream.flush()
    data = MAGIC + struct.pack("<II", len(outline), len(body)) + body
    save_bundle(replace(plain, files={PACKED: data}), tmp_path / "packed bundle")
    return tmp_path / "packed bundle", plain


def test_unpack_on_the_base_install(packed: tuple[Path, Program], tmp_path: Path) -> None:
    bundle, plain = packed
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('torch', 'onnx', 'onnx_ir', 'onnxscript'):\n    sys.modules[name] = None\n"
    )
    done = fresh("unpack", bundle, tmp_path / "out" / "plain.onnx", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "plain.onnx").read_bytes() == plain.files[PLAIN]
    assert f"{len(plain.files[PLAIN]):,} bytes" in done.stdout


def test_a_plain_bundle_and_a_stage_of_a_run_work_too(small: Small, call: Call, tmp_path: Path) -> None:
    for given in (str(small.bundle), "small/file"):
        result = call("unpack", given, tmp_path / "plain.onnx", "--force", "--runs", small.runs)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "plain.onnx").read_bytes() == read_bundle(small.bundle).files[PLAIN]


def test_no_file_is_replaced_unasked(small: Small, call: Call, tmp_path: Path) -> None:
    target = tmp_path / "mine.onnx"
    target.write_bytes(b"mine")
    result = call("unpack", small.bundle, target)
    assert result.exit_code == 2 and "--force" in result.output
    assert target.read_bytes() == b"mine"
    assert call("unpack", small.bundle, tmp_path).exit_code == 2


def test_a_damaged_bundle_leaves_no_file(packed: tuple[Path, Program], tmp_path: Path) -> None:
    bundle, plain = packed
    data = (bundle / PACKED).read_bytes()
    save_bundle(replace(plain, files={PACKED: data[:-1]}), bundle)
    done = fresh("unpack", bundle, tmp_path / "plain.onnx")
    assert (
        done.returncode == 4
        and "model.packed: not a readable packed file" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "plain.onnx").exists()
