"""Structural changes that a state dict cannot carry, recorded by name and replayed when a model is loaded.

Converting decides, replaying only repeats: the configuration of an edit holds every choice that was made.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from edgepress.core.artifact import Signature
from edgepress.core.registry import Registry

Edit = Callable[[nn.Module, Signature, dict[str, Any]], nn.Module]
"""Called with the module as it was before the edit, its signature and the recorded configuration (JSON values); returns
the edited module, which may be the same one. What the weights are does not matter: they are loaded afterwards."""


def _rooms() -> tuple[str, ...]:
    here = Path(__file__).parent.parent
    rooms = ("prune", "factorize", "quantize", "search")
    return tuple(f"edgepress.{room}.edits" for room in rooms if (here / room / "edits.py").exists())


edits: Registry[Edit] = Registry("edit", ("edgepress.models.structure", *_rooms()))


def replay(module: nn.Module, signature: Signature, records: Iterable[Mapping[str, Any]]) -> nn.Module:
    """Return `module` after the recorded edits, in their order.

    A record is `{"name": ...}` plus the configuration of the edit; raises `UnknownNameError` for an edit nobody knows.
    """
    for record in records:
        config = {key: value for key, value in record.items() if key != "name"}
        module = edits.get(str(record["name"]))(module, signature, config)
    return module
