"""A dry run of a recipe: what is certain to fail is told before anything is computed."""

from collections.abc import Callable, Sequence

from edgepress.core.artifact import Artifact
from edgepress.core.errors import ConfigError
from edgepress.data.base import Data
from edgepress.recipes.recipe import Step


def dry_run(steps: Sequence[Step], data: Data, done: Callable[[str], bool], kept: Callable[[str], Artifact]) -> None:
    """Let every stage that is not `done` say what it will give, and check what it is given; `kept` reads the artifact
    of one that is.

    Raises `ConfigError` with the problems of all stages, and other errors as they come.
    """
    known: dict[str, Artifact | None] = {}
    problems: list[str] = []

    def given(label: str) -> Artifact | None:
        if label not in known:
            known[label] = kept(label) if done(label) else None
        return known[label]

    for step in steps:
        if done(step.label):
            continue
        references = {f"${label}": found for label in step.references().values() if (found := given(label))}
        try:
            artifact = given(step.input) if step.input else None
            known[step.label] = step.stage.dry_run(artifact, references, data, step.seed)
        except ConfigError as error:
            known[step.label] = None
            problems += [f"stage {step.label!r}: {problem}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
