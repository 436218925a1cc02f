"""What a network gets wrong: which class it takes for which, and the images on which it is worst."""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.runtime.overlay import png
from edgepress.tasks.base import tasks
from edgepress.tasks.cross_entropy import VOID

MOST_CLASSES = 40
"""More classes than that make no table; their commonest confusions are listed all the same."""

WORST, PAIRS = 12, 12

Array = NDArray[Any]


def mistakes(task: str, outputs: Array, targets: Array, classes: int, reference: Array | None = None) -> dict[str, Any]:
    """Return as JSON values `confusion` (rows are the truth; None for many classes), `pairs` (truth, answer, count, the
    commonest first) and `worst`.

    `worst` are the wrong answers that were given with the most confidence, as `index`, `true`, `given`, `sure` in
    percent, and `also`: whether `reference`, the outputs of another network, errs there too (None without one). For
    pixels it is the images with the fewest right pixels: `index`, `sure` is their share, `classes` a PNG of answers.
    """
    tasks.get(task)  # an unknown task is an error here, too
    given = outputs.argmax(axis=1)
    known = targets != VOID if outputs.ndim > 2 else targets < classes
    counts = np.bincount((targets * classes + given)[known], minlength=classes * classes).reshape(classes, classes)
    off = counts * (1 - np.eye(classes, dtype=np.int64))
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    pairs = [[int(k // classes), int(k % classes), int(off.flat[k])] for k in order if off.flat[k]]
    confusion = counts.tolist() if classes <= MOST_CLASSES else None
    worst = _images(outputs, given, targets, reference) if outputs.ndim == 2 else _maps(given, targets, known)
    return {"confusion": confusion, "pairs": pairs, "worst": worst}


def _images(outputs: Array, given: Array, targets: Array, reference: Array | None) -> list[dict[str, Any]]:
    wrong = np.flatnonzero(given != targets)
    logits = outputs[wrong].astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True)) if len(wrong) else logits
    sure = 1 / odds.sum(axis=1) if len(wrong) else np.zeros(0)
    return [
        {
            "index": int(index),
            "true": int(targets[index]),
            "given": int(given[index]),
            "sure": round(100 * float(sure[place]), 1),
            "also": None if reference is None else bool(reference[index].argmax() != targets[index]),
        }
        for place in np.argsort(-sure, kind="stable")[:WORST]
        for index in wrong[place : place + 1]
    ]


def _maps(given: Array, targets: Array, known: Array) -> list[dict[str, Any]]:
    right = ((given == targets) & known).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    return [
        {"index": int(index), "sure": round(100 * float(right[index]), 1), "classes": encoded(given[index])}
        for index in np.argsort(right, kind="stable")[:WORST]
    ]


def encoded(pixels: Array) -> str:
    """Return uint8 `pixels`, `(height, width)` or `(height, width, 1 or 3)`, as the base64 of a PNG."""
    return base64.b64encode(png(pixels.astype(np.uint8))).decode()
