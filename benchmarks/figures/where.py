"""`where`: hints at the encoder, the bottleneck, the decoder or all of a U-Net of 1 M parameters, beside its logits."""

from dataclasses import replace

from benchmarks.base import Options
from benchmarks.distilling import done, score
from benchmarks.scenes import prepared
from edgepress.measure.rows import Row

PLACES = ("logits", "encoder", "bottleneck", "decoder", "all")


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet; return the mIoU of the student taught at each place."""
    seed = options.seeds[0]
    sets = {"name": f"camvid-where-seed{seed}", "seed": seed, "begun.seed": 0, "teacher.seed": 0}
    result = done(prepared("camvid-where", options, sets), options)
    return [
        replace(score(result.rows, label, "miou"), artifact=f"where-{label}", seeds=str(seed), command=options.command)
        for label in PLACES
    ]
