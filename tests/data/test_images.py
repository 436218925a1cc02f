import io
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data import images
from edgepress.data.images import BadImageError, check_bad, check_image, decode_all, load_array, open_image
from edgepress.data.resize import upright
from edgepress.runtime.preprocess import prepare

SPEC = InputSpec(8, 8)
GRAY = InputSpec(8, 8, channels=1, mean=(0.5,), std=(0.5,), color="L")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 204, 51)])
@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str, color: tuple[int, ...]) -> None:
    image = Image.new("RGB", (8, 8), color).convert(mode)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    assert np.abs(load_array(data, SPEC).astype(int) - color).max() <= 1


def test_gray_and_sixteen_bit_images_keep_their_brightness() -> None:
    assert load_array(encoded(Image.new("L", (8, 8), 77), "PNG"), SPEC).tolist() == np.full((8, 8, 3), 77).tolist()
    deep = Image.fromarray(np.full((8, 8), 0x8080, np.uint16))
    assert np.unique(load_array(encoded(deep, "PNG"), GRAY)).tolist() == [128]


def test_transparency_is_dropped() -> None:
    clear = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    assert np.unique(load_array(encoded(clear, "PNG"), SPEC).reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([9, 99, 199])
    assert load_array(encoded(palette, "PNG", transparency=b"\0"), SPEC)[0, 0].tolist() == [9, 99, 199]


def test_pixels_without_a_fixed_range_are_refused() -> None:
    with pytest.raises(BadImageError, match="no fixed range"):
        load_array(encoded(Image.new("F", (8, 8), 0.5), "TIFF"), SPEC)


@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
@pytest.mark.parametrize("size", [(100, 61), (61, 100), (20, 20), (7, 300)])
def test_training_sees_what_the_deployed_file_sees(
    resize: Literal["crop", "stretch"], mode: str, size: tuple[int, int], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(noise)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "image.png")
    spec = InputSpec(24, 24, resize=resize, crop=0.875)
    path = tmp_path / "image.png"
    assert np.abs(load_array(path, spec).astype(int) - prepare(path, spec)).max() <= 1


def test_the_orientation_of_a_camera_is_respected() -> None:
    image = Image.new("RGB", (16, 8))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees clockwise to show"
    upright = open_image(encoded(image, "JPEG", exif=exif, quality=95))
    assert upright.size == (8, 16)
    assert np.asarray(upright)[:6].mean() > 240 and np.asarray(upright)[10:].mean() < 15


def test_the_standard_crop_resizes_the_shorter_side_to_256_and_cuts_the_center() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8))
    spec = InputSpec(224, 224, resize="crop", crop=0.875)
    expected = image.resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 58 + 224, 16 + 224))
    assert np.array_equal(load_array(encoded(image, "PNG"), spec), np.asarray(expected))
    tall = image.transpose(Image.Transpose.ROTATE_90)
    expected = tall.resize((256, 341), Image.Resampling.BILINEAR).crop((16, 58, 16 + 224, 58 + 224))
    assert np.array_equal(load_array(encoded(tall, "PNG"), spec), np.asarray(expected))


@pytest.mark.parametrize("size", [(1, 200_000), (200_000, 1)])
def test_a_very_long_image_takes_no_giant_in_between(size: tuple[int, int]) -> None:
    """Its shorter side at 256, this one would have 13 billion pixels."""
    data = encoded(Image.new("L", size, 90), "PNG")
    assert np.unique(load_array(data, InputSpec(224, 224, resize="crop", crop=0.875))).tolist() == [90]


def test_a_large_jpeg_read_at_a_fraction_of_its_size_looks_the_same() -> None:
    y, x = np.mgrid[:512, :512] / 512
    photo = Image.fromarray((np.stack([x, y, x * y], -1) * 255).astype(np.uint8))
    data = encoded(photo, "JPEG", quality=95)
    full = np.asarray(Image.open(io.BytesIO(data)).resize((32, 32), Image.Resampling.BILINEAR), int)
    assert np.abs(load_array(data, InputSpec(32, 32)) - full).max() <= 3


@pytest.mark.parametrize("side", [30_000, 10_000])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(side: int, huge_png: Callable[[int], bytes]) -> None:
    data = huge_png(side)
    assert len(data) < 200
    with pytest.raises(BadImageError, match=r"pixels"):
        load_array(data, SPEC)
    assert "pixels" in (check_image(data) or "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_truncated_image_is_refused(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), kind)
    assert load_array(data, SPEC).shape == (8, 8, 3) and check_image(data) is None
    with pytest.raises(BadImageError):
        load_array(data[: len(data) // 2], SPEC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_quick_check_sees_a_missing_end_but_not_bytes_added(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    data = encoded(Image.fromarray(pixels), kind)
    assert check_image(data[: len(data) // 2]) is not None
    assert check_image(data + b"\0" * 10_000) is None


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of damage that it can live with
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]), st.data())
def test_damaged_bytes_give_an_image_or_a_bad_image_error(kind: str, data: st.DataObject) -> None:
    raw = bytearray(encoded(Image.new("RGB", (16, 16), (9, 99, 199)), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert load_array(bytes(raw), SPEC).shape == (8, 8, 3)
    except BadImageError as error:
        assert str(error)


def test_bad_images_are_named_and_left_out_up_to_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    good = encoded(Image.new("RGB", (8, 8), 50), "PNG")
    arrays, kept, bad = decode_all([good, b"nonsense", good], ["a", "b", "c"], SPEC)
    assert arrays.shape == (2, 8, 8, 3) and kept.tolist() == [0, 2]
    assert len(bad) == 1 and bad[0].startswith("b cannot be decoded")
    check_bad(bad, 3, 0.5, "somewhere")
    assert "1 of 3 images" in caplog.text and "b cannot" in caplog.text
    with pytest.raises(DataError, match=r"(?s)somewhere: 1 of 3 .*0\.1.*b cannot"):
        check_bad(bad, 3, 0.1, "somewhere")


def test_a_file_that_is_not_there_is_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="FileNotFoundError"):
        open_image(tmp_path / "none.png")


def test_the_limit_is_where_pillow_only_begins_to_warn() -> None:
    assert Image.MAX_IMAGE_PIXELS == images.MOST_PIXELS


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nquit\n", b"DDS |\0\0\0" + bytes(124)]
)
def test_only_the_formats_of_images_are_opened(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("gs", "gswin32c"):
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "cat.jpg"
    path.write_bytes(content)
    assert "cannot be decoded" in str(check_image(content))
    with pytest.raises(BadImageError, match="cannot be decoded"):
        load_array(path, SPEC)
    with pytest.raises(DataError, match="not an image of the formats BMP, GIF, JPEG"):
        prepare(path, SPEC)
    assert not (tmp_path / "ran").exists()


def test_an_upright_image_is_not_copied() -> None:
    plain = Image.new("RGB", (4, 8))
    assert upright(plain) is plain
    plain.getexif()[0x0112] = 6
    assert upright(plain).size == (8, 4)
