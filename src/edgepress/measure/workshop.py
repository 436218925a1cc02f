"""`python -m edgepress.measure.workshop`: what the matrix needs PyTorch for, in processes of their own.

A converter that crashes fails one file, and the process that measures stays small.
"""

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepress.core.artifact import Model


@functools.lru_cache(maxsize=3)
def loaded(model: Path) -> "Model":
    """Return the saved model in a folder of the store, where it does not change: building one takes seconds."""
    from edgepress.models.structure import load_model

    return load_model(model)


def quantize(model: Path, images: Path, bits: int, to: Path) -> None:
    """Save the model in the folder `model` in `to`, with weights of so many bits and 8-bit activations, calibrated on
    the images in a `.npy` file."""
    import numpy as np

    from edgepress.models.structure import load_model, save_model
    from edgepress.quantize.config import QuantizeConfig
    from edgepress.quantize.ptq import quantize as ptq

    save_model(ptq(load_model(model), np.load(images), QuantizeConfig(weights=bits)), to)


def layers(model: Path, to: Path) -> None:
    """Write the module paths of what multiplies with weights, in the order of the calls, as a JSON list."""
    from edgepress.core.files import write_json

    write_json(to, called_layers(model))


def called_layers(model: Path) -> list[str]:
    """Return the module paths of what multiplies with weights, in the order in which the network calls them."""
    import torch
    from torch import nn

    from edgepress.models.structure import load_model

    loaded, called = load_model(model), list[str]()
    kinds = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for name, part in loaded.module.named_modules():
        if isinstance(part, kinds):
            part.register_forward_hook(lambda *_, name=name: called.append(name))
    with torch.inference_mode():
        loaded.module.eval()(torch.zeros(1, *loaded.signature.input.shape))
    return called


def export(model: Path, format: str, images: Path, to: Path, onnx: Path | None = None) -> None:
    """Write the model as a bundle, proven on the images. A format that is made of an ONNX file takes the bundle `onnx`
    of the same model, where it is there."""
    import numpy as np

    from edgepress.export.convert import conversions
    from edgepress.export.formats import formats
    from edgepress.runtime.bundle import read_bundle, save_bundle

    network, samples = loaded(model), np.load(images)
    if onnx is not None and onnx.exists() and format in conversions:
        program = conversions.get(format).of(network, read_bundle(onnx), samples)
    else:
        program = formats.get(format)(network, samples)
    save_bundle(program, to)


def convert(bundle: Path, format: str, images: Path, to: Path) -> None:
    """Write an ONNX bundle as one of another format, proven on the images."""
    import numpy as np

    from edgepress.export.convert import convert as converted
    from edgepress.runtime.bundle import read_bundle, save_bundle

    save_bundle(converted(read_bundle(bundle), format, np.load(images)), to)


def outputs(model: Path, images: Path, to: Path) -> None:
    """Write what the network itself answers into a `.npy` file."""
    import numpy as np

    from edgepress.core.files import write_array
    from edgepress.export.integers import predictor

    write_array(to, predictor(loaded(model), 64)(np.load(images)))


COMMANDS: dict[str, Callable[..., None]] = {
    "quantize": quantize, "layers": layers, "export": export, "convert": convert, "outputs": outputs,
}  # fmt: skip
PLAIN = ("format", "bits")
"""Arguments that are no paths."""


def main() -> int:
    """Do what each line of JSON asks for (`do` and the arguments of a command) until there is none; answer each with
    one line: `{}`, or `{"error": ...}` where it cannot be done."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to standard output as they like

    from edgepress.core.errors import EdgepressError

    for line in sys.stdin:
        asked = json.loads(line)
        work = COMMANDS[asked.pop("do")]
        try:
            work(**{name: value if name in PLAIN else Path(value) for name, value in asked.items()})
            answers.write("{}\n")
        except EdgepressError as error:
            answers.write(json.dumps({"error": " ".join(str(error).split())}) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
