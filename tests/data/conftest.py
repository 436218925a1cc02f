"""Every test has a cache folder of its own and sees none of the machine's data sets, unless it asks for them."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeImages = Callable[..., None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test."""
    folder = tmp_path / "the cache"
    monkeypatch.setenv("EDGEPRESS_CACHE", str(folder))
    monkeypatch.delenv("EDGEPRESS_DATA", raising=False)
    return folder


@pytest.fixture
def make_images() -> MakeImages:
    """Write `count` images of random size into a folder; their mean color is `level`."""

    def make(folder: Path, count: int, level: int = 128, suffix: str = ".png") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(level)
        for number in range(count):
            height, width = rng.integers(20, 40, 2)
            pixels = np.clip(rng.normal(level, 10, (height, width, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"image{number:03}{suffix}")

    return make


@pytest.fixture
def huge_png() -> Callable[[int], bytes]:
    """Make a PNG of a few dozen bytes whose header claims `side` x `side` pixels."""

    def make(side: int) -> bytes:
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
        body = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(body)

    return make
