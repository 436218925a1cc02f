"""`python -m edgepress.measure.workshop DO ...`: what the matrix needs PyTorch for, in processes of their own.

A converter that crashes fails one file, and the process that measures stays small.
"""

import argparse
import sys
from pathlib import Path


def quantize(model: Path, images: Path, to: Path) -> None:
    """Save the model in the folder `model` as an 8-bit one in `to`, calibrated on the images in a `.npy` file."""
    import numpy as np

    from edgepress.models.structure import load_model, save_model
    from edgepress.quantize.ptq import quantize as ptq

    save_model(ptq(load_model(model), np.load(images)), to)


def export(model: Path, format: str, images: Path, to: Path) -> None:
    """Write the model as a bundle, proven on the images."""
    import numpy as np

    from edgepress.export.formats import formats
    from edgepress.models.structure import load_model
    from edgepress.runtime.bundle import save_bundle

    save_bundle(formats.get(format)(load_model(model), np.load(images)), to)


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
    from edgepress.models.predictor import TorchPredictor
    from edgepress.models.structure import load_model

    write_array(to, TorchPredictor(load_model(model), 64)(np.load(images)))


def main(arguments: list[str] | None = None) -> int:
    """Do one thing; print the reason and return 1 where it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m edgepress.measure.workshop", description=__doc__)
    commands = parser.add_subparsers(dest="do", required=True)
    for name, fields in (
        ("quantize", ("model", "images", "to")),
        ("export", ("model", "format", "images", "to")),
        ("convert", ("bundle", "format", "images", "to")),
        ("outputs", ("model", "images", "to")),
    ):
        command = commands.add_parser(name)
        for field in fields:
            command.add_argument(field, type=str if field == "format" else Path)
    given = vars(parser.parse_args(arguments))
    work = {"quantize": quantize, "export": export, "convert": convert, "outputs": outputs}[given.pop("do")]

    from edgepress.core.errors import EdgepressError

    try:
        work(**given)
    except EdgepressError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
