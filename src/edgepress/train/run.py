"""What the training stages do: put network, data, objective and teacher together and run the loop."""

import copy
import statistics
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from edgepress.core.artifact import Model, Signature
from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.stage import Context
from edgepress.data.base import Data, Split
from edgepress.models.build import new_model
from edgepress.tasks.base import Task, tasks
from edgepress.train.config import Augment
from edgepress.train.fit import Evaluate, FitConfig, fit, predictor_of
from edgepress.train.loader import Loader
from edgepress.train.memory import kept_memory
from edgepress.train.precision import Mode
from edgepress.train.stages import Distill, Fitting
from edgepress.train.teacher import Teacher


def run_fit(stage: Fitting, artifact: Model | None, ctx: Context) -> Model:
    """Return the network that `stage` trains, from scratch or from `artifact`."""
    start = _start(stage, artifact, ctx)
    require_same_task(start.signature, ctx.data)
    task, device = tasks.get(start.signature.task), default_device()
    augment = parse(Augment, stage.augment, "field 'augment'")
    loader = Loader(ctx.data.train, start.signature.input, augment, stage.batch, ctx.seed, device, stage.views)
    companion = _teacher(stage, ctx, loader) if isinstance(stage, Distill) else None
    with kept_memory():
        mode, history = fit(
            start.module,
            loader,
            stage.objective(),
            task,
            _config(stage),
            cache=ctx.cache,
            progress=ctx.progress,
            checkpoint=ctx.checkpoint,
            log=ctx.log,
            evaluate=evaluator(task, ctx.data.val, start.signature),
            companion=companion,
        )
    ctx.notes.update(
        {
            "precision": mode.precision,
            "channels_last": mode.channels_last,
            "images_per_second": statistics.median(epoch["images_per_second"] for epoch in history),
            "epochs": len(history),
            "batch": loader.batch,
            "threads": torch.get_num_threads(),
            "device": device.type,
        }
    )
    module = start.module.cpu().to(memory_format=torch.contiguous_format).eval()
    return replace(start, module=module, key="")


def evaluator(task: Task, split: Split, signature: Signature) -> Evaluate:
    """Return a function that scores a network under training on `split`."""

    def evaluate(module: nn.Module, mode: Mode) -> dict[str, float]:
        outputs = predictor_of(module, mode, signature.input)
        device = next(module.parameters()).device
        meter = task.meter(len(signature.labels))
        for indices in np.array_split(np.arange(len(split)), max(1, len(split) // 500)):
            images, targets = split.read(indices)
            batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
            meter.update(outputs(batch).cpu().numpy(), targets)
        return {task.main: meter.result()[task.main]}

    return evaluate


def require_same_task(signature: Signature, data: Data) -> None:
    """Raise `ConfigError` where a network and a data set do not speak of the same task, classes and input size."""
    pairs = [
        ("task", signature.task, data.task),
        ("number of classes", len(signature.labels), len(data.labels)),
        ("classes", signature.labels, data.labels),
        ("input size", signature.input.shape, data.input.shape),
    ]
    wrong = [f"{what}: the network has {a}, the data set {data.name!r} has {b}" for what, a, b in pairs if a != b]
    if wrong:
        raise ConfigError(wrong)


def _start(stage: Fitting, artifact: Model | None, ctx: Context) -> Model:
    if stage.model is not None:
        return new_model(stage.model, ctx.data.signature, stage.arguments, ctx.seed)
    assert artifact is not None
    return replace(artifact, module=copy.deepcopy(artifact.module))


def _teacher(stage: Distill, ctx: Context, loader: Loader) -> Teacher:
    model = ctx.references[stage.teacher]
    if not isinstance(model, Model):
        raise ConfigError(f"field 'teacher': {stage.teacher} is an exported program; name the network it came from")
    require_same_task(model.signature, ctx.data)
    return Teacher(model, loader, ctx.data.fingerprint, ctx.cache, ctx.progress)


def _config(stage: Fitting) -> FitConfig:
    names = ("epochs", "lr", "optimizer", "weight_decay", "schedule", "warmup", "ema", "clip", "precision")
    return FitConfig(**{name: getattr(stage, name) for name in names})


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
