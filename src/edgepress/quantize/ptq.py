"""Post-training quantization: a network and a few hundred images in, an integer network out, no training."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edgepress.core.artifact import Model, Signature
from edgepress.core.config import dump
from edgepress.core.errors import ConfigError, DataError, EdgepressError
from edgepress.export.fake import Quantizer
from edgepress.export.graph import parameter_of, trace
from edgepress.models.inputs import normalize
from edgepress.models.predictor import evaluating
from edgepress.quantize.bias import WITH_BIAS, correct_biases
from edgepress.quantize.config import QuantizeConfig
from edgepress.quantize.equalize import equalize
from edgepress.quantize.observe import SHARES, Extremes, Histogram, estimators, symmetric_range, weight_range
from edgepress.quantize.place import FIXED_RANGES, Placement, insert, place
from edgepress.quantize.rounding import learn_rounding
from edgepress.quantize.sensitivity import widths_for_budget
from edgepress.quantize.weighted import quantizer_of
from edgepress.quantize.widths import assign

BATCH = 64
CHECKED, MOST_AWAY = 4, 1e-2
"""Images for which a traced graph is compared with its network, and the most that folding may move the outputs."""
LARGEST_BIAS = 2.0**30
"""In units of (input scale x weight scale): runtimes hold biases as int32, and one bit is left for the sum."""


def quantize(
    model: Model,
    images: NDArray[np.uint8],
    config: QuantizeConfig | None = None,
    traced: fx.GraphModule | None = None,
) -> Model:
    """Return `model` with weights and activations rounded as an integer runtime rounds them; `model` is untouched.

    `images` are calibration images `(N, height, width, channels)`; a few hundred do. The new module is a graph with
    `Quantizer` modules in it: it predicts what the exported integer file will, and it can be trained further.
    `traced` is what `trace` made of this model before, if it did; that stays untouched, too.

    Raises `ConfigError` for bit widths this version cannot run, `DataError` for images that cannot calibrate, and
    `EdgepressError` for weights that are not finite or a network without anything to quantize.
    """
    config = config or QuantizeConfig()
    if config.problems():
        raise ConfigError([f"quantize: {problem}" for problem in config.problems()])
    if model.precision != "fp32":
        raise EdgepressError(f"quantize needs an fp32 network, this one is {model.precision} already")
    check_images(images, model.signature)
    check_weights(model)
    graph_module = checked_trace(model, images) if traced is None else copy.deepcopy(traced)
    if config.equalization:
        equalize(graph_module, sample(images, model.signature), config.granularity == "per_channel")
    bits = config.bits
    if config.budget is not None:
        classes = model.signature.task in ("classification", "segmentation")
        bits = widths_for_budget(graph_module, sample(images, model.signature), config, classes)
    placement = place(graph_module, config.weights, config.activations, config.first_last)
    placement = assign(graph_module, placement, bits)
    quantizers = insert(graph_module, placement.sites)
    calibrate(graph_module, placement, quantizers, images, model.signature, config)
    if config.rounding == "learned":
        per_tensor = config.granularity == "per_tensor"
        learn_rounding(graph_module, sample(images, model.signature), config.bias_correction, per_tensor=per_tensor)
    elif config.bias_correction:
        correct_biases(graph_module, quantizers, sample(images, model.signature))
    round_biases(graph_module)
    edit = {
        "name": "quantize",
        **dump(config),
        "bits": bits,
        "in_float": list(placement.in_float),
        "sites": [site.plain() for site in placement.sites],
    }
    precision = f"w{_widths(bits, config)}a{config.activations}"
    return dataclasses.replace(model, module=graph_module, edits=(*model.edits, edit), precision=precision, key="")


def checked_trace(model: Model, images: NDArray[np.uint8]) -> fx.GraphModule:
    """Return what `trace` makes of `model`; raise `EdgepressError` where it does not compute the same for a few images.

    The parity gate holds files against the quantized graph: what tracing got wrong, it would not see.
    """
    graph_module = trace(model.module, model.signature)
    few = next(batches(images[:CHECKED], model.signature))
    with evaluating(model.module), evaluating(graph_module), torch.no_grad():
        expected, got = model.module(few), graph_module(few)
    away = float((got - expected).norm() / expected.norm().clamp(min=1e-12))
    if expected.isfinite().all() and not away <= MOST_AWAY:  # what overflows is named where ranges are found
        raise EdgepressError(
            f"quantize: the graph traced from {model.builder.name!r} computes something else than the network (rms "
            f"difference {away:.2g} of the outputs); its forward may depend on the values it sees. Nothing was changed"
        )
    return graph_module


def _widths(bits: Mapping[str, int], config: QuantizeConfig) -> str:
    """Return the widths of weights as the name of a precision has them: "8", or "2-8" where they are mixed."""
    widths = set(bits.values()) | (set() if config.budget else {config.weights})
    return str(min(widths)) if len(widths) == 1 else f"{min(widths)}-{max(widths)}"


def calibrate(
    graph_module: fx.GraphModule,
    placement: Placement,
    quantizers: dict[str, Quantizer],
    images: NDArray[np.uint8],
    signature: Signature,
    config: QuantizeConfig | None = None,
) -> None:
    """Set the ranges of all `quantizers` in place: weights from their values, activations from what `images` cause."""
    config = config or QuantizeConfig()
    activations: dict[str, Quantizer] = {}
    nodes = {node.name: node for node in graph_module.graph.nodes}
    for site in placement.sites:
        node, quantizer = nodes[site.node], quantizers[site.quantizer]
        weight = parameter_of(graph_module, node)
        if weight is not None:
            extremes = config.weight_ranges == "minmax" or (config.weight_ranges == "auto" and site.bits == 8)
            per_tensor = config.granularity == "per_tensor"
            quantizer.set_range(*weight_range(weight, site.scheme, 1 if extremes else SHARES, per_tensor=per_tensor))
        elif node.target in FIXED_RANGES:
            low, high = FIXED_RANGES[node.target]
            quantizer.set_range(torch.tensor(low), torch.tensor(high))
        elif site.only or site.quantizer == site.node:
            activations[site.quantizer] = quantizer
    for quantizer in quantizers.values():
        quantizer.enabled = False
    observe(graph_module, activations, images, signature, config)
    for quantizer in quantizers.values():
        quantizer.enabled = True


def round_biases(graph_module: fx.GraphModule) -> None:
    """Round biases in place to what a runtime holds: int32 in units of input scale times weight scale.

    A bias too large for int32 occurs in (nearly) dead channels only. There the weight scale is made coarser: all
    weights of such a channel are far below its bias, so that they may round to zero.
    """
    for node in graph_module.graph.nodes:
        bias = parameter_of(graph_module, node.args[2]) if node.target in WITH_BIAS and len(node.args) > 2 else None
        inputs, weights = (
            (quantizer_of(graph_module, node.args[i]) for i in (0, 1)) if bias is not None else (None, None)
        )
        if bias is not None and inputs is not None and weights is not None:
            with torch.no_grad():
                weights.scale.copy_(torch.maximum(weights.scale, bias.abs() / (inputs.scale * LARGEST_BIAS)))
                unit = (inputs.scale * weights.scale).double()  # the product is taken in float32 by runtimes, too
                bias.copy_((bias.double() / unit).round() * unit)


def check_images(images: NDArray[np.uint8], signature: Signature) -> None:
    """Raise `DataError` unless `images` can calibrate a network of this signature."""
    channels, height, width = signature.input.shape
    if images.ndim != 4 or images.shape[1:] != (height, width, channels) or images.dtype != np.uint8:
        raise DataError(
            f"calibration images must be uint8 of shape (N, {height}, {width}, {channels}), "
            f"got {images.dtype} of shape {images.shape}"
        )
    if len(images) == 0:
        raise DataError("there are no calibration images; give at least one, better a few hundred")
    if images.min() == images.max():
        raise DataError(
            f"all {len(images)} calibration images are one flat color (every value is {images.flat[0]}): "
            "ranges measured on them mean nothing; give real images"
        )


def check_weights(model: Model) -> None:
    """Raise `EdgepressError` that names the parameters and buffers that hold NaN or infinity."""
    bad = [n for n, t in model.module.state_dict().items() if t.is_floating_point() and not t.isfinite().all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise EdgepressError(f"cannot quantize: {', '.join(bad[:3])}{more} hold NaN or infinite values")


def observe(
    graph_module: fx.GraphModule,
    quantizers: dict[str, Quantizer],
    images: NDArray[np.uint8],
    signature: Signature,
    config: QuantizeConfig | None = None,
) -> None:
    """Set the ranges of these activation `quantizers` in place, from values that they do not round; others may.

    `config` says how ranges are estimated. Raises `EdgepressError` where values are not finite.
    """
    config = config or QuantizeConfig()
    estimator = estimators.get(config.estimator)()
    for quantizer in quantizers.values():
        quantizer.enabled = False
    extremes = {name: Extremes() for name in quantizers}
    _watch(graph_module, quantizers, extremes, images, signature)
    for name, seen in extremes.items():
        if not (np.isfinite(seen.low) and np.isfinite(seen.high)):
            raise EdgepressError(
                f"cannot quantize: the values after {name!r} are not finite ({seen.low} to {seen.high})"
            )
    histograms = {name: Histogram(seen.low, seen.high) for name, seen in extremes.items()}
    if estimator.looks > 1:
        _watch(graph_module, quantizers, histograms, images, signature)
    for name, quantizer in quantizers.items():
        low, high = extremes[name].low, extremes[name].high
        if high > low:  # a constant needs no estimate: its range from 0 holds it exactly
            low, high = estimator.range(histograms[name], quantizer.scheme)
        if config.symmetric:
            low, high = symmetric_range(low, high, quantizer.scheme)
        if low == high == 0:
            high = 1.0  # never anything but zero: any scale is right, a tiny one would overflow the biases after it
        quantizer.set_range(torch.tensor(low), torch.tensor(high))
        quantizer.enabled = True


def _watch(
    graph_module: fx.GraphModule,
    quantizers: dict[str, Quantizer],
    observers: dict[str, Any],
    images: NDArray[np.uint8],
    signature: Signature,
) -> None:
    for name, quantizer in quantizers.items():
        quantizer.observer = observers[name]
    graph_module.eval()
    try:
        with torch.inference_mode():
            for batch in batches(images, signature):
                graph_module(batch)
    finally:
        for quantizer in quantizers.values():
            quantizer.observer = None


def batches(images: NDArray[np.uint8], signature: Signature) -> Iterator[Tensor]:
    """Yield `images` as float32 network inputs, `BATCH` at a time."""
    for start in range(0, len(images), BATCH):
        chunk = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH])).permute(0, 3, 1, 2)
        yield normalize(chunk, signature.input)


def sample(images: NDArray[np.uint8], signature: Signature) -> Tensor:
    """Return as many images as bias correction may hold in memory at once, with all their activations."""
    pixels = signature.input.height * signature.input.width
    count = max(8, min(512, 2**19 // pixels))
    return torch.cat(list(batches(images[:count], signature)))
