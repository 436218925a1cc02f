"""Runs a recipe: what is done is taken from the disk, what is half done goes on, what failed leaves nothing behind.

Of several processes all do the trainings; whatever else there is, and everything on the disk, the main one does alone.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgepress.core.artifact import UNPROVEN, Artifact, Model, Predictor, Program
from edgepress.core.config import dump
from edgepress.core.errors import ConfigError, UnknownNameError
from edgepress.core.files import lock, write_json
from edgepress.core.ranks import ALONE, Ranks
from edgepress.core.stage import Context, Observer, Progress
from edgepress.data.base import Data
from edgepress.measure import environment
from edgepress.measure.base import Measure, MeasureContext, Quiet
from edgepress.measure.rows import Row, read_rows, write_rows
from edgepress.recipes.ahead import dry_run
from edgepress.recipes.keys import measure_key, stage_key
from edgepress.recipes.recipe import Recipe, Step, dump_recipe
from edgepress.recipes.store import BUNDLE, STATE, Shelf, recipe_folder
from edgepress.runtime.bundle import read_manifest
from edgepress.train.stages import Fitting
from edgepress.train.track import Track


@dataclass(frozen=True)
class Options:
    """How to run: `start` and `until` name the first and last stage, `only` those that are wanted, with what they need,
    `fresh` the stages to compute anew; `track` says who is told of the trainings, in place of what the recipe says."""

    start: str | None = None
    until: str | None = None
    only: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    command: str = ""
    track: Track | None = None


@dataclass
class Result:
    """What a run left: its folder, the shelf of every stage by label, and the rows, labelled as in the recipe."""

    folder: Path
    shelves: dict[str, Shelf] = field(default_factory=dict[str, Shelf])
    rows: list[Row] = field(default_factory=list[Row])


def smoke(recipe: Recipe) -> Recipe:
    """Return the recipe shrunk to a trial of every stage: little data, one epoch, few calibration images."""
    limits = {name: 512 for name in ("limit", "limit_eval") if hasattr(recipe.source, name)}
    source = replace(recipe.source, **limits)
    steps = tuple(replace(step, stage=step.stage.smoke()) for step in recipe.steps)
    measures = tuple(m.smoke() for m in recipe.measures)
    return replace(recipe, name=f"{recipe.name}-smoke", source=source, steps=steps, measures=measures)


def run(recipe: Recipe, root: Path, progress: Progress, options: Options = Options(), ranks: Ranks = ALONE) -> Result:
    """Run `recipe` with its results under `root`, and measure them.

    Killed at any instant and called again, it ends as an undisturbed run does. Of several processes (`ranks`) each
    calls this with the same arguments, on a `root` that all of them see; the others return before anything is measured.
    Raises `BusyError` where another process runs the same recipe or stage there, and what the stages raise.
    """
    steps = _chosen(recipe, options)
    folder = recipe_folder(root, recipe.name)
    busy = f"the recipe {recipe.name!r} is already running in {root}; wait for it, or choose another --runs folder"
    progress = progress if ranks.main else Quiet()
    with lock(folder, busy) if ranks.main else contextlib.nullcontext():
        progress.say(f"data: {next(iter(dump_recipe(recipe)['data']))}")
        with ranks.main_first():  # it may decode the images and keep them
            data = recipe.source.load()
        runner = _Runner(recipe, data, root, progress, options, ranks)
        dry_run(steps, data, lambda label: runner.result.shelves[label].done, runner.artifact)
        for step in steps:
            runner.advance(step)
            runner.record(folder)
        runner.measure(steps)
        runner.record(folder)
        return replace(runner.result, shelves={step.label: runner.result.shelves[step.label] for step in steps})


def _chosen(recipe: Recipe, options: Options) -> tuple[Step, ...]:
    labels = [step.label for step in recipe.steps]
    for label in (options.start, options.until, *options.only, *options.fresh):
        if label is not None and label not in labels:
            raise UnknownNameError("stage", label, labels)
    last = labels.index(options.until) if options.until else len(labels) - 1
    first = labels.index(options.start) if options.start else 0
    steps = recipe.needed(options.only) if options.only else recipe.steps
    steps = tuple(step for step in steps if labels.index(step.label) <= last)
    running = [step.label for step in steps if labels.index(step.label) >= first]
    named = {"--fresh": options.fresh, "--only": options.only, "--from": (options.start,) if options.start else ()}
    for word, given in named.items():
        for label in given:
            if label not in running:
                raise ConfigError(f"{word} {label}: that stage is not among those to run; mend {_others(word)}")
    return steps


def _others(word: str) -> str:
    """Return the options that say together with `word` which stages run."""
    return ", ".join(other for other in ("--from", "--until", "--only") if other != word)


class _Runner:
    def __init__(
        self, recipe: Recipe, data: Data, root: Path, progress: Progress, options: Options, ranks: Ranks
    ) -> None:
        self.recipe, self.data, self.root, self.progress, self.options = recipe, data, root, progress, options
        self.ranks = ranks
        self.result = Result(recipe_folder(root, recipe.name))
        self.cache = root / "cache"
        self._loaded: dict[str, Artifact] = {}
        self._renewed: set[str] = set()
        self._started = options.start is None
        for step in recipe.steps:  # all keys are known before anything is computed
            inputs = {label: self.result.shelves[label].key for label in step.sources()}
            self.result.shelves[step.label] = Shelf(root, step.kind, stage_key(step, inputs, data.fingerprint))

    def advance(self, step: Step) -> None:
        """Make sure that the artifact of `step` is on its shelf."""
        self._started = self._started or step.label == self.options.start
        shelf = self.result.shelves[step.label]
        with contextlib.ExitStack() as held:
            key, cached = self.ranks.agreed(lambda: (shelf.key, self._taken(step, shelf, held)))
            if key != shelf.key:
                raise ConfigError(f"process {self.ranks.index} reads another recipe or other data than process 0")
            if not cached and (self.ranks.main or isinstance(step.stage, Fitting)):
                self._compute(step, shelf)
            self.ranks.wait()
        if not shelf.done:
            raise ConfigError(f"{shelf.folder} is not here: all processes need the same folder of results")
        seconds = shelf.about()["seconds"]
        self.progress.say(f"{step.label}: {'kept from an earlier run' if cached else f'done in {seconds:.1f} s'}")

    def _taken(self, step: Step, shelf: Shelf, held: contextlib.ExitStack) -> bool:
        """Return whether the artifact of `step` is there; keep others out of its folder where it is not."""
        if step.label in self.options.fresh or self._renewed.intersection(step.sources()):
            with shelf.held():
                shelf.forget()
            self._renewed.add(step.label)
        if not shelf.done:
            held.enter_context(shelf.held())
        return shelf.done  # another run may have finished it since

    def _compute(self, step: Step, shelf: Shelf) -> None:
        if not self._started:
            raise ConfigError(
                f"--from {self.options.start}: stage {step.label!r} before it is not done yet; run it first"
            )
        self.progress.say(f"{step.label}: {step.kind}")
        from edgepress.train.state import FileCheckpoint

        ctx = Context(
            data=self.data,
            seed=step.seed,
            progress=self.progress,
            checkpoint=FileCheckpoint(shelf.folder / STATE),
            log=shelf.write_log if self.ranks.main else _nothing,
            cache=self.cache,
            notes={},
            references={f"${label}": self.artifact(label) for label in step.references().values()},
            ranks=self.ranks if isinstance(step.stage, Fitting) else ALONE,
            observer=self._observer(step),
        )
        begin = time.monotonic()
        made = step.stage(self.artifact(step.input) if step.input else None, ctx).with_key(shelf.key)
        if not self.ranks.main:
            return
        about = {
            "stage": step.kind,
            "version": type(step.stage).version,
            "fields": dump(step.stage),
            "seed": step.seed,
            "data": self.data.fingerprint,
            "seconds": time.monotonic() - begin,
            "machine": environment.machine(),
            "versions": environment.versions(),
            "precision": made.precision,
            "date": _now(),
        }
        shelf.save(made, about, ctx.notes)

    def _observer(self, step: Step) -> Observer | None:
        """Return who looks on while `step` trains, None where nobody is asked to."""
        wanted = self.options.track or self.recipe.track
        if not (wanted.to and self.ranks.main and isinstance(step.stage, Fitting)):
            return None
        from edgepress.train.observe import TrackedRun

        shelf = self.result.shelves[step.label]
        return TrackedRun(wanted, self.recipe.name, step.label, shelf.key, self.result.folder, self.data, self.progress)

    def artifact(self, label: str) -> Artifact:
        """Return the artifact of the stage `label`, read from its shelf at first use."""
        if label not in self._loaded:
            self._loaded[label] = self.result.shelves[label].load()
        return self._loaded[label]

    def record(self, folder: Path) -> None:
        """Write down every stage that is done, also those that an earlier run has done and this one has not reached."""
        if not self.ranks.main:
            return
        write_json(
            folder / "run.json",
            {
                "name": self.recipe.name,
                "recipe": dump_recipe(self.recipe),
                "command": self.options.command,
                "date": _now(),
                "environment": environment.environment(),
                "stages": [self._entry(step) for step in self.recipe.steps if self.result.shelves[step.label].done],
            },
        )

    def _entry(self, step: Step) -> dict[str, Any]:
        shelf = self.result.shelves[step.label]
        about = shelf.about()
        return {
            "label": step.label,
            "stage": step.kind,
            "folder": shelf.folder.name,
            "key": shelf.key,
            "seconds": about["seconds"],
            "input": step.input,
            "precision": about.get("precision", ""),
        }

    def measure(self, steps: Sequence[Step]) -> None:
        """Measure every artifact that has not been measured so before."""
        if not self.ranks.main:
            return
        for step in steps:
            bundle = self.result.shelves[step.label].folder / BUNDLE
            unseen = read_manifest(bundle).provenance.get(UNPROVEN) if bundle.exists() else None
            if unseen:
                self.progress.say(f"{step.label} is not measured: {unseen}")
                continue
            for measure in self.recipe.measures:
                self.result.rows += self._measured(step, measure)

    def _measured(self, step: Step, measure: Measure) -> list[Row]:
        shelf = self.result.shelves[step.label]
        teacher = next(iter(step.references().values()), None)
        others = [self.result.shelves[label].key for label in (step.input, teacher) if label]
        path = shelf.rows_path(measure_key(measure, others))
        if not path.exists():
            artifact = self.artifact(step.label)
            program = isinstance(artifact, Program)
            ctx = MeasureContext(
                data=self.data,
                predictor=predictor(artifact),
                label=step.label,
                progress=self.progress,
                parent=predictor(self.artifact(step.input)) if step.input else None,
                teacher=predictor(self.artifact(teacher)) if teacher else None,
                bundle=shelf.folder / BUNDLE if program else None,
                seeds=str(step.seed),
                command=self.options.command,
                notes=shelf.notes(),
            )
            write_rows(path, measure(artifact, ctx))
        return [replace(row, artifact=step.label) for row in read_rows(path)]


def predictor(artifact: Artifact) -> Predictor:
    """Return what computes the outputs of `artifact`: PyTorch for a model, its engine for a program."""
    if isinstance(artifact, Model):
        from edgepress.export import integers

        return integers.predictor(artifact)
    from edgepress.runtime.predictor import EnginePredictor

    return EnginePredictor(artifact, threads=environment.physical_cores())


def _nothing(records: Sequence[dict[str, Any]]) -> None:
    """Write no log: another process does."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
