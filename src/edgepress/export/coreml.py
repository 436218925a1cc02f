"""Core ML: an ML program for iOS 17 and macOS 14 or newer, of one image; float32, or computed and stored in 16 bits.

It is written on any system and runs on Apple's only. Elsewhere the parity gate cannot open it, and the bundle says so.
Quantized networks are refused: integers that nobody has seen run would be a promise.
"""

import contextlib
import copy
import importlib
import io
import json
import logging
import tempfile
import uuid
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgepress.core.artifact import UNPROVEN, Model, Program
from edgepress.core.errors import EdgepressError, MissingExtraError
from edgepress.export.convert import HALF, joined
from edgepress.export.formats import formats
from edgepress.export.onnx import provenance
from edgepress.export.parity import bounds_for, check
from edgepress.runtime.batches import first_line
from edgepress.runtime.coreml_engine import FILE, MANIFEST, MEMBERS, MODEL, PACKAGE
from edgepress.runtime.engine import engines


def export_coreml(model: Model, samples: NDArray[np.uint8], arithmetic: str = "") -> Program:
    """Return `model` as a package for Core ML; `arithmetic` is "" for float32, else "fp16".

    Where Core ML runs, the package is proven on `samples`; elsewhere its `parity` is empty and its provenance has under
    "unproven" why. Raises `MissingExtraError` where coremltools is absent, `EdgepressError` where the network is
    quantized or coremltools cannot convert it, `ParityError` where the file differs.
    """
    if model.precision != "fp32":
        raise EdgepressError(f"Core ML files are written of float networks; this one is {model.precision}")
    logging.getLogger("coremltools").setLevel(logging.ERROR)  # it warns of every library younger than itself
    try:
        coremltools: Any = importlib.import_module("coremltools")
    except ImportError:
        raise MissingExtraError("writing a Core ML package", "coreml") from None
    module = copy.deepcopy(model.module).cpu().float().eval()
    sample = torch.zeros(1, *model.signature.input.shape)
    precision = coremltools.precision.FLOAT16 if arithmetic else coremltools.precision.FLOAT32
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            made = coremltools.convert(
                _traced(module, sample),
                convert_to="mlprogram",
                minimum_deployment_target=coremltools.target.iOS17,
                compute_precision=precision,
                skip_model_load=True,
            )
    except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise EdgepressError(f"Core ML cannot take {model.builder.name}: {first_line(error)}") from error
    about: dict[str, Any] = {**provenance(model), "format": {"name": "coreml", "coremltools": coremltools.__version__}}
    program = Program(model.signature, "coreml", joined(model.precision, arithmetic), {FILE: _packed(made)}, about)
    reason = engines.get("coreml").available()
    if reason is not None:
        return replace(program, provenance={**about, UNPROVEN: reason})
    return check(model, program, samples, bounds_for(model.precision, HALF if arithmetic else None))


def _traced(module: torch.nn.Module, sample: torch.Tensor) -> Any:
    """Return the graph of `module` as coremltools 9 reads it: without aliases, and with what a pool leaves to a default
    written out."""
    traced = torch.export.export(module, (sample,), strict=False).run_decompositions({})
    for node in list(traced.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
        elif "pool" in str(node.target) and isinstance(node.target, torch._ops.OpOverload):
            rest = node.target._schema.arguments[len(node.args) :]
            node.args = (*node.args, *(one.default_value for one in rest if one.name not in node.kwargs))
    return traced


def _packed(made: Any) -> bytes:
    """Return the package of a converted model as a zip archive: the same bytes for the same model."""
    data = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="edgepress-") as name:
        made.save(str(Path(name) / PACKAGE))
        parts = {member: (Path(name) / member).read_bytes() for member in MEMBERS}
    parts[MODEL] = made.get_spec().SerializeToString(deterministic=True)
    parts[MANIFEST] = _named(parts[MANIFEST])
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as out:
        for member, content in parts.items():
            out.writestr(zipfile.ZipInfo(member), content)
    return data.getvalue()


def _named(manifest: bytes) -> bytes:
    """Return the manifest of a package with names for its parts that are not drawn anew each time."""
    about: dict[str, Any] = json.loads(manifest)
    parts = sorted(about["itemInfoEntries"].items(), key=lambda part: part[1]["path"])
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_OID, info["path"])).upper() for old, info in parts}
    about["itemInfoEntries"] = {names[old]: info for old, info in parts}
    about["rootModelIdentifier"] = names[about["rootModelIdentifier"]]
    return json.dumps(about, indent=4, sort_keys=True).encode()


formats.register("coreml")(export_coreml)
formats.register("coreml-fp16")(partial(export_coreml, arithmetic="fp16"))
