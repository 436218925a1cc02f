"""`ptq-peers`: the public ResNet-20 and -56 in INT8, by ONNX Runtime's static quantization, NNCF and edgepress."""

from benchmarks.base import Options
from benchmarks.side_by_side import CALIBRATE, WEIGHTS, compare, public
from edgepress.measure.rows import Row


def measure(options: Options) -> list[Row]:
    """Return the rows of `compare` for both networks."""
    from edgepress.data.load import load_data

    data = load_data({"cifar10": {"limit": 400}} if options.quick else "cifar10")
    images = data.calibration(64 if options.quick else CALIBRATE, 0)
    return [row for name in WEIGHTS for row in compare(name, public(name, data.labels), data, images, options)]
