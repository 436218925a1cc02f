"""Load bundles and predict with them on an install without torch. Usage: base_predict.py BUNDLE..."""

import importlib.util
import sys
from pathlib import Path

import numpy as np

import edgepress

for heavy in ("torch", "torchvision", "timm", "onnx", "pyarrow", "sklearn"):
    if importlib.util.find_spec(heavy):
        sys.exit(f"{heavy} is importable: this is not the base install")

bundles = [Path(name) for name in sys.argv[1:] if (Path(name) / "manifest.json").exists()]
if not bundles:
    sys.exit("no bundle was given")
image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
for bundle in bundles:
    print(f"{bundle.name}: {edgepress.load(bundle)(image)}")
if loaded := {"torch", "timm", "onnx"} & set(sys.modules):
    sys.exit(f"predicting imported {', '.join(sorted(loaded))}")
