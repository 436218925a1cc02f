"""Losses against class maps, by hand or by an independent implementation; and what all of them have in common."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgepress.core.artifact import Signature
from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit
from edgepress.data.frequency import frequencies
from edgepress.tasks.base import tasks
from edgepress.train.loader import Batch
from edgepress.train.objectives.base import objectives
from edgepress.train.objectives.pairwise import Pairwise

C, VOID = 4, 255
MAPS = tasks.get("segmentation")
SUPERVISED = ("weighted_ce", "focal", "dice", "lovasz", "ohem")
"""The losses of this file that need no teacher; `tests/train/test_objectives.py` counts them as checked."""


def logits(seed: int, *shape: int) -> torch.Tensor:
    return 2 * torch.randn(*(shape or (2, C, 4, 5)), generator=torch.Generator().manual_seed(seed))


def maps(seed: int, *shape: int) -> torch.Tensor:
    found = torch.randint(0, C, shape or (2, 4, 5), generator=torch.Generator().manual_seed(seed))
    found[..., 0] = VOID
    return found


def batch(targets: torch.Tensor, teacher: torch.Tensor | None = None) -> Batch:
    return Batch(torch.zeros(len(targets), 1), targets, torch.arange(len(targets)), 0, teacher)


def rows(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and classes of the pixels that count, in float64."""
    wide = outputs.double().softmax(1).permute(0, 2, 3, 1).reshape(-1, C).numpy()
    flat = targets.reshape(-1).numpy()
    return wide[flat != VOID], flat[flat != VOID]


def call(name: str, outputs: torch.Tensor, targets: torch.Tensor, **fields: Any) -> torch.Tensor:
    return parse(objectives.get(name), fields)(outputs, batch(targets), MAPS)


def test_weighted_cross_entropy() -> None:
    weights = [1.0, 5.0, 0.5, 0.0]
    p, y = rows(logits(1), maps(2))
    w = np.array(weights)[y]
    expected = -(w * np.log(p[np.arange(len(y)), y])).sum() / w.sum()
    assert call("weighted_ce", logits(1), maps(2), weights=weights).item() == pytest.approx(expected, rel=1e-5)
    plain = torch.nn.functional.cross_entropy(logits(1), maps(2), ignore_index=VOID).item()
    assert call("weighted_ce", logits(1), maps(2)).item() == pytest.approx(plain, rel=1e-5)


def test_focal() -> None:
    p, y = rows(logits(1), maps(2))
    right = p[np.arange(len(y)), y]
    expected = (-((1 - right) ** 2.0) * np.log(right)).mean()
    assert call("focal", logits(1), maps(2)).item() == pytest.approx(expected, rel=1e-4)
    plain = torch.nn.functional.cross_entropy(logits(1), maps(2), ignore_index=VOID).item()
    assert call("focal", logits(1), maps(2), gamma=0).item() == pytest.approx(plain, rel=1e-5)


def test_dice() -> None:
    targets = maps(2)
    targets[targets == 3] = 1  # a class that the batch does not hold does not count
    p, y = rows(logits(1), targets)
    scores = [(2 * p[y == k, k].sum() + 1) / (p[:, k].sum() + (y == k).sum() + 1) for k in range(3)]
    assert call("dice", logits(1), targets).item() == pytest.approx(1 - np.mean(scores), rel=1e-5)


def test_lovasz_at_hard_decisions_is_one_minus_the_iou() -> None:
    """On the corners of the cube the Lovasz extension is the set function itself."""
    targets, decided = maps(2), torch.randint(0, C, (2, 4, 5), generator=torch.Generator().manual_seed(5))
    sure = 200.0 * torch.nn.functional.one_hot(decided, C).permute(0, 3, 1, 2)
    kept = targets != VOID
    y, d = targets[kept].numpy(), decided[kept].numpy()
    present = np.unique(y)
    ious = [((y == k) & (d == k)).sum() / ((y == k) | (d == k)).sum() for k in present]
    assert call("lovasz", sure, targets).item() == pytest.approx(1 - np.mean(ious), rel=1e-5)


def test_lovasz_between_them_by_its_definition() -> None:
    """For sorted errors e_1 >= e_2 ...: sum of e_i times what the i-th mistake adds to 1 - IoU."""
    p, y = rows(logits(3), maps(4))
    losses = []
    for k in np.unique(y):
        there = y == k
        errors = np.abs(there - p[:, k])
        before, total, wrong = 0.0, 0.0, np.zeros(len(y), bool)
        for place in np.argsort(-errors):
            wrong[place] = True
            given = there ^ wrong
            after = 1 - (there & given).sum() / (there | given).sum()
            total, before = total + errors[place] * (after - before), after
        losses.append(total)
    assert call("lovasz", logits(3), maps(4)).item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_lovasz_thins_large_batches() -> None:
    wide, targets = logits(1, 1, C, 40, 50), maps(2, 1, 40, 50)
    whole, thin = (call("lovasz", wide, targets, pixels=n).item() for n in (0, 500))
    assert thin != whole and thin == pytest.approx(whole, abs=0.1)


def test_ohem_takes_the_hard_pixels_and_never_too_few() -> None:
    p, y = rows(logits(1), maps(2))
    right = p[np.arange(len(y)), y]
    hard = -np.log(right[right < 0.3])
    assert call("ohem", logits(1), maps(2), threshold=0.3).item() == pytest.approx(hard.mean(), rel=1e-5)
    few = np.sort(-np.log(right))[::-1][: round(0.5 * len(right))]
    got = call("ohem", logits(1), maps(2), threshold=1e-9, least=0.5).item()
    assert got == pytest.approx(few.mean(), rel=1e-5)


