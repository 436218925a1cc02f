"""What CRD remembers of every image of the training split: an embedding by the student and one by the teacher."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from edgepress.train.connectors import Embeddings, Lists
from edgepress.train.loader import Batch
from edgepress.train.objectives.base import Pair

UNSEEN = -1


class MemoryBank(Embeddings):
    """The embeddings of both networks, and what they gave for each of so many images. Everything is in its state.

    Before an image was seen, numbers drawn at random stand for it.
    """

    kept: Tensor
    """`(2, pairs, images, width)`: the student's, then the teacher's."""
    labels: Tensor
    """Of the images, as far as they were seen."""
    scale: Tensor
    """`(2, pairs)`: what the exponentials are divided by, 0 before the first batch."""

    def __init__(self, pairs: Iterable[Pair], width: int, images: int) -> None:
        pairs = list(pairs)
        super().__init__(pairs, width)
        side = (3 / width) ** 0.5  # of norm 1 in the mean
        self.register_buffer("kept", torch.empty(2, len(pairs), images, width).uniform_(-side, side))
        self.register_buffer("labels", torch.full((images,), UNSEEN))
        self.register_buffer("scale", torch.zeros(2, len(pairs)))

    def scores(
        self, ours: list[Tensor], theirs: list[Tensor], batch: Batch, negatives: int, temperature: float
    ) -> Lists:
        """Return how alike embeddings `(N, width)` are to what the other network gave for the same images, `(N,)`, and
        for `negatives` drawn ones, `(N, negatives)`, 0 for those of the own class: by pair, student before teacher."""
        # Drawn on the CPU: that stream is part of the checkpoint.
        drawn = torch.randint(len(self.labels), (negatives,)).to(self.kept.device)
        own = batch.indices.to(self.kept.device)
        alike = self._alike(batch, own, drawn)
        positives: list[Tensor] = []
        others: list[Tensor] = []
        for pair, both in enumerate(zip(ours, theirs, strict=True)):
            for which, x in enumerate(both):
                other = self.kept[1 - which, pair]
                to_own = ((x * other[own]).sum(1) / temperature).exp()
                to_drawn = (x @ other[drawn].T / temperature).exp()
                if not self.scale[which, pair]:
                    mean = torch.cat((to_own[:, None], to_drawn), 1).detach().mean()
                    self.scale[which, pair] = mean * len(self.labels)
                scale = self.scale[which, pair].clone()
                positives.append(to_own / scale)
                others.append((to_drawn / scale).masked_fill(alike, 0.0))
        return positives, others

    @torch.no_grad()
    def remember(self, ours: list[Tensor], theirs: list[Tensor], batch: Batch, momentum: float) -> None:
        """Move what is kept of a batch's images towards their new embeddings `(N, width)`."""
        own = batch.indices.to(self.kept.device)
        for pair, both in enumerate(zip(ours, theirs, strict=True)):
            for which, x in enumerate(both):
                moved = momentum * self.kept[which, pair, own] + (1 - momentum) * x
                self.kept[which, pair, own] = F.normalize(moved)
        if batch.targets.ndim == 1:
            self.labels[own] = batch.targets.to(self.labels.device)

    def _alike(self, batch: Batch, own: Tensor, drawn: Tensor) -> Tensor:
        """Return which of the drawn images are an image of the batch itself, or known to be of its class."""
        same = own[:, None] == drawn
        if batch.targets.ndim == 1:
            same |= batch.targets.to(drawn.device)[:, None] == self.labels[drawn]
        return same
