"""A bound on what a network may take: its arguments may come from a recipe or a saved model of someone else."""

import contextlib
import os
import re
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from edgepress.core.errors import ConfigError

MOST_PARTS = 20_000
"""Modules of a network. A transformer of 80 blocks has about a thousand, NASNet-Large 3,000."""
REFUSED = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")


@contextlib.contextmanager
def bounded(name: str, memory: int | None = None) -> Iterator[None]:
    """Within the block, the network `name` is built; raise `ConfigError` once it takes more than this machine has.

    `memory` is the most bytes of its parameters, by default what the machine has. A parameter is counted before it is
    given its first value, which is when its memory is really taken.
    """
    most = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    taken = parts = 0

    def parameter(_: nn.Module, __: str, value: nn.Parameter | None) -> None:
        nonlocal taken
        taken += value.nbytes if isinstance(value, Tensor) else 0
        if taken > most:
            raise ConfigError(
                f"model {name!r}: its parameters take over {most / 1e9:.3g} GB, more than this machine has: "
                "give it fewer or narrower layers"
            )

    def part(_: nn.Module, __: str, ___: nn.Module | None) -> None:
        nonlocal parts
        parts += 1
        if parts > MOST_PARTS:
            raise ConfigError(f"model {name!r} has over {MOST_PARTS:,} layers: give it fewer")

    handles = [
        hooks.register_module_parameter_registration_hook(parameter),
        hooks.register_module_module_registration_hook(part),
    ]
    try:
        yield
    except RuntimeError as error:
        refused = REFUSED.search(str(error))
        if refused is None:
            raise
        wanted = int(refused[1]) / 1e9
        raise ConfigError(
            f"model {name!r}: there is no memory for one of its parameters, of {wanted:.3g} GB: give it fewer or "
            "narrower layers"
        ) from None
    finally:
        for handle in handles:
            handle.remove()
