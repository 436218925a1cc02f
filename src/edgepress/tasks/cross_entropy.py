"""Cross entropy as every task of this house wants it: smoothed, and blind to void targets."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

VOID = 255
"""The target that means "do not count". With more than 255 classes it is an ordinary class id and nothing is void."""


def void_of(classes: int) -> int:
    """Return the target that does not count among `classes` classes: 255, or -1 where 255 is a class."""
    return VOID if classes <= VOID else -1


def cross_entropy(outputs: "Tensor", targets: "Tensor", label_smoothing: float = 0.0) -> "Tensor":
    """Return the mean cross entropy over the targets that count, as a float32 scalar.

    `outputs` are `(N, classes, ...)` logits; `targets` are class ids `(N, ...)`, or probabilities shaped like `outputs`
    (mixed images). A batch in which everything is void has loss 0, not NaN, so that it does not end a training.
    Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567.
    """
    from torch.nn import functional

    outputs = outputs.float()
    if targets.is_floating_point():
        return functional.cross_entropy(outputs, targets, label_smoothing=label_smoothing)
    void = void_of(outputs.shape[1])
    total = functional.cross_entropy(
        outputs, targets, ignore_index=void, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (targets != void).sum().clamp(min=1)
