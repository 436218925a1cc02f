"""Signatures and images for the tests of the models."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec


@pytest.fixture
def sign() -> Callable[..., Signature]:
    """Return a function that makes a signature from a size, channels, a number of classes and a task."""

    def make(size: int = 16, channels: int = 3, classes: int = 5, task: str = "classification") -> Signature:
        mean, std = (0.4,) * channels, (0.25,) * channels
        spec = InputSpec(size, size, channels, mean, std, "RGB" if channels == 3 else "L")
        return Signature(task, spec, tuple(f"class{i}" for i in range(classes)))  # pyright: ignore[reportArgumentType]

    return make


@pytest.fixture
def images() -> Callable[..., NDArray[np.uint8]]:
    """Return a function that makes random images for a signature."""

    def make(signature: Signature, count: int = 3) -> NDArray[np.uint8]:
        channels, height, width = signature.input.shape
        return np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)

    return make
