"""The page of a matrix: what it says, that it escapes, and how it behaves in a browser, with a keyboard, on a phone."""

import json
import re
from pathlib import Path

import pytest

from edgepress.core.errors import DataError
from edgepress.measure.bench import BENCH, read_bench
from edgepress.measure.bench_report import columns, lines, render_bench, write_bench_report
from measure.benches import write_bench
from measure.browser import CHROMIUM, Browser

BROWSER = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(autouse=True)
def _workshop() -> None:
    for name in ("altair", "vl_convert", "jinja2"):
        pytest.importorskip(name)


def test_the_verdict_comes_first_then_every_cell(tmp_path: Path) -> None:
    store = write_bench(tmp_path / "store")
    page = write_bench_report(store).read_text()
    assert "Ship openvino w8a8: 0.310 ms, 330 kB, 91.50 % (-0.20), 1.24 mJ (estimate)." in page
    assert page.index("Ship openvino w8a8") < page.index("Accuracy against cost") < page.index("The matrix")
    assert "10x faster than FP32 PyTorch" in page and "energy (estimate)" in page
    assert "tensorrt fp16</dt><dd>tensorrt is not installed" in page
    assert "layer1.0.conv1" in page and "2432 B" in page, "what a layer holds is read off the ONNX file"
    assert "cat taken for bird" in page and page.count("data:image/png;base64,") == 6
    assert "at most 2 ms" in page and "edgepress bench net --runtimes all" in page


def test_every_block_has_a_verdict_and_networks_are_told_apart(tmp_path: Path) -> None:
    store = write_bench(tmp_path / "store", blocks=2, networks=2)
    bench = read_bench(store)
    results = bench.results(store)
    names = {"net-0": "0", "net-1": "1"}
    headings = [name for name, _ in columns(bench, results, names)]
    assert headings[:5] == ["network", "engine", "precision", "threads", "batch"]
    found = lines(bench, results, names)
    assert len(found) == 36 and len({line.row for line in found}) == 36
    place = headings.index("x")
    factors = [line.cells[place][1] for line in found]
    assert factors[0] == factors[9] == 1.0, "each block has a first line"
    page = render_bench(bench, store)
    assert "2 threads, 1 image a call" in page and page.count('<span class="mark">ship</span>') == 2


def test_what_is_hostile_is_escaped_and_nobody_is_asked(tmp_path: Path) -> None:
    hostile = "</script><script>window.bad=1</script><img src=x onerror=bad>`"
    store = write_bench(tmp_path / "store", hostile.replace("/", "|"))
    path = store / "checked.jsonl"
    path.write_text(path.read_text().replace("tensorrt is not installed", hostile).replace("QLinearConv", hostile))
    page = write_bench_report(store).read_text()
    assert "<script>window.bad" not in page and "<img src=x" not in page
    assert page.count("<script") == page.count("</script>") == 4
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", page)


def test_a_matrix_that_was_stopped_or_scored_nothing_still_has_a_page(tmp_path: Path) -> None:
    store = write_bench(tmp_path / "store")
    (store / "turns.jsonl").unlink()
    assert "Nothing was measured: no engine ran this network here." in write_bench_report(store).read_text()
    path = store / "checked.jsonl"
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    for record in kept:
        record["facts"] = {name: value for name, value in record["facts"].items() if name == "bytes"}
        del record["wrong"], record["files"]  # as an older edgepress left them
    path.write_text("".join(json.dumps(record) + "\n" for record in kept))
    assert 'id="tradeoff' not in write_bench_report(store).read_text()


@pytest.mark.parametrize("text", ["{", "{}", '{"name": 1}', '{"cells": [{"x": 1}], "budget": {}, "labels": []}'])
def test_a_damaged_or_absent_matrix_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="no matrix at"):
        read_bench(tmp_path)
    (tmp_path / BENCH).write_text(text)
    with pytest.raises(DataError, match=r"bench\.json is damaged"):
        read_bench(tmp_path)


@BROWSER
def test_two_hundred_rows_in_a_browser(tmp_path: Path) -> None:
    page = write_bench_report(write_bench(tmp_path / "store", blocks=4, networks=6))
    assert page.stat().st_size < 5e6
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.value("document.querySelectorAll('#all tbody tr').length") == 216
        assert browser.value("document.querySelectorAll('svg.marks').length") == 4
        # A point is reached by keyboard, tells its figures, and leads to its row.
        browser.value("document.querySelector('#tradeoff-latency path[tabindex]').focus()")
        told = browser.value("document.querySelector('#tradeoff-latency + .readout').textContent")
        assert re.fullmatch(r"0: PyTorch fp32, 91\.70 % top-1, 1\.1 MB, 3\.\d+ ms, 12\.4 mJ", told)
        browser.press("Tab", 9)
        assert browser.value("document.activeElement.getAttribute('aria-label')").startswith("0: PyTorch export fp32")
        browser.press("Enter", 13)
        assert browser.value("document.activeElement.dataset.row") == "net-0 pt2 fp32 t1 b1"
        assert browser.value("document.querySelectorAll('tr.found').length") == 1
        # Headings sort, what has no figure last; the filter counts.
        sort = "[...document.querySelectorAll('#all thead button')].find(b => b.textContent === 'p50 ms').click()"
        speeds = "[...document.querySelectorAll('#all tbody tr')].map(r => Number(r.cells[9].dataset.value))"
        browser.value(sort)
        assert (found := browser.value(speeds)) == sorted(found)
        browser.value(sort)
        assert (found := browser.value(speeds)) == sorted(found, reverse=True)
        browser.value("{const f = document.getElementById('filter'); f.value = 'openvino bf16';"
                      " f.dispatchEvent(new Event('input'))}")  # fmt: skip
        assert browser.value("document.getElementById('count').textContent") == "24 of 216 rows"
        browser.value("document.getElementById('save').click()")
        assert browser.value("document.getElementById('save').href").startswith("blob:")
        for width, dark in ((390, False), (390, True), (1200, True)):
            browser.open(page, width, dark=dark)
            assert browser.value("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
        dark_ink = browser.value("getComputedStyle(document.body).color")
        assert dark_ink == "rgb(233, 234, 235)"
        assert browser.trouble == []
