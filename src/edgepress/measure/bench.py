"""What one `edgepress bench` was: enough to tell its results again, or to compare them, long after it ran."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgepress.core.errors import DataError
from edgepress.core.files import write_json
from edgepress.measure import environment, matrix
from edgepress.measure.cell import Cell
from edgepress.measure.matrix import Result
from edgepress.measure.matrix_rows import rows
from edgepress.measure.rows import write_rows
from edgepress.measure.verdict import Budget, Verdict, judge

BENCH = "bench.json"


@dataclass(frozen=True)
class Bench:
    """A matrix: `name` says which networks, `on` which other machine (empty for this one), `score` what `Result.facts`
    call so ("top1"), `split` the images that decided; `environment` is that of the machine that measured."""

    name: str
    command: str
    date: str
    data: str
    budget: Budget
    on: str = ""
    score: str = "top1"
    labels: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict[str, str])
    cells: tuple[Cell, ...] = ()
    split: str = "test"  # what files say that were written before there was a choice

    @classmethod
    def begun(cls, name: str, command: str, data: str, budget: Budget, on: str = "", split: str = "val") -> "Bench":
        """Return one that begins now and has no cells yet; another machine has yet to say what it is."""
        date = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        about = {} if on else environment.environment()
        return cls(name, command, date, data, budget, on, environment=about, split=split)

    def of(self, cells: Sequence[Cell], score: str, labels: tuple[str, ...]) -> "Bench":
        """Return it with its cells."""
        return replace(self, cells=tuple(cells), score=score, labels=labels)

    def results(self, store: Path) -> list[Result]:
        """Return what the folder `store` holds of the cells."""
        return matrix.results(self.cells, store)

    def blocks(self, results: Sequence[Result]) -> dict[tuple[int, int], list[Result]]:
        """Return `results` by threads and batch: only within a block are they comparable."""
        found: dict[tuple[int, int], list[Result]] = {}
        for result in results:
            found.setdefault((result.cell.threads, result.cell.batch), []).append(result)
        return found

    def verdicts(self, results: Sequence[Result]) -> dict[tuple[int, int], Verdict]:
        """Return the verdict on each block."""
        return {about: judge(block, self.budget) for about, block in self.blocks(results).items()}


def save_bench(bench: Bench, store: Path) -> None:
    """Write `bench` and the rows of its results into `store`."""
    plain: dict[str, Any] = asdict(bench)
    for cell in plain["cells"]:
        cell["folder"] = None if cell["folder"] is None else str(cell["folder"])
    write_json(store / BENCH, plain)
    told = {"machine": bench.on, "versions": ""} | bench.environment if bench.on else bench.environment
    about = {name: told[name] for name in ("machine", "versions") if name in told}
    write_rows(store / "rows.jsonl", rows(bench.results(store), bench.score, bench.command, bench.split, **about))


def read_bench(store: Path) -> Bench:
    """Return the matrix in `store`. Raises `DataError` where there is none or it is damaged."""
    path = store / BENCH
    if not path.exists():
        raise DataError(f"no matrix at {store}: {BENCH} is missing; `edgepress bench` writes it at its end")
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        cells = tuple(Cell(**{**one, "folder": one["folder"] and Path(one["folder"])}) for one in found.pop("cells"))
        budget, labels = Budget(**found.pop("budget")), tuple(found.pop("labels"))
        return Bench(**found, budget=budget, labels=labels, cells=cells)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is damaged ({error}); run the same `edgepress bench` again, results are kept"
        ) from None
