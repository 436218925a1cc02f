"""What goes onto the device stays lean: what is imported, and how long the first answer takes."""

import json
import subprocess
import sys
import textwrap

import pytest

WORKSHOP = {"torch", "torchvision", "onnx", "timm", "pandas", "pyarrow", "sklearn", "scipy", "matplotlib"}


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh process holds after `code`."""
    script = (
        textwrap.dedent(code) + "\nimport json, sys\nprint(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("code", ["import edgepress", "import edgepress.runtime", "from edgepress import load"])
def test_importing_brings_nothing_heavy(code):
    assert not modules_after(code) & (WORKSHOP | {"onnxruntime", "numpy", "PIL", "pydantic"})


def test_every_module_of_the_runtime_is_light():
    code = """
        import importlib, pkgutil, edgepress.runtime
        for info in pkgutil.iter_modules(edgepress.runtime.__path__, "edgepress.runtime."):
            importlib.import_module(info.name)
    """
    assert not modules_after(code) & (WORKSHOP | {"onnxruntime"})


def test_a_prediction_needs_no_workshop(bundle):
    code = f"""
        import edgepress, numpy
        answer = edgepress.load({str(bundle)!r}, threads=1)(numpy.zeros((9, 9, 3), numpy.uint8))
        assert answer.label in ("red", "green", "blue")
    """
    found = modules_after(code)
    assert "onnxruntime" in found and not found & WORKSHOP


def test_load_is_found_on_the_package():
    import edgepress
    import edgepress.runtime

    assert edgepress.load is edgepress.runtime.load
