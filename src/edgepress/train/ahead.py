"""What can be known of a training before it: its network, and whether teacher and losses fit it."""

from collections.abc import Mapping

from edgepress.core.artifact import Artifact, Model
from edgepress.data.base import Data
from edgepress.train.features import Taps
from edgepress.train.run import start_of
from edgepress.train.stages import Distill, Fitting, Mutual
from edgepress.train.teaching import network_of, peer_start, require_same_task


def untrained(
    stage: Fitting, artifact: Model | None, references: Mapping[str, Artifact], data: Data, seed: int
) -> Model | None:
    """Return the network that `stage` begins with, None where it goes on from one that is not known yet.

    Raises `ConfigError` for what `run_fit` would refuse of it, of a teacher that is known and of the losses.
    """
    if stage.model is None and artifact is None:
        return None
    start = start_of(stage, artifact, data.signature, seed)
    require_same_task(start.signature, data)
    objective = stage.objective().bound(start.module, start.signature, 1)
    if isinstance(stage, Mutual):
        peer_start(stage, start.builder, data.signature, seed)
    if isinstance(stage, Distill):
        named = [references.get(f"${name.removeprefix('$')}") for name in stage.teachers]
        teachers = [network_of(teacher) for teacher in named if teacher is not None]
        for teacher in teachers:
            require_same_task(teacher.signature, data)
        if objective.features and teachers:
            specs = start.signature.input, teachers[0].signature.input
            taps = Taps(start.module, teachers[0].module, specs, objective.features, seed)
            taps.require_batch(stage.batch)
    return start
