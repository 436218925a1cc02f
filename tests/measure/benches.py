"""A store as a matrix leaves it, with figures that look like real ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.measure.bench import Bench, save_bench
from edgepress.measure.cell import Cell
from edgepress.measure.matrix import empty
from edgepress.measure.verdict import Budget

LABELS = ("airplane", "automobile", "bird", "cat")
FIELD = (
    # runtime, precision, ms, top-1, bytes
    ("torch", "fp32", 3.1, 91.7, 1_100_000),
    ("pt2", "fp32", 2.4, 91.7, 1_150_000),
    ("onnxruntime", "fp32", 0.95, 91.7, 1_090_000),
    ("onnxruntime", "w8a8", 0.42, 91.6, 290_000),
    ("onnxruntime", "w4a8", 0.43, 90.1, 160_000),
    ("openvino", "fp32", 0.9, 91.7, 1_120_000),
    ("openvino", "bf16", 0.66, 91.7, 570_000),
    ("openvino", "w8a8", 0.31, 91.5, 330_000),
    ("litert", "w8a8", 1.2, 91.5, 310_000),
)
LAYERS = ["conv1", "layer1.0.conv1", "layer1.0.conv2", "linear"]


def write_bench(
    store: Path, name: str = "net", blocks: int = 1, networks: int = 1, faster: float = 1.0, tdp: bool = True
) -> Path:
    """Write a store with `blocks` numbers of threads for each of so many networks and return it."""
    rng = np.random.default_rng(0)
    cells: list[Cell] = []
    records: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for network in range(networks):
        artifact = name if networks == 1 else f"{name}-{network}"
        for threads in range(1, blocks + 1):
            for runtime, precision, ms, top1, size in FIELD:
                cell = Cell(
                    artifact, runtime, runtime, precision, threads, 1, store / "bundles" / f"{runtime}-{precision}"
                )
                cells.append(cell)
                records.append(_record(cell, top1 - 0.1 * network, size, ms, tdp))
                for turn in range(4):
                    seconds = ms / 1e3 / threads / faster * rng.normal(1.0, 0.02, 20).clip(0.9, 1.1)
                    turns.append({"turn": turn, "cell": cell.name, "seconds": seconds.tolist()})
            absent = Cell(artifact, "tensorrt", "tensorrt", "fp16", threads, 1, None, "tensorrt is not installed")
            cells.append(absent)
            records.append(empty(absent, absent.reason))
    store.mkdir(parents=True, exist_ok=True)
    for file, found in (("checked", records), ("turns", turns)):
        (store / f"{file}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found))
    np.save(store / "seen.npy", rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
    (store / "models").mkdir(exist_ok=True)
    (store / "models" / f"{name}-layers.json").write_text(json.dumps(LAYERS))
    about = Bench.begun(name, f"edgepress bench {name} --runtimes all --data cifar10", "cifar10", Budget(1.0, ms=2.0))
    save_bench(about.of(cells, "top1", LABELS), store)
    return store


def _record(cell: Cell, top1: float, size: int, ms: float, tdp: bool) -> dict[str, Any]:
    facts = {
        "load": 180.0, "first_prediction": 190.0, "peak_rss": 80.0 + ms * 20, "bytes": size, "score": top1,
        "images": 8.0, "parity": 99.9, "agreement": 99.5, "pre_post_share": 6.0, "energy": ms * 4,
    }  # fmt: skip
    layers = [
        {"name": name, "kind": "QLinearConv", "share": 40.0 - 10 * n, "ms": ms * (0.4 - 0.1 * n), "layer": n}
        for n, name in enumerate(LAYERS)
    ]
    files = [{"operation": "Conv", "shape": [16, 16, 3, 3], "bytes": 2432 * (n + 1)} for n in range(4)]
    wrong = {
        "confusion": [[90, 3, 5, 2], [1, 97, 0, 2], [4, 0, 88, 8], [2, 1, 9, 88]],
        "pairs": [[3, 2, 9], [2, 3, 8]],
        "worst": [{"index": n, "true": 3, "given": 2, "sure": 99.0 - n, "also": bool(n % 2)} for n in range(6)],
    }
    source = "estimate from CPU time, 10 W TDP" if tdp else "RAPL"
    return {
        "cell": cell.name, "error": "", "facts": facts, "energy_source": source, "layers": layers,
        "files": files if cell.runtime == "onnxruntime" else [], "wrong": wrong,
    }  # fmt: skip
