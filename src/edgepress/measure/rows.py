"""A measured fact is a row: what was measured, how often, on which machine, and the command that measures it again."""

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from edgepress.core.config import STRICT, parse
from edgepress.core.errors import ConfigError, DataError
from edgepress.core.files import explain_disk, write_bytes

Better = Literal["higher", "lower", ""]

COLUMNS = (
    "artifact", "metric", "value", "unit", "n", "p50", "p99", "runtime", "precision",
    "threads", "batch", "split", "seeds", "machine", "versions", "commit", "date", "command",
)  # fmt: skip
"""The columns of a CSV file of rows, in order."""


@dataclass(frozen=True)
class Row:
    """One measured fact in long format.

    `value` is finite and in `unit`; `n` counts what it was taken over (images, timed calls, processes). `threads` and
    `batch` are 0 where they do not matter. `date` is ISO 8601 in UTC, a day or a timestamp, so that dates sort as text.
    """

    __pydantic_config__ = STRICT

    artifact: str
    metric: str
    value: float
    unit: str = ""
    better: Better = ""
    n: int = 1
    p50: float | None = None
    p99: float | None = None
    split: str = ""
    runtime: str = ""
    device: str = "cpu"
    threads: int = 0
    batch: int = 0
    precision: str = ""
    seeds: str = ""
    versions: str = ""
    machine: str = ""
    commit: str = ""
    date: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"row {self.artifact!r} {self.metric!r}: the value {self.value} is not a finite number")


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append `rows` to the JSON-lines file at `path`: one write, then a sync.

    A last line that an earlier crash tore is cut off first, so that it cannot spoil the line written after it.
    """
    if not rows:
        return
    text = "".join(json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    with explain_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            _mend_tail(file.fileno())
            file.write(text.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write `rows` as the whole JSON-lines file at `path`, atomically."""
    text = "".join(json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of the JSON-lines file at `path`, oldest first; an absent file holds none.

    A torn last line (no newline at its end) is passed over. Raises `DataError` that names any other damaged line.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rows.append(parse(Row, json.loads(line.decode("utf-8", "surrogatepass"))))
        except (ValueError, ConfigError) as error:
            if number == len(lines):
                break
            raise DataError(f"{path}, line {number}: not a row ({error})") from None
    return rows


def newest(rows: Iterable[Row]) -> list[Row]:
    """Return one row per artifact and metric, the newest; of equal dates the later one. First appearances keep their
    order."""
    kept: dict[tuple[str, str], Row] = {}
    for row in rows:
        name = row.artifact, row.metric
        if name not in kept or row.date >= kept[name].date:
            kept[name] = row
    return list(kept.values())


def to_csv(rows: Iterable[Row]) -> str:
    """Return `rows` as CSV text with the columns `COLUMNS`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(getattr(row, column)) for column in COLUMNS])
    return out.getvalue()


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write `rows` to `path` as CSV, atomically."""
    write_bytes(path, to_csv(rows).encode("utf-8", "surrogatepass"))


def read_csv(path: Path) -> list[Row]:
    """Return the rows of a CSV file that `write_csv` wrote; raise `DataError` that names a damaged line."""
    kinds = {f.name: f.type for f in fields(Row)}
    with open(path, newline="", encoding="utf-8", errors="surrogatepass") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise DataError(f"{path}: the columns are {','.join(header)}, expected {','.join(COLUMNS)}")
        rows: list[Row] = []
        for cells in reader:
            if len(cells) != len(COLUMNS):
                raise DataError(f"{path}, line {reader.line_num}: {len(cells)} cells, expected {len(COLUMNS)}")
            try:
                rows.append(parse(Row, {c: v for c, v in zip(COLUMNS, cells, strict=True) if v or kinds[c] is str}))
            except ConfigError as error:
                raise DataError(f"{path}, line {reader.line_num}: not a row ({error})") from None
    return rows


def merge_csv(path: Path, rows: Iterable[Row]) -> list[Row]:
    """Add `rows` to the CSV file at `path`, where the newest row of an artifact and metric counts; return all rows."""
    merged = newest([*(read_csv(path) if path.exists() else []), *rows])
    write_csv(path, merged)
    return merged


def _cell(value: Any) -> Any:
    """Whole numbers without a point and never in exponent form, so that a count of bytes stays exact; one line."""
    if value is None:
        return ""
    if isinstance(value, str):
        return re.sub(r"[\r\n]+", " ", value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else f"{value:.10g}"
    return value


def _mend_tail(handle: int) -> None:
    """Cut a torn last line off the open file; end a whole one that lacks its newline."""
    size = os.fstat(handle).st_size
    if size == 0 or os.pread(handle, 1, size - 1) == b"\n":
        return
    data = os.pread(handle, size, 0)
    start = data.rfind(b"\n") + 1
    try:
        json.loads(data[start:])
    except ValueError:
        os.ftruncate(handle, start)
    else:
        os.write(handle, b"\n")
