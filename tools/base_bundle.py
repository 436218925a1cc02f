"""Export a small untrained network as a bundle, for the check of the base install. Usage: base_bundle.py FOLDER"""

import sys
from pathlib import Path

import numpy as np

from edgepress.core.artifact import Signature
from edgepress.core.inputs import InputSpec
from edgepress.export.onnx import export_onnx
from edgepress.models.build import new_model
from edgepress.runtime.bundle import save_bundle

labels = tuple(f"class {i}" for i in range(10))
model = new_model("cifar_resnet8", Signature("classification", InputSpec(32, 32), labels), {}, seed=0)
samples = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
save_bundle(export_onnx(model, samples), Path(sys.argv[1]))
