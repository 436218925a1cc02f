"""`edgepress bench` of a model, end to end; `report` of what it left, and of two such."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.helpers import Call, Small
from edgepress.cli.benching import Source, is_network, look_up, plan
from edgepress.cli.targets import numbered
from edgepress.core.errors import ConfigError
from edgepress.measure.matrix import Settings
from edgepress.measure.matrix_rows import distinct
from edgepress.measure.prepare import Wanted
from edgepress.runtime.bundle import read_bundle, save_bundle


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of the size and the classes that the small network knows."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    for label in ("grating0", "grating1", "grating2"):
        (folder / label).mkdir()
        for number in range(16):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def benched(
    small: Small, call: Call, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], Path]:
    """What `bench --json` printed of a saved model on two engines, and its store."""
    store = tmp_path_factory.mktemp("bench") / "store"
    result = call(
        "bench", "small/student", "--runs", small.runs, "--runtimes", "torch,onnxruntime", "--precisions", "fp32,int8",
        "--data", pictures, "--calls", "30", "--out", store, "--json", "--tdp", "10",
    )  # fmt: skip
    if result.exit_code:
        pytest.fail(result.output)
    return json.loads(result.stdout), store


def test_a_model_becomes_files_on_every_engine(benched: tuple[dict[str, object], Path]) -> None:
    found, store = benched
    cells = {(cell["runtime"], cell["precision"]): cell for cell in found["cells"]}  # type: ignore[index]
    assert set(cells) == {("torch", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "w8a8")}
    assert all(cell["error"] == "" and cell["parity"] >= 90 for cell in cells.values())
    assert cells["torch", "fp32"]["speedup"] == 1.0, "PyTorch comes first: everything is held against it"
    (verdict,) = found["verdicts"]  # type: ignore[misc]
    assert verdict["ship"].startswith(str(store))
    named = {layer["name"] for layer in cells["onnxruntime", "fp32"]["layers"] if layer["layer"] is not None}
    assert named and not any(name.startswith("layer ") for name in named), "layers go by the paths of their modules"
    page = Path(str(found["report"])).read_text()
    assert "FP32 PyTorch" in page and "What it gets wrong" in page and "data:image/png;base64," in page


def test_the_same_command_measures_nothing_again(
    benched: tuple[dict[str, object], Path], small: Small, pictures: Path, call: Call
) -> None:
    _, store = benched
    before = (store / "turns.jsonl").read_bytes()
    words = ("bench", "small/student", "--runs", small.runs, "--runtimes", "torch,onnxruntime", "--precisions",
             "fp32,int8", "--data", pictures, "--calls", "30", "--out", store, "--tdp", "10")  # fmt: skip
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert (store / "turns.jsonl").read_bytes() == before
    assert "torch" in result.stdout and "Against FP32 PyTorch" in result.stdout
    found = map(json.loads, (store / "rows.jsonl").read_text().splitlines())
    scored = {row["split"] for row in found if row["metric"] == "top1"}
    assert scored == {"val"} and "the test split has decided nothing yet: edgepress eval" in result.stderr
    assert max(map(len, result.stdout.splitlines()[:4])) <= 80
    other = call(*words[:-2], "--tdp", "20")
    assert other.exit_code == 1 and "holds another matrix" in other.stderr


def test_reports_of_matrices(benched: tuple[dict[str, object], Path], call: Call, tmp_path: Path) -> None:
    _, store = benched
    files = json.loads(call("report", store, "--json").stdout)
    assert Path(files["html"]) == store / "report.html"
    out = tmp_path / "two.html"
    both = json.loads(call("report", store, store, "--out", out, "--json").stdout)
    assert Path(both["html"]) == out and both["changes"] and "against A: as large, as fast" in both["sentence"]
    missing = call("report", tmp_path / "nothing")
    assert missing.exit_code == 2 and "not there" in missing.stderr


def test_a_network_is_found_by_its_name(small: Small, tmp_path: Path, call: Call) -> None:
    (one,) = look_up(("digits_cnn",), small.runs)
    assert one.folder is None and one.is_model and one.name == "digits_cnn"
    first, second = look_up((str(small.bundle), str(small.bundle)), small.runs)
    assert first.name != "bundle" and second.name == f"{first.name}-2"
    assert numbered(["a", "a-2", "a"]) == ["a", "a-2", "a-3"], "names are those of files"
    assert is_network("torchvision:resnet18") and is_network("own.module:make") and not is_network("C:/model")
    with pytest.raises(ConfigError, match="did you mean 'digits_cnn'"):
        look_up(("digits_cn",), small.runs)
    result = call("bench", "digits_cnn", "--out", tmp_path / "store")
    assert result.exit_code == 2 and "give --data" in result.stderr
    result = call("bench", "digits_cnn", "--mean", "0.5", "--out", tmp_path / "store")
    assert result.exit_code == 2 and "belong together" in result.stderr
    result = call("bench", small.bundle, "--weights", "pretrained", "--out", tmp_path / "store")
    assert result.exit_code == 2 and "are for a network given by name" in result.stderr
    result = call("bench", small.bundle, "--python", "python3", "--out", tmp_path / "store")
    assert result.exit_code == 2 and "say which one, --on USER@BOARD" in result.stderr
    assert not (tmp_path / "store").exists()


def test_wrong_engines_are_told_before_anything_is_made(small: Small, call: Call, tmp_path: Path) -> None:
    words = ("bench", "small/student", "--runs", small.runs, "--data", "synthetic", "--out", tmp_path / "store")
    result = call(*words, "--runtimes", "openvno", "--precisions", "w8a8,fp33")
    assert result.exit_code == 2
    assert "did you mean 'openvino'" in result.stderr and "did you mean 'fp32'" in result.stderr


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["export-12ab", "export-34cd"], ["12ab", "34cd"]),
        (["a-small-int8", "b-small-int8"], ["a", "b"]),
        (["net", "net-2"], ["net", "net-2"]),
        (["x", "y"], ["x", "y"]),
        (["one"], ["one"]),
    ],
)
def test_names_are_shortened_to_what_differs(names: list[str], short: list[str]) -> None:
    assert distinct(names) == short


def test_two_bundles_on_two_engines_tell_which_is_which(small: Small, pictures: Path, call: Call) -> None:
    pytest.importorskip("openvino")
    result = call(
        "bench", small.bundle, "small/file", "--runs", small.runs, "--runtimes", "onnxruntime,openvino", "--data",
        pictures, "--calls", "30", "--precisions", "fp32,int8",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["bundle", "runtime", "precision"]
    assert [line.split()[1] for line in lines[1:5]].count("openvino") == 2
    assert max(map(len, lines[:5])) <= 80


def test_networks_that_one_set_of_images_cannot_score_are_refused(small: Small, pictures: Path, call: Call) -> None:
    large = pictures.parent / "large"
    program = read_bundle(small.bundle)
    labels = tuple(reversed(program.signature.labels))
    save_bundle(replace(program, signature=replace(program.signature, labels=labels)), large)
    given = ("bench", small.bundle, large, "--runs", small.runs, "--data", pictures)
    result = call(*given, "--out", pictures.parent / "none")
    assert result.exit_code == 2 and "has another classes than" in result.output


@pytest.mark.parametrize(("word", "value"), [("--drop", "nan"), ("--ms", "-1"), ("--mb", "nan")])
def test_a_budget_is_a_number_from_zero(word: str, value: str, small: Small, call: Call) -> None:
    result = call("bench", small.bundle, "--runs", small.runs, word, value)
    assert result.exit_code == 2 and "is no number from 0" in result.output


def test_other_weights_or_images_make_another_matrix(tmp_path: Path) -> None:
    weights, folder = tmp_path / "weights.pt", tmp_path / "data"
    folder.mkdir()
    weights.write_bytes(b"1")
    (folder / "image.png").write_bytes(b"1")

    def told() -> object:
        return plan([], Source(str(weights)), str(folder), "val", 0, Wanted(), Settings(), "")

    first = told()
    weights.write_bytes(b"22")
    second = told()
    (folder / "image.png").write_bytes(b"22")
    assert first != second != told() and told() == told()
