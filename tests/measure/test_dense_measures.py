"""Measures of class maps: outlines, and windows over images larger than the network's input."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepress.core.artifact import Program
from edgepress.core.config import parse
from edgepress.core.errors import ConfigError
from edgepress.core.inputs import InputSpec
from edgepress.data.arrays import ArraySplit
from edgepress.data.base import Data
from edgepress.measure.base import MeasureContext, Quiet, measures
from edgepress.runtime.predictor import EnginePredictor
from runtime.tiny import LABELS, classifier, segmenter

SIZE = (24, 32)


def scenes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose strongest channel is their class, in blocks."""
    cells = np.random.default_rng(0).integers(0, 3, (count, 3, 4))
    maps = np.kron(cells, np.ones((1, 8, 8), np.int64))
    return (200 * np.eye(3)[maps]).astype(np.uint8), maps


def context(program: Program) -> MeasureContext:
    split = ArraySplit(*scenes(5))
    data = Data("blocks", "segmentation", LABELS, program.signature.input, split, split, split, "blocks-0")
    return MeasureContext(data, EnginePredictor(program), "student", Quiet())


def test_outlines_of_a_network_that_is_right() -> None:
    program = segmenter(InputSpec(*SIZE))
    [row] = parse(measures.get("boundary"), {"images": 4})(program, context(program))
    assert (row.metric, row.value, row.n, row.split, row.better) == ("boundary_f", 100, 4, "test", "higher")
    [row] = parse(measures.get("boundary"), {"split": "val"})(program, context(program))
    assert row.metric == "val_boundary_f"


def test_windows_over_larger_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRESS_CACHE", str(tmp_path / "cache"))
    for folder, arrays in zip(("images", "masks"), scenes(10), strict=True):
        (tmp_path / folder).mkdir()
        for number, array in enumerate(arrays.astype(np.uint8)):
            Image.fromarray(array).save(tmp_path / folder / f"{number}.png")
    program = segmenter(InputSpec(16, 16))
    fields = {"data": {"masks": {"root": str(tmp_path), "labels": list(LABELS)}}, "overlap": 0.5}
    rows = {row.metric: row for row in parse(measures.get("sliding"), fields)(program, context(program))}
    assert rows["sliding_miou"].value == 100 and rows["sliding_pixel_accuracy"].value == 100
    fields["data"] = {"masks": {"root": str(tmp_path), "labels": ["a", "b", "c"]}}
    with pytest.raises(ConfigError, match="other classes"):
        parse(measures.get("sliding"), fields)(program, context(program))
    with pytest.raises(ConfigError, match="unknown data set"):
        parse(measures.get("sliding"), {"data": {"mask": {}}})


@pytest.mark.parametrize("name", ["boundary", "sliding"])
def test_one_label_per_image_has_neither(name: str) -> None:
    program = classifier(InputSpec(*SIZE))
    assert parse(measures.get(name), {})(program, context(program)) == []
