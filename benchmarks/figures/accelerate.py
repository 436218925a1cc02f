"""`accelerate-2`: two processes against one at the same batch: the losses of the first 20 steps, and the final score.

The same recipe is run by `edgepress run` with one process and with two, each with one thread, in FP32 from the same
random weights; the tracker `jsonl` takes down the loss of every step. Reach: no loss differs by more than 1e-4, the
score by no more than 0.3 points. The optimizer is SGD.

A third run is begun by two processes, killed, and ended by one.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.base import Options, one_thread, terminated_at_exit
from edgepress.core.errors import EdgepressError
from edgepress.data.sets.camvid import CamVid
from edgepress.measure.rows import Row

FIRST = 20
LONGEST = 7200
SCENES = {
    "data": {"camvid": {}},
    "stage": {
        "model": "unet", "arguments": {"width": 12, "depth": 4, "stride": 2}, "epochs": 8, "batch": 8, "lr": 0.02,
        "schedule": "cosine", "warmup": 0.25,
    },
}  # fmt: skip
TRIAL = {
    "data": {"camvid": {"size": [60, 80], "limit": 56, "limit_eval": 8}},
    "stage": {"model": "unet", "arguments": {"width": 4, "depth": 2}, "epochs": 3, "batch": 8, "lr": 0.05},
}
WITHOUT_SCENES = {
    "data": {"synthetic": {"train": 224, "size": 16}},
    "stage": {"model": "cifar_resnet8", "arguments": {"width": 4}, "epochs": 3, "batch": 32, "lr": 0.05},
}
"""The trial where there are no road scenes."""

SCORES = ("miou", "top1")


def measure(options: Options) -> list[Row]:
    """Return the largest difference of the first losses, both scores and their difference, and the speed-up."""
    absent = CamVid().available() is not None
    chosen = (WITHOUT_SCENES if absent else TRIAL) if options.quick else SCENES
    folder = options.work / "accelerate"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(chosen)))
    one, two = run(folder, "one", 1), run(folder, "two", 2)
    resumed = run(folder, "resumed", 1, killed=len(one["losses"]) // 2)
    first = [abs(a - b) for a, b in zip(one["losses"][:FIRST], two["losses"][:FIRST], strict=True)]
    name = next(score for score in SCORES if score in one["scores"])
    about = {"n": len(first), "batch": chosen["stage"]["batch"], "threads": 1, "precision": "fp32", "runtime": "torch"}
    score = {**about, "n": one["images"], "split": "test"}
    return [
        options.row("accelerate-2", "loss_difference", max(first), "", "lower", **about),
        options.row("accelerate-2", f"{name}_one", one["scores"][name], "%", "higher", **score),
        options.row("accelerate-2", name, two["scores"][name], "%", "higher", **score),
        options.row("accelerate-2", f"{name}_difference", _apart(one, two, name), "points", "lower", **score),
        options.row(
            "accelerate-2", f"{name}_difference_resumed", _apart(one, resumed, name), "points", "lower", **score
        ),
        options.row("accelerate-2", "speedup", two["speed"] / one["speed"], "x", "higher", **about),
    ]


def _apart(one: dict[str, Any], other: dict[str, Any], name: str) -> float:
    return abs(one["scores"][name] - other["scores"][name])


def recipe(chosen: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe: one training of which every step is taken down."""
    fixed = {"name": "network", "optimizer": "sgd", "precision": "fp32"}
    return {
        "name": "accelerate",
        "data": chosen["data"],
        "stages": [{"train": {**fixed, **chosen["stage"]}}],
        "measure": ["quality"],
        "track": {"to": ["jsonl"], "every": 1, "samples": 0, "epochs": 0},
    }


def run(folder: Path, name: str, processes: int, killed: int = 0) -> dict[str, Any]:
    """Run the recipe in a folder of its own; return the losses, the scores, the images and the images a second.

    With `killed` two processes begin it, and all are killed after that many steps; then `processes` go on.
    """
    runs = folder / name
    if (folder / "one" / "cache" / "precision").exists():  # the arithmetic was measured once, and is the same for all
        shutil.copytree(folder / "one" / "cache" / "precision", runs / "cache" / "precision")
    log = runs / "recipe-accelerate" / "track" / "jsonl" / "network.jsonl"
    if killed:
        _kill_after(folder, runs, log, killed)
    with open(folder / f"{name}.log", "a") as said:
        done = subprocess.run(
            _command(folder, runs, processes), env=one_thread(), stdout=subprocess.PIPE, stderr=said, timeout=LONGEST
        )
    if done.returncode:
        raise EdgepressError(f"the run failed (exit code {done.returncode}), see {folder / f'{name}.log'}")
    found = json.loads(done.stdout)
    steps = [line for line in map(json.loads, log.read_text().splitlines()) if "train/loss" in line]
    notes = json.loads((Path(found["stages"]["network"]) / "notes.json").read_text())
    rows = found["rows"]
    return {
        "losses": [line["train/loss"] for line in steps],
        "scores": {row["metric"]: row["value"] for row in rows},
        "images": rows[0]["n"],
        "speed": notes["images_per_second"],
    }


def _command(folder: Path, runs: Path, processes: int) -> Sequence[str]:
    words = [sys.executable, "-m", "edgepress.cli", "run", str(folder / "recipe.yaml"), "--runs", str(runs), "--json"]
    return [*words, "--processes", str(processes)]


def _kill_after(folder: Path, runs: Path, log: Path, steps: int) -> None:
    """Begin the recipe with two processes and kill the one that launched them, with which they end, after `steps`."""
    with open(folder / "killed.log", "w") as said:
        process = subprocess.Popen(_command(folder, runs, 2), env=one_thread(), stdout=said, stderr=said)
    with terminated_at_exit([process]):
        end = time.monotonic() + LONGEST
        while process.poll() is None and time.monotonic() < end:
            if log.exists() and log.read_text().count("train/loss") >= steps:
                process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
    if process.returncode != -signal.SIGKILL:
        raise EdgepressError(f"the run that was to be killed has ended by itself, see {folder / 'killed.log'}")
    time.sleep(2)  # its processes end when they notice; they hold locks until then
