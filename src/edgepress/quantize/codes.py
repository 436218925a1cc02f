"""Codes of least error under a quadratic form: error compensation, then coordinate descent, then the scales anew."""

import torch
from torch import Tensor

BLOCK = 64
ROUNDS = 3
SWEEPS = 4


def squared_error(difference: Tensor, hessian: Tensor) -> Tensor:
    """Return the squared error of each output, `(groups, outputs)`."""
    return ((difference @ hessian) * difference).sum(2)


def best_codes(
    target: Tensor,
    nearest: Tensor,
    hessian: Tensor,
    scale: Tensor,
    low: int,
    high: int,
    per_tensor: bool = False,
    refit: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return codes `(groups, outputs, inputs)` and scales `(groups, outputs, 1)` of least error, never worse than
    `nearest` with the scales given, which stay unless `refit`."""

    def together(value: Tensor) -> Tensor:
        return value.sum((0, 1), keepdim=True).expand_as(value) if per_tensor else value

    best_error = together(squared_error(nearest * scale - target, hessian)[:, :, None])
    best_codes, best_scale = nearest.clone(), scale.clone()
    codes, step = _compensate(target, hessian, scale, low, high), scale
    for _ in range(ROUNDS):
        codes = _descend(codes, target, hessian, step, low, high)
        error = together(squared_error(codes * step - target, hessian)[:, :, None])
        better = error < best_error
        best_codes, best_scale = torch.where(better, codes, best_codes), torch.where(better, step, best_scale)
        best_error = torch.minimum(error, best_error)
        if not refit:
            break
        image = codes @ hessian
        over, fitted = (together((image * other).sum(2, keepdim=True)) for other in (codes, target))
        step = torch.where((over > 0) & (fitted > 0), fitted / over.clamp(min=1e-20), step)
    return best_codes, best_scale


def _compensate(target: Tensor, hessian: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Round column after column; the columns after it take over the error of each as well as they can (GPTQ)."""
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)
    weight, codes = target.clone(), torch.zeros_like(target)
    size = weight.shape[2]
    for begin in range(0, size, BLOCK):
        end = min(begin + BLOCK, size)
        errors = torch.zeros_like(weight[:, :, begin:end])
        for j in range(begin, end):
            codes[:, :, j] = (weight[:, :, j] / scale[:, :, 0]).round().clamp(low, high)
            error = (weight[:, :, j] - codes[:, :, j] * scale[:, :, 0]) / inverse[:, j, j, None]
            weight[:, :, j:end] -= error[:, :, None] * inverse[:, None, j, j:end]
            errors[:, :, j - begin] = error
        weight[:, :, end:] -= errors @ inverse[:, begin:end, end:]
    return codes


def _descend(codes: Tensor, target: Tensor, hessian: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """Set one code after the other to the best value given all others, until none changes."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    step = scale[:, :, 0]
    codes = codes.clone()
    for _ in range(SWEEPS):
        slope = (codes * scale - target) @ hessian
        before = codes.clone()
        for begin in range(0, codes.shape[2], BLOCK):
            end = min(begin + BLOCK, codes.shape[2])
            local = slope[:, :, begin:end].clone()
            start = codes[:, :, begin:end].clone()
            for j in range(begin, end):
                wanted = codes[:, :, j] - local[:, :, j - begin] / (diagonal[:, j, None] * step)
                new = wanted.round().clamp(low, high)
                moved = (new - codes[:, :, j]) * step
                codes[:, :, j] = new
                local += moved[:, :, None] * hessian[:, None, j, begin:end]
            slope += ((codes[:, :, begin:end] - start) * scale) @ hessian[:, begin:end]
        if torch.equal(before, codes):
            break
    return codes
