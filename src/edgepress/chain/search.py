"""Where searching and training meet: candidates are built, weighed, and scored by a short training or a proxy."""

from dataclasses import replace
from typing import Any

from edgepress.chain.stages import Search
from edgepress.core.artifact import Model
from edgepress.core.config import dump, parse
from edgepress.core.stage import Context
from edgepress.cost.budget import Budget
from edgepress.cost.clock import export_file
from edgepress.cost.measure import Yardstick, measured
from edgepress.models.build import new_model
from edgepress.models.inputs import to_tensor
from edgepress.search.explore import Trial, explore, front
from edgepress.search.proxies.base import proxies
from edgepress.search.space import Candidate, Space
from edgepress.tasks.base import tasks
from edgepress.train.run import run_fit
from edgepress.train.state import NoCheckpoint


def search_student(stage: Search, ctx: Context) -> Model:
    """Return the best candidate of `stage`, untrained; the trials and the front are in the notes of `ctx`."""
    space = Space(stage.models, {name: tuple(values) for name, values in stage.space.items()})
    budget = parse(Budget, stage.budget, "search: budget")
    limits = budget.limits
    kind = next(iter(limits))

    def built(candidate: Candidate) -> Model:
        return new_model(candidate.model, ctx.data.signature, candidate.arguments, ctx.seed)

    def weigh(candidate: Candidate) -> dict[str, float]:
        return ctx.ranks.agreed(lambda: scale.costs(built(candidate)))

    def judge(candidate: Candidate) -> float:
        if stage.score == "train":
            return _trained(stage, built(candidate), ctx)
        module = built(candidate).module
        images = to_tensor(module, ctx.data.calibration(stage.images, ctx.seed), ctx.data.signature)
        return proxies.get(stage.score)(module, images)

    def keep(trials: list[Trial]) -> None:
        trial = trials[-1]
        costs = ", ".join(f"{k} {v:.5g}" for k, v in trial.costs.items())
        score = "above the budget" if trial.score is None else f"{stage.score} {trial.score:.2f}"
        ctx.progress.say(f"trial {len(trials)}: {trial.candidate.word}: {costs}; {score}")
        if ctx.ranks.main:
            ctx.checkpoint.save({"trials": [dump(found) for found in trials]})

    state = ctx.checkpoint.load() or {"trials": []}
    known = [parse(Trial, found, "search: kept trial") for found in state["trials"]]
    scale = _Scale(budget)
    if known and ctx.ranks.main:
        scale.go_on(built(known[0].candidate), known[0].costs)
    trials = explore(space, limits, weigh, judge, stage.trials, ctx.seed, known, keep)
    best = front(trials, kind)
    ctx.notes.update(
        {
            "chosen": dump(best[-1]),
            "front": [dump(trial) for trial in best],
            "trials": [dump(trial) for trial in trials],
            "combinations": len(space),
            "cost": kind,
        }
    )
    ctx.progress.say(f"chosen of {len(trials)} ({len(space)} possible): {best[-1].candidate.word}")
    return built(best[-1].candidate)


class _Scale:
    """Weighs candidates; times are taken in turns with the first one's file, since the machine's speed drifts."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._beside = budget, None

    def go_on(self, first: Model, costs: dict[str, float]) -> None:
        """Take up a search that was stopped, from its first candidate and what that took."""
        if "latency_ms" in costs:
            self._beside = Yardstick(export_file(first.module, first.signature), costs["latency_ms"])

    def costs(self, model: Model) -> dict[str, float]:
        """Return what `model` takes of each limit, and its parameters."""
        kinds, module = dict.fromkeys([*self._budget.limits, "params"]), model.module
        if "latency_ms" in kinds and self._beside is None:
            self._beside = Yardstick.of(module, model.signature, self._budget)
        return {k: measured(module, model.signature, k, self._budget, self._beside) for k in kinds}


def _trained(stage: Search, model: Model, ctx: Context) -> float:
    """Return the main score on the validation split after the stage's few epochs."""
    history: list[dict[str, Any]] = []

    def log(records: list[dict[str, Any]]) -> None:
        history[:] = records

    own = replace(ctx, checkpoint=NoCheckpoint(), log=log, notes={}, observer=None)
    run_fit(stage, model, own)
    metric = tasks.get(model.signature.task).main
    return ctx.ranks.agreed(lambda: float(history[-1]["val"][metric]))
