"""A distillation around the loop: who teaches, what is said before, noted during and judged after the training."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepress.core.artifact import Artifact, Builder, Model, Signature
from edgepress.core.errors import ConfigError
from edgepress.core.files import write_array
from edgepress.core.stage import Context
from edgepress.data.base import Data, Split
from edgepress.models.build import new_model, require_outputs, structure_only
from edgepress.tasks.base import Task, tasks
from edgepress.train import diagnosis
from edgepress.train.companion import Companion
from edgepress.train.diagnosis import Answers
from edgepress.train.features import Taps
from edgepress.train.fit import FitConfig, predictor_of
from edgepress.train.loader import Loader
from edgepress.train.objectives.base import FeatureTerm, Objective, risen
from edgepress.train.objectives.cwd_logits import CWDLogits
from edgepress.train.peer import Peer
from edgepress.train.precision import Mode
from edgepress.train.stages import Distill, Mutual
from edgepress.train.teacher import Teacher, Teachers, waited
from edgepress.train.views import halves


class Lesson:
    """One student, its teacher or teachers, and what is to be told of them. `companion` goes along with the loop."""

    def __init__(
        self, student: Model, teachers: Sequence[Artifact], objective: Objective, loader: Loader, ctx: Context
    ) -> None:
        self.student, self.ctx, self.loader, self._objective = student, ctx, loader, objective
        self.task = tasks.get(student.signature.task)
        self.taught_by = [_teacher(model, ctx, loader) for model in teachers]
        self.weights: tuple[float, ...] = ()
        self.confidence = False
        self.warnings: list[str] = []
        self.taps: Taps | None = None
        self._epochs_warned = False
        if objective.features:
            first = self.taught_by[0]
            specs = (student.signature.input, first.spec)
            student.module.to(loader.device)
            self.taps = first.taps = Taps(student.module, first.module, specs, objective.features, ctx.seed)
            self.taps.require_batch(loader.batch)
            for line in self.taps.words():
                ctx.progress.say(f"compared, {line}")
        self.temperature = _temperature(objective)
        self.teacher: Answers | None = None

    @property
    def companion(self) -> Companion:
        """The teacher, or all of them as one."""
        if len(self.taught_by) == 1:
            return self.taught_by[0]
        return Teachers(self.taught_by, self.weights, self.confidence)

    def begin(self, starts_trained: bool) -> Answers:
        """Look at the teacher before the training, and say what is wrong with it; return its answers on the validation
        split. `starts_trained` says that the student is no fresh network."""
        split, device = self.ctx.data.val, self.loader.device
        each = [_answers(teacher, split, device) for teacher in self.taught_by]
        self.teacher = each[0] if len(each) == 1 else self._together(each)
        self._warn(diagnosis.teacher_warning(self.task, self.teacher, self.student.signature.labels))
        if self._normalized_apart:
            self.ctx.progress.say("teacher and student take images of another mean and std: each gets its own")
        if starts_trained:
            module = self.student.module.to(device).eval()
            predict = predictor_of(module, Mode("fp32", False), self.student.signature.input)
            few = min(len(self.teacher.targets), 1000)
            teacher = Answers(self.teacher.outputs[:few], self.teacher.targets[:few])
            student = diagnosis.answers(predict, split, device, few)
            self._warn(diagnosis.worse_warning(self.task, teacher, student, "before the training"))
        return self.teacher

    def _together(self, each: list[Answers]) -> Answers:
        both = Teachers(self.taught_by, self.weights, False)  # who knows the label may not be asked in a validation
        mixed = both.mixed([torch.from_numpy(one.outputs) for one in each], torch.from_numpy(each[0].targets))
        return replace(each[0], outputs=mixed.numpy())

    def watch(self, history: list[dict[str, Any]], epochs: int) -> None:
        """Look at how hard each term pulls at the end of the first of so many epochs, once; where its weight is still
        rising, as it will in the end."""
        if self._epochs_warned or not history:
            return
        self._epochs_warned = True
        warmups = {name: term.warmup for name, _, term in self._objective.terms}
        pulls = history[0].get("gradients", {})
        whole = {name: pull / risen(warmups.get(name, 0.0), 1 / epochs) for name, pull in pulls.items()}
        self._warn(diagnosis.dwarf_warning(whole))

    def end(self, mode: Mode, epochs: int) -> dict[str, Any]:
        """Judge the trained student, which is still on its device; return what belongs into the notes."""
        assert self.teacher is not None
        predict = predictor_of(self.student.module.eval(), mode, self.student.signature.input)
        count = len(self.teacher.targets)
        student = diagnosis.answers(predict, self.ctx.data.val, self.loader.device, count)
        self._warn(diagnosis.worse_warning(self.task, self.teacher, student, "at the end"))
        labels = self.student.signature.labels
        found = diagnosis.judged(self.task, self.teacher, student, labels, self.temperature)
        return found | {
            "normalized_apart": self._normalized_apart,
            "compared": self.taps.words() if self.taps else [],
            "warnings": self.warnings,
            "teacher_time": self._time(epochs),
        }

    @property
    def _normalized_apart(self) -> bool:
        own = self.student.signature.input
        return any((t.spec.mean, t.spec.std) != (own.mean, own.std) for t in self.taught_by)

    def _time(self, epochs: int) -> dict[str, Any]:
        """Return the seconds that were spent on teachers, and those that kept outputs have saved."""
        begin = sum(teacher.seconds for teacher in self.taught_by)
        kept = all(teacher.kept for teacher in self.taught_by)
        few = np.arange(min(self.loader.spec.at_once(256), len(self.loader.split)))
        images = torch.from_numpy(self.ctx.data.train.read(few)[0])
        images = images.permute(0, 3, 1, 2).to(self.loader.device)
        once = sum(_seconds(teacher, images) for teacher in self.taught_by) / len(images)
        whole = once * len(self.loader) * self.loader.batch * epochs
        return {"kept": kept, "seconds": begin, "saved_seconds": max(0.0, whole - begin) if kept else 0.0}

    def _warn(self, text: str | None) -> None:
        if text:
            self.warnings.append(text)
            self.ctx.progress.say(f"warning: {text}")


def lesson_of(
    stage: object, student: Model, given: Artifact | None, objective: Objective, loader: Loader, ctx: Context
) -> Lesson | None:
    """Return the lesson of a stage with a teacher: its own field's, or the one `given`; None where there is none."""
    if isinstance(stage, Distill):
        lesson = Lesson(student, teachers_of(stage, ctx), objective, loader, ctx)
        lesson.weights, lesson.confidence = stage.teacher_weights, stage.vote == "confidence"
        return lesson
    return Lesson(student, [given], objective, loader, ctx) if given is not None else None


