import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest

import edgepress
from edgepress.core.errors import BundleError, EdgepressError
from edgepress.runtime.bundle import read_bundle, read_manifest, save_bundle


def refused(folder) -> str:
    with pytest.raises(BundleError) as caught:
        read_bundle(folder)
    return str(caught.value)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_read(program, bundle):
    assert read_bundle(bundle) == program
    assert names(bundle) == ["manifest.json", "model.onnx"]
    assert read_manifest(bundle).name == "bundle"


def test_saving_twice_gives_the_same_bytes(program, bundle):
    before = [(bundle / name).read_bytes() for name in names(bundle)]
    save_bundle(read_bundle(bundle), bundle)
    assert [(bundle / name).read_bytes() for name in names(bundle)] == before
    assert names(bundle.parent) == ["bundle"]


def test_a_name_in_the_provenance_is_the_name(program, tmp_path):
    save_bundle(replace(program, provenance={"name": "resnet8"}), tmp_path / "b")
    assert read_manifest(tmp_path / "b").name == "resnet8"


@pytest.mark.parametrize("where", ["manifest.json", "model.onnx"])
def test_a_missing_file(bundle, where):
    (bundle / where).unlink()
    assert where in refused(bundle)


def test_no_bundle_and_the_one_inside(bundle, tmp_path):
    assert "no bundle at" in refused(tmp_path / "nowhere")
    assert f"did you mean {bundle}?" in refused(tmp_path)
    (tmp_path / "file").write_text("")
    assert "no bundle at" in refused(tmp_path / "file")


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b""]
)
def test_a_changed_file(bundle, change):
    path = bundle / "model.onnx"
    path.write_bytes(change(path.read_bytes()))
    assert "copy or export it again" in refused(bundle)


def test_checksum_is_checked(bundle, edit):
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    assert "SHA-256" in refused(edit(files=[files[0] | {"sha256": "0" * 64}]))


def test_size_is_looked_at_before_reading(bundle):
    with open(bundle / "model.onnx", "r+b") as file:
        file.truncate(1 << 40)  # a hole of a terabyte
    assert "at most" in refused(bundle)
    with open(bundle / "manifest.json", "r+b") as file:
        file.truncate(1 << 40)
    assert "at most" in refused(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_links_are_not_followed(bundle, tmp_path, name):
    outside = tmp_path / "outside"
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)
    assert "symbolic link" in refused(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_a_manifest_that_points_outside(bundle, edit, tmp_path, name):
    (tmp_path / "outside").write_bytes(b"secret")
    assert "plain file name" in refused(edit(files=[{"name": name, "bytes": 6, "sha256": "0" * 64}]))


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_only_plain_files(bundle, kind):
    path = bundle / "model.onnx"
    path.unlink()
    os.mkfifo(path) if kind == "pipe" else path.mkdir()  # a pipe would block the reader for ever
    assert "not a plain file" in refused(bundle)


def test_unlisted_files_are_not_read(program, bundle):
    (bundle / "evil.pkl").write_bytes(b"\x80\x04")
    assert read_bundle(bundle) == program


def test_unsafe_names_are_not_written(program, tmp_path):
    for name in ("../x", "a/b", "manifest.json", ""):
        with pytest.raises(BundleError, match="plain file name"):
            save_bundle(replace(program, files={name: b""}), tmp_path / "b")
    with pytest.raises(BundleError, match="at least one"):
        save_bundle(replace(program, files={}), tmp_path / "b")
    assert names(tmp_path) == []


def test_no_other_folder_is_replaced(program, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(BundleError, match="not a bundle"):
        save_bundle(program, tmp_path / "photos")
    assert names(tmp_path / "photos") == ["a.jpg"]


def test_a_full_disk_leaves_the_old_bundle(program, bundle, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edgepress.core.files.os.fsync", fail)
    with pytest.raises(EdgepressError, match="the disk is full"):
        save_bundle(program.with_key("ffff"), bundle)
    assert read_bundle(bundle) == program and names(bundle.parent) == ["bundle"]


def test_load_answers(bundle):
    answer = edgepress.load(str(bundle))(np.full((20, 30, 3), (0, 0, 255), np.uint8))
    assert answer.label == "blue" and answer.score > 0.99


def test_load_refuses_an_unknown_runtime(edit):
    with pytest.raises(BundleError, match="unknown runtime 'onnxruntim'; did you mean 'onnxruntime'"):
        edgepress.load(edit(runtime="onnxruntim"))
