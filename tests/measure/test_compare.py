"""Two runs side by side: like with like, nothing hidden, and what changed in how they were made."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepress.core.errors import DataError
from edgepress.measure.compare import changes, read_side, sentence, write_comparison
from measure.benches import write_bench
from measure.browser import CHROMIUM, Browser
from measure.conftest import RECIPE, STEPS

Make = Callable[..., Path]


def test_two_matrices_are_compared_engine_by_engine(tmp_path: Path) -> None:
    a, b = (read_side(write_bench(tmp_path / n, n, faster=f)) for n, f in (("one", 1.0), ("two", 2.0)))
    assert sentence(a, b) == (
        "`openvino-w8a8` in B against A: as large, 2.0x faster, the same top-1 (91.50 % against 91.50 %)."
    )
    found = {(line.artifact, line.metric): line for line in changes(a, b)}
    assert found["onnxruntime-fp32", "latency"].change == "2.0x" and found["onnxruntime-fp32", "latency"].good
    assert found["onnxruntime-fp32", "bytes"].good is None and found["litert-w8a8", "top1"].change == "+0.00"
    back = {(line.artifact, line.metric): line for line in changes(b, a)}
    assert back["onnxruntime-fp32", "latency"].good is False


def test_two_runs_of_a_recipe_show_what_changed_in_it(make_run: Make, tmp_path: Path) -> None:
    for name in ("altair", "vl_convert", "jinja2"):
        pytest.importorskip(name)
    steps = [(*step[:5], step[5] + 0.5, *step[6:]) if step[0] == "int8-onnx" else step for step in STEPS]
    one = read_side(make_run())
    shutil.rmtree(tmp_path / "runs")
    changed = {"name": "again", "recipe": {**RECIPE, "seed": 1}}
    other = read_side(make_run(steps, **changed))
    page = write_comparison(one, other, tmp_path / "page.html").read_text()
    assert "+0.50 points top-1 (89.15 % against 88.65 %)" in page
    assert "-seed: 0" in page and "+seed: 1" in page
    assert "Better in B" in page and "Worse in B" not in page


def test_runs_without_a_common_figure_are_refused(tmp_path: Path, make_run: Make) -> None:
    with pytest.raises(DataError, match="share no figure"):
        write_comparison(read_side(write_bench(tmp_path / "one")), read_side(make_run()), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_comparison_opens_in_a_browser(tmp_path: Path) -> None:
    for name in ("altair", "vl_convert", "jinja2"):
        pytest.importorskip(name)
    a, b = (read_side(write_bench(tmp_path / n, n, faster=f)) for n, f in (("one", 1.0), ("two", 2.0)))
    page = write_comparison(a, b, tmp_path / "page.html")
    with Browser(tmp_path / "profile") as browser:
        browser.open(page, 390)
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        assert browser.value("document.querySelectorAll('#tradeoff-latency path[tabindex]').length") == 18
        assert browser.trouble == []
