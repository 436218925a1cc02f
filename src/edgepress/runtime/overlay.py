"""Class maps in color, alone and over the image they belong to, and pictures as PNG files."""

import colorsys
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgepress.tasks.segmentation import Segments

STREETS = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "pavement": (244, 35, 232), "building": (70, 70, 70),
    "wall": (102, 102, 156), "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0), "sign": (220, 220, 0), "vegetation": (107, 142, 35), "tree": (107, 142, 35),
    "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60), "pedestrian": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32), "bicyclist": (119, 11, 32),
}  # fmt: skip
"""The colors in which Cityscapes is shown; people know them."""

_GOLDEN = 0.618033988749895


def palette(labels: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return a color (red, green, blue) per class, `(classes, 3)`: that of street scenes where its label is one of
    theirs, else one far from its neighbors'."""
    made = [colorsys.hsv_to_rgb((0.08 + _GOLDEN * k) % 1, 0.75, 0.95 - 0.3 * (k % 3) / 2) for k in range(len(labels))]
    colors = [
        STREETS.get(label.lower(), tuple(round(255 * part) for part in color))
        for label, color in zip(labels, made, strict=True)
    ]
    return np.array(colors, np.uint8).reshape(-1, 3)


def painted(classes: NDArray[np.integer], labels: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return a class map `(height, width)` in the colors of its classes; what has no class is black."""
    colors = np.concatenate([palette(labels), np.zeros((1, 3), np.uint8)])
    return colors[np.where((classes >= 0) & (classes < len(labels)), classes, len(labels))]


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of `(height, width)`, `(height, width, 1)` or `(height, width, 3)`."""
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture).save(file, "PNG", optimize=True)
    return file.getvalue()


def overlay(image: NDArray[np.uint8], segments: Segments, opacity: float = 0.6) -> NDArray[np.uint8]:
    """Return `image`, uint8 `(height, width, 3)` RGB, with the color of each pixel's class over it; pixels without a
    class stay as they are."""
    colors = palette(segments.labels)
    seen = segments.classes < len(colors)
    result = image.astype(np.float32)
    result[seen] += opacity * (colors[segments.classes[seen]] - result[seen])
    return result.round().astype(np.uint8)
