import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepress.core.errors import ConfigError, DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.download import fetch_archive
from edgepress.data.load import load_data
from edgepress.data.parquet import read_parquet
from edgepress.data.pickles import read_batch
from edgepress.data.sets.cifar import Cifar10, Cifar100

REAL = os.environ.get("EDGEPRESS_DATA")


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def write_batch(path: Path, images: np.ndarray, labels: list[int], key: str = "labels") -> None:
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({b"batch_label": b"a batch", b"data": rows, key.encode(): labels}, protocol=2))


def torchvision_folder(root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    for number in range(1, 6):
        write_batch(folder / f"data_batch_{number}", pixels(20, number), [i % 10 for i in range(20)])
    write_batch(folder / "test_batch", pixels(20, 9), [i % 10 for i in range(20)])
    return folder


def parquet_folder(root: Path, label: str = "label", column: str = "img", broken: tuple[int, ...] = ()) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    root.mkdir(parents=True)
    for split, count in (("train", 100), ("test", 20)):
        cells = []
        for number, image in enumerate(pixels(count, count)):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            data = buffer.getvalue()
            cells.append({"bytes": data[:60] if split == "train" and number in broken else data, "path": None})
        table = arrow.table({column: cells, label: [i % 10 for i in range(count)]})
        parquet.write_table(table, root / f"{split}.parquet")
    return root


def test_a_torchvision_folder_is_read_pixel_by_pixel(tmp_path: Path) -> None:
    torchvision_folder(tmp_path)
    data = Cifar10(root=str(tmp_path), val=20).load()
    assert (len(data.train), len(data.val), len(data.test)) == (80, 20, 20)
    images, targets = data.test.read(np.arange(20))
    assert np.array_equal(images, pixels(20, 9)) and targets.tolist() == [i % 10 for i in range(20)]
    assert np.bincount(data.val.read(np.arange(20))[1]).tolist() == [2] * 10
    assert data.labels[3] == "cat" and data.signature.input.shape == (3, 32, 32)


def test_train_and_val_hold_each_image_of_train_once(tmp_path: Path) -> None:
    folder = torchvision_folder(tmp_path)
    data = Cifar10(root=str(folder), val=30, seed=3).load()
    seen = np.concatenate([data.train.read(np.arange(70))[0], data.val.read(np.arange(30))[0]])
    whole = np.concatenate([pixels(20, number) for number in range(1, 6)])
    assert sorted(image.tobytes() for image in seen) == sorted(image.tobytes() for image in whole)


@pytest.mark.parametrize("column", ["img", "image"])
def test_parquet_is_read_and_a_second_time_from_the_cache(
    tmp_path: Path, cache: Path, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPRESS_DATA", str(tmp_path))
    parquet_folder(tmp_path / "cifar10", column=column)
    first = Cifar10(val=20).load()
    assert np.array_equal(first.test.read(np.arange(20))[0], pixels(20, 20))
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}
    assert len(times) == 6
    second = Cifar10(val=20).load()
    assert first.fingerprint == second.fingerprint
    assert times == {path: path.stat().st_mtime_ns for path in cache.rglob("*.npy")}


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    parquet_folder(tmp_path / "a", label="fine_label")
    write_batch(
        tmp_path / "b" / "cifar-100-python" / "train", pixels(300, 0), [i % 100 for i in range(300)], "fine_labels"
    )
    write_batch(tmp_path / "b" / "cifar-100-python" / "test", pixels(100, 1), list(range(100)), "fine_labels")
    assert len(Cifar100(root=str(tmp_path / "a"), val=10).load().train) == 90
    data = Cifar100(root=str(tmp_path / "b"), val=100).load()
    assert len(data.labels) == 100 == len(set(data.labels)) and data.labels[99] == "worm"
    assert np.bincount(data.val.read(np.arange(100))[1]).tolist() == [1] * 100


def test_the_fingerprint_follows_content_and_split_not_the_path(tmp_path: Path) -> None:
    torchvision_folder(tmp_path / "a")
    torchvision_folder(tmp_path / "b")
    base = Cifar10(root=str(tmp_path / "a"), val=20).load().fingerprint
    assert Cifar10(root=str(tmp_path / "b"), val=20).load().fingerprint == base
    others = [
        Cifar10(root=str(tmp_path / "a"), **change).load().fingerprint
        for change in ({"val": 30}, {"val": 20, "seed": 1}, {"val": 20, "limit": 10}, {"val": 20, "limit_eval": 10})
    ]
    write_batch(tmp_path / "b" / "cifar-10-batches-py" / "test_batch", pixels(20, 10), [0] * 20)
    others.append(Cifar10(root=str(tmp_path / "b"), val=20).load().fingerprint)
    assert len({base, *others}) == 6


def test_images_are_enlarged_as_they_are_read(tmp_path: Path) -> None:
    torchvision_folder(tmp_path)
    plain, large = (Cifar10(root=str(tmp_path), val=20, size=size).load() for size in (None, 96))
    assert (large.input.height, large.input.width, large.input.mean) == (96, 96, plain.input.mean)
    assert plain.fingerprint != large.fingerprint and plain.train.resident and not large.train.resident
    few = np.array([3, 1])
    (small, names), (images, same) = plain.val.read(few), large.val.read(few)
    assert images.shape == (2, 96, 96, 3) and images.dtype == np.uint8 and names.tolist() == same.tolist()
    assert (images[:, 1::3, 1::3] == small).all(), "the middle of nine pixels is the one they came from"
    with pytest.raises(ValueError, match="size must be 8 to 1024 pixels"):
        Cifar10(size=4)


def test_limits_keep_every_class(tmp_path: Path) -> None:
    torchvision_folder(tmp_path)
    data = Cifar10(root=str(tmp_path), val=20, limit=10, limit_eval=10).load()
    assert sorted(data.train.read(np.arange(10))[1].tolist()) == list(range(10))
    assert len(data.train) == len(data.val) == len(data.test) == 10


def test_calibration_images_are_training_images(tmp_path: Path) -> None:
    torchvision_folder(tmp_path)
    data = Cifar10(root=str(tmp_path), val=20).load()
    known = {image.tobytes() for image in data.train.read(np.arange(80))[0]}
    drawn = data.calibration(16, seed=1)
    assert drawn.shape == (16, 32, 32, 3) and {image.tobytes() for image in drawn} <= known


def test_damaged_rows_are_left_out_and_too_many_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parquet_folder(tmp_path / "one", broken=(41,))
    for _ in range(2):  # decoded, then cached: the warning comes each time
        caplog.clear()
        assert len(Cifar10(root=str(tmp_path / "one"), val=20).load().train) == 79
        assert "train.parquet row 41" in caplog.text
    parquet_folder(tmp_path / "two", broken=(3, 41))
    with pytest.raises(DataError, match=r"(?s)2 of 100.*row 3 .*row 41"):
        Cifar10(root=str(tmp_path / "two"), val=20).load()


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, size: int) -> None:
    parquet_folder(tmp_path / "p")
    path = tmp_path / "p" / "train.parquet"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"train\.parquet cannot be read as parquet"):
        Cifar10(root=str(tmp_path / "p")).load()


