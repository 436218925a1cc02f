"""`edgepress predict`: what a bundle sees in images and videos."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepress.cli.options import json_option, runs_option
from edgepress.cli.output import print_json, show_table

if TYPE_CHECKING:
    from edgepress.core.stage import Progress
    from edgepress.runtime.pipeline import Pipeline

SECTION = "Bundles"


@click.command()
@click.argument("bundle")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top", type=click.IntRange(1, 5), default=5, show_default=True, help="How many labels to give.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("predictions"),
    show_default=True,
    help="Where colored overlays and videos go.",
)
@click.option("--overlay/--no-overlay", default=True, help="Write class maps in color, over their image, as PNG.")
@click.option("--windows", is_flag=True, help="Show large images window by window, not scaled down (segmentation).")
@click.option("--frames", type=click.IntRange(min=0), default=0, help="Of a video: at most so many (0: all).")
@runs_option
@json_option
def command(
    bundle: str,
    images: tuple[str, ...],
    top: int,
    out: Path,
    overlay: bool,
    windows: bool,
    frames: int,
    runs: Path,
    as_json: bool,
) -> None:
    """Say what a bundle sees in images and videos. Needs the base install only, and for videos the extra `video`.

    A segmentation is also written as a colored overlay, a video (by its suffix: mp4, mov, mkv ...) as a video with the
    answer in each frame. An image that cannot be read is named, the others are answered, and the exit code tells of it.
    """
    from edgepress.cli.app import message
    from edgepress.cli.progress import TerminalProgress
    from edgepress.cli.targets import load_program, numbered
    from edgepress.core.errors import DataError
    from edgepress.runtime.pipeline import Pipeline
    from edgepress.runtime.video import is_video

    program, _ = load_program(bundle, runs)
    pipeline = Pipeline(program, windows=windows)
    answers: list[dict[str, Any]] = []
    names = numbered(Path(image).stem for image in images)
    with TerminalProgress() as progress:
        for name, image in zip(names, progress.track(images, len(images), "images"), strict=True):
            try:
                if is_video(image):
                    answers.append(
                        {"video": image, **_film(pipeline, image, out / f"{name}-predicted.mp4", frames, progress)}
                    )
                    continue
                answer = pipeline(image)
                answers.append({"image": image, **_plain(answer, top)})
                if overlay and "shares" in answers[-1]:
                    answers[-1]["overlay"] = _paint(pipeline, image, answer, out / f"{name}-overlay.png")
            except DataError as error:
                answers.append({"image": image, "error": str(error)})
                progress.say(message(error))
    if as_json:
        print_json(answers)
    else:
        _show(answers)
    if any("error" in answer for answer in answers):
        raise SystemExit(DataError.exit_code)


def _plain(answer: Any, top: int) -> dict[str, Any]:
    """Return an answer as JSON values: the best labels with their scores, or the share of the image each label has."""
    from edgepress.tasks.classification import Prediction

    if isinstance(answer, Prediction):
        return {"label": answer.label, "score": answer.score, "top": [list(pair) for pair in answer.top[:top]]}
    shares = sorted(answer.shares().items(), key=lambda pair: -pair[1])
    return {"shares": dict(shares), "size": [int(side) for side in answer.classes.shape[::-1]]}


def _paint(pipeline: "Pipeline", image: str, answer: Any, path: Path) -> str:
    """Write the colored overlay of an answer and return its path."""
    import numpy as np
    from PIL import Image

    from edgepress.core.files import atomic_write
    from edgepress.runtime.overlay import overlay
    from edgepress.runtime.preprocess import open_image

    pixels = np.asarray(open_image(image, pipeline.signature.input).convert("RGB"))
    with atomic_write(path) as file:
        Image.fromarray(overlay(pixels, answer)).save(file, "PNG")
    return str(path)


def _film(pipeline: "Pipeline", video: str, path: Path, frames: int, progress: "Progress") -> dict[str, Any]:
    """Write a video with the answer in each frame; return its path, and how many frames a second were made."""
    import time

    from edgepress.runtime.overlay import overlay
    from edgepress.runtime.video import convert, titled
    from edgepress.tasks.classification import Prediction

    def show(frame: Any) -> Any:
        answer = pipeline(frame)
        if isinstance(answer, Prediction):
            return titled(frame, f"{answer.label} {100 * answer.score:.0f} %")
        return overlay(frame, answer)

    begin = time.monotonic()
    reel = convert(Path(video), path, show, frames, progress)
    seconds = time.monotonic() - begin
    return {
        "written": str(path),
        "frames": reel.frames,
        "size": list(reel.size),
        "frames_per_second": round(reel.frames / max(seconds, 1e-9), 1),
    }


def _show(answers: list[dict[str, Any]]) -> None:
    lines = [line for answer in answers if "error" not in answer and "image" in answer for line in _lines(answer)]
    if lines:
        show_table(("image", "label", "share" if any("shares" in answer for answer in answers) else "score"), lines)
    for answer in answers:
        if "overlay" in answer:
            click.echo(f"written: {answer['overlay']}")
        elif "written" in answer:
            words = f"{answer['frames']} frames, {answer['frames_per_second']} a second with reading and writing"
            click.echo(f"written: {answer['written']} ({words})")


def _lines(answer: dict[str, Any]) -> list[tuple[str, str, str]]:
    if "shares" in answer:
        pairs = [(label, share) for label, share in answer["shares"].items() if share > 0]
    else:
        pairs = answer["top"]
    return [
        (answer["image"] if number == 0 else "", label, f"{100 * score:5.1f} %")
        for number, (label, score) in enumerate(pairs)
    ]
