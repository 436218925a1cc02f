"""Every loss against the same formula written as loops, on images and on maps, and what all losses have in common."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.tasks.base import tasks
from edgepress.train.loader import Batch
from edgepress.train.memory_bank import MemoryBank
from edgepress.train.objectives.base import FeatureTerm, Objective, Pair, Term, objectives
from edgepress.train.words import read_terms
from train import golden
from train.helpers import tiny_data

N, C = 6, 5
DENSE = ("weighted_ce", "focal", "dice", "lovasz", "ohem", "cwd_logits", "pairwise")
"""Checked in `test_dense_losses.py`."""
CLASSES, MAPS = tasks.get("classification"), tasks.get("segmentation")


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*(shape or (N, C)), generator=torch.Generator().manual_seed(seed))


def batch(teacher: torch.Tensor, targets: torch.Tensor) -> Batch:
    return Batch(torch.zeros(len(targets), 1), targets, torch.arange(len(targets)), 0, teacher)


TARGETS = torch.tensor([0, 1, 2, 3, 4, 1])
LOGIT_LOSSES: dict[str, tuple[dict[str, Any], Any]] = {
    "kd": ({"temperature": 3.0}, lambda s, t, y: golden.kd(s, t, 3.0)),
    "soft_ce": ({"temperature": 2.0}, lambda s, t, y: golden.soft_ce(s, t, 2.0)),
    "dkd": ({"alpha": 0.5, "beta": 3.0}, lambda s, t, y: golden.dkd(s, t, y, 4.0, 0.5, 3.0)),
    "dist": ({"beta": 1.0, "gamma": 2.0}, lambda s, t, y: golden.dist(s, t, 4.0, 1.0, 2.0)),
    "mlkd": ({"temperatures": [2.0, 5.0]}, lambda s, t, y: golden.mlkd(s, t, (2.0, 5.0))),
    "weighted_kd": ({}, lambda s, t, y: golden.weighted_kd(s, t, y, 2.0)),
    "virtual_teacher": ({"correct": 0.9}, lambda s, t, y: golden.virtual_teacher(s, y, 0.9, 20.0)),
    "entropy": ({}, lambda s, t, y: golden.entropy(s)),
    "standardized": ({}, lambda s, t, y: golden.kd(golden.standardized(s), golden.standardized(t), 2.0)),
}


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_losses_on_logits_equal_their_papers(name: str) -> None:
    fields, expected = LOGIT_LOSSES[name]
    student, teacher = logits(1).requires_grad_(), logits(2)
    got = parse(objectives.get(name), fields)(student, batch(teacher, TARGETS), CLASSES)
    assert got.item() == pytest.approx(expected(student.tolist(), teacher.tolist(), TARGETS.tolist()), rel=2e-5)
    got.backward()
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.abs().sum() > 0


@pytest.mark.parametrize("name", sorted(LOGIT_LOSSES.keys() - {"mlkd"}))
def test_a_pixel_counts_as_an_image(name: str) -> None:
    term = parse(objectives.get(name), LOGIT_LOSSES[name][0])
    ours, theirs = logits(3, 2, C, 3, 3), logits(4, 2, C, 3, 3)
    targets = torch.arange(18).remainder(C).view(2, 3, 3)
    flat = lambda x: x.permute(0, 2, 3, 1).reshape(-1, C)  # noqa: E731
    dense = term(ours, batch(theirs, targets), MAPS)
    rows = term(flat(ours), batch(flat(theirs), targets.flatten()), CLASSES)
    assert dense.item() == pytest.approx(rows.item(), rel=1e-4)


def test_mlkd_on_maps_averages_the_inner_products() -> None:
    term = parse(objectives.get("mlkd"), {"temperatures": [3.0]})
    ours, theirs = logits(3), logits(4)
    wide = [x[:, :, None, None].expand(-1, -1, 2, 4) for x in (ours, theirs)]
    dense = term(wide[0], batch(wide[1], torch.zeros(N, 2, 4, dtype=torch.long)), MAPS)
    assert dense.item() == pytest.approx(term(ours, batch(theirs, TARGETS), CLASSES).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["dkd", "weighted_kd", "virtual_teacher"])
def test_void_pixels_do_not_count(name: str) -> None:
    term = objectives.get(name)()
    ours, theirs = logits(5, 1, C, 2, 4).requires_grad_(), logits(6, 1, C, 2, 4)
    targets = torch.tensor([[[0, 1, 255, 255], [2, 3, 255, 255]]])
    half = term(ours[..., :2], batch(theirs[..., :2], targets[..., :2]), MAPS)
    assert term(ours, batch(theirs, targets), MAPS).item() == pytest.approx(half.item(), rel=1e-5)
    nothing = term(ours, batch(theirs, torch.full((1, 2, 4), 255)), MAPS)
    nothing.backward()
    assert nothing.item() == 0 and ours.grad is not None and not ours.grad.any()


@pytest.mark.parametrize("name", ["kd", "dkd", "dist", "mlkd", "weighted_kd", "standardized"])
def test_equal_outputs_cost_nothing_and_sure_teachers_no_nan(name: str) -> None:
    term = objectives.get(name)()
    same = logits(7)
    assert term(same, batch(same, TARGETS), CLASSES).item() == pytest.approx(0, abs=1e-5)
    sure = torch.nn.functional.one_hot(TARGETS, C) * 300.0
    student = logits(8).requires_grad_()
    term(student, batch(sure, TARGETS), CLASSES).backward()
    assert student.grad is not None and student.grad.isfinite().all()


def test_dkd_is_kd_where_its_weights_are_those_of_the_paper() -> None:
    student, teacher = logits(1, 1, C), logits(2, 1, C)
    p = (teacher / 4).softmax(1)[0, 2].item()
    term = parse(objectives.get("dkd"), {"alpha": 1.0, "beta": 1 - p})
    one = batch(teacher, torch.tensor([2]))
    assert term(student, one, CLASSES).item() == pytest.approx(
        objectives.get("kd")()(student, one, CLASSES).item(), rel=1e-4
    )


def test_standardized_logits_are_free_in_scale_and_shift() -> None:
    term = parse(objectives.get("standardized"), {"of": {"dkd": {"beta": 2.0}}})
    student, teacher = logits(1), logits(2)
    one = term(student, batch(teacher, TARGETS), CLASSES)
    other = term(7 * student - 3, batch(0.1 * teacher + 5, TARGETS), CLASSES)
    assert other.item() == pytest.approx(one.item(), rel=1e-3)


def vectors(seed: int, width: int = 4) -> torch.Tensor:
    return logits(seed, N, width)


def maps(seed: int, channels: int = 3, side: int = 6) -> torch.Tensor:
    return logits(seed, 2, channels, side, side)


FEATURE_LOSSES: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "rkd": ({}, vectors, lambda s, t: golden.rkd(s, t, 25.0, 50.0)),
    "sp": ({}, vectors, golden.sp),
    "cc": ({}, vectors, lambda s, t: golden.cc(s, t, 0.4, 2)),
    "hint": ({}, maps, lambda s, t: float(((s - t) ** 2).mean())),
    "attention": ({}, maps, golden.attention),
    "review": ({}, maps, golden.context),
    "mgd": ({}, maps, golden.mgd),
    "cwd": ({"temperature": 2.0}, maps, lambda s, t: golden.cwd(s, t, 2.0)),
    "margin": ({}, maps, golden.margin),
}


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_losses_on_features_equal_their_papers(name: str) -> None:
    fields, made, expected = FEATURE_LOSSES[name]
    student, teacher = made(1).requires_grad_(), made(2)
    got = parse(objectives.get(name), fields).compare([student], [teacher])
    wanted = expected(student.detach().double().numpy(), teacher.double().numpy())
    assert got.item() == pytest.approx(wanted, rel=1e-4)
    got.backward()
    assert student.grad is not None and student.grad.isfinite().all() and student.grad.abs().sum() > 0


def test_vid_equals_its_paper() -> None:
    means, targets, spread = maps(1), maps(2), torch.tensor([0.5, 1.0, 4.0])
    got = objectives.get("vid")().compare([means, spread.view(1, 3, 1, 1)], [targets])
    assert got.item() == pytest.approx(golden.vid(means.numpy(), spread.numpy(), targets.numpy()), rel=1e-5)


def test_contrast_within_the_batch_equals_its_formula() -> None:
    ours, theirs = (torch.nn.functional.normalize(vectors(seed)) for seed in (1, 2))
    got = objectives.get("crd_in_batch")().compare([ours], [theirs])
    assert got.item() == pytest.approx(
        golden.crd_in_batch(ours.double().numpy(), theirs.double().numpy(), 0.07), rel=1e-4
    )


def test_contrast_with_a_memory_bank_equals_its_paper() -> None:
    torch.manual_seed(0)
    term, images = parse(objectives.get("crd"), {"width": 4, "negatives": 20, "images": 50}), 50
    bank = term.connector((Pair("a", "b", (3,), (5, 2, 2)),))
    assert isinstance(bank, MemoryBank) and bank.kept.square().sum(-1).mean() == pytest.approx(1, abs=0.1)
    bank.labels[:30] = torch.arange(30) % C
    one = dataclasses.replace(batch(logits(2), TARGETS), indices=torch.tensor([7, 3, 49, 20, 31, 12]))
    scales: list[float] = []
    for seed in (5, 6):
        features = logits(seed, N, 3).requires_grad_()
        ours, theirs = bank([features], [logits(seed + 10, N, 5, 2, 2)])
        kept = bank.kept[:, 0].double().numpy().copy()
        one.taps = cast(Any, SimpleNamespace(joined=lambda _, x=(ours, theirs): x, connector=lambda _: bank))
        torch.manual_seed(seed)
        drawn = torch.randint(images, (20,)).tolist()
        labels = bank.labels.tolist()
        torch.manual_seed(seed)
        got = term(logits(1), one, CLASSES)
        a, b = (x[0].detach().double().numpy() for x in (ours, theirs))
        own, targets = one.indices.tolist(), TARGETS.tolist()
        scales = scales or golden.crd_scales(a, b, kept, own, drawn, 0.07)
        wanted = golden.crd(a, b, kept, own, labels, targets, drawn, 0.07, scales)
        assert got.item() == pytest.approx(wanted, rel=1e-4)
        got.backward()
        assert features.grad is not None and features.grad.isfinite().all() and features.grad.abs().sum() > 0
        moved = (kept[0][own] + a) / np.linalg.norm(kept[0][own] + a, axis=1, keepdims=True)
        np.testing.assert_allclose(bank.kept[0, 0, own].numpy(), moved, rtol=1e-5)
        assert bank.labels[own].tolist() == targets
        untouched = [j for j in range(images) if j not in own]
        assert np.array_equal(bank.kept[:, 0, untouched].double().numpy(), kept[:, untouched])


def test_a_memory_bank_of_another_size_than_the_split_is_refused() -> None:
    data = tiny_data(128)
    images = len(data.train)
    assert objectives.get("crd")().informed(data).images == images
    assert parse(objectives.get("crd"), {"images": images}).informed(data).images == images
    with pytest.raises(ConfigError, match=f"images: 5, and the training split has {images}"):
        parse(objectives.get("crd"), {"images": 5}).informed(data)


def test_relations_do_not_mind_equal_images() -> None:
    twice = vectors(1)[:1].repeat(4, 1).requires_grad_()
    objectives.get("rkd")().compare([twice], [vectors(2)[:4]]).backward()
    assert twice.grad is not None and twice.grad.isfinite().all()


FEATURES = [name for name in objectives if issubclass(objectives.get(name), FeatureTerm)]


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("kind", ["maps", "vectors"])
def test_connectors_join_what_they_say_and_learn(name: str, kind: str) -> None:
    term = objectives.get(name)()
    shapes = ((3, 8, 8), (5, 4, 4)) if kind == "maps" else ((3,), (5,))
    if kind == "vectors" and term.joins == "maps":
        pytest.skip("it compares maps only")
    if name == "crd":
        pytest.skip("it compares with what it remembers: checked above")
    torch.manual_seed(0)
    pairs = (Pair("a", "b", *shapes), Pair("c", "d", *shapes))
    connector = term.connector(pairs)
    ours = [logits(k, N, *shapes[0]).requires_grad_() for k in (1, 2)]
    theirs = [logits(k, N, *shapes[1]) for k in (3, 4)]
    loss = term.compare(*connector(ours, theirs)) if connector else term.compare(ours, theirs)
    loss.backward()
    assert loss.isfinite() and all(x.grad is not None and x.grad.abs().sum() > 0 for x in ours)
    trained = list(connector.parameters()) if connector else []
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("kd", {"temperature": 0}, "temperature must be above 0, got 0"),
        ("dkd", {"temperature": -1}, "temperature must be above 0, got -1"),
        ("dkd", {"beta": -1}, "alpha and beta must be 0 or more"),
        ("mlkd", {"temperatures": []}, "name at least one"),
        ("standardized", {"of": {"dkkd": {}}}, "did you mean 'dkd'"),
        ("standardized", {"of": {"dkd": {"bta": 1}}}, "did you mean 'beta'"),
        ("standardized", {"of": {"hint": {}}}, "it standardizes logits"),
        ("virtual_teacher", {"correct": 1.0}, r"correct must be in \(0, 1\)"),
        ("hint", {"student": ["layer1"]}, "belong together"),
        ("mgd", {"masked": 1.0}, r"masked must be in \[0, 1\)"),
        ("crd", {"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ("crd", {"negatives": 0}, "negatives must be above 0, got 0"),
        ("cc", {"order": 0}, "order must be in 1..20"),
        ("standardized", {"of": {"dkd": {"warmup": 0.1}}}, "the warmup belongs to the loss around it"),
    ],
)
def test_fields_that_make_no_sense_are_named(name: str, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(objectives.get(name), fields)


def test_a_weight_rises_over_its_share_of_the_training() -> None:
    plain, rising = read_terms(["dkd", {"kd": {"weight": 2, "temperature": 4, "warmup": 0.5}}])
    assert (plain[2].warmup, rising[2].warmup) == (1 / 12, 0.5)
    objective, one, seen = Objective((rising,)), batch(logits(2), TARGETS), list[float]()
    for done in (0.125, 0.25, 0.5, 1.0):
        seen.append(objective(logits(1), dataclasses.replace(one, done=done), CLASSES)["kd"].item())
    full = 2 * objectives.get("kd")(4.0)(logits(1), one, CLASSES).item()
    assert seen == pytest.approx([full / 4, full / 2, full, full])
    for share in (-0.1, 1):
        with pytest.raises(ConfigError, match="'warmup' must be a share of the training"):
            read_terms([{"kd": {"warmup": share}}])


def test_every_loss_has_a_golden_value() -> None:
    by_hand = {"vid", "crd", "crd_in_batch", "supervised", "group_lasso"}  # the last in tests/prune/test_scores.py
    checked = {*LOGIT_LOSSES, *FEATURE_LOSSES, *by_hand, *DENSE}
    assert set(objectives) == checked
    assert all(
        issubclass(objectives.get(name), Term) and dataclasses.is_dataclass(objectives.get(name)) for name in checked
    )


def test_recipes_are_checked_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from edgepress.train.stages import Distill\n"
        "good = Distill(epochs=1, teacher='$t', model='x', losses=({'review': {'weight': 0.6}}, 'dkd'))\n"
        "assert good.check() == [], good.check()\n"
        "bad = Distill(epochs=1, teacher='$t', model='x', losses=({'reviw': {}}, {'dkd': {'betta': 1}}))\n"
        "assert len(bad.check()) == 2, bad.check()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