def test_a_missing_column_is_an_error_that_lists_the_columns(tmp_path: Path) -> None:
    parquet_folder(tmp_path / "p", label="klass")
    with pytest.raises(DataError, match=r"no column 'label'.*img, klass"):
        Cifar10(root=str(tmp_path / "p")).load()


def test_labels_out_of_range_are_refused(tmp_path: Path) -> None:
    folder = torchvision_folder(tmp_path)
    write_batch(folder / "test_batch", pixels(3, 1), [1, 2, 10])
    with pytest.raises(DataError, match=r"0\.\.9"):
        Cifar10(root=str(tmp_path), val=20).load()


class Evil:
    """What it does when unpickled is to leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_does_nothing(tmp_path: Path, protocol: int) -> None:
    folder, loot = torchvision_folder(tmp_path), tmp_path / "loot"
    (folder / "test_batch").write_bytes(pickle.dumps({"data": Evil(loot), "labels": [1]}, protocol=protocol))
    with pytest.raises(DataError, match="mkdir"):
        Cifar10(root=str(tmp_path), val=20).load()
    assert not loot.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        pickle.dumps([1, 2]),
        pickle.dumps({"labels": [1]}),
        pickle.dumps({"data": 7, "labels": [1]}),
        pickle.dumps({"data": np.zeros((1, 3072), np.float32), "labels": [1]}, protocol=2),
        pickle.dumps({"data": np.array([{}], dtype=object), "labels": [1]}, protocol=2),
        pickle.dumps({"data": np.zeros((1, 3071), np.uint8), "labels": [1]}, protocol=2),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["x"]}, protocol=2),
    ],
)
def test_pickles_of_anything_else_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "batch"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a CIFAR batch"):
        read_batch(path, ("labels",))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pickles_give_a_batch_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged_batch"
    write_batch(path, np.zeros((1, 32, 32, 3), np.uint8), [1])
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 160))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw[: data.draw(st.integers(1, len(raw)))]))
    try:
        assert read_batch(path, ("labels",))[0].shape[1:] == (32, 32, 3)
    except DataError as error:
        assert "not a CIFAR batch" in str(error)


def test_an_absent_data_set_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRESS_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError, match=r"mine/cifar10.*the cache/cifar10.*download: true"):
        Cifar10().load()
    with pytest.raises(DataError, match="elsewhere"):
        Cifar10(root=str(tmp_path / "elsewhere"), download=True).load()
    assert "mine" in (Cifar10().available() or "")


@pytest.mark.parametrize("fields", [{"val": 0}, {"limit": 0}, {"limit_eval": -1}, {"vall": 3}, {"val": "many"}])
def test_wrong_fields_are_config_errors(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="data 'cifar10'"):
        load_data({"cifar10": fields})


def test_val_must_leave_something_to_train_on(tmp_path: Path) -> None:
    torchvision_folder(tmp_path)
    with pytest.raises(DataError, match="val takes 100 of 100"):
        Cifar10(root=str(tmp_path), val=100).load()


def archive(path: Path, *members: str) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_archive_is_checked_then_unpacked(tmp_path: Path) -> None:
    checksum = archive(tmp_path / "a.tar.gz", "folder/one", "folder/two")
    fetch_archive((tmp_path / "a.tar.gz").as_uri(), checksum, tmp_path / "out")
    assert (tmp_path / "out" / "folder" / "two").read_bytes() == b"hello"
    with pytest.raises(DataError, match="expected 0000"):
        fetch_archive((tmp_path / "a.tar.gz").as_uri(), "0" * 64, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    checksum = archive(tmp_path / "a.tar.gz", "../escaped")
    with pytest.raises(DataError, match="outside"):
        fetch_archive((tmp_path / "a.tar.gz").as_uri(), checksum, tmp_path / "out")
    assert not (tmp_path / "escaped").exists()


def test_no_network_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot download"):
        fetch_archive((tmp_path / "missing.tar.gz").as_uri(), "0" * 64, tmp_path / "out")


@pytest.mark.skipif(REAL is None, reason="EDGEPRESS_DATA is not set")
@pytest.mark.slow
def test_the_real_cifar10_has_its_published_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPRESS_DATA", str(REAL))
    data = Cifar10().load()
    images, targets = data.train.read(np.arange(len(data.train)))
    assert (len(data.train), len(data.val), len(data.test)) == (45000, 5000, 10000)
    assert np.bincount(targets).tolist() == [4500] * 10
    assert np.allclose(images.mean((0, 1, 2)) / 255, data.input.mean, atol=1e-3)
    assert np.allclose(images.std((0, 1, 2)) / 255, data.input.std, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (["a", "b"], [0, 1], "column 'img' holds string, not encoded images"),
        ([b"a", b"b"], ["cat", "dog"], "column 'label' holds string, not the numbers of classes"),
        ([b"a", b"b"], [0.7, 1.7], "column 'label' holds double"),
    ],
)
def test_columns_of_other_types_are_refused(tmp_path: Path, images: list, labels: list, words: str) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"img": images, "label": labels}), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=words):
        read_parquet([tmp_path / "train.parquet"], ["img"], ["label"], InputSpec(8, 8))


def test_images_may_be_plain_bytes(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 199)).save(buffer, "PNG")
    parquet.write_table(arrow.table({"img": [buffer.getvalue()], "label": [3]}), tmp_path / "train.parquet")
    found = read_parquet([tmp_path / "train.parquet"], ["img"], ["label"], InputSpec(8, 8))
    assert found["targets"].tolist() == [3] and found["images"][0, 0, 0].tolist() == [9, 99, 199]
