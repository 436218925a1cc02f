"""Scores of exported files that a recipe made, over several seeds: what the figures `resnet8` and `resnet20` share.

Each recipe runs once per seed, `--jobs` at a time with one thread each, and goes on where an earlier call was stopped.
FP32 figures are means over seeds, with a row per seed beside them (`...-seed0`). An INT8 figure is that of one file:
the seed with the best validation accuracy. All scores are those of the exported file.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.base import RECIPES, Options, one_thread, terminated_at_exit
from edgepress.core.errors import DataError, EdgepressError
from edgepress.core.files import write_bytes, write_json
from edgepress.measure.rows import Row
from edgepress.recipes.recipe import dump_recipe, read_recipe

WEIGHTS = "weights/resnet_cifar10"
TEACHER = "resnet56-4bfd9763.th"
Seeds = Mapping[str, tuple[int, ...]]
"""The seeds to run, by recipe."""


@dataclass(frozen=True)
class Job:
    """One recipe with one seed."""

    recipe: str
    seed: int

    @property
    def name(self) -> str:
        """The recipe's name in this run."""
        return f"{self.recipe}-seed{self.seed}"

    @property
    def path(self) -> Path:
        """The recipe file."""
        return RECIPES / f"{self.recipe}.yaml"

    def frozen(self, options: Options) -> Path:
        """Return where the resolved recipe lies for this call: an edit of the file waits for the next one."""
        return options.work / "recipes" / f"{self.name}.yaml"

    def freeze(self, options: Options) -> None:
        """Check the recipe and write it down resolved."""
        import yaml

        resolved = dump_recipe(read_recipe(self.path, self.sets()))
        write_bytes(self.frozen(options), yaml.safe_dump(resolved, sort_keys=False).encode())

    def sets(self) -> list[str]:
        """Return what is set over the file: name, seed, and where the teacher's weights lie."""
        return [f"name={self.name}", f"seed={self.seed}", *public_sets(self.path)]


def measure(options: Options, seeds: Seeds) -> list[Row]:
    """Run what is not done yet of the recipes and `seeds`, and return all rows."""
    jobs = [Job(recipe, seed) for seed in sorted({s for some in seeds.values() for s in some}) for recipe in seeds]
    jobs = [job for job in jobs if job.seed in seeds[job.recipe]]
    for job in jobs:
        job.freeze(options)
    # The teacher first and alone: every later job finds it done.
    run_jobs(jobs[:1], options, "teacher")
    run_jobs(jobs, options)
    found = {job: labelled(job, options) for job in jobs}
    rows: list[Row] = []
    files: dict[str, dict[str, object]] = {}
    for recipe, some in seeds.items():
        per_seed = {seed: found[Job(recipe, seed)] for seed in some}
        rows += fp32_rows(recipe, {seed: rows for seed, (rows, _) in per_seed.items()}, options)
        if recipe.endswith("-kd"):
            best = best_seed(f"{recipe}-int8", {seed: rows for seed, (rows, _) in per_seed.items()})
            rows += int8_rows(recipe, best, per_seed[best][0], options)
            bundles = per_seed[best][1]
            for label in (f"{recipe}-fp32", f"{recipe}-int8"):
                rows += speed_rows(label, bundles[label], best, options)
            files[f"{recipe}-int8"] = {"seed": best, "bundle": str(bundles[f"{recipe}-int8"])}
    remember(options.work / "chosen.json", files)
    return rows


def remember(path: Path, files: dict[str, dict[str, object]]) -> None:
    """Add the chosen files to those that other figures have chosen; `benchmarks.zoo` copies them."""
    known = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, known | files)


def public_sets(recipe: Path) -> list[str]:
    """Return what tells the stages of a recipe file that load a public checkpoint where it lies."""
    import yaml

    loads = [
        fields for stage in yaml.safe_load(recipe.read_text())["stages"] for fields in [stage.get("load")] if fields
    ]
    public = [fields for fields in loads if str(fields.get("weights")).startswith(WEIGHTS)]
    return [f"{fields['name']}.weights={public_weights(Path(fields['weights']).name)}" for fields in public]


def public_weights(name: str) -> Path:
    """Return a public checkpoint; raise `DataError` where EDGEPRESS_DATA does not lead to it."""
    path = Path(os.environ.get("EDGEPRESS_DATA", "")) / WEIGHTS / name
    if not path.is_file():
        raise DataError(f"no checkpoint at {path}: EDGEPRESS_DATA must name a folder with {WEIGHTS}/{name} in it")
    return path.resolve()


