"""What the losses on logits share: images and pixels as rows, softened, and divergences between them."""

from typing import TYPE_CHECKING

from edgepress.tasks.cross_entropy import void_of

if TYPE_CHECKING:
    from torch import Tensor

    from edgepress.train.loader import Batch


def rows(values: "Tensor") -> "Tensor":
    """Return `(N, C, ...)` as float32 rows `(N * ..., C)`: one per image, or one per pixel."""
    values = values.float()
    return values if values.ndim == 2 else values.movedim(1, -1).flatten(0, -2)


def labelled(outputs: "Tensor", batch: "Batch") -> "tuple[Tensor, Tensor, Tensor]":
    """Return student rows, teacher rows `(n, C)` and class ids `(n,)` of the images or pixels that are not void."""
    assert batch.teacher is not None
    ours, theirs, targets = rows(outputs), rows(batch.teacher), batch.targets.flatten()
    kept = targets != void_of(ours.shape[1])
    if batch.targets.ndim > 1:  # images are never void: no need to look, nor to copy
        ours, theirs, targets = ours[kept], theirs[kept], targets[kept]
    return ours, theirs, targets


def divergence(teacher: "Tensor", student: "Tensor") -> "Tensor":
    """Return `KL(teacher || student)` of every row, from log-probabilities `(n, C)`."""
    return (teacher.exp() * (teacher - student)).sum(1)


def mean(values: "Tensor") -> "Tensor":
    """Return the mean, 0 where there are no values (a batch in which every pixel is void)."""
    return values.sum() / max(values.numel(), 1)
