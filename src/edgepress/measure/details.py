"""What a report shows of one file beside its figures: its layers, and what it gets wrong, with pictures.

`examine` looks at a bundle and returns plain JSON values; `layer_lines` and `errors` make of them what a page prints.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgepress.core.artifact import Program
from edgepress.data.base import spread
from edgepress.measure.mistakes import encoded, mistakes
from edgepress.measure.profile import layer_files, profile
from edgepress.measure.tables import ms_text, size_text
from edgepress.runtime.overlay import painted
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import to_input

if TYPE_CHECKING:
    from edgepress.data.base import Split

IMAGES = 2000
LARGEST = 160
"""Pixels a side of a picture on the page."""


@dataclass(frozen=True)
class LayerLine:
    """A layer, ready to print; shares are bar lengths in percent."""

    name: str
    kind: str
    shape: str
    bytes: str
    bytes_share: float
    ms: str
    share: float
    sensitivity: str
    sensitivity_share: float


@dataclass(frozen=True)
class Picture:
    """An image and what a network said of it; `source` is a data address, `overlay` one of the answer for pixels."""

    source: str
    text: str
    note: str
    overlay: str = ""


@dataclass(frozen=True)
class Errors:
    """The confusion matrix (`cells` of text and the share of the row, in percent), the commonest confusions, the worst
    images."""

    labels: tuple[str, ...]
    cells: tuple[tuple[tuple[str, float], ...], ...]
    pairs: tuple[tuple[str, str], ...]
    pictures: tuple[Picture, ...]
    pixels: bool


def examine(program: Program, split: "Split", names: Sequence[str] = (), images: int = IMAGES) -> dict[str, Any]:
    """Return `layers`, `files`, `names`, `wrong` and `pictures` of `program` on `images` of `split`."""
    seen, targets = split.read(spread(split, images))
    signature = program.signature
    outputs = EnginePredictor(program)(seen)
    wrong = mistakes(signature.task, outputs, targets, len(signature.labels)) if np.isfinite(outputs).all() else {}
    return {
        "layers": profile(program, 1, to_input(seen[:1], signature.input)),
        "files": layer_files(program),
        "names": list(names),
        "wrong": wrong,
        "pictures": pictures(wrong, seen),
        "images": len(seen),
        "labels": list(signature.labels),
    }


def pictures(wrong: Mapping[str, Any], images: NDArray[np.uint8]) -> dict[str, str]:
    """Return the images that `wrong` names as the base64 of a PNG, by their number as text."""
    places = [entry["index"] for entry in wrong.get("worst", [])]
    return {str(place): encoded(_smaller(images[place])) for place in places if place < len(images)}


def layer_lines(
    layers: Sequence[Mapping[str, Any]], files: Sequence[Mapping[str, Any]], names: Sequence[str],
    sensitivity: Mapping[str, float],
) -> list[LayerLine]:  # fmt: skip
    """Return a line per layer, in the order of the calls; what belongs to no layer is one line at the end.

    `sensitivity` is by module path. Names, files or times that are not there leave gaps.
    """
    numbers = [entry["layer"] for entry in layers if entry.get("layer") is not None]
    count = max(len(files), len(names) if numbers or files else 0, max(numbers, default=-1) + 1)
    whole = sum(float(entry["share"]) for entry in layers) or 1.0
    most_bytes = max((file["bytes"] for file in files), default=0) or 1
    most_felt = max(sensitivity.values(), default=0.0) or 1.0
    lines: list[LayerLine] = []
    for number in [*range(count), None]:
        mine = [entry for entry in layers if entry.get("layer") == number]
        if number is None and not mine:
            continue
        file = files[number] if number is not None and number < len(files) else None
        name = "everything else" if number is None else f"layer {number + 1}"
        if number is not None and number < len(names):
            name = str(names[number])
        ms, share = sum(e.get("ms", 0.0) for e in mine), sum(e["share"] for e in mine)
        felt = sensitivity.get(name)
        lines.append(
            LayerLine(
                name=name,
                kind=max(mine, key=lambda entry: entry["share"])["kind"] if mine else (file or {}).get("operation", ""),
                shape="x".join(str(size) for size in file["shape"]) if file else "",
                bytes=size_text(file["bytes"]) if file else "",
                bytes_share=round(100 * file["bytes"] / most_bytes, 1) if file else 0.0,
                ms=ms_text(ms) if mine else "",
                share=round(100 * share / whole, 1),
                sensitivity="" if felt is None else f"{felt:.3g}",
                sensitivity_share=0.0 if felt is None else round(100 * felt / most_felt, 1),
            )
        )
    return lines


def errors(wrong: Mapping[str, Any], labels: Sequence[str], shown: Mapping[str, str]) -> Errors | None:
    """Return what the page shows of `wrong` (see `mistakes.mistakes`); `shown` are `pictures`. None for nothing."""
    if not wrong:
        return None
    name = dict(enumerate(labels))
    cells = tuple(
        tuple((f"{n:,}" if n else "", round(100 * n / max(sum(row), 1), 1)) for n in row)
        for row in wrong.get("confusion") or []
    )
    pairs = tuple((f"{name.get(t, t)} taken for {name.get(g, g)}", f"{n:,}") for t, g, n in wrong.get("pairs", []))
    entries = [entry for entry in wrong.get("worst", []) if str(entry["index"]) in shown]
    return Errors(
        tuple(labels) if cells else (),
        cells,
        pairs,
        tuple(_picture(entry, name, shown[str(entry["index"])]) for entry in entries),
        any("classes" in entry for entry in entries),
    )


def _picture(entry: Mapping[str, Any], name: Mapping[int, str], picture: str) -> Picture:
    source = f"data:image/png;base64,{picture}"
    if "classes" in entry:
        return Picture(
            source,
            f"{entry['sure']:.1f} % right",
            f"image {entry['index']}",
            _colored(entry["classes"], tuple(name.values())),
        )
    also = {None: "", True: "; the float network errs, too", False: "; the float network is right"}[entry.get("also")]
    said, truth = name.get(entry["given"], entry["given"]), name.get(entry["true"], entry["true"])
    return Picture(source, f"{said}, not {truth}", f"{entry['sure']:.0f} % sure{also}")


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = -(-max(image.shape[:2]) // LARGEST)
    return image[::step, ::step]


def _colored(classes: str, labels: Sequence[str]) -> str:
    """Return the base64 of a PNG of class numbers as the address of one in colors."""
    numbers = np.asarray(Image.open(io.BytesIO(base64.b64decode(classes))))
    return f"data:image/png;base64,{encoded(_smaller(painted(numbers, tuple(labels))))}"
