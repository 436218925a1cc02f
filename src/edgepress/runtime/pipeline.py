"""A bundle ready for use: image in, answer out, with everything in between as the manifest states it."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgepress.core.artifact import Program, Signature
from edgepress.core.errors import DataError
from edgepress.data.resize import Box, fit, source_box
from edgepress.runtime.predictor import EnginePredictor
from edgepress.runtime.preprocess import ImageLike, open_image
from edgepress.runtime.sliding import Sliding
from edgepress.tasks.base import tasks
from edgepress.tasks.classification import Prediction
from edgepress.tasks.cross_entropy import VOID
from edgepress.tasks.segmentation import Segments

CHUNK = 32  # images held decoded at once, fewer where they are large

Answer = Prediction | Segments


class Pipeline:
    """Call it with one image (a path, a PIL image, a uint8 array `(H, W, C)`) or several (a list, an array
    `(N, H, W, C)`): it gives one answer, or a list of them.

    An answer is a `Prediction` for classification, or `Segments` at the size of the image for segmentation.
    `threads` is by default the number of cores this process may use. With `windows` a segmentation network sees images
    larger than its input in overlapping windows, at their own size. Raises what `EnginePredictor` and `Sliding` raise.
    """

    def __init__(self, program: Program, threads: int | None = None, windows: bool = False) -> None:
        self.program = program
        self.predictor = EnginePredictor(program, usable_cores() if threads is None else threads)
        self._task = tasks.get(program.signature.task)
        self._sliding = Sliding(self.predictor) if windows else None

    @property
    def signature(self) -> Signature:
        """What the network takes and gives."""
        return self.program.signature

    @overload
    def __call__(self, images: str | os.PathLike[str]) -> Any: ...
    @overload
    def __call__(self, images: Sequence[ImageLike]) -> list[Any]: ...
    @overload
    def __call__(self, images: ImageLike) -> Any: ...
    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Any:
        """Return the answer for an image, or the answers for several, in order.

        Raises `DataError` naming the image that cannot be used, or where the outputs are not finite.
        """
        if isinstance(images, np.ndarray) and images.ndim == 4:
            images = list(images)
        if not isinstance(images, list | tuple):
            return self._answers([images], "")[0]  # pyright: ignore[reportArgumentType]
        several: list[ImageLike] = list(images)
        answers: list[Answer] = []
        chunk = self.signature.input.at_once(CHUNK)
        for start in range(0, len(several), chunk):
            answers += self._answers(several[start : start + chunk], f"of images {start} and on: ")
        return answers

    def _answers(self, images: list[ImageLike], where: str) -> list[Answer]:
        spec = self.signature.input
        if self._sliding is not None:
            return [self._in_windows(open_image(image, spec), self._sliding, where) for image in images]
        prepared: list[NDArray[np.uint8]] = []
        sizes: list[tuple[int, int]] = []
        for image in images:
            opened = open_image(image, spec)
            prepared.append(fit(opened, spec))
            sizes.append(opened.size)
        outputs = self._finite(self.predictor(np.stack(prepared)), where)
        answers: list[Answer] = self._task.decode(outputs, self.signature.labels)
        return [self._placed(answer, size) for answer, size in zip(answers, sizes, strict=True)]

    def _in_windows(self, image: Image.Image, sliding: Sliding, where: str) -> Answer:
        spec = self.signature.input
        factor = max(spec.width / image.width, spec.height / image.height, 1.0)
        size = (math.ceil(image.width * factor - 1e-6), math.ceil(image.height * factor - 1e-6))
        scaled = image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
        pixels = fit(scaled, replace(spec, height=scaled.height, width=scaled.width, resize="stretch"))
        [answer] = self._task.decode(self._finite(sliding(pixels[None]), where), self.signature.labels)
        return Segments(
            place(answer.classes, image.size, (0.0, 0.0, float(image.width), float(image.height))), answer.labels
        )

    def _finite(self, outputs: NDArray[np.float32], where: str) -> NDArray[np.float32]:
        if not np.isfinite(outputs).all():
            raise DataError(
                f"{where}the outputs of the network are not finite; its weights are damaged or it overflows "
                f"in {self.program.precision}: check it with `edgepress eval`, export it again"
            )
        return outputs

    def _placed(self, answer: Answer, size: tuple[int, int]) -> Answer:
        if isinstance(answer, Prediction):
            return answer
        return Segments(place(answer.classes, size, source_box(size, self.signature.input)), answer.labels)


def place(classes: NDArray[np.uint8], size: tuple[int, int], box: Box) -> NDArray[np.uint8]:
    """Return `classes` laid over the `box` of an image of `size` (width, height); nearest neighbor, 255 outside."""
    rows, seen_rows = _nearest(size[1], classes.shape[0], box[1], box[3])
    columns, seen_columns = _nearest(size[0], classes.shape[1], box[0], box[2])
    placed = np.full((size[1], size[0]), VOID, np.uint8)
    placed[np.ix_(seen_rows, seen_columns)] = classes[np.ix_(rows, columns)]
    return placed


def usable_cores() -> int:
    """Return how many cores this process may run on, which a container or `taskset` may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _nearest(length: int, cells: int, start: float, end: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the cell under each pixel center that lies in `start`..`end`, and which of the `length` pixels do."""
    centers = np.arange(length) + 0.5
    seen = (centers >= start) & (centers < end)
    cell = ((centers[seen] - start) * (cells / (end - start))).astype(np.int64)
    return np.clip(cell, 0, cells - 1), seen
