import torch
from hypothesis import given
from hypothesis import strategies as st

from edgepress.export.fake import Quantizer, Scheme, fake_quantize


def test_rounds_half_to_even_and_saturates() -> None:
    x = torch.tensor([-1.0, 0.25, 0.75, 1.25, 9.0])
    y = fake_quantize(x, torch.tensor([0.5]), torch.tensor([1.0]), -1, 0, 7)
    assert y.tolist() == [-0.5, 0.0, 1.0, 1.0, 3.0]


def test_each_channel_has_its_scale() -> None:
    x = torch.tensor([[1.0, 1.2], [1.0, 1.2]])
    y = fake_quantize(x, torch.tensor([1.0, 0.5]), torch.zeros(2), 1, -7, 7)
    assert y.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert fake_quantize(x, torch.tensor([0.1, 0.2]), torch.zeros(2), 0, -7, 7)[0].max() < 0.71


def test_gradients_of_input_scale_and_offset_by_hand() -> None:
    # Codes of x / 0.5 + 1 = [-1, 1.6, 13] in [0, 7]: below, inside, above.
    x = torch.tensor([-1.0, 0.3, 6.0], requires_grad=True)
    scale, zero_point = torch.tensor([0.5], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    fake_quantize(x, scale, zero_point, -1, 0, 7).sum().backward()
    assert x.grad is not None and scale.grad is not None and zero_point.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    torch.testing.assert_close(scale.grad, torch.tensor([(0 - 1) + (2 - 1.6) + (7 - 1)]))
    torch.testing.assert_close(zero_point.grad, torch.tensor([-0.5 - 0.5]))


@given(
    st.integers(2, 8), st.booleans(),
    st.floats(-1e3, 0, width=32), st.floats(0, 1e3, width=32).filter(lambda v: v == 0 or v > 1e-6),
)  # fmt: skip
def test_a_range_is_covered_and_zero_is_exact(bits: int, signed: bool, low: float, high: float) -> None:
    quantizer = Quantizer(Scheme(bits, signed))
    quantizer.set_range(torch.tensor(low), torch.tensor(high))
    ends = torch.tensor([low, high, 0.0])
    rounded = quantizer(ends)
    assert rounded[2] == 0
    assert ((rounded - ends).abs() <= quantizer.scale * 0.501 + 1e-9).all()
    again = quantizer(rounded)
    assert torch.equal(again, rounded)


def test_signed_codes_are_symmetric() -> None:
    assert (Scheme(8, True).qmin, Scheme(8, True).qmax) == (-127, 127)
    assert (Scheme(2, True).qmin, Scheme(2, True).qmax) == (-1, 1)
    assert (Scheme(4, False).qmin, Scheme(4, False).qmax) == (0, 15)
