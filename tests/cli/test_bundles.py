"""`predict`, `eval`, `bench`, `doctor`: what is done with a bundle, and what the machine has."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.helpers import Call, Small, fresh
from edgepress.cli.doctor import missing_extras
from edgepress.cli.given_data import load_for, spelled_out
from edgepress.core.artifact import Signature
from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec


def test_predict(small: Small, call: Call) -> None:
    [answer] = json.loads(call("predict", small.bundle, small.image, "--top", "2", "--json").stdout)
    assert answer["image"] == str(small.image) and len(answer["top"]) == 2
    assert answer["label"] == answer["top"][0][0] and 0 < answer["score"] <= 1
    assert answer["label"] in call("predict", small.bundle, small.image).stdout
    by_label = call("predict", "small/file", small.image, "--runs", small.runs, "--json")
    assert json.loads(by_label.stdout)[0]["label"] == answer["label"]


def test_predict_names_a_bad_image_and_answers_the_others(small: Small, call: Call, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(small.image.read_bytes()[:60])
    result = call("predict", small.bundle, tmp_path / "absent.png", small.image, torn, "--json")
    absent, good, bad = json.loads(result.stdout)
    assert (
        result.exit_code == 3 and "label" in good and "no such image" in absent["error"] and "torn.png" in bad["error"]
    )
    assert "absent.png" in result.stderr and "torn.png" in result.stderr


def test_predict_on_the_base_install(small: Small, tmp_path: Path) -> None:
    blocked = tmp_path / "sitecustomize.py"
    blocked.write_text(
        "import sys\nfor name in ('torch', 'timm', 'onnx', 'yaml', 'sklearn', 'pyarrow', 'altair', 'jinja2'):\n"
        "    sys.modules[name] = None\n"
    )
    import edgepress

    path = f"{tmp_path}:{Path(edgepress.__file__).parent.parent}"
    done = fresh("predict", small.bundle, small.image, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    run = fresh("run", small.recipe, PYTHONPATH=path)
    assert run.returncode == 5 and "edgepress[train]" in run.stderr


def test_a_run_is_no_single_network(small: Small, call: Call) -> None:
    for words in (("predict", "small", small.image), ("eval", "small", "--data", "synthetic")):
        result = call(*words, "--runs", small.runs)
        assert result.exit_code == 2 and "small/student" in result.stderr
    model = call("predict", "small/student", small.image, "--runs", small.runs)
    assert model.exit_code == 4 and "not an exported network" in model.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two of the three classes, the classes of one in the place of another when sorted."""
    rng = np.random.default_rng(0)
    for label in ("grating2", "grating1"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.png")
    return tmp_path / "images"


def test_eval_a_stage_and_its_file_agree(small: Small, call: Call, folder: Path) -> None:
    scores: list[list[float]] = []
    for what in ("small/student", "small/file"):
        result = call("eval", what, "--data", folder, "--json", "--runs", small.runs)
        assert result.exit_code == 0, result.output
        rows = {row["metric"]: row for row in json.loads(result.stdout)}
        scores.append([rows["top1"]["value"], rows["top1"]["n"]])
    assert scores[0] == scores[1] and scores[0][1] == 4


def test_eval_takes_the_splits_of_the_run(small: Small, call: Call, tmp_path: Path) -> None:
    result = call("eval", "small/student", "--data", "synthetic", "--json", "--runs", small.runs)
    assert result.exit_code == 0, result.output
    (top1,) = [row for row in json.loads(result.stdout) if row["metric"] == "top1"]
    assert top1["n"] == 24, "the recipe says so; the data set by itself has others"
    copied = shutil.copytree(small.bundle, tmp_path / "bundle")
    assert "knows no class" in call("eval", copied, "--data", "synthetic").stderr, "of no run: taken as it is"
    fields = "{synthetic: {classes: 3, size: 16, test: 30}}"
    result = call("eval", copied, "--data", fields, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)[0]["n"] == 30
    spelled = spelled_out("synthetic", Path(small.printed["stages"]["student"]))
    result = call("eval", copied, "--data", spelled, "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)[0]["n"] == 24, "the splits of the run, said in words"
    assert "did you mean 'classes'" in call("eval", copied, "--data", "{synthetic: {clases: 3}}").stderr
    assert "write --data '{masks: {" in call("eval", copied, "--data", "masks").stderr


def test_eval_matches_classes_by_name(folder: Path) -> None:
    labels = tuple(f"grating{number}" for number in range(3))
    signature = Signature("classification", InputSpec(16, 16, resize="crop"), labels)
    data = load_for(str(folder), signature)
    assert data.labels == labels
    _, targets = data.test.read(np.arange(len(data.test)))
    assert sorted(targets.tolist()) == [1, 1, 2, 2]
    with pytest.raises(DataError, match="knows no class 'grating1' and 1 more"):
        load_for(str(folder), Signature("classification", InputSpec(16, 16), ("a", "b")))


def test_eval_says_what_does_not_fit(small: Small, call: Call) -> None:
    assert "did you mean 'digits'?" in call("eval", small.bundle, "--data", "digit").stderr
    wrong = call("eval", small.bundle, "--data", "digits")
    assert wrong.exit_code == 3 and "the network takes 16x16 RGB" in wrong.stderr
    assert "is for segmentation" in call("eval", small.bundle, "--data", "shapes").stderr


def test_bench_compares_in_turns(small: Small, call: Call) -> None:
    words = ("bench", small.bundle, "small/file", "--runs", small.runs, "--calls", "30", "--batch", "2", "--json")
    result = call(*words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [cell["batch"] for cell in found["cells"]] == [2, 2]
    first, second = found["cells"]
    assert first["n"] == 30 and first["speedup"] == 1.0
    assert 0 < first["latency_ms"]["p50"] <= first["latency_ms"]["p90"] <= first["latency_ms"]["p99"]
    assert first["load_ms"] > 10 and first["peak_rss_mb"] > 10
    assert second["speedup_range"][0] <= second["speedup"] <= second["speedup_range"][1]
    assert found["verdicts"][0]["ship"] in (first["bundle"], second["bundle"])
    again = json.loads(call(*words).stdout)
    assert again["cells"] == found["cells"], "the same command goes on where it was: here, nothing is left to do"
    wrong = call("bench", small.bundle, "--threads", "1,x")
    assert wrong.exit_code == 2 and "not a list of whole numbers" in wrong.stderr


def test_doctor(call: Call) -> None:
    result = call("doctor", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["machine"]["logical_cores"] >= found["machine"]["physical_cores"] >= 1
    assert found["runtimes"]["onnxruntime"]["versions"]["onnxruntime"]
    assert found["data"]["synthetic"] == "" and "root" in found["data"]["folder"]
    text = call("doctor").stdout
    assert all(word in text for word in ("instructions", "onnxruntime", "extras", "synthetic"))


def test_missing_extras() -> None:
    lines = [
        "numpy>=1.26",
        "click>=8.1; extra == 'train'",
        'not-there-a>=1; extra == "train"',
        "not-there-b>=3 ; extra == 'openvino'",
        "edgepress[openvino,train]; extra == 'deploy'",
    ]
    assert missing_extras(lines) == {
        "deploy": ["not-there-b", "not-there-a"],
        "openvino": ["not-there-b"],
        "train": ["not-there-a"],
    }
