"""A bundle on a video: frame in, colored frame out, one at a time. Needs the extra `video` (OpenCV)."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepress.core.errors import DataError, EdgepressError, MissingExtraError
from edgepress.core.files import explain_disk, sync
from edgepress.core.stage import Progress

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm")
MOST_PIXELS = 8192 * 4320
"""Of a frame; the header of a video that claims more is not believed."""

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Reel:
    """What was made of a video: the frames and their size (width, height), and the frames per second of the file."""

    frames: int
    size: tuple[int, int]
    rate: float


def is_video(path: str) -> bool:
    """Return whether a path names a video, by its suffix."""
    return Path(path).suffix.lower() in SUFFIXES


def convert(
    source: Path, target: Path, show: Callable[[Frame], Frame], most: int = 0, progress: Progress | None = None
) -> Reel:
    """Write to `target` (.mp4) what `show` makes of each frame of `source`, both uint8 RGB `(height, width, 3)`.

    Frames are decoded one by one, at most `most` of them (0: all). The file is whole or absent. Raises `DataError`
    where the video cannot be read, `MissingExtraError` without OpenCV.
    """
    cv2 = _opencv()
    if not source.is_file():
        raise DataError(f"{source}: no such video file")
    capture = cv2.VideoCapture(str(source))
    try:
        size, rate = _header(cv2, capture, source)
        with explain_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=".mp4", dir=target.parent)
        os.close(handle)
        try:
            writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
            if not writer.isOpened():
                raise DataError(f"{target}: this OpenCV cannot write MP4 files of {size[0]}x{size[1]} pixels")
            count = 0
            frames: Iterable[Frame] = _frames(capture, size, most)
            if progress is not None:
                frames = progress.track(frames, _count(cv2, capture, most), source.name)
            for frame in frames:
                shown = show(np.ascontiguousarray(frame[:, :, ::-1]))
                writer.write(np.ascontiguousarray(shown[:, :, ::-1]))
                count += 1
            writer.release()
            if not count:
                raise DataError(f"{source}: no frame of this video can be decoded; it is damaged")
            _check_written(cv2, name, count, target)
            os.chmod(name, 0o644)
            sync(Path(name))
            os.replace(name, target)
            sync(target.parent)
        finally:
            Path(name).unlink(missing_ok=True)
    finally:
        capture.release()
    return Reel(count, size, rate)


def _check_written(cv2: Any, name: str, count: int, target: Path) -> None:
    """Raise `EdgepressError` where the file `name` does not hold `count` frames: OpenCV tells of no failed write."""
    written = cv2.VideoCapture(name)
    try:
        found = int(written.get(cv2.CAP_PROP_FRAME_COUNT)) if written.isOpened() else 0
    finally:
        written.release()
    if found != count:
        raise EdgepressError(
            f"cannot write {target}: {found} of {count} frames arrived; the disk is probably full: free some space, or "
            "choose another --out"
        )


def titled(frame: Frame, text: str) -> Frame:
    """Return a copy of a frame with a line of text in its corner."""
    cv2 = _opencv()
    scale = max(0.4, frame.shape[0] / 700)
    place, thick = (round(12 * scale), round(32 * scale)), max(1, round(2 * scale))
    shown = frame.copy()
    for color, width in (((0, 0, 0), 3 * thick), ((255, 255, 255), thick)):
        cv2.putText(shown, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, color, width, cv2.LINE_AA)
    return shown


def _opencv() -> Any:
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        raise MissingExtraError("reading and writing videos", "video") from None
    return cv2  # pyright: ignore[reportUnknownVariableType]


def _header(cv2: Any, capture: Any, source: Path) -> tuple[tuple[int, int], float]:
    """Return the size and the rate that the header of a video states."""
    if not capture.isOpened():
        raise DataError(f"{source}: not a video that this OpenCV reads, or damaged")
    width, height = (int(capture.get(what)) for what in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if not 0 < width * height <= MOST_PIXELS:
        raise DataError(f"{source}: frames of {width}x{height} pixels; 1 to {MOST_PIXELS:,} are decoded")
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return (width, height), rate if 0 < rate <= 1000 else 25.0


def _count(cv2: Any, capture: Any, most: int) -> int:
    """Return how many frames there will be, as far as the header tells; 0 where it does not."""
    told = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    return min(told, most) if most and told else told or most


def _frames(capture: Any, size: tuple[int, int], most: int) -> Iterator[Frame]:
    """Yield BGR frames; one of another size ends the video, since a file has one size."""
    count = 0
    while not most or count < most:
        there, frame = capture.read()
        if not there or (frame.shape[1], frame.shape[0]) != size:
            return
        yield frame
        count += 1
