"""`imbalance`: a U-Net of 0.3 M parameters on CamVid under six losses; the IoU of the three rarest classes of each."""

from dataclasses import replace

from benchmarks.base import Options
from benchmarks.distilling import done, score
from benchmarks.scenes import prepared, rarest
from edgepress.measure.rows import Row

LOSSES = ("ce", "weighted", "focal", "dice", "lovasz", "ohem")


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet; return mIoU and the IoU of the rarest three under each loss."""
    seed = options.seeds[0]
    result = done(
        prepared("camvid-imbalance", options, {"name": f"camvid-imbalance-seed{seed}", "seed": seed}), options
    )
    rows: list[Row] = []
    for label in LOSSES:
        for row in (score(result.rows, label, "miou"), rarest(result.rows, label)):
            rows.append(replace(row, artifact=f"imbalance-{label}", seeds=str(seed), command=options.command))
    plain = rows[1].value
    best = max(rows[3::2], key=lambda row: row.value)
    return [
        *rows,
        replace(best, artifact="imbalance", metric="gain_rarest_three", value=best.value - plain, unit="points"),
    ]
