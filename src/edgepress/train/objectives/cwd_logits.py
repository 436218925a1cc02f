"""Channel-wise distillation of logit maps: where in the image the teacher sees each class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgepress.core.errors import ConfigError
from edgepress.train.objectives.base import Term, objectives, positive
from edgepress.train.objectives.cwd import channelwise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgepress.core.artifact import Signature
    from edgepress.tasks.base import Task
    from edgepress.train.loader import Batch


@objectives.register("cwd_logits")
@dataclass(frozen=True)
class CWDLogits(Term):
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))` over the pixels of each class, mean over classes.

    Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, on the networks' outputs, where
    the authors weigh it 3. Outputs are `(N, classes, H, W)`: there is nothing to compare for one label per image.
    """

    temperature: float = 4.0

    needs_teacher = True
    usual: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)

    def bound(self, module: "nn.Module", signature: "Signature", processes: int) -> "Term":
        """Return this loss; raise `ConfigError` where the network gives no maps."""
        if signature.task != "segmentation":
            raise ConfigError("loss 'cwd_logits' compares logit maps, and this network gives one label per image")
        return self

    def __call__(self, outputs: "Tensor", batch: "Batch", task: "Task") -> "Tensor":
        assert batch.teacher is not None
        return channelwise(outputs.float().flatten(2), batch.teacher.float().flatten(2), self.temperature)
