"""Statistics repair: batch norms re-estimated on images, the zero-training way to mend a pruned network."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BATCH = 64


def repair_statistics_(module: nn.Module, images: Tensor) -> int:
    """Set the running mean and variance of every batch norm of `module` from normalized `images` `(N, C, H, W)`.

    The cumulative average over all images. The mode, the momentum and everything else stay as they were. Returns the
    number of batch norms; 0 where there is none, and nothing was to be done.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms or len(images) < 2:
        return 0
    with _estimating(module, norms), torch.no_grad():
        for batch in images.split(BATCH):
            if len(batch) > 1:  # one image has no variance after a global pooling
                module(batch)
    return len(norms)


@contextlib.contextmanager
def _estimating(module: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
            norm.train()
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for part, mode in modes:
            part.training = mode
