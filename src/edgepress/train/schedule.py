"""Learning-rate schedules as pure functions of progress, so that a resumed run needs no schedule state."""

import math
from typing import Literal

Schedule = Literal["cosine", "one_cycle", "constant"]


def scale(schedule: Schedule, progress: float, warmup: float) -> float:
    """Return the factor on the peak learning rate at `progress` in [0, 1] of the training.

    All schedules rise linearly over the first `warmup` share. `cosine` then falls along half a cosine (Loshchilov and
    Hutter, 2017), `one_cycle` along a straight line (Smith and Topin, 2018), both to zero; `constant` stays.
    """
    if progress < warmup:
        return progress / warmup
    if schedule == "constant":
        return 1.0
    rest = (progress - warmup) / max(1.0 - warmup, 1e-12)
    return 0.5 * (1.0 + math.cos(math.pi * rest)) if schedule == "cosine" else 1.0 - rest
