"""What a training was seen to do gets onto the page of its run: the last picture of each kind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.measure import tracked as room
from edgepress.measure.report import write_report
from edgepress.measure.tracked import tracked
from edgepress.train.trackers.base import Training
from edgepress.train.trackers.jsonl import Jsonl


def training(folder: Path) -> None:
    recorder = Jsonl().open(Training("demo", "student", "key", folder / "track", 0, {}))
    rng = np.random.default_rng(0)
    for step in (5, 10):
        recorder.values(step, {"train/loss": 1.0})
        for name in ("layers/body.10", "layers/body.9", "samples"):
            recorder.image(step, name, rng.integers(0, 255, (4, 4, 3), np.uint8), f"{name} it is")
    recorder.close()


def test_the_last_picture_of_each_kind_is_shown(tmp_path: Path) -> None:
    training(tmp_path)
    [found] = tracked(tmp_path, ["teacher", "student"])
    assert found.label == "student"
    assert [picture.name for picture in found.pictures] == ["samples", "body.10", "body.9"], "in the order of the calls"
    assert found.pictures[1].note == "layers/body.10 it is; step 10"
    assert all(picture.source.startswith("data:image/png;base64,iVBOR") for picture in found.pictures)


def test_they_are_on_the_report(make_run: Callable[..., Path]) -> None:
    pytest.importorskip("altair")
    folder = make_run()
    assert "Inside the networks" not in write_report(folder).read_text()
    training(folder)
    page = write_report(folder).read_text()
    assert page.count("<h3>student</h3>") == 1 and 'alt="body.9 of student"' in page


def test_what_is_torn_or_gone_or_too_much_is_left_out(tmp_path: Path, monkeypatch) -> None:
    training(tmp_path)
    folder = tmp_path / "track" / "jsonl"
    with open(folder / "student.jsonl", "a") as file:
        file.write('{"step": 11, "image": "samples", "file": "../../secret", "caption": "x"}\n{"step": 12, "ima')
    (folder / "student" / "layers-body.9-000010.png").unlink()
    [found] = tracked(tmp_path, ["student"])
    assert [picture.name for picture in found.pictures] == ["body.10"], "a name never leaves the folder of its stage"
    monkeypatch.setattr(room, "MOST_BYTES", 10)
    assert tracked(tmp_path, ["student"]) == []
