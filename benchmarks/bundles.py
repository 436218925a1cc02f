"""The exported file that figures about running one use: the zoo's ResNet-8, or one made on the spot."""

from pathlib import Path

from benchmarks.base import RECIPES, ZOO, Options
from benchmarks.job import patiently, recipe
from edgepress.recipes.runner import Options as RunOptions
from edgepress.recipes.store import BUNDLE
from edgepress.runtime.manifest import MANIFEST


def bundle(options: Options) -> Path:
    """Return the folder of the INT8 ResNet-8: the zoo's, or a little-trained one of the same speed, made now."""
    zoo = ZOO / "cifar10-resnet8-int8"
    if (zoo / MANIFEST).exists():
        return zoo
    wanted = recipe(RECIPES / "kill-resume.yaml", ["name=little-trained"], trial=options.quick)
    done = patiently(wanted, options.work / "runs", RunOptions(command=options.command))
    return done.shelves["int8"].folder / BUNDLE
