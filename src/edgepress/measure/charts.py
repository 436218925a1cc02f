"""The plots of a report as Vega-Lite specifications, made with Altair. The page supplies the colors, light or dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgepress.core.errors import MissingExtraError
from edgepress.measure.history import Run, Step, mapping, number
from edgepress.measure.summary import Metrics
from edgepress.measure.tables import ms_text, percent, score_name, size_text

SHAPES = ["circle", "diamond", "square", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left"]

_WIDTH, _HEIGHT = 250.0, 250.0  # of the plot area on a phone: labels that fit there fit anywhere
_LETTER, _LINE = 6.4, 14.0
_MOST_LABELS = 14
_CROWDED = 40.0
"""Square pixels that the name of a point behind the front may cover; its tooltip names it all the same."""


@dataclass(frozen=True)
class Point:
    """An artifact in a trade-off plot. `row` is the name of its line in the table, `best` whether no other beats it in
    both, `place` where its label stands ("" for none)."""

    label: str
    kind: str
    x: float
    score: float
    about: str
    row: str = ""
    best: bool = False
    place: str = ""


def tradeoff(points: Sequence[Point], score_title: str, title: str, sizes: bool = False) -> dict[str, Any] | None:
    """Return score (up) against cost (log scale; bytes where `sizes`) of `points`; None where fewer than two are there.

    A line joins the points that no other beats in both.
    """
    points = _places(_judged(points))
    if len(points) < 2:
        return None
    alt = altair()
    kinds = list(dict.fromkeys(point.kind for point in points))
    low, high = min(p.x for p in points), max(p.x for p in points)
    room = max(high / low, 1.2) ** 0.2
    ticks = {"values": _ticks(low / room, high * room), "labelExpr": _SIZES if sizes else "datum.label"}
    x = alt.X("x:Q", title=title, scale=alt.Scale(type="log", domain=[low / room, high * room], nice=False), axis=ticks)
    score = alt.Y("score:Q", title=f"{score_title}, %", scale=alt.Scale(zero=False, padding=22))
    base = alt.Chart(alt.Data(values=[vars(p) for p in points]))
    front = (
        base.transform_filter("datum.best")
        .mark_line(strokeDash=[4, 4], strokeWidth=1.2, interpolate="step-after", aria=False, opacity=0.6)
        .encode(x=x, y=score, order="x:Q", color=alt.value({"expr": "front"}))
    )
    marks = base.mark_point(size=110, filled=True, opacity=1).encode(
        x=x,
        y=score,
        color=alt.Color("kind:N", scale=alt.Scale(domain=kinds), legend=alt.Legend(title=None, orient="top")),
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=_shapes(len(kinds)))),
        tooltip=alt.Tooltip("about:N"),
        description=alt.Description("about:N"),
    )
    layers = [front]
    for place, (align, dx, dy) in _OFFSETS.items():
        if all(point.place != place for point in points):
            continue
        names = base.transform_filter(f"datum.place == '{place}'")
        text = names.mark_text(align=align, dx=dx, dy=dy, baseline="middle", limit=170, aria=False)
        layers.append(text.encode(x=x, y=score, text="label:N"))
    layers.append(marks)  # last: the halo of a name hides no point
    front_color = alt.param(name="front", value="gray")
    return alt.layer(*layers).add_params(front_color).properties(width="container", height=290).to_dict()


def curves(run: Run, metrics: Metrics) -> dict[str, dict[str, Any]]:
    """Return the training curves by title: score on the validation split, and loss, over epochs."""
    alt = altair()
    name = metrics.score.removeprefix("val_")
    found = {
        f"{score_name(name)} on the validation split, %": _series(run, lambda e: number(validation(e, name))),
        "training loss": _series(run, lambda e: number(e.get("loss"))),
        "weighted terms of the training loss": _terms(run),
    }
    specs: dict[str, dict[str, Any]] = {}
    for title, values in found.items():
        if not values:
            continue
        few = max(v["epoch"] for v in values) <= 12
        stages = list(dict.fromkeys(v["stage"] for v in values))
        base = alt.Chart(alt.Data(values=values)).encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, format="d"), scale=alt.Scale(nice=False)),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("stage:N", sort=stages, legend=alt.Legend(title=None, orient="top")),
            tooltip=alt.Tooltip("about:N"),
            description=alt.Description("about:N"),
        )
        line = base.mark_line(strokeWidth=2, aria=False, interpolate="monotone")
        dots = base.mark_point(size=34, filled=True, opacity=1 if few else 0, aria=False)
        specs[title] = alt.layer(line, dots).properties(width="container", height=230).to_dict()
    return specs


def altair() -> Any:
    """Return the altair module; raise `MissingExtraError` on the base install."""
    try:
        import altair
    except ImportError:
        raise MissingExtraError("the HTML report (altair)", "train") from None
    return altair


def _shapes(count: int) -> list[str]:
    return [SHAPES[i % len(SHAPES)] for i in range(count)]


_SIZES = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '~g') + ' GB' : datum.value >= 1e6 ? "
    "format(datum.value / 1e6, '~g') + ' MB' : datum.value >= 1e3 ? format(datum.value / 1e3, '~g') + ' kB' : "
    "format(datum.value, '~g') + ' B'"
)

_RUNTIMES = {
    "torch": "PyTorch", "pt2": "PyTorch export", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO",
    "executorch": "ExecuTorch", "litert": "LiteRT", "ncnn": "ncnn", "tensorrt": "TensorRT", "coreml": "Core ML",
}  # fmt: skip

_OFFSETS = {
    "right": ("left", 10, 0),
    "left": ("right", -10, 0),
    "above": ("center", 0, -15),
    "below": ("center", 0, 15),
}


def points_of(run: Run, metrics: Metrics, metric: str) -> list[Point]:
    """Return the artifacts of a run that have a score and `metric`; simulated ones have no costs of their own."""
    found: list[Point] = []
    for step in run.steps:
        score, x = step.value(metrics.score), step.value(metric)
        if score is None or not x or step.simulated:
            continue
        kind = kind_name(step.runtime, step.precision)
        found.append(Point(step.label, kind, x, score, _about(step, metrics), step.label))
    return found


def _judged(points: Sequence[Point]) -> list[Point]:
    """Return `points` with those marked that no other beats."""
    return [replace(p, best=not any(_beats(q, p) for q in points)) for p in points]


def _beats(a: Point, b: Point) -> bool:
    return a.x <= b.x and a.score >= b.score and (a.x < b.x or a.score > b.score)


def kind_name(runtime: str, precision: str = "") -> str:
    """Return an engine, and a precision, as people write them: "ONNX Runtime w8a8"."""
    return f"{_RUNTIMES.get(runtime, runtime)} {precision}".strip()


def _about(step: Step, metrics: Metrics) -> str:
    parts = [f"{step.label} ({kind_name(step.runtime, step.precision)})"]
    parts.append(f"{percent(step.value(metrics.score))} % {score_name(metrics.score)}")
    if (size := step.value("bytes")) is not None:
        parts.append(size_text(size))
    if (ms := step.value(metrics.latency)) is not None:
        parts.append(f"{ms_text(ms)} ms")
    return ", ".join(parts)


def _places(points: list[Point]) -> list[Point]:
    """Choose for every name a side of its point where it covers no other point or name, the best points first."""
    if not points:
        return []
    xs, ys = [math.log(p.x) for p in points], [p.score for p in points]
    left, wide = min(xs), max(max(xs) - min(xs), 0.2)
    top, tall = max(ys), max(max(ys) - min(ys), 1e-6)
    at = [
        (_WIDTH * (0.14 + 0.72 * (x - left) / wide), 22 + (_HEIGHT - 44) * (top - y) / tall)
        for x, y in zip(xs, ys, strict=True)
    ]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in at]
    places: dict[int, str] = {}
    for which in sorted(range(len(points)), key=lambda n: not points[n].best)[:_MOST_LABELS]:
        boxes = {place: _box(at[which], len(points[which].label), place) for place in _OFFSETS}
        cost = {place: sum(_overlap(box, other) for other in taken) + _outside(box) for place, box in boxes.items()}
        least = min(cost, key=lambda place: cost[place])
        if cost[least] > _CROWDED and not points[which].best:
            continue
        places[which] = least
        taken.append(boxes[least])
    return [replace(point, place=places.get(which, "")) for which, point in enumerate(points)]


Box = tuple[float, float, float, float]


def _box(at: tuple[float, float], letters: int, place: str) -> Box:
    align, dx, dy = _OFFSETS[place]
    width = min(letters * _LETTER, 170)
    start = at[0] + dx - {"left": 0.0, "right": width, "center": width / 2}[align]
    return start, at[1] + dy - _LINE / 2, start + width, at[1] + dy + _LINE / 2


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _outside(box: Box) -> float:
    """Return a cost for what would be cut off, or lie over the axis on the left."""
    return 8 * (max(0.0, -10 - box[0]) + max(0.0, box[2] - _WIDTH - 5) + max(0.0, -box[1]) + max(0.0, box[3] - _HEIGHT))


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers in [low, high]: 1, 2, 5 per power of ten, fewer over a wide range."""
    steps = (1, 2, 5) if high / low < 200 else (1, 3) if high / low < 5000 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**power for power in powers for step in steps]
    inside = [round(value, 12) for value in found if low <= value <= high]
    return inside if len(inside) > 1 else [float(f"{low * 1.03:.2g}"), float(f"{high / 1.03:.2g}")]


