"""What a distillation did: how good the teacher is, how far the student follows it, what to be warned of."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgepress.core.inputs import InputSpec
from edgepress.data.base import Split
from edgepress.tasks.base import Outputs, Targets, Task
from edgepress.tasks.classification import softmax

MOST_NUMBERS = 20_000_000
"""Of the teacher's outputs on the validation split that are held in memory: its first images, if need be."""
DWARFS = 50.0
"""A term whose gradient is so many times those of all others is warned of."""
SURE = 5
"""Of fewer images of a class it may be chance what most of them are taken for."""
CHANGES = 10

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Answers:
    """Outputs `(n, classes, ...)` on the first n images of a split."""

    outputs: Outputs
    targets: Targets

    def scores(self, task: Task) -> dict[str, float]:
        """Return the main score and, where the task has one, the calibration error `ece`, in percent."""
        meter = task.meter(self.outputs.shape[1])
        meter.update(self.outputs, self.targets)
        result = meter.result()
        return {name: result[name] for name in (task.main, "ece") if name in result}


def parts(split: Split, most: int) -> Iterator[NDArray[np.int64]]:
    """Yield the places of the first `most` images, some hundreds at a time, or fewer where they are large."""
    count = min(len(split), most)
    height, width = split.read(np.zeros(min(count, 1), np.int64))[0].shape[1:3]
    at_once = InputSpec(height, width).at_once(500)
    yield from np.array_split(np.arange(count), max(1, count // at_once))


def read(split: Split, indices: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Targets]:
    """Return images `(n, C, H, W)` on the device, and their targets."""
    images, targets = split.read(indices)
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(device), targets


def answers(predict: Predict, split: Split, device: torch.device, most: int = 0) -> Answers:
    """Return what `predict` says to the first images of `split`: `most`, or as many as `MOST_NUMBERS` allow."""
    outputs: list[Outputs] = []
    targets: list[Targets] = []
    for indices in parts(split, most or len(split)):
        images, found = read(split, indices, device)
        outputs.append(predict(images).cpu().numpy())
        targets.append(found)
        if not most and sum(part.size for part in outputs) >= MOST_NUMBERS:
            break
    return Answers(np.concatenate(outputs), np.concatenate(targets))


def entropy(outputs: Outputs, temperature: float) -> float:
    """Return the mean entropy in nats of softened outputs `(n, classes, ...)`."""
    p = softmax((outputs / temperature).astype(np.float32)).astype(np.float64)
    return float(-(p * np.log(np.maximum(p, 1e-30))).sum(1).mean())


def judged(
    task: Task, teacher: Answers, student: Answers, labels: Sequence[str], temperature: float | None
) -> dict[str, Any]:
    """Return the numbers of a finished distillation: scores of both in percent, agreement, entropy of the soft labels
    in nats (and the most it could be) where they were softened at one temperature, and the confusions that changed
    most."""
    found: dict[str, Any] = {
        "images": len(student.targets),
        "teacher": teacher.scores(task),
        "student": student.scores(task),
        "agreement": task.agreement(student.outputs, teacher.outputs),
        "temperature": temperature,
        "highest_entropy": math.log(max(2, teacher.outputs.shape[1])),
    }
    if temperature is not None:
        found["soft_label_entropy"] = entropy(teacher.outputs, temperature)
    if teacher.outputs.ndim == 2:
        found["confusions"] = confusions(teacher, student, labels)
    return found


def confusions(teacher: Answers, student: Answers, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the mistakes whose number differs most between the teacher and the student: true class, given class, and
    how often each network makes it."""
    classes = teacher.outputs.shape[1]
    theirs, ours = _mistakes(teacher, classes), _mistakes(student, classes)
    change = np.abs(ours - theirs)
    order = np.argsort(-change, axis=None, kind="stable")[:CHANGES]
    places = [(int(k) // classes, int(k) % classes) for k in order]
    return [
        {"true": labels[a], "given": labels[b], "teacher": int(theirs[a, b]), "student": int(ours[a, b])}
        for a, b in places
        if change[a, b]
    ]


def _mistakes(answered: Answers, classes: int) -> NDArray[np.int64]:
    found = _table(answered, classes)
    np.fill_diagonal(found, 0)
    return found


def _table(answered: Answers, classes: int) -> NDArray[np.int64]:
    """Return how often each true class (rows) was given as each class (columns); void targets do not count."""
    counted = answered.targets < classes
    cells = answered.targets[counted].astype(np.int64) * classes + answered.outputs.argmax(1)[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def teacher_warning(task: Task, teacher: Answers, labels: Sequence[str]) -> str | None:
    """Return a warning where a teacher takes classes for each other, or guesses."""
    table = _table(teacher, len(labels))
    if turned := _turned(table):
        pairs = ", ".join(f"{labels[a]!r} for {labels[b]!r}" for a, b in list(turned.items())[:CHANGES])
        return f"the teacher mostly takes {pairs}: was it trained with another order of classes?"
    score, name = teacher.scores(task)[task.main], task.main
    chance, guess = 150 / len(labels), f"guessing is on {100 / len(labels):.1f} %"
    if name != "top1":  # of class maps, the commonest class everywhere
        chance = _always(teacher, int(table.sum(1).argmax())).scores(task)[name]
        guess = f"the commonest class everywhere reaches {chance:.1f} %"
    if score > chance or (name == "top1" and score == chance):
        return None
    return (
        f"the teacher reaches {score:.1f} % {name} on the validation images, where {guess}: was it trained with "
        "another mean and std, color order or order of classes?"
    )


def _turned(table: NDArray[np.int64]) -> dict[int, int]:
    """Return the classes that a teacher mostly gives for each other, in pairs or larger rings."""
    most, count = table.argmax(1), table.sum(1)
    sure = (2 * table.max(1) > count) & (count >= SURE)
    turned = {a: int(b) for a, b in enumerate(most) if sure[a] and a != b}
    while outside := [a for a, b in turned.items() if a not in turned.values() or b not in turned]:
        turned = {a: b for a, b in turned.items() if a not in outside}
    return turned


def _always(answered: Answers, which: int) -> Answers:
    outputs = np.zeros((1, answered.outputs.shape[1], *answered.outputs.shape[2:]), np.float32)
    outputs[:, which] = 1
    return Answers(np.broadcast_to(outputs, answered.outputs.shape), answered.targets)


def worse_warning(task: Task, teacher: Answers, student: Answers, when: str) -> str | None:
    """Return a warning where the student is better than its teacher; half a point is within what a split can tell."""
    ours, theirs = student.scores(task)[task.main], teacher.scores(task)[task.main]
    if ours <= theirs + 0.5:
        return None
    return (
        f"{when} the student ({ours:.2f} % {task.main} on the validation split) is better than its teacher "
        f"({theirs:.2f} %): a better teacher, or none, may serve it more"
    )


def dwarf_warning(gradients: dict[str, float]) -> str | None:
    """Return a warning where one weighted term pulls more than `DWARFS` times as hard as all others together.

    Gradients are compared, not values: `kd` has the value T^2 times a divergence and a gradient of the usual size.
    """
    if len(gradients) < 2:
        return None
    name = max(gradients, key=lambda key: gradients[key])
    rest = sum(gradients.values()) - gradients[name]
    if gradients[name] <= DWARFS * rest:
        return None
    return (
        f"the gradient of the term {name!r} ({gradients[name]:.3g}) is {gradients[name] / max(rest, 1e-12):.0f} times "
        f"those of all other terms together ({rest:.3g}): they hardly count; give it a smaller weight in 'losses'"
    )
