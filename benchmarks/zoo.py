"""`python -m benchmarks.zoo`: put the bundles that the figures `resnet8`, `resnet20`, `qat-*` and
`unet-small` chose into `zoo/`.

A step of its own, since the bundles are committed: remaking figures must not change them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.base import WORK, ZOO
from edgepress.core.errors import BundleError, EdgepressError
from edgepress.runtime import load
from edgepress.runtime.bundle import read_bundle, save_bundle

NAMES = {
    "resnet8-kd-int8": "cifar10-resnet8-int8",
    "resnet20-kd-int8": "cifar10-resnet20-int8",
    "resnet8-w4a8-qat": "cifar10-resnet8-w4a8",
    "resnet20-w2a8-qat": "cifar10-resnet20-w2a8",
    "resnet20-w4a4-qat": "cifar10-resnet20-w4a4",
    "resnet20-w2a2-qat": "cifar10-resnet20-w2a2",
    "unet-0.3m-int8": "camvid-unet-0.3m-int8",
}
MOST_BUNDLE, MOST_ZOO = 1_000_000, 10_000_000


def copy(source: Path, target: Path) -> int:
    """Copy the bundle `source` to `target` and return its bytes; raise `BundleError` where it is too large for the zoo,
    or does not predict."""
    program = read_bundle(source)
    size = folder_bytes(source)
    if size > MOST_BUNDLE:
        raise BundleError(f"{source} has {size} bytes; a bundle of the zoo has at most {MOST_BUNDLE}")
    save_bundle(program, target)
    height, width = program.signature.input.height, program.signature.input.width
    import numpy as np

    load(target, threads=1)(np.zeros((height, width, 3), np.uint8))
    return size


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files under `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy what `benchmarks/scratch/chosen.json` names; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("--chosen", type=Path, default=WORK / "chosen.json")
    parser.add_argument("--zoo", type=Path, default=ZOO)
    given = parser.parse_args(arguments)
    try:
        if not given.chosen.exists():
            raise EdgepressError(
                f"no {given.chosen}: run `python -m benchmarks.foundation --only resnet8,resnet20` first"
            )
        for label, about in json.loads(given.chosen.read_text()).items():
            name = NAMES[label]
            print(f"{name}: {copy(Path(about['bundle']), given.zoo / name)} bytes, seed {about['seed']}")
        if (size := folder_bytes(given.zoo)) > MOST_ZOO:
            raise BundleError(f"{given.zoo} has {size} bytes now; at most {MOST_ZOO} are committed")
    except EdgepressError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
