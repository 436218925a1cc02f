"""`predict` on a segmentation: overlays, windows, videos; what is damaged is named and leaves nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.helpers import Call
from edgepress.core.inputs import InputSpec
from edgepress.runtime.bundle import save_bundle
from edgepress.runtime.overlay import palette
from runtime.tiny import LABELS, classifier, segmenter


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that gives each pixel the class of its strongest channel."""
    save_bundle(segmenter(InputSpec(12, 16)), tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:, :16, 0] = pixels[:, 16:, 1] = 200
    Image.fromarray(pixels).save(tmp_path / "half.png")
    return tmp_path / "half.png"


def test_an_overlay_is_written_beside_the_answer(bundle: Path, image: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "out"
    [first, second] = json.loads(call("predict", bundle, image, image, "--out", out, "--json").stdout)
    assert first["shares"] == {"red": 0.5, "green": 0.5, "blue": 0.0}
    assert Path(first["overlay"]) == out / "half-overlay.png" and second["overlay"].endswith("half-2-overlay.png")
    colors, shown = palette(LABELS).astype(float), np.asarray(Image.open(first["overlay"])).astype(float)
    assert shown.shape == (24, 32, 3)
    assert np.abs(shown[12, 4] - (0.4 * np.array([200, 0, 0]) + 0.6 * colors[0])).max() <= 1
    assert "written: " in call("predict", bundle, image, "--out", out).stdout
    assert "overlay" not in json.loads(call("predict", bundle, image, "--no-overlay", "--json").stdout)[0]
    windows = json.loads(call("predict", bundle, image, "--windows", "--no-overlay", "--json").stdout)[0]
    assert windows["shares"] == first["shares"]


def test_windows_are_refused_for_labels(tmp_path: Path, image: Path, call: Call) -> None:
    save_bundle(classifier(InputSpec(8, 8)), tmp_path / "labels")
    result = call("predict", tmp_path / "labels", image, "--windows")
    assert result.exit_code == 2 and "windows are for segmentation" in result.stderr


def film(path: Path, frames: int = 6) -> Path:
    """A video of 32x24 pixels whose left half is red and whose right half is green."""
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (32, 24))
    frame = np.zeros((24, 32, 3), np.uint8)
    frame[:, :16, 2] = frame[:, 16:, 1] = 200
    for _ in range(frames):
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize("kind", ["segments", "labels"])
def test_a_video_becomes_a_video(kind: str, bundle: Path, tmp_path: Path, call: Call) -> None:
    cv2 = pytest.importorskip("cv2")
    if kind == "labels":
        save_bundle(classifier(InputSpec(8, 8)), bundle)
    source, out = film(tmp_path / "street.mp4"), tmp_path / "out"
    [answer] = json.loads(call("predict", bundle, source, "--out", out, "--json").stdout)
    assert answer["frames"] == 6 and answer["size"] == [32, 24] and answer["frames_per_second"] > 0
    capture = cv2.VideoCapture(answer["written"])
    read, frame = capture.read()
    assert read and frame.shape == (24, 32, 3) and capture.get(cv2.CAP_PROP_FPS) == 10
    if kind == "segments":
        expected = 0.4 * np.array([200, 0, 0]) + 0.6 * palette(LABELS)[0]
        assert np.abs(frame[12, 4, ::-1] - expected).max() < 30, "a lossy codec"
    [cut] = json.loads(call("predict", bundle, source, "--out", out, "--frames", "2", "--json").stdout)
    assert cut["frames"] == 2
    assert "6 frames" in call("predict", bundle, source, "--out", out).stdout
    assert sorted(path.name for path in out.iterdir()) == ["street-predicted.mp4"]


def test_a_damaged_video_is_named_and_leaves_nothing(bundle: Path, image: Path, tmp_path: Path, call: Call) -> None:
    pytest.importorskip("cv2")
    torn, out = tmp_path / "torn.mp4", tmp_path / "out"
    torn.write_bytes(b"\0\0\0\x20ftypisom" + bytes(200))
    result = call("predict", bundle, torn, tmp_path / "absent.mp4", image, "--out", out, "--json")
    answers = json.loads(result.stdout)
    assert result.exit_code == 3 and "damaged" in answers[0]["error"] and "no such video" in answers[1]["error"]
    assert "shares" in answers[2] and [path.name for path in out.iterdir()] == ["half-overlay.png"]


def test_frames_too_large_are_not_believed(
    bundle: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = film(tmp_path / "street.mp4", 1)
    monkeypatch.setattr("edgepress.runtime.video.MOST_PIXELS", 100)
    result = call("predict", bundle, source, "--out", tmp_path / "out")
    assert result.exit_code == 3 and "frames of 32x24 pixels; 1 to 100 are decoded" in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_opencv_the_extra_is_named(
    bundle: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    (tmp_path / "street.mp4").write_bytes(b"0")
    monkeypatch.setitem(sys.modules, "cv2", None)
    result = call("predict", bundle, tmp_path / "street.mp4")
    assert result.exit_code == 5 and "edgepress[video]" in result.stderr
