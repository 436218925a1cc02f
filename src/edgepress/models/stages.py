"""The stage `load`: a network that comes with its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgepress.core.artifact import Artifact, Model, Signature
from edgepress.core.errors import ConfigError
from edgepress.core.stage import Context, Stage, stages

if TYPE_CHECKING:
    from edgepress.data.base import Data


@stages.register("load")
@dataclass(frozen=True)
class Load(Stage):
    """Bring a network of your own, with its weights.

    `model` is a registered name, `timm:name`, `torchvision:name` or `package.module:factory`, called with `arguments`
    (`{pretrained: true}` fetches timm's or torchvision's weights); `weights` is a checkpoint to load into it
    (`.safetensors`, or a state dict saved by torch). With `head: new` the last layer starts anew and all others come
    from the checkpoint, which may be of other classes: a `train` behind this stage fits it to these. `mean` and `std`,
    one number a channel for images in 0..1, say what it was trained with where that differs from the data set's own.
    Size, classes and labels are the data set's.
    """

    takes: ClassVar[str] = "nothing"
    files: ClassVar[tuple[str, ...]] = ("weights",)
    later: ClassVar[tuple[str, ...]] = ("head",)

    model: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    weights: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    head: Literal["loaded", "new"] = "loaded"

    def check(self) -> list[str]:
        """Return what is wrong with the fields."""
        problems: list[str] = []
        if (self.mean is None) != (self.std is None):
            problems.append("fields 'mean' and 'std' belong together: give both or none")
        if self.weights is not None and not Path(self.weights).is_file():
            problems.append(f"field 'weights': there is no file {self.weights!r}")
        if self.head == "new" and self.weights is None:
            problems.append("field 'head': 'new' is for a checkpoint; name it in 'weights'")
        return problems

    def dry_run(
        self, artifact: Artifact | None, references: Mapping[str, Artifact], data: "Data", seed: int
    ) -> Artifact | None:
        """Return the loaded model."""
        return self._loaded(data.signature, seed)

    def __call__(self, artifact: Artifact | None, ctx: Context) -> Artifact:
        """Return the loaded model; raise `ConfigError` where mean and std do not fit the data's channels."""
        return self._loaded(ctx.data.signature, ctx.seed)

    def _loaded(self, signature: Signature, seed: int) -> Model:
        from edgepress.models.build import head_of, new_model, require_outputs
        from edgepress.models.weights import load_weights

        if self.mean is not None and self.std is not None:
            try:
                signature = replace(signature, input=replace(signature.input, mean=self.mean, std=self.std))
            except ValueError as error:
                raise ConfigError(f"fields 'mean' and 'std': {error}") from error
        model = new_model(self.model, signature, self.arguments, seed)
        if self.weights is not None:
            keep = head_of(model.module) if self.head == "new" else ""
            load_weights(model.module, Path(self.weights), keep)
        require_outputs(model)
        return model
