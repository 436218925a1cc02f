"""`unet-0.3m`: the U-Net of 0.3 M parameters that goes into the zoo, on CamVid test: its scores in FP32 and INT8."""

from dataclasses import replace

from benchmarks.accuracy import remember
from benchmarks.base import Options
from benchmarks.distilling import done, score
from benchmarks.scenes import SCORES, prepared
from edgepress.measure.rows import Row
from edgepress.recipes.store import BUNDLE


def measure(options: Options) -> list[Row]:
    """Train it, unless it is trained; return the scores of both files, and name the INT8 file for the zoo."""
    seed = options.seeds[0]
    result = done(prepared("camvid-small", options, {"name": f"camvid-small-seed{seed}", "seed": seed}), options)
    bundle = result.shelves["int8"].folder / BUNDLE
    remember(options.work / "chosen.json", {"unet-0.3m-int8": {"seed": seed, "bundle": str(bundle)}})
    return [
        replace(
            score(result.rows, label, metric), artifact=f"unet-0.3m-{label}", seeds=str(seed), command=options.command
        )
        for label in ("fp32", "int8")
        for metric in SCORES
    ]
