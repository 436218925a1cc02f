"""The seam between a bundle and what computes it: one file per engine, found by its decorated registration."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Program
from edgepress.core.registry import Registry


class Session(ABC):
    """A loaded network. Not safe to call from two threads at once unless an engine says otherwise."""

    input_dtype: np.dtype[Any]
    """What the network itself takes (float32, float16); `__call__` always takes float32 and converts."""

    batch: int | None
    """The one batch size the network takes, or None for any."""

    @abstractmethod
    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the float32 outputs for a float32 batch `(N, channels, height, width)`.

        Raises `DataError` where the batch does not fit. Not-a-number goes in and comes out unseen: `Pipeline` looks.
        """


class Engine(ABC):
    """A library that runs programs; one instance is registered under the name a bundle's `runtime` gives."""

    device: str = "cpu"
    """What it computes on: "cpu" or "cuda"."""

    runs: str = ""
    """The runtime whose bundles it runs, where it has no bundles of its own."""

    @abstractmethod
    def available(self) -> str | None:
        """Return None where this engine works here, else the reason, in one line."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Return the versions that belong beside a measurement; empty where the engine is absent."""

    @abstractmethod
    def load(self, program: Program, threads: int) -> Session:
        """Return `program` ready to run on `threads` threads.

        Raises `MissingExtraError` where the engine is absent, `BundleError` where it cannot run this program.
        """


engines: Registry[Engine] = Registry("runtime", ("edgepress.runtime",))