def _series(run: Run, read: Any) -> list[dict[str, Any]]:
    return [
        {"stage": step.label, "epoch": event["epoch"], "value": value,
         "about": f"{step.label}, epoch {event['epoch']}: {value:.4g}"}
        for step in run.steps
        for event in step.epochs
        if (value := read(event)) is not None
    ]  # fmt: skip


def _terms(run: Run) -> list[dict[str, Any]]:
    """Return the terms of every loss that has several, each as a line of its own."""
    names = {
        step.label: sorted({name for event in step.epochs for name in mapping(event.get("terms"))})
        for step in run.steps
    }
    found: list[dict[str, Any]] = []
    for label, terms in names.items():
        for term in terms if len(terms) > 1 else ():
            values = _series(run, lambda e, term=term: number(mapping(e.get("terms")).get(term)))
            about = f"{label}: {term}"
            found += [
                value | {"stage": about, "about": f"{about}, epoch {value['epoch']}: {value['value']:.4g}"}
                for value in values
                if value["stage"] == label
            ]
    return found


def validation(event: dict[str, Any], name: str) -> object:
    """Return the score `name` on the validation split that an epoch logged, its first score where no name is known."""
    values = event.get("val")
    if not isinstance(values, dict):
        return None
    return values.get(name) if name else next(iter(values.values()), None)