def teachers_of(stage: Distill, ctx: Context) -> list[Model]:
    """Return the networks that a stage learns from; raise `ConfigError` where one is an exported program."""
    found = [ctx.references[f"${name.removeprefix('$')}"] for name in stage.teachers]
    return [network_of(model) for model in found]


def peer_of(stage: Mutual, student: Model, loader: Loader, config: FitConfig, ctx: Context) -> Peer:
    """Return the second network of mutual learning, from another random start."""
    peer = peer_start(stage, student.builder, ctx.data.signature, ctx.seed)
    return Peer(peer.module, stage.objective(), tasks.get(student.signature.task), loader, config)


def peer_start(stage: Mutual, student: Builder, signature: Signature, seed: int) -> Model:
    """Return the second network of mutual learning as it is before the training."""
    same = structure_only(student)
    name, arguments = (stage.peer, stage.peer_arguments) if stage.peer else (same.name, same.arguments)
    peer = new_model(name, signature, arguments, seed + 1)
    require_outputs(peer)
    return peer


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


class Comparison:
    """Adds up how often the student decides as the teacher, part by part of the validation split."""

    def __init__(self, task: Task, teacher: Answers | None) -> None:
        self.task, self.teacher = task, teacher
        self._agreed, self._count = 0.0, 0

    def update(self, indices: np.ndarray, outputs: np.ndarray) -> None:
        """Compare the outputs on the images at `indices`, as far as the teacher was asked."""
        if self.teacher is None or indices[-1] >= len(self.teacher.outputs):
            return
        self._agreed += self.task.agreement(outputs, self.teacher.outputs[indices]) * len(indices)
        self._count += len(indices)

    def result(self) -> dict[str, float]:
        """Return `agreement` in percent; nothing where there is no teacher."""
        return {"agreement": self._agreed / self._count} if self._count else {}


def network_of(model: Artifact) -> Model:
    if not isinstance(model, Model):
        raise ConfigError("field 'teacher' names an exported program; name the network it came from")
    return model


def _teacher(artifact: Artifact, ctx: Context, loader: Loader) -> Teacher:
    model = network_of(artifact)
    require_same_task(model.signature, ctx.data)
    require_outputs(model)
    return Teacher(model, loader, ctx.data.fingerprint, ctx.cache, ctx.progress)


def _answers(teacher: Teacher, split: Split, device: torch.device) -> Answers:
    """Return what the teacher says on the validation split: kept beside its views, or said now and kept."""
    path = teacher.folder / "val.npy"
    if not path.exists():
        write_array(path, halves(diagnosis.answers(teacher.outputs, split, device).outputs))
    outputs = np.load(path, allow_pickle=False).astype(np.float32)
    return Answers(outputs, split.read(np.arange(len(outputs)))[1])


def _temperature(objective: Objective) -> float | None:
    """Return the temperature at which the first loss that softens the teacher's classes does so; None where none does,
    or at several."""
    for _, weight, term in objective.terms:
        softens = weight and term.needs_teacher and not isinstance(term, FeatureTerm | CWDLogits)
        if softens and (found := getattr(term, "temperature", None)):
            return float(found)
    return None


def _seconds(teacher: Teacher, images: Tensor) -> float:
    """Return how long the teacher takes for `images`: the shorter of two runs."""
    taken: list[float] = []
    for _ in range(2):
        begin = time.perf_counter()
        waited(teacher.outputs(images).device)
        taken.append(time.perf_counter() - begin)
    return min(taken)
