"""The report says what the rows say, survives gaps, escapes what is hostile, and opens offline in Chromium."""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepress.core.errors import DataError, MissingExtraError
from edgepress.measure.history import read_run
from edgepress.measure.report import write_report
from edgepress.measure.summary import summarize
from measure.browser import CHROMIUM, Browser

Make = Callable[..., Path]


def _browser() -> None:
    for name in ("altair", "vl_convert", "jinja2", "yaml"):
        pytest.importorskip(name)


def test_the_first_sentence_is_the_gain(make_run: Make) -> None:
    summary = summarize(read_run(make_run()))
    assert summary.sentence == (
        "`int8-onnx` is 35x smaller and 34x faster than `teacher`, at 4.7 points less top-1 (88.65 % against 93.39 %)."
    )
    assert "1 thread, batch 1, onnxruntime against eager PyTorch" in summary.conditions
    assert [tile.name for tile in summary.tiles] == ["top-1", "size", "latency", "agreement"]
    assert [tile.good for tile in summary.tiles] == [False, True, True, None]


def test_an_int8_file_is_held_against_the_fp32_file_of_the_same_engine(make_run: Make) -> None:
    summary = summarize(read_run(make_run()))
    assert "`student` against `baseline`, the same network trained alone: +1.12 points." in summary.helped
    assert summary.did_not_help == ("`int8-onnx` against `student-onnx`, the FP32 file: 1.3x slower.",)


def test_a_simulated_network_is_not_said_to_be_slow(make_run: Make) -> None:
    steps = [
        ("net", "train", "", "fp32", "torch", 90.0, 1000, 1.0, 0, 1.0),
        ("int8", "quantize", "net", "w8a8", "torch", 89.0, 1000, 9.0, 0, 1.0),
    ]
    summary = summarize(read_run(make_run(steps)))
    assert summary.did_not_help == ("`int8` against `net`: \u22121.00 points.",)


def test_equal_artifacts_are_called_equal(make_run: Make) -> None:
    steps = [
        ("a", "train", "", "fp32", "torch", 90.0, 1000, 1.0, 0, 1.0),
        ("b", "export", "a", "fp32", "onnxruntime", 90.01, 1000, 1.01, 0, 1.0),
    ]
    summary = summarize(read_run(make_run(steps)))
    assert summary.sentence.startswith("`b` is as large and as fast as `a`, at the same top-1")


def test_a_renamed_stage_shows_under_its_new_name(make_run: Make) -> None:
    folder = make_run()
    content = json.loads((folder / "run.json").read_text())
    content["stages"][-1]["label"] = "shipped"
    (folder / "run.json").write_text(json.dumps(content))
    assert summarize(read_run(folder)).sentence.startswith("`shipped` is 35x smaller")


def test_nothing_measured_yet(make_run: Make) -> None:
    _browser()
    folder = make_run([])
    page = write_report(folder).read_text()
    assert "Nothing was measured in this run yet." in page


def test_missing_pieces_leave_gaps(make_run: Make) -> None:
    _browser()
    folder = make_run()
    for path in folder.parent.glob("*/log.jsonl"):
        path.unlink()
    for path in folder.parent.glob("*/rows/*.jsonl"):
        kept = [line for line in path.read_text().splitlines() if '"latency' not in line]
        path.write_text("\n".join(kept) + "\n")
    shutil.rmtree(next(folder.parent.glob("train-*")))
    page = write_report(folder).read_text()
    assert 'id="tradeoff-bytes"' in page and 'id="tradeoff-latency"' not in page and 'id="curve-0"' not in page


@pytest.mark.parametrize("text", ["{}", '{"stages": [{}], "recipe": null, "environment": [], "date": null}'])
def test_a_run_that_says_little_is_still_reported(tmp_path: Path, text: str) -> None:
    _browser()
    (tmp_path / "run.json").write_text(text)
    assert write_report(tmp_path).exists()


