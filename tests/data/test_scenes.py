"""Images with masks: the four data sets on tiny folders of their own format, and whatever can be wrong with a mask."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgepress.core.errors import ConfigError, DataError
from edgepress.core.inputs import InputSpec
from edgepress.data import pairs as pairs_module
from edgepress.data.base import Data
from edgepress.data.load import load_data
from edgepress.data.masks import consecutive, load_mask, open_mask
from edgepress.data.resize import fit, source_box
from edgepress.data.sets.cityscapes import LABELS, Cityscapes

HEIGHT, WIDTH = 12, 16
Draw = Callable[[int], np.ndarray]


def halves(number: int, classes: int = 3) -> np.ndarray:
    """A mask of two classes, side by side."""
    mask = np.full((HEIGHT, WIDTH), number % classes, np.uint8)
    mask[:, WIDTH // 2 :] = (number + 1) % classes
    return mask


def write(images: Path, masks: Path, count: int, draw: Draw = halves, endings: tuple[str, str] = ("", "")) -> None:
    """Write `count` images, whose gray is 20 times the class, and their masks."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        mask = draw(number)
        Image.fromarray(mask).save(masks / f"{number:03}{endings[1]}.png")
        gray = np.minimum(mask.astype(int) * 20, 255).astype(np.uint8)
        Image.fromarray(np.stack([gray] * 3, 2)).save(images / f"{number:03}{endings[0]}.png")


