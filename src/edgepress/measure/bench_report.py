"""The page of a matrix: the verdict first, trade-offs, every cell, the layers and the mistakes of the file to ship."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.core.files import write_bytes
from edgepress.measure import charts
from edgepress.measure.bench import Bench, read_bench
from edgepress.measure.charts import Point
from edgepress.measure.details import errors, layer_lines, pictures
from edgepress.measure.matrix import SEEN, Result, speedup
from edgepress.measure.matrix_rows import distinct, empty, rows
from edgepress.measure.prepare import precision_of
from edgepress.measure.render import Figure, render
from edgepress.measure.rows import to_csv
from edgepress.measure.summary import Tile
from edgepress.measure.tables import ms_text, percent, score_name, size_text, times_text
from edgepress.measure.verdict import TORCH, Verdict, title

PAGE = "report.html"

LEGEND = (
    "x is the speed against the first line of the same threads and batch. Parity is the share of equal answers with "
    "the network in PyTorch that the file came from, equal with those of the FP32 network. Load counts from the start "
    "of a process; RSS is the most memory it held. ~ at a latency: it varied too much (p10 to p90 above a quarter of "
    "the median) to trust small differences; ~ at an energy: an estimate from CPU time and the stated TDP."
)


@dataclass(frozen=True)
class Line:
    """One line of the matrix: cells as text and as what they are sorted by, "" where there is no figure."""

    row: str
    chosen: bool
    cells: tuple[tuple[str, float | str], ...]


def write_bench_report(store: Path) -> Path:
    """Write `report.html` of the matrix in `store`, and return its path.

    Raises `DataError` where there is no matrix, and `MissingExtraError` on the base install.
    """
    write_bytes(store / PAGE, render_bench(read_bench(store), store).encode("utf-8", "replace"))
    return store / PAGE


def render_bench(bench: Bench, store: Path) -> str:
    """Return the page of `bench`, whose results lie in `store`."""
    results = bench.results(store)
    blocks, verdicts = bench.blocks(results), bench.verdicts(results)
    about, block = next(iter(blocks.items()), ((1, 1), []))
    verdict = verdicts.get(about, Verdict(None, ("Nothing was measured.",)))
    chosen = verdict.chosen
    names = dict(zip(_networks(results), distinct(_networks(results)), strict=True)) if results else {}
    if len(names) < 2:
        names = dict.fromkeys(names, "")
    ships = [verdict.chosen for verdict in verdicts.values() if verdict.chosen is not None]
    about_rows = {name: bench.environment[name] for name in ("machine", "versions") if name in bench.environment}
    csv = to_csv(rows(results, bench.score, bench.command, bench.split, **about_rows))
    wrong = chosen.wrong if chosen else {}
    return render(
        "bench.html.jinja",
        tuple(_figures(bench, block, names)),
        bench=bench,
        lead=verdict.sentences[0],
        where=[text for text in verdict.sentences[1:] if not text.startswith("Against")],
        gained=[text for text in verdict.sentences if text.startswith("Against")],
        did_not_help=verdict.did_not_help,
        conditions=_conditions(bench, about, results),
        plotted=_about(about),
        tiles=_tiles(bench, block, verdict),
        verdicts=[(_about(key), value.sentences[0]) for key, value in verdicts.items()],
        columns=columns(bench, results, names),
        lines=lines(bench, results, names, ships),
        empty=[(names, reason) for reason, names in empty(results).items()],
        legend=LEGEND,
        csv=csv,
        detail_of=title(chosen) if chosen else "",
        layers=_layers(chosen, results, store) if chosen else [],
        errors=errors(wrong, bench.labels, _pictures(wrong, store)),
        judged=int(chosen.facts.get("images", 0)) if chosen else 0,
        budget=_budget(bench),
    )


def columns(bench: Bench, results: Sequence[Result], names: dict[str, str]) -> list[tuple[str, bool]]:
    """Return the headings of the matrix, and which are of numbers; what no cell has is left out."""
    facts = {name for result in results for name in result.facts}
    several = len({(result.cell.threads, result.cell.batch) for result in results}) > 1
    found = [("network", False)] if any(names.values()) else []
    found += [("engine", False), ("precision", False)] + ([("threads", True), ("batch", True)] if several else [])
    found += [(f"{score_name(bench.score)} %", True)] if "score" in facts else []
    found += [("parity %", True)] if "parity" in facts else []
    found += [("equal %", True)] if "agreement" in facts else []
    found += [("size", True), ("p50 ms", True), ("p90", True), ("p99", True), ("img/s", True), ("x", True)]
    found += [("load ms", True), ("RSS MB", True), ("pre+post %", True)]
    return found + ([("mJ", True)] if "energy" in facts else [])


def lines(bench: Bench, results: Sequence[Result], names: dict[str, str], ships: Sequence[Result] = ()) -> list[Line]:
    """Return the lines of the matrix, without empty cells, for the headings of `columns`."""
    wanted = [name for name, _ in columns(bench, results, names)]
    firsts: dict[tuple[int, int], Result] = {}
    found: list[Line] = []
    for result in results:
        if result.error:
            continue
        first = firsts.setdefault((result.cell.threads, result.cell.batch), result)
        values = _values(bench, result, first, names)
        found.append(Line(result.cell.name, any(result is ship for ship in ships), tuple(values[n] for n in wanted)))
    return found


def _values(bench: Bench, result: Result, first: Result, names: dict[str, str]) -> dict[str, tuple[str, float | str]]:
    cell, facts, timing = result.cell, result.facts, result.timing
    quantiles = {q: timing.ms(q) if timing else None for q in (0.5, 0.9, 0.99)}
    rate, factor = timing.per_second(cell.batch) if timing else None, speedup(first, result)
    shaky, guess = "~" if result.restless else "", "~" if result.estimated else ""

    def fact(name: str, text: Any) -> tuple[str, float | str]:
        value = facts.get(name)
        return ("-", "") if value is None else (text(value), value)

    def number(value: float | None, text: str) -> tuple[str, float | str]:
        return ("-", "") if value is None else (text, value)

    network = names.get(cell.artifact, "")
    return {
        "network": (network, network),
        "engine": (charts.kind_name(cell.runtime), cell.runtime),
        "precision": (cell.precision, cell.precision),
        "threads": (str(cell.threads), cell.threads),
        "batch": (str(cell.batch), cell.batch),
        f"{score_name(bench.score)} %": fact("score", percent),
        "parity %": fact("parity", percent),
        "equal %": fact("agreement", percent),
        "size": fact("bytes", size_text),
        "p50 ms": number(quantiles[0.5], ms_text(quantiles[0.5]) + shaky),
        "p90": number(quantiles[0.9], ms_text(quantiles[0.9])),
        "p99": number(quantiles[0.99], ms_text(quantiles[0.99])),
        "img/s": number(rate, f"{rate or 0:,.0f}"),
        "x": number(factor, times_text(factor)),
        "load ms": fact("load", lambda value: f"{value:.0f}"),
        "RSS MB": fact("peak_rss", lambda value: f"{value:.0f}"),
        "pre+post %": fact("pre_post_share", lambda value: f"{value:.0f}"),
        "mJ": fact("energy", lambda value: f"{guess}{value:.3g}"),
    }


def _figures(bench: Bench, block: Sequence[Result], names: dict[str, str]) -> Iterable[Figure]:
    guess = " (estimate)" if any(result.estimated for result in block) else ""
    plots = (
        ("tradeoff-latency", "Accuracy against latency", "latency, ms (log)", "ms"),
        ("tradeoff-bytes", "Accuracy against size", "size (log)", "bytes"),
        ("tradeoff-energy", "Accuracy against energy", f"energy of a call, mJ{guess} (log)", "energy"),
        ("tradeoff-memory", "Accuracy against memory", "most memory of a process, MB (log)", "peak_rss"),
    )
    for name, heading, axis, fact in plots:
        points = [point for result in block if (point := _point(bench, result, fact, names)) is not None]
        spec = charts.tradeoff(points, score_name(bench.score), axis, sizes=fact == "bytes")
        if spec is not None:
            yield Figure(name, heading, spec)


def _point(bench: Bench, result: Result, fact: str, names: dict[str, str]) -> Point | None:
    x, score = result.ms if fact == "ms" else result.facts.get(fact), result.facts.get("score")
    if result.error or not x or score is None:
        return None
    cell, told = result.cell, [f"{percent(score)} % {score_name(bench.score)}"]
    told += [size_text(result.facts["bytes"])] if "bytes" in result.facts else []
    told += [f"{ms_text(result.ms)} ms"] if result.ms is not None else []
    told += [f"{result.facts['energy']:.3g} mJ"] if "energy" in result.facts else []
    network = names.get(cell.artifact, "")
    label = f"{network} {cell.precision}".strip()
    kind = charts.kind_name(cell.runtime)
    about = f"{network + ': ' if network else ''}{kind} {cell.precision}, {', '.join(told)}"
    return Point(label, kind, float(x), score, about, cell.name)


def _tiles(bench: Bench, block: Sequence[Result], verdict: Verdict) -> list[Tile]:
    """Return the figures of the chosen file in large type, each held against FP32 PyTorch."""
    chosen = verdict.chosen
    if chosen is None:
        return []
    alike = [r for r in block if r.cell.artifact == chosen.cell.artifact and r.cell.precision == "fp32" and not r.error]
    before = next((r for name in TORCH for r in alike if r.cell.runtime == name), None)
    facts, than, made = chosen.facts, " than FP32 PyTorch", list[Tile]()
    if "score" in facts:
        change, good = "", None
        if before is not None and "score" in before.facts:
            points = facts["score"] - before.facts["score"]
            good = None if abs(points) < 0.05 else points > 0
            change = f"{points:+.2f} points against FP32".replace("-", "\u2212", 1)
        made.append(Tile(score_name(bench.score), percent(facts["score"]), "%", change, good))
    factor = speedup(before, chosen) if before is not None else None
    made.append(Tile("latency", ms_text(chosen.ms), "ms", _factor(factor, "faster", "slower", than), _good(factor)))
    if "bytes" in facts:
        figure, unit = size_text(facts["bytes"]).split(" ")
        ratio = before.facts["bytes"] / max(facts["bytes"], 1) if before is not None else None
        made.append(Tile("size", figure, unit, _factor(ratio, "smaller", "larger", than), _good(ratio)))
    if "energy" in facts:
        ratio = before.facts["energy"] / facts["energy"] if before is not None and "energy" in before.facts else None
        name = "energy (estimate)" if chosen.estimated else "energy"
        made.append(Tile(name, f"{facts['energy']:.3g}", "mJ", _factor(ratio, "less", "more", than), _good(ratio)))
    return made


def _factor(factor: float | None, better: str, worse: str, than: str) -> str:
    if factor is None:
        return ""
    return f"{times_text(factor)} {better}{than}" if factor >= 1 else f"{times_text(1 / factor)} {worse}{than}"


def _good(factor: float | None) -> bool | None:
    return None if factor is None or 0.97 < factor < 1.03 else factor > 1


def _layers(chosen: Result, results: Sequence[Result], store: Path) -> list[Any]:
    """Return the layer table of the chosen file. What each layer holds is read off an ONNX file of the same network."""
    cell = chosen.cell
    held = precision_of(cell.kind, "fp32") if not cell.precision.startswith("w") else cell.precision.split("+")[0]
    twins = [r for r in results if r.cell.artifact == cell.artifact and r.files]
    files = chosen.files or next((r.files for r in twins if r.cell.precision in (cell.precision, held)), [])
    path = store / "models" / f"{cell.artifact}-layers.json"
    names: list[str] = json.loads(path.read_bytes()) if path.exists() else []
    return layer_lines(chosen.layers, files, names, {}) if chosen.layers or files else []


def _pictures(wrong: dict[str, Any], store: Path) -> dict[str, str]:
    path = store / SEEN
    return pictures(wrong, np.load(path, mmap_mode="r")) if path.exists() else {}


def _conditions(bench: Bench, about: tuple[int, int], results: Sequence[Result]) -> str:
    images = next((int(result.facts["images"]) for result in results if "images" in result.facts), 0)
    parts = [_about(about)]
    parts += (
        [f"{score_name(bench.score)} on {images:,} images of the {bench.split} split of {bench.data}"] if images else []
    )
    parts += [f"on {bench.on}" if bench.on else "", bench.environment.get("machine", "")]
    return "; ".join(part for part in parts if part)


def _about(about: tuple[int, int]) -> str:
    return f"{about[0]} thread{'s' * (about[0] > 1)}, {about[1]} image{'s' * (about[1] > 1)} a call"


def _networks(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.cell.artifact for result in results))


def _budget(bench: Bench) -> str:
    told = {"points of score": bench.budget.drop, "ms": bench.budget.ms, "MB": bench.budget.mb, "mJ": bench.budget.mj}
    return "\n".join(f"at most {value:g} {name}" for name, value in told.items() if value is not None)