def test_a_damaged_or_absent_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run at"):
        write_report(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(DataError, match=r"run\.json"):
            write_report(tmp_path)


def test_a_log_torn_by_a_kill_still_gives_its_curve(make_run: Make) -> None:
    folder = make_run()
    path = next(folder.parent.glob("train-*/log.jsonl"))
    path.write_text(
        '{"event": "epoch", "epoch": 1, "loss": 2}\n{"event": "ep\n{"event": "epoch", "epoch": 1, "loss": 1}\n'
    )
    assert [[e["loss"] for e in s.epochs] for s in read_run(folder).steps if len(s.epochs) == 1] == [[1]]


def test_markdown_and_csv_lie_beside_the_page(make_run: Make) -> None:
    _browser()
    folder = make_run()
    write_report(folder)
    text = (folder / "report.md").read_text()
    assert "| int8-onnx | onnxruntime | w8a8 | 88.65 | 97.9 kB | 0.287 | 34x |" in text
    assert "model: cifar_resnet56" in text and "edgepress run recipes/cifar10-resnet8.yaml" in text
    with open(folder / "rows.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 6 * 8


def test_the_page_escapes_and_asks_nobody(make_run: Make) -> None:
    _browser()
    hostile = "</script><script>window.bad=1</script><img src=x onerror=bad>`|"
    steps = [
        ("net", "train", "", "fp32", "torch", 90.0, 1000, 1.0, 3, 1.0),
        (hostile, "export", "net", "fp32", "onnxruntime", 90.0, 900, 0.5, 0, 1.0),
    ]
    page = write_report(make_run(steps, name=hostile, command=hostile, environment={hostile: hostile})).read_text()
    assert "<script>window.bad" not in page
    assert "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 4
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", page)


def test_the_base_install_is_told_which_extra_to_install(make_run: Make) -> None:
    folder = make_run()
    code = (
        "import sys\nfor name in ('jinja2', 'altair', 'vl_convert', 'torch'):\n    sys.modules[name] = None\n"
        "from pathlib import Path\nfrom edgepress.core.errors import MissingExtraError\n"
        "from edgepress.measure.report import write_report\n"
        f"try:\n    write_report(Path({str(folder)!r}))\nexcept MissingExtraError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'edgepress[train]'" in done.stdout
    assert MissingExtraError.exit_code == 5
    assert not (folder / "report.md").exists(), "nothing half-written"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_it_opens_in_chromium(make_run: Make, tmp_path: Path) -> None:
    _browser()
    page = write_report(make_run())
    assert page.stat().st_size < 5e6
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.value("document.querySelectorAll('svg.marks').length") == 4
        points = "document.querySelectorAll('#tradeoff-latency path[tabindex]')"
        assert browser.value(f"{points}.length") == 5, "a simulated network has no point"
        browser.value(f"{points}[0].focus()")
        told = browser.value("document.querySelector('#tradeoff-latency + .readout').textContent")
        assert told == "teacher (PyTorch fp32), 93.39 % top-1, 3.44 MB, 9.84 ms"
        browser.press("Enter", 13)
        assert browser.value("document.activeElement.dataset.row") == "teacher"
        browser.value("{const f = document.getElementById('filter'); f.value = 'teacher latency';"
                      " f.dispatchEvent(new Event('input'))}")  # fmt: skip
        assert browser.value("document.getElementById('count').textContent") == "3 of 48 rows"
        for width in (1200, 390):
            browser.open(page, width)
            assert browser.value("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        assert browser.trouble == []


def _details(folder: Path, key: str) -> None:
    """Write what was found out about the artifact `key`."""
    found = {
        "key": key, "images": 200, "labels": ["cat", "dog"], "names": ["conv1", "fc"],
        "layers": [
            {"name": "L0", "kind": "QLinearConv", "share": 80.0, "ms": 0.2, "layer": 0},
            {"name": "L1", "kind": "QGemm", "share": 20.0, "ms": 0.05, "layer": 1},
        ],
        "files": [{"operation": "Conv", "shape": [8, 3, 3, 3], "bytes": 216}],
        "wrong": {"confusion": [[90, 10], [5, 95]], "pairs": [[0, 1, 10], [1, 0, 5]],
                  "worst": [{"index": 4, "true": 0, "given": 1, "sure": 98.5, "also": None}]},
        "pictures": {"4": "iVBORw0KGgo="},
    }  # fmt: skip
    (folder / "details.json").write_text(json.dumps(found))


def test_layers_and_mistakes_of_the_result_are_shown(make_run: Make) -> None:
    _browser()
    folder = make_run()
    steps = read_run(folder).steps
    noted = next(folder.parent.glob(f"quantize-*{steps[-2].key}"))
    (noted / "notes.json").write_text(json.dumps({"ladder": {"sensitivity": {"conv1": 2.5, "fc": 0.5}}}))
    _details(folder, steps[-1].key)
    page = write_report(folder).read_text()
    assert "Layer by layer" in page and ">conv1</th><td>QLinearConv</td><td>8x3x3x3</td>" in page
    assert "sensitivity" in page and ">2.5</td>" in page
    assert "cat taken for dog <b>10</b>" in page and "dog, not cat" in page and "98 % sure" in page
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in page


@pytest.mark.parametrize("text", ['{"key": "another"}', "{torn", "[]"])
def test_details_of_another_artifact_or_damaged_ones_are_not_shown(make_run: Make, text: str) -> None:
    _browser()
    folder = make_run()
    (folder / "details.json").write_text(text)
    page = write_report(folder).read_text()
    assert "Layer by layer" not in page and "What it gets wrong" not in page
