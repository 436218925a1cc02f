"""What the training stages do: put network, data, objective and teacher together and run the loop."""

import copy
import statistics
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from edgepress.core.artifact import Artifact, Model, Signature
from edgepress.core.config import parse
from edgepress.core.stage import Context
from edgepress.data.base import Split
from edgepress.data.frequency import frequencies
from edgepress.models.build import new_model, require_outputs
from edgepress.tasks.base import Task, tasks
from edgepress.train.auto import chosen
from edgepress.train.companion import Companion
from edgepress.train.config import Augment
from edgepress.train.diagnosis import Answers, parts, read
from edgepress.train.fit import FitConfig, fit, predictor_of
from edgepress.train.loader import Loader
from edgepress.train.memory import kept_memory
from edgepress.train.precision import Mode
from edgepress.train.stages import Distill, Fitting, Mutual
from edgepress.train.teaching import Comparison, Lesson, lesson_of, peer_of, require_same_task, teachers_of
from edgepress.train.training import Evaluate


def run_fit(stage: Fitting, artifact: Model | None, ctx: Context, teacher: Artifact | None = None) -> Model:
    """Return the network that `stage` trains, from scratch or from `artifact`, with `teacher` where one is given."""
    start = start_of(stage, artifact, ctx.data.signature, ctx.seed)
    require_same_task(start.signature, ctx.data)
    _tell_classes(ctx)
    if isinstance(stage, Distill) and stage.undecided:
        stage, why = chosen(stage, start, teachers_of(stage, ctx))
        ctx.progress.say(why)
        ctx.notes["losses"] = why
    task, device, objective, config = (
        tasks.get(start.signature.task),
        ctx.ranks.device or default_device(),
        stage.objective().informed(ctx.data).bound(start.module, start.signature, ctx.ranks.count),
        _config(stage),
    )
    augment = parse(Augment, stage.augment, "field 'augment'")
    loader = Loader(
        ctx.data.train, start.signature.input, augment, stage.batch, ctx.seed, device, stage.views, ctx.ranks
    )
    with kept_memory():
        lesson = lesson_of(stage, start, teacher, objective, loader, ctx)
        with ctx.ranks.main_first():  # it keeps the teacher's answers
            answers = lesson.begin(stage.model is None) if lesson else None
        companion: Companion | None = lesson.companion if lesson else None
        if isinstance(stage, Mutual):
            companion = peer_of(stage, start, loader, config, ctx)
        mode, history = fit(
            start.module,
            loader,
            objective,
            task,
            config,
            cache=ctx.cache,
            progress=ctx.progress,
            checkpoint=ctx.checkpoint,
            log=_logging(ctx, lesson, stage.epochs),
            evaluate=evaluator(task, ctx.data.val, start.signature, answers),
            companion=companion,
            ranks=ctx.ranks,
            observer=ctx.observer,
        )
        if lesson and ctx.ranks.main:
            _diagnose(lesson, mode, history, ctx)
    ctx.notes.update(
        {
            "precision": mode.precision,
            "channels_last": mode.channels_last,
            "images_per_second": statistics.median(epoch["images_per_second"] for epoch in history),
            "epochs": len(history),
            "batch": loader.batch,
            "threads": torch.get_num_threads(),
            "device": device.type,
            **({"processes": ctx.ranks.count} if ctx.ranks.count > 1 else {}),
        }
    )
    module = start.module.cpu().to(memory_format=torch.contiguous_format).eval()
    return replace(start, module=module, key="")


def _logging(ctx: Context, lesson: Lesson | None, epochs: int) -> Any:
    """Return what is given the epochs after each one: they are logged, and looked at where there is a teacher."""

    def log(history: list[dict[str, Any]]) -> None:
        ctx.log(history)
        if lesson:
            lesson.watch(history, epochs)

    return log


def _tell_classes(ctx: Context) -> None:
    """Say how the pixels of class maps spread over the classes, and put it into the notes."""
    if ctx.data.task == "segmentation":
        found = frequencies(ctx.data.train, len(ctx.data.labels))
        ctx.progress.say(found.words(ctx.data.labels))
        ctx.notes["classes"] = found.plain(ctx.data.labels)


def _diagnose(lesson: Lesson, mode: Mode, history: list[dict[str, Any]], ctx: Context) -> None:
    """Put the diagnosis into the notes and behind the epochs of the log."""
    lesson.watch(history, len(history))  # a training that was stopped after its last epoch has not done so
    with mode.applied(lesson.student.module):
        found = lesson.end(mode, len(history))
    ctx.notes["distillation"] = found
    ctx.log([*history, {"event": "distillation", **found}])


def evaluator(task: Task, split: Split, signature: Signature, teacher: Answers | None = None) -> Evaluate:
    """Return a function that scores a network under training on `split`: its main score and, where the answers of a
    teacher are given, the agreement with it and the calibration error."""

    def evaluate(module: nn.Module, mode: Mode) -> dict[str, float]:
        outputs = predictor_of(module, mode, signature.input)
        device = next(module.parameters()).device
        meter, comparison = task.meter(len(signature.labels)), Comparison(task, teacher)
        for indices in parts(split, len(split)):
            images, targets = read(split, indices, device)
            found = outputs(images).cpu().numpy()
            meter.update(found, targets)
            comparison.update(indices, found)
        scores = meter.result()
        more = {"ece": scores["ece"]} if teacher and "ece" in scores else {}
        return {task.main: scores[task.main], **comparison.result(), **more}

    return evaluate


def start_of(stage: Fitting, artifact: Model | None, signature: Signature, seed: int) -> Model:
    """Return the network that a training begins with: a fresh one, or a copy of `artifact`."""
    if stage.model is not None:
        model = new_model(stage.model, signature, stage.arguments, seed)
        require_outputs(model)
        return model
    assert artifact is not None
    return replace(artifact, module=copy.deepcopy(artifact.module))


def _config(stage: Fitting) -> FitConfig:
    names = [field.name for field in fields(FitConfig) if hasattr(stage, field.name)]
    return FitConfig(**{name: getattr(stage, name) for name in names})


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