def test_channelwise_on_logits() -> None:
    s, t = logits(1), logits(2)
    p, q = (np.exp(x.double().flatten(2).numpy() / 3.0) for x in (t, s))
    p, q = p / p.sum(2, keepdims=True), q / q.sum(2, keepdims=True)
    term = parse(objectives.get("cwd_logits"), {"temperature": 3.0})
    expected = 9 * (p * np.log(p / q)).sum(2).mean()
    assert term(s, batch(maps(3), t), MAPS).item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ConfigError, match="one label per image"):
        term.bound(torch.nn.Identity(), Signature("classification", InputSpec(8, 8), ("a", "b")), 1)


def test_pairwise_compares_cosines_between_places() -> None:
    s, t = logits(1, 2, 3, 4, 4), logits(2, 2, 5, 4, 4)
    total = 0.0
    for image in range(2):
        cosines = []
        for x in (s[image].double().numpy(), t[image].double().numpy()):
            places = x.reshape(len(x), 2, 2, 2, 2).max((2, 4)).reshape(len(x), 4)
            places = places / np.linalg.norm(places, axis=0)
            cosines.append(places.T @ places)
        total += ((cosines[0] - cosines[1]) ** 2).mean() / 2
    assert Pairwise(side=2).compare([s], [t]).item() == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("name", [*SUPERVISED, "entropy"])
def test_void_teaches_nothing_and_gradients_are_finite(name: str) -> None:
    outputs = logits(1).requires_grad_()
    with_void = call(name, outputs, maps(2))
    cut = call(name, outputs[..., 1:], maps(2)[..., 1:])
    assert with_void.item() == pytest.approx(cut.item(), rel=1e-5)
    nothing = call(name, outputs, torch.full((2, 4, 5), VOID))
    nothing.backward()
    assert nothing.item() == 0 and outputs.grad is not None and not outputs.grad.any()
    sure = (100.0 * torch.nn.functional.one_hot(maps(3) % C, C).permute(0, 3, 1, 2)).requires_grad_()
    call(name, sure, maps(3)).backward()
    assert sure.grad is not None and sure.grad.isfinite().all()


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_pixel_counts_as_an_image(name: str) -> None:
    flat = logits(1).permute(0, 2, 3, 1).reshape(-1, C)
    dense, single = call(name, logits(1), maps(2)), call(name, flat, maps(2).flatten())
    assert dense.item() == pytest.approx(single.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "fields", "word"),
    [
        ("weighted_ce", {"weights": [0.0, 0.0]}, "not all 0"),
        ("weighted_ce", {"by": "rare"}, "median"),
        ("focal", {"gamma": -1}, "gamma must be 0 or more"),
        ("dice", {"smooth": -1}, "smooth must be 0 or more"),
        ("lovasz", {"pixels": -1}, "pixels must be 0 or more"),
        ("ohem", {"threshold": 0}, r"lie in \(0, 1\]"),
        ("cwd_logits", {"temperature": 0}, "above 0"),
        ("pairwise", {"side": 0}, "above 0"),
        ("cwd", {"where": "encoder", "student": ["a"], "teacher": ["b"]}, "leave it out"),
        ("hint", {"where": "middle"}, "encoder"),
    ],
)
def test_fields_that_make_no_sense_are_named(name: str, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse(objectives.get(name), fields)


def split() -> ArraySplit:
    """Three images of 4x5: class 0 in all, class 1 in one, class 2 nowhere, some void."""
    targets = np.zeros((3, 4, 5), np.int64)
    targets[0, 0, :] = 1
    targets[1, :, 0] = VOID
    return ArraySplit(np.zeros((3, 4, 5, 3), np.uint8), targets)


def test_frequencies_by_hand() -> None:
    found = frequencies(split(), 3)
    assert (found.pixels, found.images, found.void, found.count) == ((51, 5, 0), (3, 1, 0), 4, 3)
    assert found.shares.tolist() == pytest.approx([51 / 56, 5 / 56, 0])
    assert found.median_weights() == pytest.approx(((51 / 60 + 5 / 20) / 2 / (51 / 60), (51 / 60 + 0.25) / 2 * 4, 1))
    assert found.log_weights()[1] == pytest.approx(1 / np.log(1.02 + 5 / 56))
    assert sum(w * s for w, s in zip(found.root_weights(), found.shares, strict=True)) == pytest.approx(1)
    words = found.words(("sky", "car", "bus"))
    assert "sky 91 %, car 8.9 %" in words and "never: bus" in words and "6.7 % of the pixels are void" in words


def test_losses_learn_the_weights_of_the_data(tmp_path: Path) -> None:
    from train.helpers import tiny_data

    data = dataclasses.replace(tiny_data(8), task="segmentation", labels=("a", "b", "c"), train=split())
    expected = frequencies(split(), 3).median_weights()
    assert objectives.get("weighted_ce")().informed(data).weights == expected  # type: ignore[attr-defined]
    fixed = parse(objectives.get("weighted_ce"), {"weights": [1, 2, 3]})
    assert fixed.informed(data) == fixed
    assert objectives.get("focal")().informed(data) == objectives.get("focal")()
