"""`<network>-int8-...`: MobileNetV3-Small, MobileNetV2 and EfficientNet-B0, trained here on CIFAR-10, in INT8 without
training, by ONNX Runtime's static quantization, NNCF and edgepress.

The epochs are what two cores allow; the figure asks what INT8 costs a trained network, not how good the network is.
"""

from benchmarks.accuracy import public_sets
from benchmarks.base import RECIPES, Options
from benchmarks.job import patiently, recipe
from benchmarks.side_by_side import CALIBRATE, compare
from edgepress.measure.rows import Row
from edgepress.models.structure import load_model
from edgepress.recipes.runner import Options as RunOptions

EPOCHS = {"mobilenet_v3_small": 5, "mobilenet_v2": 3, "efficientnet_b0": 2}


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet, and return the rows of `compare` for each network."""
    from edgepress.data.load import load_data

    data = load_data({"cifar10": {"limit": 400}} if options.quick else "cifar10")
    images = data.calibration(64 if options.quick else CALIBRATE, 0)
    rows: list[Row] = []
    for name, epochs in EPOCHS.items():
        path = RECIPES / "cifar10-network.yaml"
        sets = [f"name=cifar10-{name}", f"student.model={name}", f"student.epochs={epochs}", *public_sets(path)]
        wanted = recipe(path, sets, options.quick)
        result = patiently(wanted, options.work / "runs", RunOptions(command=options.command))
        rows += compare(name, load_model(result.shelves["student"].folder), data, images, options)
    return rows