def everything(data: Data, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    part = getattr(data, split)
    return part.read(np.arange(len(part)))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of 20 images and masks of three classes."""
    write(tmp_path / "mine" / "images", tmp_path / "mine" / "masks", 20)
    return tmp_path / "mine"


def test_the_user_s_own_folder(own: Path) -> None:
    data = load_data({"masks": {"root": str(own), "labels": ["sky", "road", "car"]}})
    assert (data.task, data.labels, data.input.shape) == ("segmentation", ("sky", "road", "car"), (3, HEIGHT, WIDTH))
    assert [len(split) for split in (data.train, data.val, data.test)] == [16, 2, 2]
    images, maps = everything(data)
    assert images.dtype == np.uint8 and maps.dtype == np.int64 and maps.shape == (16, HEIGHT, WIDTH)
    assert np.array_equal(images[..., 0], maps * 20), "image and mask belong together"
    again = load_data({"masks": {"root": str(own), "labels": ["sky", "road", "car"]}})
    assert again.fingerprint == data.fingerprint and np.array_equal(everything(again)[1], maps)


def test_streamed_is_the_same_as_in_memory(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"masks": {"root": str(own), "size": [9, 11]}}
    resident = load_data(given)
    monkeypatch.setattr(pairs_module, "RESIDENT_PIXELS", 10)
    streamed = load_data(given)
    assert resident.train.resident and not streamed.train.resident
    assert streamed.fingerprint == resident.fingerprint
    for a, b in zip(everything(resident), everything(streamed), strict=True):
        assert np.array_equal(a, b)


def test_a_mask_that_changed_changes_the_fingerprint(own: Path) -> None:
    given = {"masks": {"root": str(own), "labels": ["a", "b", "c"]}}
    before = load_data(given).fingerprint
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(own / "masks" / "000.png")
    assert load_data(given).fingerprint != before


def test_labels_come_from_a_file_or_from_the_ids(own: Path) -> None:
    assert load_data({"masks": {"root": str(own)}}).labels == ("0", "1", "2")
    (own / "labels.txt").write_text("sky\n\nroad \ncar\n")
    assert load_data({"masks": {"root": str(own)}}).labels == ("sky", "road", "car")


def test_labels_in_another_encoding_are_refused(own: Path) -> None:
    (own / "labels.txt").write_bytes("Straße\nHimmel".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels.txt is no text in UTF-8"):
        load_data({"masks": {"root": str(own)}})


def test_ids_that_are_not_consecutive(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", 20, lambda k: np.array([7, 40, 99], np.uint8)[halves(k)])
    data = load_data({"masks": {"root": str(tmp_path), "labels": ["a", "b"], "ids": [40, 7], "void": [99]}})
    _, maps = everything(data)
    assert set(np.unique(maps)) == {0, 1, 255}
    assert load_data({"masks": {"root": str(tmp_path)}}).labels == ("7", "40", "99")


def test_palettes_and_colors(tmp_path: Path) -> None:
    palette = [0, 0, 0, 128, 64, 128, 0, 255, 0]
    for name, mode in (("indexed", "P"), ("colored", "RGB")):
        write(tmp_path / name / "images", tmp_path / name / "masks", 20)
        for path in (tmp_path / name / "masks").iterdir():
            image = Image.fromarray(np.asarray(Image.open(path)), "L")
            image.putpalette(palette)
            image.convert(mode).save(path)
    indexed = load_data({"masks": {"root": str(tmp_path / "indexed"), "labels": ["a", "b", "c"]}})
    colors = ["#000000", [128, 64, 128], "00ff00"]
    colored = load_data({"masks": {"root": str(tmp_path / "colored"), "labels": ["a", "b", "c"], "colors": colors}})
    assert np.array_equal(everything(indexed)[1], everything(colored)[1])
    with pytest.raises(DataError, match=r"holds colors \(mode 'RGB'\), not ids"):
        load_data({"masks": {"root": str(tmp_path / "colored"), "labels": ["a", "b", "c"]}})
    with pytest.raises(DataError, match=r"1 color in the masks of no class.*\n  #00ff00: 1,248 pixels in 13 masks"):
        load_data({"masks": {"root": str(tmp_path / "colored"), "labels": ["a", "b"], "colors": colors[:2]}})


def test_unknown_ids_are_counted_and_named(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    mask = halves(0)
    mask[0, :3] = 77
    Image.fromarray(mask).save(own / "masks" / "004.png")
    given = {"root": str(own), "labels": ["a", "b", "c"]}
    with pytest.raises(DataError, match=r"1 id in.*\n  77: 3 pixels in 1 mask, first that of images/004.png"):
        load_data({"masks": given})
    with caplog.at_level(logging.WARNING):
        data = load_data({"masks": {**given, "unknown": "void"}})
    assert "77: 3 pixels" in caplog.text
    assert sum((everything(data, split)[1] == 255).sum() for split in ("train", "val", "test")) == 3


def test_missing_partners_other_sizes_and_damage_are_named(own: Path) -> None:
    (own / "masks" / "003.png").unlink()
    (own / "images" / "005.png").unlink()
    Image.fromarray(halves(0)[:-2]).save(own / "masks" / "007.png")
    (own / "masks" / "008.png").write_bytes((own / "masks" / "008.png").read_bytes()[:40])
    given = {"root": str(own), "labels": ["a", "b", "c"]}
    with pytest.raises(DataError) as caught:
        load_data({"masks": given})
    words = str(caught.value)
    assert "4 of 20 images cannot be used" in words
    assert "images/003.png has no mask" in words and "masks/005.png is the mask of no image" in words
    assert "images/007.png has 16x12 pixels and its mask 16x10: they must be equal" in words
    assert "008.png" in words
    data = load_data({"masks": {**given, "max_bad": 0.3}})
    assert len(data.train) + len(data.val) + len(data.test) == 16


def test_void_everywhere_and_classes_that_never_occur(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(20):
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(own / "masks" / f"{number:03}.png")
        if number % 2:
            Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(own / "masks" / f"{number:03}.png")
    with caplog.at_level(logging.WARNING):
        data = load_data({"masks": {"root": str(own), "labels": ["sky", "road"]}})
    assert 5 < len(data.train) < 11 and "void everywhere and are left out" in caplog.text
    assert "no training mask holds road" in caplog.text
    for number in range(20):
        Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).save(own / "masks" / f"{number:03}.png")
    with pytest.raises(DataError, match="every mask of the train split is void"):
        load_data({"masks": {"root": str(own), "labels": ["sky", "road"]}})
    with pytest.raises(DataError, match="nothing but void"):
        load_data({"masks": {"root": str(own)}})


def test_own_splits_and_missing_folders(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        write(tmp_path / split / "images", tmp_path / split / "masks", count)
    data = load_data({"masks": {"root": str(tmp_path), "labels": ["a", "b", "c"]}})
    assert [len(part) for part in (data.train, data.val, data.test)] == [6, 3, 2]
    with pytest.raises(DataError, match="has no folder 'images'"):
        load_data({"masks": {"root": str(tmp_path / "train" / "images")}})


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"size": [4, 40]}, "at least 8 pixels"),
        ({"labels": ["a"], "ids": [1, 2]}, "one of its own"),
        ({"labels": ["a"], "colors": ["#12345"]}, "a color is written"),
        ({"labels": ["a"], "colors": [[1, 2, 300]]}, "0..255"),
        ({"labels": ["a"], "ids": [70000]}, "an id is a number"),
        ({"labels": ["a"], "ids": [1], "colors": ["#000000"]}, "not both"),
        ({"void": ["#000000"]}, "an id is a number"),
        ({"labels": ["a", "b"], "ids": [4, 7], "void": [7]}, "7 is given to a label and is void"),
        ({"labels": ["a", "b"], "void": [1]}, "1 is given to a label and is void"),
        ({"limit": 0}, "limit"),
        ({"val": 0.5, "test": 0.5}, "together below 1"),
    ],
)
def test_fields_that_make_no_sense(fields: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        load_data({"masks": {"root": "x", **fields}})


def test_camvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        write(tmp_path / "camvid" / split, tmp_path / "camvid" / f"{split}annot", count, lambda k: halves(k, 12))
    monkeypatch.setenv("EDGEPRESS_DATA", str(tmp_path))
    data = load_data({"camvid": {"size": [24, 32], "limit": 5}})
    assert data.labels[:3] == ("sky", "building", "pole") and len(data.labels) == 11
    assert data.input.shape == (3, 24, 32) and [len(s) for s in (data.train, data.val, data.test)] == [5, 3, 4]
    with pytest.raises(DataError, match=r"no .*valannot"):
        (tmp_path / "camvid" / "valannot").rename(tmp_path / "elsewhere")
        load_data("camvid")


def test_cityscapes_maps_34_ids_to_19_classes(tmp_path: Path) -> None:
    ids = np.array([7, 8, 33, 0, 34 - 3], np.uint8)  # road, sidewalk, bicycle, unlabeled, train
    for split, count in (("train", 5), ("val", 2)):
        write(
            tmp_path / "leftImg8bit" / split / "ulm",
            tmp_path / "gtFine" / split / "ulm",
            count,
            lambda k: ids[halves(k, 5)],
            ("_leftImg8bit", "_gtFine_labelIds"),
        )
        Image.new("L", (4, 4)).save(tmp_path / "gtFine" / split / "ulm" / "000_gtFine_instanceIds.png")
    data = load_data({"cityscapes": {"root": str(tmp_path), "size": [12, 16], "val": 1}})
    assert data.labels == tuple(LABELS) and len(data.labels) == 19
    assert [len(part) for part in (data.train, data.val, data.test)] == [4, 1, 2]
    found = set(np.unique(np.concatenate([everything(data, s)[1] for s in ("train", "val", "test")])))
    assert found == {0, 1, 16, 18, 255}
    assert sorted(set(Cityscapes().coding().classes.values())) == [*range(19), 255]
    with pytest.raises(DataError, match="val takes 5 of 5"):
        load_data({"cityscapes": {"root": str(tmp_path), "val": 5}})


@pytest.mark.parametrize("old", [False, True])
def test_bdd100k_in_both_layouts(tmp_path: Path, old: bool) -> None:
    names = ("seg/images", "seg/labels") if old else ("images/10k", "labels/sem_seg/masks")
    for split, count in (("train", 5), ("val", 2)):
        endings = ("", "_train_id" if old else "")
        write(tmp_path / names[0] / split, tmp_path / names[1] / split, count, lambda k: halves(k, 19), endings)
    data = load_data({"bdd100k": {"root": str(tmp_path), "size": [12, 16], "val": 1}})
    assert data.labels == tuple(LABELS) and [len(s) for s in (data.train, data.val, data.test)] == [4, 1, 2]


def test_sixteen_bits_and_large_ids(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((6, 4), 300, np.uint16)).save(path)
    table = consecutive(("a",), void=(300,))
    assert (load_mask(path, table, InputSpec(3, 3)) == 255).all()
    assert open_mask(path).size == (4, 6)


@given(st.integers(8, 40), st.integers(8, 40), st.sampled_from(["stretch", "crop"]), st.integers(0, 10))
def test_masks_follow_their_images_through_every_resize(height: int, width: int, how: str, seed: int) -> None:
    """A mask drawn on the image itself still lies on it: the border between two classes moves by a pixel at most."""
    rng = np.random.default_rng(seed)
    split = int(rng.integers(5, 26))
    mask = np.zeros((32, 30), np.uint8)
    mask[:, split:] = 1
    spec = InputSpec(height, width, resize=how)  # pyright: ignore[reportArgumentType]
    seen = fit(Image.fromarray(np.stack([mask * 255] * 3, 2)), spec)[..., 0] > 127
    box = source_box((30, 32), spec)
    small = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST, box)) > 0
    assert np.abs(seen.sum(1).astype(int) - small.sum(1).astype(int)).max() <= 1


def test_camvid_as_it_is(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (real_data / "camvid").is_dir():
        pytest.skip("no camvid in EDGEPRESS_DATA")
    monkeypatch.setenv("EDGEPRESS_DATA", str(real_data))
    data = load_data({"camvid": {"limit": 12, "limit_eval": 4}})
    assert data.input.shape == (3, 180, 240) and len(data.train) == 12
    _, maps = everything(data)
    shares = np.bincount(maps.ravel(), minlength=256) / maps.size
    assert shares[3] > 0.2 and 0.01 < shares[255] < 0.1, "much road, some void"


def test_a_damaged_mask_goes_by_its_own_name(own: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = own / "masks" / "003.png"
    path.write_bytes(path.read_bytes()[:-30])
    (own / "images" / "000.png").write_bytes(b"no image")
    data = load_data({"masks": {"root": str(own), "max_bad": 0.1}})
    assert data.labels == ("0", "1", "2") and data.input.shape == (3, HEIGHT, WIDTH)
    assert "masks/003.png cannot be decoded" in caplog.text and "images/000.png cannot be decoded" in caplog.text


def test_masks_that_none_can_be_used_of(own: Path) -> None:
    for path in (own / "masks").iterdir():
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(DataError, match=r"not one mask can be used; .*png holds colors"):
        load_data({"masks": {"root": str(own)}})


def test_masks_of_32_bits(own: Path) -> None:
    for path in list((own / "masks").iterdir()):
        wide = Image.fromarray(np.asarray(Image.open(path)).astype(np.int32))
        path.unlink()
        wide.save(path.with_suffix(".tif"))
    data = load_data({"masks": {"root": str(own)}})
    images, maps = everything(data)
    assert np.array_equal(images[..., 0], maps * 20)
