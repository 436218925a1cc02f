"""`resnet50-mobilenet_v3_small-<method>`: the pair of the founding systems on CIFAR-100, T = 4 and alpha = 0.7.

100 epochs where a GPU is at hand. ResNet-50 does not train on a CPU in time: there a ResNet-18 teaches, for 20 epochs,
as the names of the rows say.
"""

from dataclasses import replace

from benchmarks.base import Options
from benchmarks.distilling import done, epochs, over_seeds, prepared, score
from edgepress.measure.rows import Row

STAGES = ("teacher", "alone", "kd", "dkd")
FILES = ("dkd-fp32", "dkd-int8")


def measure(options: Options) -> list[Row]:
    """Train what is not trained yet and return all rows."""
    count = epochs(100, 20)
    teacher = "resnet50" if count == 100 and not options.quick else "resnet18"
    pair, found, rows = f"{teacher}-mobilenet_v3_small", dict[str, dict[int, Row]](), list[Row]()
    for seed in options.seeds[:1] if options.quick else options.seeds:
        sets = {"name": f"distill-{pair}-seed{seed}", "seed": seed, "teacher.model": teacher}
        sets |= {f"{stage}.epochs": count for stage in STAGES}
        result = done(prepared("distill-founding", options, sets), options)
        for stage in (*STAGES, *FILES):
            found.setdefault(stage, {})[seed] = score(result.rows, stage)
        rows += [
            replace(row, artifact=f"{pair}-{row.artifact}", command=options.command)
            for row in result.rows
            if row.metric == "bytes" and row.artifact in FILES and seed == options.seeds[0]
        ]
    return rows + [row for name, by_seed in found.items() for row in over_seeds(f"{pair}-{name}", by_seed, options)]
