"""An exported network as a `core.artifact.Predictor`: the counterpart of `models.predictor.TorchPredictor`."""

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import BundleError, UnknownNameError
from edgepress.runtime.engine import engines
from edgepress.runtime.preprocess import to_input


class EnginePredictor:
    """`program` on the engine it was exported for, with `threads` threads.

    Raises `BundleError` where that engine is unknown or cannot run it, `MissingExtraError` where it is absent.
    """

    def __init__(self, program: Program, threads: int = 1, batch: int = 64) -> None:
        try:
            engine = engines.get(program.runtime)
        except UnknownNameError as error:
            raise BundleError(f"{error}; this bundle may need a newer edgepress") from None
        self.signature: Signature = program.signature
        self.session = engine.load(program, threads)
        self._batch = self.session.batch or self.signature.input.at_once(batch)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs for pre-processed float32 `images` `(N, channels, height, width)`, and no checks more."""
        return self.session(images)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the float32 outputs for uint8 `images` `(N, height, width, channels)`, some at a time.

        Raises `DataError` where the images do not fit, `BundleError` where the outputs do not fit the labels.
        """
        starts = range(0, max(len(images), 1), self._batch)
        parts = [self._part(to_input(images[k : k + self._batch], self.signature.input)) for k in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _part(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count, fixed = len(images), self.session.batch
        if fixed is not None and count < fixed:  # fill up with zeros and drop their answers
            images = np.concatenate([images, np.zeros((fixed - count, *images.shape[1:]), np.float32)])
        outputs = self.session(images)[:count]
        axes, classes = (2 if self.signature.task == "classification" else 4), len(self.signature.labels)
        if outputs.ndim != axes or outputs.shape[:2] != (count, classes):
            wanted = ("N", classes, "height", "width")[:axes]
            raise BundleError(
                f"the network gives {outputs.shape}; {self.signature.task} with these labels needs {wanted}"
            )
        return outputs
