"""Pictures for people: channels of a layer side by side, images with what a network says of them. Needs Pillow only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgepress.runtime.overlay import painted

Picture = NDArray[np.uint8]
"""`(height, width, 3)`."""

MOST_CHANNELS = 64
TILE = 48
SAMPLE = 96
GAP = 2
DEAD = (170, 30, 40)
_ANCHORS = np.array([[12, 10, 38], [84, 22, 110], [187, 55, 84], [249, 142, 9], [252, 255, 200]], np.float32)


def heat(values: NDArray[np.float32]) -> Picture:
    """Return `(H, W)` in colors from dark (its least value) to bright (its largest)."""
    least, most = float(values.min()), float(values.max())
    place = (values - least) / (most - least) if most > least else np.zeros_like(values)
    spots = np.linspace(0, 1, len(_ANCHORS))
    return np.stack([np.interp(place, spots, _ANCHORS[:, c]) for c in range(3)], -1).astype(np.uint8)


def channels(maps: NDArray[np.float32], dead: Sequence[int] = ()) -> Picture:
    """Return the first `MOST_CHANNELS` maps of `(C, H, W)` side by side, each in its own range; `dead` ones are red."""
    tiles: list[Picture] = []
    for number, values in enumerate(maps[:MOST_CHANNELS]):
        tile = np.full((*values.shape, 3), DEAD, np.uint8) if number in dead else heat(values)
        tiles.append(_scaled(tile, TILE, Image.Resampling.NEAREST))
    return tiled(tiles, columns=int(np.ceil(len(tiles) ** 0.5)))


def tiled(tiles: Sequence[Picture], columns: int) -> Picture:
    """Return tiles of one size in rows, on a dark ground."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    found = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 32, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = (number // columns) * (height + GAP) + GAP, (number % columns) * (width + GAP) + GAP
        found[y : y + height, x : x + width] = tile
    return found


def classified(images: NDArray[np.uint8], words: Sequence[tuple[str, bool]]) -> Picture:
    """Return images `(n, H, W, channels)` with a line under each that says what it was taken for, and whether rightly
    (green) or not (red)."""
    tiles = [_labelled(_color(image), *said) for image, said in zip(images, words, strict=True)]
    return tiled(tiles, columns=min(4, len(tiles)))


def segmented(
    images: NDArray[np.uint8], targets: NDArray[np.int64], found: NDArray[np.int64], labels: tuple[str, ...]
) -> Picture:
    """Return image, true class map and predicted class map `(n, H, W)` beside each other, one row per image; what does
    not count (255) is black."""
    tiles: list[Picture] = []
    for image, target, predicted in zip(images, targets, found, strict=True):
        for part in (_color(image), painted(target, labels), painted(predicted, labels)):
            tiles.append(_scaled(part, SAMPLE, Image.Resampling.NEAREST))
    return tiled(tiles, columns=3)


def _color(image: NDArray[np.uint8]) -> Picture:
    return np.repeat(image, 3, -1) if image.shape[-1] == 1 else np.ascontiguousarray(image[..., :3])


def _scaled(picture: Picture, side: int, how: Image.Resampling) -> Picture:
    """Return the picture with its longer side at least `side` and less than twice that, its proportions kept."""
    height, width = picture.shape[:2]
    longest = max(height, width)
    factor = -(-side // longest) if longest < side else 1 / max(1, longest // (2 * side))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(picture).resize(size, how if factor >= 1 else Image.Resampling.BOX))


def _labelled(picture: Picture, text: str, right: bool) -> Picture:
    scaled = _scaled(picture, SAMPLE, Image.Resampling.NEAREST)
    found = Image.new("RGB", (scaled.shape[1], scaled.shape[0] + 14), (25, 110, 60) if right else DEAD)
    found.paste(Image.fromarray(scaled), (0, 0))
    ImageDraw.Draw(found).text((2, scaled.shape[0] + 1), text.encode("latin-1", "replace").decode("latin-1"))
    return np.asarray(found)
