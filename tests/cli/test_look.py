"""`edgepress show --layers` and `--profile`: inside a network."""

import json
from pathlib import Path

import pytest
from PIL import Image

from cli.helpers import Call, Small
from edgepress.cli.profiling import BAR, bar


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("edgepress.train.layer_times.SECONDS", 0.05)


def test_layers_are_a_table_of_80_columns_and_pictures(small: Small, call: Call, tmp_path: Path) -> None:
    result = call("show", "small/teacher", "--runs", small.runs, "--layers", "[02]", "--layers", "11", "--to", tmp_path)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split() == ["layer", "shape", "mean", "std", "least", "most", "zeros", "%", "dead"]
    assert [line.split()[:2] for line in lines[1:4]] == [["0", "8x16x16"], ["2", "8x16x16"], ["11", "3"]]
    assert all(len(line) <= 80 for line in lines[:5])
    assert "dead channel" in result.output and "24 validation images of synthetic" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "11.png", "2.png"]
    with Image.open(tmp_path / "0.png") as picture:
        assert picture.size == (152, 152)


def test_layers_as_json_and_of_an_image_of_ones_own(small: Small, call: Call, tmp_path: Path) -> None:
    given = ("--layers", "0", "--image", small.image, "--to", tmp_path, "--json")
    result = call("show", "small/student", "--runs", small.runs, *given)
    found = json.loads(result.stdout)
    assert found["label"] == "student" and found["images"] == "1 image"
    [layer] = found["layers"]
    assert layer["shape"] == [4, 16, 16] and Path(layer["picture"]).exists()
    assert layer["dead"] == len(layer["dead_channels"])


def test_of_an_exported_stage_the_network_behind_it_is_shown(small: Small, call: Call, tmp_path: Path) -> None:
    result = call("show", "small/file", "--runs", small.runs, "--layers", "0", "--to", tmp_path)
    assert result.exit_code == 0 and "of the network it was made from" in result.output
    assert "4x16x16" in result.output


def test_a_misspelt_layer_names_the_nearest(small: Small, call: Call, tmp_path: Path) -> None:
    result = call("show", "small/teacher", "--runs", small.runs, "--layers", "layer1", "--to", tmp_path)
    assert result.exit_code == 2 and "the network has no layer 'layer1'" in result.output
    assert not list(tmp_path.iterdir())


def test_two_questions_at_once_are_refused(small: Small, call: Call) -> None:
    result = call("show", "small/teacher", "--runs", small.runs, "--layers", "*", "--profile")
    assert result.exit_code == 2 and "ask for one of them" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--image", "x.png"), "--image is what --layers or --profile looks at"),
        (("--profile", "--to", "x"), "--to is where the pictures of --layers go"),
        (("--layers", "*", "--threads", "2"), "--threads are those of --profile"),
    ],
)
def test_options_that_nothing_would_use_are_refused(
    small: Small, call: Call, words: tuple[str, ...], said: str
) -> None:
    result = call("show", "small/teacher", "--runs", small.runs, *words)
    assert result.exit_code == 2 and said in result.output


@pytest.mark.parametrize("label", ["teacher", "file"])
def test_a_profile_tells_layers_in_pytorch_and_in_the_engine(small: Small, call: Call, label: str) -> None:
    result = call("show", f"small/{label}", "--runs", small.runs, "--profile")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0].split()[:7] == ["layer", "ms", "%", "engine", "%", "params", "felt"]
    assert all(len(line) <= 80 for line in lines)
    assert "everything else" in result.output and "onnxruntime" in result.output
    conv = next(line for line in lines if line.startswith("0 ")).split()
    assert len(conv) == 8 and float(conv[1]) > 0 and float(conv[3]) > 0 and float(conv[6]) > 0
    assert "Cut these first:" in result.output and "outputs change" in result.output


def test_a_profile_as_json(small: Small, call: Call) -> None:
    result = call("show", "small/student", "--runs", small.runs, "--profile", "--json")
    found = json.loads(result.stdout)
    weighted = [layer for layer in found["layers"] if layer["number"] is not None]
    assert [layer["number"] for layer in weighted] == list(range(len(weighted)))
    assert all(layer["engine_ms"] > 0 for layer in weighted)
    assert set(found["cut_first"]) <= {layer["path"] for layer in weighted}
    assert sum(operation["share"] for operation in found["operations"]) == pytest.approx(100, abs=1)


def test_a_bundle_of_no_known_run_is_profiled_by_its_engine_alone(small: Small, call: Call, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(small.bundle, tmp_path / "bundle")
    result = call("show", tmp_path / "bundle", "--runs", tmp_path, "--profile")
    assert result.exit_code == 0, result.output
    assert "PyTorch" not in result.output and "layer 1" in result.output and "onnxruntime" in result.output
    result = call("show", tmp_path / "bundle", "--runs", tmp_path, "--layers", "*")
    assert result.exit_code == 2 and "the network it was made from is not known" in result.output


def test_bars_lie_at_their_place_in_the_call() -> None:
    assert bar(0, 100) == "█" * BAR and bar(50, 50) == " " * (BAR // 2) + "█" * (BAR // 2)
    assert bar(99, 30).rstrip() == " " * (BAR - 1) + "█", "never beyond the column"
    assert bar(10, 0.1).strip() == ""
