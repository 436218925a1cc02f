"""The 1,797 handwritten digits of scikit-learn (Alpaydin and Kaynak, 1998): real data, no download."""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from edgepress.core.config import dump
from edgepress.core.errors import MissingExtraError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit, check_limits, shrink, stratified
from edgepress.data.base import Data, DataSource, datasets
from edgepress.data.cache import digest


@datasets.register("digits")
@dataclass(frozen=True)
class Digits(DataSource):
    """Gray images of 8x8; `test` and `val` images are cut from all of them, stratified with `seed`."""

    val: int = 180
    test: int = 360
    seed: int = 0
    limit: int | None = None
    limit_eval: int | None = None

    def __post_init__(self) -> None:
        check_limits(self.val, self.limit, self.limit_eval)
        if self.test < 1 or self.val + self.test > 1700:
            raise ValueError(f"val and test must leave some of the 1,797 images to train on: {self.val} + {self.test}")

    def load(self) -> Data:
        """Return the data set; raise `MissingExtraError` without scikit-learn."""
        if reason := self.available():
            raise MissingExtraError(reason, "train")
        from sklearn.datasets import load_digits

        values, targets = load_digits(return_X_y=True)
        images = np.round(np.asarray(values).reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        whole = ArraySplit(images, np.asarray(targets, np.int64))
        rest, test = stratified(whole.targets, self.test, self.seed)
        remaining = whole.take(rest)
        rest, val = stratified(remaining.targets, self.val, self.seed)
        return Data(
            name="digits",
            task="classification",
            labels=tuple("0123456789"),
            input=InputSpec(8, 8, channels=1, mean=(0.3053,), std=(0.3760,), color="L"),
            train=shrink(remaining.take(rest), self.limit, self.seed),
            val=shrink(remaining.take(val), self.limit_eval, self.seed),
            test=shrink(whole.take(test), self.limit_eval, self.seed),
            fingerprint=digest("digits", whole.digest(), dump(self)),
        )

    def available(self) -> str | None:
        """Return None where scikit-learn is installed."""
        return None if find_spec("sklearn") else "the digits data set (scikit-learn)"
