import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepress.core.errors import ConfigError, DataError
from edgepress.data import files, index
from edgepress.data.base import spread
from edgepress.data.load import load_data
from edgepress.data.sets.folder import Folder
from edgepress.data.sets.imagenet import ImageNet

MakeImages = Callable[..., None]


@pytest.fixture(params=["resident", "streamed"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of holding a folder give the same images; streaming is forced by a limit of nothing."""
    if request.param == "streamed":
        monkeypatch.setattr(files, "RESIDENT_BYTES", 0)
    return request.param


def two_classes(root: Path, make: MakeImages, count: int = 10) -> Path:
    make(root / "bright", count, 200)
    make(root / "dark", count, 40)
    return root


def test_a_folder_without_a_split_is_cut_by_class(tmp_path: Path, make_images: MakeImages, kind: str) -> None:
    data = Folder(root=str(two_classes(tmp_path / "pets", make_images, 20)), size=16).load()
    assert data.labels == ("bright", "dark") and data.name == "pets"
    assert (len(data.train), len(data.val), len(data.test)) == (32, 4, 4)
    for split in (data.train, data.val, data.test):
        assert split.resident is (kind == "resident")
        images, targets = split.read(np.arange(len(split))[::-1])
        assert images.shape == (len(split), 16, 16, 3)
        assert np.array_equal(images.mean((1, 2, 3)) < 128, targets == 1)
        assert targets.sum() * 2 == len(split)


def test_resident_and_streamed_splits_read_the_same(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Folder(root=str(two_classes(tmp_path / "a", make_images)), size=12)
    resident = source.load()
    monkeypatch.setattr(files, "RESIDENT_BYTES", 0)
    streamed = source.load()
    assert resident.fingerprint == streamed.fingerprint
    order = np.array([5, 0, 5, 11])
    for one, other in zip(resident.train.read(order), streamed.train.read(order), strict=True):
        assert np.array_equal(one, other)


def test_a_split_of_the_users_own_is_kept(tmp_path: Path, make_images: MakeImages) -> None:
    two_classes(tmp_path / "train", make_images)
    two_classes(tmp_path / "valid", make_images, 3)
    two_classes(tmp_path / "test", make_images, 2)
    data = Folder(root=str(tmp_path), size=8).load()
    assert (len(data.train), len(data.val), len(data.test)) == (20, 6, 4)
    shutil.rmtree(tmp_path / "test")
    data = Folder(root=str(tmp_path), size=8).load()
    assert (len(data.train), len(data.val), len(data.test)) == (18, 6, 2)


def test_gray_stretch_and_nested_folders(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "a" / "deeper", 5, 200, ".JPG")
    make_images(tmp_path / "b", 5, 40, ".webp")
    make_images(tmp_path / ".hidden", 5)
    (tmp_path / "b" / "notes.txt").write_text("not an image")
    data = Folder(root=str(tmp_path), size=8, channels=1, resize="stretch").load()
    assert data.labels == ("a", "b") and data.input.shape == (1, 8, 8)
    assert data.train.read(np.arange(2))[0].shape == (2, 8, 8, 1)


def test_bad_images_are_named_and_left_out_up_to_the_limit(
    tmp_path: Path, make_images: MakeImages, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = two_classes(tmp_path / "a", make_images, 20)
    whole = (root / "dark" / "image003.png").read_bytes()
    (root / "dark" / "image003.png").write_bytes(whole[: len(whole) // 2])
    (root / "bright" / "image999.jpg").write_bytes(b"no image at all")
    with pytest.raises(DataError, match=r"(?s)2 of 41 images.*0\.01.*image"):
        Folder(root=str(root), size=8).load()
    with caplog.at_level(logging.WARNING):
        data = Folder(root=str(root), size=8, max_bad=0.1).load()
    assert "dark/image003.png" in caplog.text and "bright/image999.jpg" in caplog.text
    assert sum(map(len, (data.train, data.val, data.test))) == 39


def test_a_class_of_which_nothing_is_left_stops(tmp_path: Path, make_images: MakeImages, kind: str) -> None:
    make_images(tmp_path / "a", 30)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "only.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="images of b, but not one"):
        Folder(root=str(tmp_path), size=8, max_bad=0.5).load()


def test_a_huge_image_is_refused_by_its_header(
    tmp_path: Path, make_images: MakeImages, kind: str, huge_png: Callable[[int], bytes]
) -> None:
    root = two_classes(tmp_path / "a", make_images)
    (root / "dark" / "huge.png").write_bytes(huge_png(30_000))
    with pytest.raises(DataError, match=r"huge\.png .*pixels"):
        Folder(root=str(root), size=8).load()


def test_the_fingerprint_follows_content_not_place(tmp_path: Path, make_images: MakeImages, kind: str) -> None:
    two_classes(tmp_path / "a", make_images)
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    def fingerprint(**fields: Any) -> str:
        return Folder(**{"root": str(tmp_path / "b"), "size": 8, **fields}).load().fingerprint

    base = fingerprint()
    assert fingerprint(root=str(tmp_path / "a")) == base
    path = tmp_path / "b" / "dark" / "image000.png"
    status, content = path.stat(), path.read_bytes()
    changed = content[:-16] + bytes([content[-16] ^ 1]) + content[-15:]  # the checksum of the last data chunk
    path.write_bytes(changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    others = {fingerprint(max_bad=0.5)}
    path.write_bytes(content)
    assert fingerprint() == base
    others |= {fingerprint(**{field: value}) for field, value in {"size": 9, "seed": 1, "val": 0.3, "limit": 5}.items()}
    path.rename(path.with_name("renamed.png"))
    others.add(fingerprint())
    assert len(others | {base}) == 7


def test_an_unchanged_folder_is_not_read_again(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_SETTLED", -(10**12))
    root = two_classes(tmp_path / "a", make_images, 3)
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.png"))]
    read: list[bytes] = []

    def check(data: bytes) -> str | None:
        read.append(data)
        return None

    first = index.index_files(root, names, check, "test")
    assert len(read) == 6
    assert index.index_files(root, names, check, "test") == first and len(read) == 6
    (root / names[0]).write_bytes(b"something else")
    assert index.index_files(root, names, check, "test")[names[0]] != first[names[0]] and len(read) == 7
    assert len(index.index_files(root, names, check, "another check")) == 6 and len(read) == 13


def test_a_file_written_just_now_is_read_again(tmp_path: Path, make_images: MakeImages) -> None:
    root = two_classes(tmp_path / "a", make_images, 1)
    read: list[bytes] = []
    for _ in range(2):
        index.index_files(root, ["dark/image000.png"], lambda data: read.append(data), "test")
    assert len(read) == 2


def test_a_file_that_breaks_after_loading_is_named(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RESIDENT_BYTES", 0)
    root = two_classes(tmp_path / "a", make_images)
    data = Folder(root=str(root), size=8).load()
    for path in root.rglob("*.png"):
        path.write_bytes(b"gone")
    with pytest.raises(DataError, match=r"image\d+\.png cannot be decoded.*repair or remove"):
        data.train.read(np.arange(3))


def test_folders_that_hold_nothing_of_use_say_so(tmp_path: Path, make_images: MakeImages) -> None:
    with pytest.raises(DataError, match="not a folder"):
        Folder(root=str(tmp_path / "none")).load()
    with pytest.raises(DataError, match="no class folders"):
        Folder(root=str(tmp_path)).load()
    make_images(tmp_path, 3)
    with pytest.raises(DataError, match="3 images lie directly in it"):
        Folder(root=str(tmp_path)).load()
    make_images(tmp_path / "full", 3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no images"):
        Folder(root=str(tmp_path)).load()


def test_a_class_that_is_in_val_only_is_an_error(tmp_path: Path, make_images: MakeImages) -> None:
    two_classes(tmp_path / "train", make_images)
    make_images(tmp_path / "val" / "drak", 2)
    with pytest.raises(DataError, match=r"drak: no class of that name.*did you mean 'dark'"):
        Folder(root=str(tmp_path)).load()


def test_too_few_images_to_cut_from(tmp_path: Path, make_images: MakeImages) -> None:
    two_classes(tmp_path, make_images, 1)
    with pytest.raises(DataError, match="too few"):
        Folder(root=str(tmp_path), size=8).load()


@pytest.mark.parametrize(
    "fields",
    [{"val": 0}, {"val": 0.6, "test": 0.5}, {"max_bad": 1}, {"size": 0}, {"crop": 2}, {"channels": 2}, {"limit": 0}],
)
def test_wrong_fields_are_config_errors(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="data 'folder'"):
        load_data({"folder": {"root": "x", **fields}})


def imagenet(root: Path, make: MakeImages) -> Path:
    for split, count in (("train", 6), ("val", 2)):
        make(root / split / "n01440764", count, 60, ".JPEG")
        make(root / split / "n02012849", count, 120, ".JPEG")
        make(root / split / "n03126707", count, 180, ".JPEG")
    return root


def test_imagenet_tests_on_the_official_validation_images(tmp_path: Path, make_images: MakeImages, kind: str) -> None:
    data = ImageNet(root=str(imagenet(tmp_path, make_images)), val=3, size=16).load()
    assert (len(data.train), len(data.val), len(data.test)) == (15, 3, 6)
    assert data.input.resize == "crop" and data.input.crop == 0.875
    assert sorted(data.val.read(np.arange(3))[1].tolist()) == [0, 1, 2]
    assert data.labels == ("n01440764", "n02012849", "n03126707")
    small = ImageNet(root=str(tmp_path), val=3, size=16, limit=2, limit_eval=3).load()
    assert (len(small.train), len(small.val), len(small.test)) == (2, 3, 3)


def test_imagenet_labels_are_readable_and_distinct(tmp_path: Path, make_images: MakeImages) -> None:
    lines = ["n01440764 tench, Tinca tinca", "n02012849 crane", "n03126707 crane"]
    (imagenet(tmp_path, make_images) / "LOC_synset_mapping.txt").write_text("\n".join(lines))
    data = ImageNet(root=str(tmp_path), val=3, size=16).load()
    assert data.labels == ("tench, Tinca tinca", "crane", "crane (n03126707)")


def test_imagenet_is_found_beside_the_other_sets(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPRESS_DATA", str(tmp_path))
    assert "imagenet/train" in (ImageNet().available() or "")
    with pytest.raises(DataError, match="imagenet/val"):
        ImageNet().load()
    imagenet(tmp_path / "imagenet", make_images)
    assert ImageNet().available() is None
    with pytest.raises(DataError, match="val takes 10000 of 18"):
        ImageNet().load()
    shutil.rmtree(tmp_path / "imagenet" / "val" / "n01440764")
    with pytest.raises(DataError, match="n01440764 is in one of them only"):
        ImageNet(val=3).load()


@pytest.mark.parametrize("names", [("training", "testing"), ("Train", "Test")])
def test_folders_of_splits_are_not_taken_for_classes(
    tmp_path: Path, make_images: MakeImages, names: tuple[str, str]
) -> None:
    for name in names:
        two_classes(tmp_path / name, make_images)
    with pytest.raises(DataError, match=f"{names[1]} looks like a split.*'train'"):
        Folder(root=str(tmp_path)).load()


def test_a_class_may_have_underscores(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(two_classes(tmp_path, make_images) / "__unknown__", 10)
    make_images(tmp_path / "__MACOSX", 1)
    assert Folder(root=str(tmp_path), size=16).load().labels == ("__unknown__", "bright", "dark")


def test_what_is_no_file_is_named_and_not_waited_for(
    tmp_path: Path, make_images: MakeImages, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_classes(tmp_path, make_images)
    os.mkfifo(tmp_path / "dark" / "pipe.png")
    (tmp_path / "dark" / "gone.png").symlink_to("nowhere")
    (tmp_path / "dark" / "large.png").write_bytes(bytes(30_000))
    monkeypatch.setattr(index, "MOST_BYTES", 20_000)
    Folder(root=str(tmp_path), size=16, max_bad=0.2).load()
    for words in ("pipe.png is no file", "gone.png is a link to nothing", "large.png has 30,000 bytes"):
        assert words in caplog.text


def test_images_at_even_distances(tmp_path: Path, make_images: MakeImages) -> None:
    data = Folder(root=str(two_classes(tmp_path, make_images)), size=16).load()
    few = data.train.read(spread(data.train, 4))[1]
    assert few.tolist() == [0, 0, 1, 1], "the first four are of one class"
    assert spread(data.train, 99).tolist() == list(range(16))
    assert spread(data.train, 0).tolist() == []


def test_a_first_reading_goes_on_where_it_was_stopped(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_classes(tmp_path, make_images)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    for name in names:
        os.utime(tmp_path / name, (1, 1))
    monkeypatch.setattr(index, "_SETTLED", -(10**12))
    monkeypatch.setattr(index, "AT_ONCE", 4)
    monkeypatch.setattr(index, "EVERY", 0.0)
    seen: list[int] = []

    def stopped(content: bytes) -> None:
        seen.append(len(content))
        if len(seen) > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.index_files(tmp_path, names, stopped, "check")
    again: list[int] = []
    index.index_files(tmp_path, names, lambda content: again.append(len(content)), "check")
    assert len(again) == len(names) - 8, "two parts of four were written"
