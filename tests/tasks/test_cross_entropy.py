import math

import pytest

torch = pytest.importorskip("torch")

from edgepress.tasks.base import tasks  # noqa: E402
from edgepress.tasks.cross_entropy import cross_entropy, void_of  # noqa: E402


def test_by_hand():
    # Two classes one nat apart: the right one has -log(e / (e + 1)).
    loss = cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_smoothing_by_hand():
    # Smoothing 0.2 over two classes gives the targets 0.9 and 0.1.
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    loss = cross_entropy(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 0.2)
    assert loss.item() == pytest.approx(0.9 * right + 0.1 * wrong, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3, 5)])
def test_void_does_not_count(shape, smoothing):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(shape, generator=generator)
    targets = torch.randint(0, 4, (shape[0], *shape[2:]), generator=generator)
    targets.view(-1)[::2] = 255
    kept = targets != 255
    expected = torch.nn.functional.cross_entropy(outputs.movedim(1, -1)[kept], targets[kept], label_smoothing=smoothing)
    assert cross_entropy(outputs, targets, smoothing).item() == pytest.approx(expected.item(), abs=1e-6)


def test_nothing_but_void_is_zero_with_a_zero_gradient():
    outputs = torch.randn(2, 3, requires_grad=True)
    loss = cross_entropy(outputs, torch.full((2,), 255), 0.1)
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()


def test_255_is_a_class_among_1000():
    assert void_of(1000) == -1 and void_of(255) == 255
    outputs = torch.zeros(1, 1000)
    assert cross_entropy(outputs, torch.tensor([255])).item() == pytest.approx(math.log(1000), abs=1e-5)


def test_probabilities_as_targets():
    outputs = torch.tensor([[1.0, 0.0]])
    ends = [cross_entropy(outputs, torch.tensor([k])) for k in (0, 1)]
    mixed = cross_entropy(outputs, torch.tensor([[0.3, 0.7]]))
    assert mixed.item() == pytest.approx(0.3 * ends[0].item() + 0.7 * ends[1].item(), abs=1e-6)


@pytest.mark.parametrize("name", sorted(tasks))
def test_half_precision_outputs_give_a_float32_loss(name):
    loss = tasks.get(name).loss(torch.randn(2, 3, dtype=torch.bfloat16), torch.tensor([0, 2]))
    assert loss.dtype == torch.float32 and loss.ndim == 0
