"""Replays a recorded quantization when a model is loaded; the ranges come with the weights."""

from typing import Any

from torch import nn

from edgepress.core.artifact import Signature
from edgepress.core.config import parse
from edgepress.core.errors import BundleError, ConfigError
from edgepress.export.graph import trace
from edgepress.models.edits import edits
from edgepress.quantize.place import Site, insert


@edits.register("quantize")
def quantize_again(module: nn.Module, signature: Signature, config: dict[str, Any]) -> nn.Module:
    """Return `module` traced, with quantizers at the recorded sites.

    Raises `BundleError` where the record is damaged or does not fit this network.
    """
    try:
        sites = tuple(parse(Site, site, "recorded quantizer") for site in config["sites"])
    except (KeyError, TypeError, ConfigError) as error:
        raise BundleError(f"the record of the quantization is damaged: {error}") from error
    graph_module = trace(module, signature)
    insert(graph_module, sites)
    return graph_module.eval()
