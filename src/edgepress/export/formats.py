"""The registry of export formats: one file per format, with one decorated function."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgepress.core.artifact import Model, Program
from edgepress.core.registry import Registry

Exporter = Callable[[Model, NDArray[np.uint8]], Program]
"""Called with a model and real images `(N, height, width, channels)`; returns a program that passed the parity gate
(of an engine that cannot exist here, one without `parity`, whose provenance has under "unproven" why)."""

formats: Registry[Exporter] = Registry("export format", ("edgepress.export",))
