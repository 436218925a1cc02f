"""Several teachers, a peer, a teacher of one's own kind, and what is told of teachers."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgepress.core.errors import TrainingError
from edgepress.tasks.base import tasks
from edgepress.train import diagnosis, training
from edgepress.train.average import Average
from edgepress.train.config import Augment
from edgepress.train.diagnosis import Answers
from edgepress.train.fit import FitConfig
from edgepress.train.loader import Batch, Blend, Loader
from edgepress.train.objectives.base import Objective
from edgepress.train.peer import Peer
from edgepress.train.stages import Distill, Mutual, Train
from edgepress.train.teacher import Teachers
from edgepress.train.teaching import _temperature
from edgepress.train.views import require_room
from edgepress.train.words import objective_of, read_terms
from train.helpers import NET, SPEC, Kept, Recorder, context, same_weights, tiny_data

TASK = tasks.get("classification")
TEACHER = Train(epochs=2, model=NET, arguments={"width": 16}, batch=32, lr=0.05, precision="fp32")
STUDENT = Distill(epochs=2, model=NET, batch=32, lr=0.05, precision="fp32", teacher="$teacher", views=2)
MUTUAL = Mutual(epochs=3, model=NET, batch=32, lr=0.05, precision="fp32", augment={"pad": 1})


class Listener(Recorder):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return TEACHER(None, context(tmp_path_factory.mktemp("teacher"))).with_key("teacher")


def test_teachers_speak_with_the_weighted_mean_of_their_logits() -> None:
    one, other = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 4.0], [3.0, 0.0]])
    mixed = Teachers([None, None], (1.0, 3.0), False).mixed([one, other], torch.tensor([0, 1]))  # type: ignore[list-item]
    torch.testing.assert_close(mixed, (one + 3 * other) / 4)


def test_a_confident_teacher_weighs_more_image_by_image() -> None:
    logits = [[2.0, 0.0, -1.0], [0.0, 1.0, 0.5]], [[0.0, 4.0, 1.0], [3.0, 0.0, 0.2]]
    targets = [0, 1]
    losses = [
        [-math.log(math.exp(r[y]) / sum(map(math.exp, r))) for r, y in zip(t, targets, strict=True)] for t in logits
    ]
    expected = []
    for i in range(2):
        whole = sum(math.exp(loss[i]) for loss in losses)
        w = [1 - math.exp(loss[i]) / whole for loss in losses]
        expected.append([sum(w[k] * logits[k][i][c] for k in range(2)) / sum(w) for c in range(3)])
    tensors = [torch.tensor(t) for t in logits]
    teachers = Teachers([None, None], (), True)  # type: ignore[list-item]
    torch.testing.assert_close(teachers.mixed(tensors, torch.tensor(targets)), torch.tensor(expected))
    maps = [t[:, :, None, None].expand(-1, -1, 2, 2) for t in tensors]
    dense = teachers.mixed(maps, torch.tensor([[[0, 255], [0, 0]], [[1, 1], [1, 1]]]))
    torch.testing.assert_close(dense[:, :, 1, 1], torch.tensor(expected))
    torch.testing.assert_close(dense[0, :, 0, 1], (tensors[0][0] + tensors[1][0]) / 2)


@pytest.mark.parametrize("more", [{}, {"vote": "confidence"}, {"teacher_weights": (3.0, 1.0), "views": 0}])
def test_a_student_learns_from_two_teachers(more: Any, tmp_path: Any, teacher: Any) -> None:
    other = dataclasses.replace(TEACHER, lr=0.02)(None, context(tmp_path, seed=3)).with_key("other")
    stage = dataclasses.replace(STUDENT, teacher=("$teacher", "$other"), **more)
    assert stage.check() == []
    ctx = context(tmp_path, references={"$teacher": teacher, "$other": other})
    stage(None, ctx)
    assert ctx.notes["distillation"]["agreement"] > 80


@pytest.mark.parametrize("turns", ["together", "alternating"])
def test_two_networks_teach_each_other_and_resume_to_the_bit(turns: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    stage = dataclasses.replace(MUTUAL, turns=turns, clip=1.0)
    log: list = []
    undisturbed = stage(None, context(tmp_path, log=log))
    assert log[-1]["val"]["top1"] > 85
    assert set(log[-1]["terms"]) == {"kd", "ce"}
    if turns == "alternating":  # each term is there in half of the steps
        assert log[-1]["loss"] == pytest.approx(sum(log[-1]["terms"].values()) / 2)
    for dies_at in (1, 9, 12):
        checkpoint = Kept(dies_at)
        with pytest.raises(KeyboardInterrupt):
            stage(None, context(tmp_path, checkpoint))
        torch.manual_seed(5)
        assert same_weights(undisturbed.module, stage(None, context(tmp_path, checkpoint)).module)


def test_stopped_in_the_peers_turn_it_ends_bit_identical(tmp_path: Any, monkeypatch: Any) -> None:
    from edgepress.train.peer import Peer

    undisturbed = MUTUAL(None, context(tmp_path))
    checkpoint, attend = Kept(), Peer.attend

    def dying(peer: Any, batches: Any) -> Any:
        for number, batch in enumerate(attend(peer, batches)):
            if number == 4:  # it has answered, and its statistics and the random stream have moved
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Peer, "attend", dying)
        MUTUAL(None, context(tmp_path, checkpoint))
    assert same_weights(undisturbed.module, MUTUAL(None, context(tmp_path, checkpoint)).module)


def test_the_peer_learns_too(tmp_path: Any, monkeypatch: Any) -> None:
    checkpoint = Kept(dies_at=3)
    with pytest.raises(KeyboardInterrupt):
        dataclasses.replace(MUTUAL, peer=NET, peer_arguments={"width": 4})(None, context(tmp_path, checkpoint))
    from train.helpers import tiny_net

    peer = tiny_net(2, width=4)
    assert checkpoint.state is not None
    peer.load_state_dict(checkpoint.state["companion"]["module"])
    data = tiny_data()
    from edgepress.models.inputs import normalize

    images, targets = data.val.read(np.arange(64))
    with torch.no_grad():
        outputs = peer.eval()(normalize(torch.from_numpy(images).permute(0, 3, 1, 2), data.input))
    assert (outputs.argmax(1).numpy() == targets).mean() > 0.85


def test_of_blended_images_the_peer_learns_both_labels() -> None:
    objective, outputs = MUTUAL.objective(), torch.randn(4, 3)
    targets, partners = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 3, 0])
    batch = Batch(torch.zeros(4, 1), targets, torch.arange(4), 0, torch.randn(4, 3), blend=Blend(partners, 0.3))
    found = objective.blended(outputs, batch, TASK)
    both = [F.cross_entropy(outputs, labels) for labels in (targets, targets[partners])]
    torch.testing.assert_close(found["ce"], 0.3 * both[0] + 0.7 * both[1])
    module = nn.Linear(1, 3)
    loader = Loader(tiny_data().train, SPEC, Augment(), 4, 0, torch.device("cpu"))
    peer = Peer(module, objective, TASK, loader, FitConfig(epochs=1, lr=0.0))
    seen: list[dict[str, torch.Tensor]] = []
    peer.objective = _Noted(objective.terms, seen)
    peer._outputs = outputs.requires_grad_()
    peer.follow(batch, torch.randn(4, 3), 0.0)
    torch.testing.assert_close(seen[0]["ce"], found["ce"])


@dataclasses.dataclass(frozen=True)
class _Noted(Objective):
    """Keeps what a step was about."""

    seen: list

    def blended(self, outputs: Any, batch: Any, task: Any) -> Any:
        """Return the terms."""
        self.seen.append(super().blended(outputs, batch, task))
        return self.seen[-1]


def test_kept_outputs_belong_to_the_weights_not_to_the_stage(tmp_path: Any, teacher: Any) -> None:
    other = dataclasses.replace(TEACHER, lr=0.02)(None, context(tmp_path, seed=3)).with_key(teacher.key)
    for network in (teacher, other):
        STUDENT(None, context(tmp_path, references={"$teacher": network}))
    assert len(list((tmp_path / "teacher").iterdir())) == 2


def test_outputs_that_no_disk_holds_are_told_before_they_are_made(tmp_path: Any) -> None:
    with pytest.raises(TrainingError, match=r"8 views take .* GB .* left: set fewer 'views', or 'views: 0'"):
        require_room(tmp_path / "teacher" / "x", 10**18, 8)
    require_room(tmp_path / "teacher" / "x", 10**3, 8)


def test_soft_labels_have_a_temperature_where_one_loss_gives_them_one() -> None:
    def of(*losses: Any) -> float | None:
        return _temperature(objective_of(read_terms(losses), 0.0))

    assert of({"kd": {"temperature": 3}}) == 3 and of("crd_in_batch", {"dist": {"temperature": 2}}) == 2
    assert of("standardized") is of("mlkd") is of("hint") is None


def test_an_average_goes_on_where_it_lay(tmp_path: Any) -> None:
    module = nn.Linear(2, 2)
    average = Average(module, 0.9)
    kept = average._kept["weight"]
    saved = {"steps": 3, "kept": {name: value + 1 for name, value in average._kept.items()}}
    average.load_state_dict(saved)
    assert average._kept["weight"] is kept and torch.equal(kept, saved["kept"]["weight"]), "on its own device"


def test_in_turns_a_step_has_one_kind_of_loss() -> None:
    objective: Objective = dataclasses.replace(MUTUAL, turns="alternating").objective()
    batch = Batch(torch.zeros(2, 1), torch.tensor([0, 1]), torch.arange(2), 0, torch.randn(2, 3))
    assert set(objective(torch.randn(2, 3), batch, TASK)) == {"ce"}
    batch.step = 1
    assert set(objective(torch.randn(2, 3), batch, TASK)) == {"kd"}
    assert objective.needs_teacher


def test_a_network_is_born_again_from_itself(tmp_path: Any, teacher: Any) -> None:
    # Born-again networks (Furlanello et al., 2018): the same network, a fresh start, the older self as the teacher.
    again = dataclasses.replace(STUDENT, arguments={"width": 16}, epochs=3)
    log: list = []
    child = again(None, context(tmp_path, references={"$teacher": teacher}, log=log))
    assert not same_weights(child.module, teacher.module)
    assert log[-2]["val"]["top1"] > 90 and log[-2]["val"]["agreement"] > 90


def test_a_reward_for_entropy_makes_softer_teachers(tmp_path: Any) -> None:
    from edgepress.models.predictor import TorchPredictor

    images, _ = tiny_data().val.read(np.arange(64))
    plain, soft = (
        dataclasses.replace(TEACHER, losses=losses)(None, context(tmp_path))
        for losses in ((), ({"entropy": {"weight": 0.5}},))
    )
    entropies = [diagnosis.entropy(TorchPredictor(model)(images), 1.0) for model in (plain, soft)]
    assert entropies[1] > entropies[0] + 0.1


def test_the_diagnosis_is_in_notes_and_log(tmp_path: Any, teacher: Any) -> None:
    log: list = []
    ctx = context(tmp_path, references={"$teacher": teacher}, log=log)
    STUDENT(None, ctx)
    found = ctx.notes["distillation"]
    assert log[-1] == {"event": "distillation", **found}
    assert [r["event"] for r in log[:-1]] == ["epoch", "epoch"]
    assert set(log[0]["val"]) == {"top1", "agreement", "ece"}
    assert found["student"]["top1"] == pytest.approx(log[-2]["val"]["top1"])
    assert found["agreement"] == pytest.approx(log[-2]["val"]["agreement"])
    assert 0 <= found["soft_label_entropy"] <= found["highest_entropy"] == pytest.approx(math.log(2))
    assert found["temperature"] == 4.0 and found["images"] == 64
    assert found["teacher_time"]["kept"] and found["teacher_time"]["seconds"] > 0


def test_confusions_that_changed_most_come_first() -> None:
    targets = np.array([0, 0, 0, 1, 1, 2])
    hot = lambda *classes: np.eye(3, dtype=np.float32)[list(classes)] * 9  # noqa: E731
    teacher, student = Answers(hot(0, 0, 1, 1, 1, 2), targets), Answers(hot(2, 2, 1, 1, 0, 2), targets)
    assert diagnosis.confusions(teacher, student, ("a", "b", "c")) == [
        {"true": "a", "given": "c", "teacher": 0, "student": 2},
        {"true": "b", "given": "a", "teacher": 0, "student": 1},
    ]


def test_entropy_of_known_distributions() -> None:
    assert diagnosis.entropy(np.zeros((3, 4), np.float32), 2.0) == pytest.approx(math.log(4))
    assert diagnosis.entropy(np.array([[1000.0, 0.0]], np.float32), 1.0) == pytest.approx(0)
    row = np.log(np.array([[0.5, 0.25, 0.25]], np.float32)) * 3
    assert diagnosis.entropy(row, 3.0) == pytest.approx(1.5 * math.log(2), rel=1e-5)


def said(stage: Any, folder: Any, **more: Any) -> list[str]:
    listener = Listener()
    stage(more.pop("start", None), context(folder, progress=listener, **more))
    return [line for line in listener.said if line.startswith("warning")]


def test_a_teacher_that_guesses_is_warned_of(tmp_path: Any, teacher: Any) -> None:
    fresh = dataclasses.replace(TEACHER, lr=1e-9)(None, context(tmp_path)).with_key("fresh")
    lines = said(STUDENT, tmp_path, references={"$teacher": fresh})
    assert any("where guessing is on 50.0 %" in line and "mean and std" in line for line in lines)
    assert any("at the end the student" in line and "better than its teacher" in line for line in lines)
    assert said(STUDENT, tmp_path, references={"$teacher": teacher}) == []


def test_a_teacher_with_another_order_of_classes_is_warned_of() -> None:
    targets = np.repeat(np.arange(10), 20)
    labels = tuple("abcdefghij")

    def told(order: Any) -> str | None:
        outputs = np.eye(10, dtype=np.float32)[np.asarray(order)[targets]] * 9
        return diagnosis.teacher_warning(TASK, Answers(outputs, targets), labels)

    swapped = [1, 0, *range(2, 10)]
    assert told(range(10)) is None and "mostly takes 'a' for 'b', 'b' for 'a': was it" in (told(swapped) or "")
    rng = np.random.default_rng(0)
    assert all(told(rng.permutation(10)) for _ in range(50))
    assert told([1, *range(1, 10)]) is None, "a class that it knows badly is no other order"
    assert "'b' for 'a': was it" in (told([1, 0, 3, *range(3, 10)]) or ""), "nor does it hide one"


def test_a_teacher_of_class_maps_that_knows_nothing_is_warned_of() -> None:
    task = tasks.get("segmentation")
    targets = np.zeros((2, 8, 8), np.uint8)
    targets[:, :2, :4], targets[:, :2, 4:], targets[:, 7] = 1, 2, 255
    right = np.eye(3, dtype=np.float32)[np.minimum(targets, 2)].transpose(0, 3, 1, 2)
    labels = ("road", "sky", "tree")
    assert diagnosis.teacher_warning(task, Answers(right, targets), labels) is None
    wrong = diagnosis.teacher_warning(task, Answers(right[:, [0, 2, 1]], targets), labels)
    assert wrong and "'sky' for 'tree', 'tree' for 'sky'" in wrong
    constant = np.zeros_like(right)
    constant[:, 0] = 1
    told = diagnosis.teacher_warning(task, Answers(constant, targets), labels)
    assert told and "the commonest class everywhere reaches" in told


def test_a_student_that_begins_better_is_warned_of(tmp_path: Any, teacher: Any) -> None:
    fresh = dataclasses.replace(TEACHER, lr=1e-9)(None, context(tmp_path)).with_key("fresh")
    stage = dataclasses.replace(STUDENT, model=None, lr=1e-6)
    lines = said(stage, tmp_path, references={"$teacher": fresh}, start=teacher)
    assert any("before the training the student" in line for line in lines)


def test_a_term_that_dwarfs_the_others_is_warned_of(tmp_path: Any, teacher: Any) -> None:
    stage = dataclasses.replace(STUDENT, epochs=1, losses=({"kd": {"weight": 1e4}},), lr=1e-5)
    [line] = said(stage, tmp_path, references={"$teacher": teacher})
    assert "the gradient of the term 'kd'" in line and "times those of all other terms together" in line
    rising = dataclasses.replace(stage, epochs=4, losses=({"kd": {"weight": 400, "warmup": 0.99}},))
    [line] = said(rising, tmp_path, references={"$teacher": teacher})
    assert "the gradient of the term 'kd'" in line, "as hard as it will pull, not a quarter of that"
    log: list = []
    dataclasses.replace(STUDENT, epochs=1)(None, context(tmp_path, references={"$teacher": teacher}, log=log))
    assert set(log[0]["gradients"]) == {"kd", "ce"} and min(log[0]["gradients"].values()) > 0
    assert diagnosis.dwarf_warning({"kd": 1.0, "ce": 0.9}) is None
    assert diagnosis.dwarf_warning({"ce": 1.0}) is None


def test_a_teacher_left_in_training_mode_answers_as_in_evaluation(tmp_path: Any, teacher: Any) -> None:
    live = dataclasses.replace(STUDENT, views=0)
    trainable = dataclasses.replace(teacher, module=teacher.module.train().requires_grad_(True))
    one = live(None, context(tmp_path, references={"$teacher": trainable}))
    assert teacher.module.training, "the caller's network is left as it was"
    assert all(p.requires_grad and p.grad is None for p in teacher.module.parameters())
    evaluating = dataclasses.replace(teacher, module=teacher.module.eval())
    other = live(None, context(tmp_path, references={"$teacher": evaluating}))
    assert same_weights(one.module, other.module)


def test_a_teacher_answers_in_one_arithmetic_whatever_is_kept(tmp_path: Any, teacher: Any) -> None:
    # The second run finds the teacher's answers on the validation split on disk, and asks it first while it is hooked.
    stage = dataclasses.replace(STUDENT, method="hint", losses=(), model="train.test_features:staged")
    from train.test_features import TEACHER as STAGED

    other = STAGED(None, context(tmp_path)).with_key("staged")
    before = {path.name for path in (tmp_path / "precision").iterdir()}
    for _ in range(2):
        stage(None, context(tmp_path, references={"$teacher": other}))
    made = {path.name for path in (tmp_path / "precision").iterdir()} - before
    assert len([name for name in made if name.startswith("answer-")]) == 1


def test_teacher_and_student_of_other_normalization_see_the_same_pixels(tmp_path: Any, teacher: Any) -> None:
    spec = dataclasses.replace(tiny_data().input, mean=(0.0, 0.0, 0.0), std=(0.25, 0.25, 0.25))
    signature = dataclasses.replace(teacher.signature, input=spec)
    # A first layer that undoes the other normalization: (x - 0.5) / 0.5 = 0.5 * (x / 0.25) - 1.
    undo = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), teacher.module).eval()
    with torch.no_grad():
        undo[0].weight.copy_(torch.eye(3)[:, :, None, None] * 0.5)
        undo[0].bias.fill_(-1.0)
    other = dataclasses.replace(teacher, module=undo, signature=signature, key="other")
    ctx = context(tmp_path, references={"$teacher": other})
    dataclasses.replace(STUDENT, epochs=1)(None, ctx)
    assert ctx.notes["distillation"]["normalized_apart"]
    assert ctx.notes["distillation"]["teacher"]["top1"] > 90 and ctx.notes["distillation"]["warnings"] == []
