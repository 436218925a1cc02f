"""Rows as a table for people: one line per artifact, in a terminal of 80 columns or in Markdown."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

from edgepress.measure.rows import Row, newest

_SCORES = ("top1", "miou", "val_top1", "val_miou")
_SCORE_NAMES = {"top1": "top-1", "miou": "mIoU", "val_top1": "top-1 (val)", "val_miou": "mIoU (val)"}


@dataclass(frozen=True)
class Line:
    """What a table shows of one artifact; None where it was not measured. `speedup` is against the first line that has
    a latency, whatever runs it."""

    artifact: str
    runtime: str
    precision: str
    score: float | None
    size: float | None
    latency: float | None
    speedup: float | None
    agreement: float | None


def lines(rows: Iterable[Row]) -> list[Line]:
    """Return one line per artifact, in order of first appearance, from the newest rows."""
    rows = newest(rows)
    score, latency = main_score(rows), main_latency(rows)
    by_artifact: dict[str, dict[str, Row]] = {}
    for row in rows:
        by_artifact.setdefault(row.artifact, {})[row.metric] = row
    first = next((found[latency].value for found in by_artifact.values() if latency in found), None)
    made: list[Line] = []
    for artifact, found in by_artifact.items():
        some = next(iter(found.values()))
        values = {name: row.value for name, row in found.items()}
        ms = values.get(latency)
        made.append(
            Line(
                artifact,
                some.runtime,
                some.precision,
                values.get(score),
                values.get("bytes"),
                ms,
                first / ms if first is not None and ms else None,
                values.get("agreement_parent", values.get("agreement_teacher")),
            )
        )
    return made


def main_score(rows: Iterable[Row]) -> str:
    """Return the metric that tells how good these artifacts are ("top1", "miou"), empty where none was measured."""
    have = [r.metric for r in rows if r.better == "higher" and r.unit == "%" and not r.metric.startswith("agreement")]
    return next((name for name in _SCORES if name in have), have[0] if have else "")


def main_latency(rows: Iterable[Row]) -> str:
    """Return the latency metric that most artifacts have ("latency", "latency_t2"), empty where none was measured."""
    kinds = ("latency_p90", "latency_spread")
    have = Counter(r.metric for r in rows if r.metric.startswith("latency") and not r.metric.startswith(kinds))
    return max(have, key=lambda name: (have[name], name == "latency"), default="")


def score_name(metric: str) -> str:
    """Return the name of a score as people write it."""
    return _SCORE_NAMES.get(metric, metric)


def text_table(rows: Sequence[Row], title: str = "") -> Table:
    """Return a rich table of at most 80 columns; a long artifact name is folded, never cut."""
    heading = {"title": title or None, "title_justify": "left", "title_style": "bold"}
    table = Table(**heading, box=None, pad_edge=False, padding=(0, 1))
    for name, justify in _headings(rows):
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name != "artifact", header_style="bold")
    for cells in _cells(rows):
        table.add_row(*(Text(cell) for cell in cells))  # Text: an artifact's name is not markup
    return table


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the same table in Markdown."""
    headings = _headings(rows)
    out = ["| " + " | ".join(name for name, _ in headings) + " |"]
    out.append("|" + "|".join(" ---: " if justify == "right" else " --- " for _, justify in headings) + "|")
    out += ["| " + " | ".join(escape_markdown(cell) for cell in cells) + " |" for cells in _cells(rows)]
    return "\n".join(out) + "\n"


def escape_markdown(text: str) -> str:
    """Return `text` so that it stays in its table cell and carries no HTML."""
    for old, new in (("&", "&amp;"), ("<", "&lt;"), ("\\", "\\\\"), ("|", "\\|"), ("\r", " "), ("\n", " ")):
        text = text.replace(old, new)
    return text


def percent(value: float | None) -> str:
    """Return 91.733 as "91.73"."""
    return "-" if value is None else f"{value:.2f}"


def size_text(value: float | None) -> str:
    """Return a number of bytes as "98.5 kB" (powers of 1000); below 10,000 it stays exact."""
    if value is None:
        return "-"
    if value < 10_000:
        return f"{value:.0f} B"
    for unit in ("kB", "MB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}"
    return f"{value / 1000:.3g} GB"


def ms_text(value: float | None) -> str:
    """Return milliseconds with three significant digits."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def times_text(value: float | None) -> str:
    """Return a factor as "3.4x"."""
    if value is None:
        return "-"
    return f"{value:.0f}x" if value >= 9.95 else f"{value:.1f}x" if value >= 1 else f"{value:.2f}x"


def _headings(rows: Sequence[Row]) -> list[tuple[str, Literal["left", "right"]]]:
    score = score_name(main_score(rows)) or "score"
    return [
        ("artifact", "left"),
        ("runtime", "left"),
        ("precision", "left"),
        (f"{score} %", "right"),
        ("size", "right"),
        ("ms", "right"),
        ("speedup", "right"),
    ]


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    return [
        [
            line.artifact,
            line.runtime,
            line.precision,
            percent(line.score),
            size_text(line.size),
            ms_text(line.latency),
            times_text(line.speedup),
        ]
        for line in lines(rows)
    ]
