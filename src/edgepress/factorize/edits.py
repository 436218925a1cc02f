"""Replays a recorded factorization when a model is loaded: the same chains at the same places; the weights follow."""

from typing import Any

from torch import nn

from edgepress.core.artifact import Signature
from edgepress.core.errors import BundleError
from edgepress.factorize.layers import Factored
from edgepress.models.edits import edits
from edgepress.models.layers import make


@edits.register("factorize")
def factorize_again(module: nn.Module, signature: Signature, config: dict[str, Any]) -> nn.Module:
    """Return `module`, changed in place, with the recorded chains. Raises `BundleError` where the record is damaged."""
    try:
        for path, layer in config["layers"].items():
            module.get_submodule(path)
            module.set_submodule(path, Factored(*[make(spec) for spec in layer["factors"]]))
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise BundleError(f"the record of the factorization is damaged: {error}") from error
    return module
