"""The judge of the ladder: the score of the file that a model becomes, on images kept for choosing."""

import numpy as np

from edgepress.core.artifact import Model
from edgepress.core.errors import DataError
from edgepress.data.base import Data
from edgepress.export.formats import formats
from edgepress.export.parity import enough
from edgepress.runtime.predictor import EnginePredictor
from edgepress.tasks.base import tasks

PARITY = 256
CHUNK = 250


class FileJudge:
    """Exports models and scores the files on `count` images of the validation split (0: all of them)."""

    def __init__(self, data: Data, count: int = 0, seed: int = 0, to: str = "onnx") -> None:
        if len(data.val) == 0:
            raise DataError(f"{data.name} has no validation split, which choosing by `max_drop` needs")
        order = np.random.default_rng(seed).permutation(len(data.val))
        self._chosen = np.sort(order[:count] if count else order)
        self._samples = data.val.read(np.sort(order[: enough(data.signature, PARITY)]))[0]
        self._data, self._to = data, to
        self.metric = tasks.get(data.task).main

    @property
    def images(self) -> int:
        """How many images a score is taken over."""
        return len(self._chosen)

    def __call__(self, model: Model) -> float:
        """Return the task's main score of the exported file; raise `ParityError` where the file disagrees."""
        predictor = EnginePredictor(formats.get(self._to)(model, self._samples))
        meter = tasks.get(self._data.task).meter(len(self._data.labels))
        chunk = self._data.input.at_once(CHUNK)
        for start in range(0, len(self._chosen), chunk):
            images, targets = self._data.val.read(self._chosen[start : start + chunk])
            meter.update(predictor(images), targets)
        return meter.result()[self.metric]