def run_jobs(jobs: Sequence[Job], options: Options, until: str = "") -> None:
    """Run `jobs`, `options.jobs` at a time; raise `EdgepressError` that names the log of the first one that fails."""
    logs = options.work / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running = list(jobs), dict[subprocess.Popen[bytes], tuple[Job, float]]()
    processes: list[subprocess.Popen[bytes]] = []
    with terminated_at_exit(processes):
        while waiting or running:
            while waiting and len(running) < options.jobs:
                job = waiting.pop(0)
                with open(logs / f"{job.name}.log", "ab") as log:
                    process = subprocess.Popen(_command(job, options, until), env=one_thread(), stdout=log, stderr=log)
                processes.append(process)
                running[process] = job, time.monotonic()
            time.sleep(0.2)
            for process in [p for p in running if p.poll() is not None]:
                job, begin = running.pop(process)
                if process.returncode:
                    raise EdgepressError(f"{job.name} failed, see {logs / f'{job.name}.log'}")
                print(f"  {job.name}{f' until {until}' if until else ''}: {time.monotonic() - begin:.0f} s", flush=True)


def _command(job: Job, options: Options, until: str) -> list[str]:
    command = [sys.executable, "-m", "benchmarks.job", str(job.frozen(options)), "--runs", str(options.work / "runs")]
    command += ["--until", until] if until else []
    return [*command, "--command", options.command, *(["--smoke"] if options.quick else [])]


def labelled(job: Job, options: Options) -> tuple[list[Row], dict[str, Path]]:
    """Return the rows and the bundle folders, by label, that a finished job left."""
    from benchmarks.job import patiently, recipe
    from edgepress.recipes.runner import Options as RunOptions
    from edgepress.recipes.store import BUNDLE

    wanted = recipe(job.frozen(options), [], options.quick)
    result = patiently(wanted, options.work / "runs", RunOptions(command=options.command))
    rows = [replace(row, command=options.command) for row in result.rows]
    return rows, {label: shelf.folder / BUNDLE for label, shelf in result.shelves.items()}


def fp32_rows(recipe: str, seeds: Mapping[int, Sequence[Row]], options: Options) -> list[Row]:
    """Return the rows of `<recipe>-fp32`: `top1` and `top1_std` over seeds, `bytes`, and one `top1` per seed."""
    label = f"{recipe}-fp32"
    each = {seed: value(rows, label, "top1") for seed, rows in seeds.items()}
    first = value(next(iter(seeds.values())), label, "bytes")
    names = ",".join(str(seed) for seed in each)
    top1 = [row.value for row in each.values()]
    mean = options.row(
        label,
        "top1",
        statistics.fmean(top1),
        "%",
        "higher",
        n=next(iter(each.values())).n,
        split="test",
        seeds=names,
        runtime=first.runtime,
        precision=first.precision,
    )
    rows = [mean, replace(first, seeds=names)]
    if len(each) > 1:
        spread = statistics.stdev(top1)
        rows.append(replace(mean, metric="top1_std", value=spread, unit="points", better="lower", n=len(each)))
    return rows + [replace(row, artifact=f"{label}-seed{seed}", seeds=str(seed)) for seed, row in each.items()]


def int8_rows(recipe: str, seed: int, rows: Sequence[Row], options: Options) -> list[Row]:
    """Return the rows of the file `<recipe>-int8` of `seed`: scores, `bytes`, and the `drop` from its own FP32."""
    label = f"{recipe}-int8"
    own = [replace(row, seeds=str(seed)) for row in rows if row.artifact == label]
    top1 = value(own, label, "top1")
    drop = value(rows, f"{recipe}-fp32", "top1").value - top1.value
    return [*own, replace(top1, metric="drop", value=drop, unit="points", better="lower")]


def speed_rows(label: str, bundle: Path, seed: int, options: Options) -> list[Row]:
    """Return latency, throughput, load time and memory of a bundle, measured now that nothing else is running."""
    from edgepress.data.load import load_data
    from edgepress.measure.base import MeasureContext, Quiet
    from edgepress.measure.latency import Latency
    from edgepress.measure.load import Load
    from edgepress.runtime.bundle import read_bundle
    from edgepress.runtime.predictor import EnginePredictor

    program = read_bundle(bundle)
    ctx = MeasureContext(
        data=load_data({"cifar10": {"limit": 10}}),
        predictor=EnginePredictor(program),
        label=label,
        progress=Quiet(),
        bundle=bundle,
        seeds=str(seed),
        command=options.command,
    )
    return [*Latency(rounds=50 if options.quick else 1000)(program, ctx), *Load()(program, ctx)]


def best_seed(label: str, seeds: Mapping[int, Sequence[Row]]) -> int:
    """Return the seed whose file has the best validation accuracy; of equals the first."""
    return max(seeds, key=lambda seed: value(seeds[seed], label, "val_top1").value)


def value(rows: Sequence[Row], artifact: str, metric: str) -> Row:
    """Return the row of that artifact and metric; raise `EdgepressError` where it was not measured."""
    for row in rows:
        if (row.artifact, row.metric) == (artifact, metric):
            return row
    raise EdgepressError(f"{artifact}: no {metric!r} was measured; is it in the recipe's 'measure'?")
