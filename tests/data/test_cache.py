from pathlib import Path

import numpy as np
import pytest

from edgepress.core.errors import EdgepressError
from edgepress.data.cache import Arrays, cache_folder, cached


def test_arrays_are_made_once_and_read_back_equal(cache: Path) -> None:
    calls: list[int] = []

    def make() -> Arrays:
        calls.append(1)
        return {"images": np.arange(6).reshape(2, 3), "bad": np.array(["a: b"], dtype=str)}

    first, second = (cached("set", "k" * 64, ("images", "bad"), make) for _ in range(2))
    assert len(calls) == 1
    assert np.array_equal(first["images"], second["images"]) and second["bad"].tolist() == ["a: b"]
    assert cache_folder() == cache
    cached("set", "other" * 13, ("images", "bad"), make)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"no array", None])
def test_a_damaged_cache_file_is_made_again(cache: Path, damage: bytes | None) -> None:
    def make() -> Arrays:
        return {"images": np.arange(1000)}

    cached("set", "k" * 64, ("images",), make)
    [path] = cache.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    assert np.array_equal(cached("set", "k" * 64, ("images",), make)["images"], np.arange(1000))
    assert np.array_equal(np.load(path), np.arange(1000))


def test_a_cache_that_cannot_be_written_says_how_to_move_it(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(EdgepressError, match="EDGEPRESS_CACHE"):
        cached("set", "k" * 64, ("images",), lambda: {"images": np.zeros(1)})


def test_an_interrupted_write_leaves_nothing(cache: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        cached("set", "k" * 64, ("images",), lambda: {"images": np.array([{}], dtype=object)})
    assert [path for path in cache.rglob("*") if path.is_file()] == []
