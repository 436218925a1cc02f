"""Files are made in processes of their own: what crashes or refuses empties one cell, and is not tried again."""

import os
from pathlib import Path

import pytest

from edgepress.core.errors import ConfigError
from edgepress.measure.base import Quiet
from edgepress.measure.cell import Cell
from edgepress.measure.prepare import (
    Wanted,
    Workshop,
    cells_of,
    check_wanted,
    from_model,
    layer_names,
    networks_of,
    precision_of,
)

ODD = """
import edgepress.measure.workshop as workshop
import os, signal, sys
from pathlib import Path

def export(model, format, images, to, onnx):
    from edgepress.core.errors import EdgepressError
    if format == "ncnn":
        print("about to fail", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if format == "litert":
        raise EdgepressError("LiteRT has no such operation")
    to.mkdir(parents=True)
    (to / "process").write_text(str(os.getpid()))

workshop.COMMANDS["export"] = export
"""
"""A workshop that does not need PyTorch, which its process finds through `sitecustomize`."""

FORMATS = ("onnx", "openvino", "ncnn", "litert", "executorch")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose workshop misbehaves."""
    (tmp_path / "odd.py").write_text(ODD + "\nraise SystemExit(workshop.main())\n")
    monkeypatch.setattr(Workshop, "module", "odd")
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), before])))
    return tmp_path / "store"


def test_a_crash_fails_one_file_and_the_next_gets_a_new_process(odd: Path) -> None:
    networks = {"fp32": odd / "model"}
    with Workshop(odd) as shop:
        cells = from_model("net", networks, odd / "gate.npy", FORMATS, Wanted(FORMATS[1:]), shop, Quiet())
        cells += from_model("net", networks, odd / "gate.npy", ("onnx",), Wanted(("onnxruntime",)), shop, Quiet())
    reasons = {cell.runtime: cell.reason for cell in cells}
    assert reasons == {
        "openvino": "", "ncnn": "crashed with SIGSEGV: about to fail", "litert": "LiteRT has no such operation",
        "executorch": "", "onnxruntime": "",
    }  # fmt: skip
    made = {cell.runtime: (cell.folder / "process").read_text() for cell in cells if cell.folder}
    assert len(set(made.values())) == 3, "one before the crash, one for executorch alone, one after"
    with Workshop(odd) as shop:
        again = from_model("net", networks, odd / "gate.npy", FORMATS, Wanted(FORMATS[1:]), shop, Quiet())
    assert {cell.runtime: cell.reason for cell in again} == {k: v for k, v in reasons.items() if k != "onnxruntime"}


def test_what_is_wanted_is_spelled_as_people_say_it() -> None:
    wanted = Wanted(precisions=("int8", "fp16"))
    assert wanted.takes("any", "w8a8") and wanted.takes("onnxruntime", "w16a32") and wanted.takes("openvino", "fp16")
    assert not wanted.takes("any", "fp32") and not Wanted(("ncnn",)).takes("openvino", "fp32")
    assert Wanted().takes("any", "w4a8") and not Wanted().takes("any", "w2a8"), "two bits need training"
    assert Wanted(precisions=("int2",)).takes("any", "w2a8")
    assert precision_of("onnx-fp16", "fp32") == "w16a32" and precision_of("openvino-bf16", "w8a8") == "w8a8+bf16"
    check_wanted(Wanted(("torch", "onnxruntime-cuda"), ("int4",)), FORMATS)
    with pytest.raises(ConfigError, match="did you mean 'onnxruntime'"):
        check_wanted(Wanted(("onnxruntim",)), FORMATS)


def test_engines_without_files_of_their_own_run_those_of_another(tmp_path: Path) -> None:
    cell = Cell("net", "onnx", "onnxruntime", "fp32", 1, 1, tmp_path)
    found = {one.runtime: one for one in cells_of(cell, Wanted(threads=(1, 2)))}
    assert set(found) == {"onnxruntime", "onnxruntime-cuda", "onnxruntime-tensorrt"}
    cuda = found["onnxruntime-cuda"]
    assert cuda.device == "cuda" and ((cuda.folder is None) == bool(cuda.reason))
    assert len(cells_of(cell, Wanted(threads=(1, 2)))) == 6
    assert [one.runtime for one in cells_of(cell, Wanted(("onnxruntime-cuda",)))] == ["onnxruntime-cuda"]


def test_what_cannot_be_quantized_leaves_its_reason(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    store = tmp_path / "store"
    with Workshop(store) as shop:
        wanted = Wanted(("onnxruntime",), ("int8",))
        networks = networks_of("net", tmp_path / "absent", "fp32", tmp_path / "no.npy", ("onnx",), wanted, shop)
        assert layer_names("net", tmp_path / "absent", shop) == []
        (cell,) = from_model("net", networks, tmp_path / "no.npy", ("onnx",), wanted, shop, Quiet())
    assert cell.folder is None and cell.reason.startswith("not quantized: ")
