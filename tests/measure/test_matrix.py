"""The matrix on tiny hand-made files: what crashes, hangs or lies empties its own cell; what was measured stays."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.core.inputs import InputSpec
from edgepress.measure import matrix, verdict
from edgepress.measure.base import Quiet
from edgepress.measure.cell import Cell, CellError, CellProcess
from edgepress.measure.energy import Energy, EnergyError, Reader
from edgepress.measure.final import run_final
from edgepress.measure.matrix import Judge, Settings
from edgepress.measure.matrix_rows import cells as table
from edgepress.measure.matrix_rows import plain, rows
from edgepress.measure.verdict import Budget
from edgepress.measure.worker import Worker
from edgepress.runtime.bundle import save_bundle
from runtime.tiny import classifier

SPEC = InputSpec(8, 8)
ENGINES = """
import os, signal, time
import numpy as np
from edgepress.runtime.engine import Engine, Session, engines

class Odd(Session):
    input_dtype, batch = np.dtype("float32"), None
    def __init__(self, how):
        self.how = how
    def __call__(self, images):
        if self.how == "hangs":
            time.sleep(60)
        if self.how == "crashes":
            print("about to fail", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        return np.full((len(images), 3), np.nan if self.how == "nan" else 1.0, np.float32)

class OddEngine(Engine):
    def __init__(self, how):
        self.how = how
    def available(self):
        return None
    def versions(self):
        return {}
    def load(self, program, threads):
        return Odd(self.how)

for how in ("crashes", "hangs", "nan", "late"):
    engines.register(how)(OddEngine(how))
"""
"""Engines of a test, which the processes of its cells find through `sitecustomize`."""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for bundles whose engines misbehave."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ENGINES)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path / "site"), before])))
    return tmp_path


def cell(folder: Path, runtime: str = "onnxruntime", scale: float = 4.0, precision: str = "fp32") -> Cell:
    """Return the cell of a bundle written for it."""
    to = folder / f"{runtime}-{precision}"
    save_bundle(dataclasses.replace(classifier(SPEC, scale), runtime=runtime, precision=precision), to)
    return Cell("net", runtime, runtime, precision, 1, 1, to)


def judge(count: int = 12) -> Judge:
    """Images whose strongest channel is their class."""
    targets = np.arange(count, dtype=np.int64) % 3
    images = np.zeros((count, 8, 8, 3), np.uint8)
    images[np.arange(count), :, :, targets] = 200
    return Judge(images, targets, "classification", 3, {"net fp32": np.eye(3, dtype=np.float32)[targets]})


QUICK = Settings(turns=2, calls=30, limit=15.0, energy_seconds=0.05, tdp=10.0)


def test_a_crash_a_hang_and_nan_empty_their_own_cells_only(odd: Path) -> None:
    cells = [cell(odd, name) for name in ("crashes", "onnxruntime", "nan")]
    absent = Cell("net", "tensorrt", "tensorrt", "fp32", 1, 1, None, "TensorRT is not installed")
    matrix.run([*cells, absent], judge(), QUICK, odd / "store", Quiet())
    crashed, good, nan, missing = matrix.results([*cells, absent], odd / "store")
    assert crashed.error == "crashed with SIGSEGV: about to fail"
    assert nan.error == "gives values that are not finite for 12 of 12 images"
    assert missing.error == "TensorRT is not installed"
    assert not good.error and good.facts["score"] == 100 and good.facts["parity"] == 100
    assert good.timing is not None and good.timing.n == 30 and good.estimated and good.facts["energy"] > 0
    assert 0 < good.facts["pre_post_share"] < 100 and good.facts["peak_rss"] > 10 and good.layers
    matrix.append(odd / "store" / "started.jsonl", {"cell": good.cell.name, "facts": {"load": 0.25}})
    assert matrix.results([good.cell], odd / "store")[0].facts["load"] == 0.25, "the last start counts"
    told = rows([crashed, good], "top1", "edgepress bench", "val")
    assert {row.artifact for row in told} == {"net/onnxruntime-fp32"}
    assert {"top1", "parity", "bytes", "load", "peak_rss", "energy_estimate", "latency", "throughput"} <= {
        row.metric for row in told
    }
    assert "energy" not in {row.metric for row in told}, "an estimate never passes for a measurement"
    ((*_, energy, factor),) = table([crashed, good], good)
    assert energy.startswith("~") and factor == "1.0x"
    assert plain(crashed, good)["error"] and plain(good, good)["speedup"] == 1.0


def test_a_cell_that_hangs_is_ended(odd: Path) -> None:
    began = time.monotonic()
    with pytest.raises(CellError, match=r"gave no answer in 4 s and was ended; --limit allows more"):
        CellProcess(cell(odd, "hangs"), limit=4.0)
    assert time.monotonic() - began < 20


def test_a_cell_that_is_killed_later_says_so(odd: Path) -> None:
    with CellProcess(cell(odd, "late"), limit=15.0) as process:
        process._process.kill()
        process._process.wait()
        with pytest.raises(CellError, match="crashed with SIGKILL"):
            process.ask("parts")


def test_a_stopped_matrix_goes_on_and_a_complete_one_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, store = [cell(tmp_path), cell(tmp_path, scale=5.0, precision="other")], tmp_path / "store"
    real = matrix.append

    def stop(path: Path, record: dict[str, object]) -> None:
        real(path, record)
        if path.name == "turns.jsonl":
            raise KeyboardInterrupt

    monkeypatch.setattr(matrix, "append", stop)
    with pytest.raises(KeyboardInterrupt):
        matrix.run(cells, None, QUICK, store, Quiet())
    half = matrix.results(cells, store)
    assert [len(result.turns) for result in half] == [1, 0] and half[1].facts and half[1].timing is None
    with open(store / "turns.jsonl", "ab") as file:
        file.write(b'{"turn": 1, "cel')  # a torn line, as a power cut leaves it
    monkeypatch.setattr(matrix, "append", real)
    checked = (store / "checked.jsonl").read_bytes()
    matrix.run(cells, None, QUICK, store, Quiet())
    assert (store / "checked.jsonl").read_bytes() == checked
    whole = matrix.results(cells, store)
    assert [len(result.turns) for result in whole] == [2, 2] and whole[0].turns[0] == half[0].turns[0]
    before = (store / "turns.jsonl").read_bytes()
    matrix.run(cells, None, QUICK, store, Quiet())
    assert (store / "turns.jsonl").read_bytes() == before
    order = [json.loads(line)["cell"] for line in before.decode().splitlines()]
    assert order == [cells[0].name, cells[1].name, cells[1].name, cells[0].name], "A B, then B A"


def test_the_few_that_may_be_shipped_are_timed_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "NEAR", 1e9)  # tiny files: which is the faster is a matter of luck
    cells = [cell(tmp_path), cell(tmp_path, precision="w8a8"), cell(tmp_path, precision="w4a8", scale=-4.0)]
    store, settings = tmp_path / "store", Settings(turns=2, calls=4, profile=False)
    matrix.run(cells, judge(), settings, store, Quiet())
    run_final(cells, Budget(drop=1.0), settings, store, Quiet())
    first, second, wrong = matrix.results(cells, store)
    two, three = matrix.occasion(cells[:2]), matrix.occasion(cells)
    assert len(first.turns) == 2 and len(first.finals[two]) == len(second.finals[two]) == 4
    assert first.final_ms(two) is not None and not wrong.finals, "what loses too much is no candidate"
    run_final(cells, Budget(drop=None), settings, store, Quiet())
    anew = matrix.results(cells, store)
    assert [len(result.finals[three]) for result in anew] == [4, 4, 4], "all of them meet again"
    assert anew[0].finals[two] == first.finals[two]
    monkeypatch.setattr(matrix, "CellProcess", lambda *_: pytest.fail("timed again"))
    run_final(cells, Budget(drop=1.0), settings, store, Quiet())
    run_final(cells[:1], Budget(drop=1.0), settings, tmp_path / "other", Quiet())


def test_cells_share_memory_in_groups_with_one_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepress.measure.environment.memory_bytes", lambda: 4_000_000_000)
    cells = [Cell("net", str(n), str(n), "fp32", 1, 1, Path()) for n in range(5)]
    cells.append(Cell("net", "x", "x", "fp32", 2, 1, Path()))
    made = matrix.groups(cells, {one.name: 800.0 for one in cells})
    assert [[one.runtime for one in group] for group in made] == [["0", "1"], ["0", "2"], ["0", "3"], ["0", "4"], ["x"]]


def test_the_cell_that_groups_have_in_common_is_timed_in_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [cell(tmp_path, precision=name) for name in ("fp32", "w8a8", "w4a8")]
    monkeypatch.setattr(matrix, "groups", lambda cells, memory: [list(cells[:2]), [cells[0], cells[2]]])
    matrix.run(cells, None, QUICK, tmp_path / "store", Quiet())
    first, second, third = matrix.results(cells, tmp_path / "store")
    assert [bool(turn) for turn in first.turns] == [True] * 4
    assert [bool(turn) for turn in second.turns] == [True] * 2
    assert [bool(turn) for turn in third.turns] == [False, False, True, True]
    assert len(matrix.ratios(first, third)) == 2, "only turns of one group are compared"
    assert not matrix.ratios(second, third)
    assert matrix.speedup(second, third) == pytest.approx(second.ms / third.ms)  # type: ignore[operator]


def test_slow_images_are_scored_in_several_answers(tmp_path: Path) -> None:
    images, to = judge().images, tmp_path / "outputs.npy"
    np.save(tmp_path / "images.npy", images)
    worker = Worker(cell(tmp_path).folder, "", 1, 1)  # type: ignore[arg-type]
    asked = {"images": str(tmp_path / "images.npy"), "to": str(to)}
    assert [worker.outputs(**asked, seconds=0.0)["left"] for _ in range(12)] == list(range(11, -1, -1))
    slowly = np.load(to)
    assert worker.outputs(**asked, seconds=10.0) == {"left": 0, "images": 12, "not_finite": 0}
    np.testing.assert_array_equal(np.load(to), slowly)


def test_energy_is_read_where_an_engine_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(device: str = "cpu") -> tuple[None, list[str]]:
        asked.append(device)
        return None, []

    monkeypatch.setattr("edgepress.measure.energy.find", find)
    absent = [
        Cell("net", name, name, "fp16", 1, 1, None, "absent") for name in ("tensorrt", "onnxruntime-cuda", "ncnn")
    ]
    matrix.run(absent, None, QUICK, tmp_path / "store", Quiet())
    assert sorted(asked) == ["cpu", "cuda"]
    assert [one.device for one in absent] == ["cuda", "cuda", "cpu"]


class Loop:
    """A cell's process that only says what a loop took."""

    def ask(self, do: str, seconds: float) -> dict[str, float]:
        return {"calls": 10, "seconds": 1.0, "cpu": 0.5}


def test_what_a_graphics_card_draws_is_not_guessed_from_the_processor() -> None:
    assert matrix.joules(Loop(), QUICK, None, "cuda") == (None, "")  # type: ignore[arg-type]
    used, source = matrix.joules(Loop(), QUICK, None)  # type: ignore[arg-type]
    assert used and source.startswith("estimate")


class Broken(Reader):
    """A counter that nobody can read, or that stands still."""

    name = "counter"

    def __init__(self, fails: bool) -> None:
        self._fails = fails

    def reason(self) -> None:
        """It worked when it was looked for."""

    def measure(self, work: Callable[[], object]) -> Energy:
        """Return nothing."""
        work()
        if self._fails:
            raise EnergyError("the sensor cannot be read: gone")
        return Energy(0.0, 1.0, self.name)


def test_a_reader_that_fails_leaves_its_figure_out_with_the_reason() -> None:
    assert matrix.joules(Loop(), QUICK, Broken(True)) == (None, "counter: the sensor cannot be read: gone")  # type: ignore[arg-type]
    assert matrix.joules(Loop(), QUICK, Broken(False)) == (None, "counter counted nothing")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("precision", "network"),
    [("bf16", "fp32"), ("w16a32", "fp32"), ("w8a8", "w8a8"), ("w8a8+bf16", "w8a8"), ("w4a8", "w4a8")],
)
def test_a_file_is_held_against_the_network_it_came_from(precision: str, network: str) -> None:
    assert matrix.network_of(Cell("net", "x", "x", precision, 1, 1)) == f"net {network}"
