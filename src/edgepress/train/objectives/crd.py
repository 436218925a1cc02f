"""Contrastive representation distillation: an image against thousands of remembered others."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from edgepress.core.errors import ConfigError
from edgepress.train.objectives.base import FeatureTerm, Place, objectives, over_pairs, positive

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.data.base import Data
    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch
    from edgepress.train.objectives.base import Pair


@objectives.register("crd")
@dataclass(frozen=True)
class CRD(FeatureTerm):
    """`-log h(p_i) - sum_j log(1 - h(p_j))` with `h(p) = p / (p + M / n)`, and the same with the networks exchanged.

    Tian et al., "Contrastive Representation Distillation", ICLR 2020. `p_j = exp(s_i . t_j / T) / Z` says how alike the
    student's embedding of image `i` is to the teacher's of image `j`, as remembered; `M` images `j` of the `n` of the
    training split are drawn, and `Z` makes `p` 1/n in the mean of the first batch. Both embeddings are trained linear
    maps to `width` numbers, then of norm 1; what is remembered of one keeps the share `momentum` of what it was.
    Features are vectors; maps are averaged over their pixels. Mean over images. Weight 0.8.

    Other than the authors, who draw for each image, it draws `negatives` once a batch: a matrix product in place of
    gigabytes of copies. Images of the own class do not count. `images` is filled in by the training. The memory bank
    takes `8 * width * images` bytes, also in the checkpoint.
    """

    temperature: float = 0.07
    width: int = 128
    negatives: int = 16384
    momentum: float = 0.5
    images: int = 0

    place: ClassVar[Place] = "embedding"
    joins = "anything"
    usual: ClassVar[float] = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("temperature", "width", "negatives"):
            positive(name, getattr(self, name))
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    def informed(self, data: "Data") -> Self:
        """Return this loss with the number of images to remember; raise `ConfigError` where another one was given."""
        count = len(data.train)
        if self.images not in (0, count):
            raise ConfigError(f"loss 'crd': images: {self.images}, and the training split has {count}: leave it out")
        return replace(self, images=count)

    def connector(self, pairs: "tuple[Pair, ...]") -> "nn.Module":
        """Return the embeddings and the memory bank."""
        from edgepress.train.memory_bank import MemoryBank

        return MemoryBank(pairs, self.width, self.images)

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        from edgepress.train.memory_bank import MemoryBank

        assert batch.taps is not None
        bank = batch.taps.connector(self)
        assert isinstance(bank, MemoryBank)
        ours, theirs = batch.taps.joined(self)
        loss = self.compare(*bank.scores(ours, theirs, batch, self.negatives, self.temperature))
        bank.remember(ours, theirs, batch, self.momentum)
        return loss

    def compare(self, ours: "list[Tensor]", theirs: "list[Tensor]") -> "Tensor":
        """Return the mean over the pairs of features of both sums. `ours` holds for each network the `p` of `(N,)`
        images and themselves, `theirs` those `(N, M)` of them and the others, 0 where one does not count."""
        noise = self.negatives / self.images
        each = [
            (others / noise).log1p().sum(1).mean() - (own / (own + noise)).log().mean()
            for own, others in zip(ours, theirs, strict=True)
        ]
        return 2 * over_pairs(each)
