import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgepress.core.errors import DataError
from edgepress.core.inputs import InputSpec
from edgepress.data.resize import source_box
from edgepress.runtime.preprocess import prepare, to_input

SPEC = InputSpec(8, 8)
IMAGENET = InputSpec(224, 224, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize="crop", crop=0.875)

SQUARE = InputSpec(20, 20, resize="crop")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height, width):
    return np.asarray(Image.fromarray(noise(5, 7)).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", [(300, 400), (256, 256), (100, 999), (999, 100), (257, 301), (40, 30)])
@pytest.mark.parametrize("kind", [noise, smooth])
def test_crop_is_the_imagenet_evaluation_crop(size, kind):
    """As torchvision: `Resize(256)`, `CenterCrop(224)` of a PIL image, written out (importing it takes seconds)."""
    image = Image.fromarray(kind(*size))
    short, long = sorted(image.size)
    wide = image.width == long
    full = (int(256 * long / short), 256) if wide else (256, int(256 * long / short))
    left, top = (round((side - 224) / 2) for side in full)
    expected = image.resize(full, Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224))
    np.testing.assert_array_equal(prepare(image, IMAGENET), np.asarray(expected))


def test_a_long_image_is_resized_without_a_giant_in_between():
    strip = Image.fromarray(smooth(20, 400))  # one path from 16 times its width on, another below
    both = [prepare(strip.resize((width, 20)), SQUARE).astype(int) for width in (319, 321)]
    assert np.abs(both[0] - both[1]).mean() < 8
    assert prepare(np.zeros((1, 2_000_000, 3), np.uint8), IMAGENET).shape == (224, 224, 3)


def test_stretch_is_bilinear_on_both_sides():
    image = noise(30, 50)
    expected = Image.fromarray(image).resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(prepare(image, SPEC), np.asarray(expected))


def test_an_image_of_the_right_size_is_untouched():
    image = noise(8, 8)
    np.testing.assert_array_equal(prepare(image, SPEC), image)


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 300), st.integers(1, 300), st.floats(0.1, 1.0),
    st.sampled_from(["crop", "stretch"]),
)  # fmt: skip
def test_the_box_lies_in_the_image_and_is_centered(height, width, rows, columns, crop, resize):
    spec = InputSpec(rows, columns, resize=resize, crop=crop)
    left, top, right, bottom = source_box((width, height), spec)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    # At most one pixel of the resized image off the center.
    assert abs((left + right) / 2 - width / 2) <= (right - left) / columns
    assert abs((top + bottom) / 2 - height / 2) <= (bottom - top) / rows


@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 12), st.integers(1, 12),
    st.sampled_from(["RGB", "BGR", "L"]), st.sampled_from(["crop", "stretch"]),
)  # fmt: skip
def test_any_image_becomes_the_size_of_the_spec(height, width, rows, columns, color, resize):
    channels = 1 if color == "L" else 3
    half = (0.5,) * channels
    spec = InputSpec(rows, columns, channels, half, half, color, resize, 0.875)
    result = prepare(noise(height, width), spec)
    assert result.dtype == np.uint8 and result.shape == (rows, columns, channels)
    assert to_input(result[None], spec).shape == (1, *spec.shape)


def test_bgr_is_rgb_backwards():
    image = noise(8, 8)
    bgr = InputSpec(8, 8, color="BGR")
    np.testing.assert_array_equal(prepare(image, bgr), image[:, :, ::-1])


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "P", "PA", "L", "LA", "La", "1", "I;16"]
)
@pytest.mark.parametrize("color", ["RGB", "L"])
def test_every_common_mode_is_converted(mode, color):
    gray = Image.new("L", (8, 8), 255 if mode == "1" else 204)  # 204 lies in the palette of P
    through = {"La": "LA", "RGBa": "RGBA", "HSV": "RGB", "YCbCr": "RGB", "CMYK": "RGB", "PA": "P"}
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 204 * 256 + 17, np.uint16))
    else:
        image = gray.convert(through.get(mode, mode)).convert(mode)
    assert image.mode == mode
    half = (0.5,) * (1 if color == "L" else 3)
    result = prepare(image, InputSpec(8, 8, len(half), half, half, color))
    assert abs(result.astype(int) - gray.getpixel((0, 0))).max() <= 2


def test_a_palette_with_transparency_as_bytes(tmp_path):
    image = Image.fromarray(noise(8, 8)).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(prepare(tmp_path / "a.png", SPEC), expected)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_range(mode):
    with pytest.raises(DataError, match="no fixed range"):
        prepare(Image.new(mode, (8, 8)), SPEC)


def test_exif_turns_the_image_upright(tmp_path):
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:4] = 255  # bright above
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned: "rotate by 90 degrees clockwise to view"
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(prepare(tmp_path / "a.png", SPEC), upright)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(prepare(opened, SPEC), upright)


def giant_png(side: int) -> bytes:
    """Return a PNG file of a few bytes whose header states `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [30_000, 12_000, 9_450])  # Pillow: an error, a warning, nothing
def test_a_giant_is_refused_by_its_header(tmp_path, side):
    path = tmp_path / "giant.png"
    path.write_bytes(giant_png(side))
    with pytest.raises(DataError, match="89000000"):
        prepare(path, SPEC)


def test_a_giant_array_is_refused():
    giant = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (30_000, 30_000), (0, 0))
    with pytest.raises(DataError, match="89000000"):
        prepare(giant, SPEC)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow reads on, with a warning, where only the EXIF is damaged
@given(st.binary(max_size=60), st.integers(0, 10_000), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
def test_damaged_files_are_refused_or_read(tmp_path_factory, patch, position, form):
    path = tmp_path_factory.mktemp("damage") / f"a.{form.lower()}"
    Image.fromarray(noise(16, 16)).save(path, form)
    good = path.read_bytes()
    position %= len(good)
    for data in (good[:position], good[:position] + patch + good[position + len(patch) :]):
        path.write_bytes(data)
        try:
            assert prepare(path, SPEC).shape == (8, 8, 3)
        except DataError as error:
            assert str(path) in str(error)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    for path, part in ((tmp_path / "a.txt", "not an image"), (tmp_path / "none.png", "no such"), (tmp_path, "no such"),
                       ("a\0b", "no such")):  # fmt: skip
        with pytest.raises(DataError, match=part):
            prepare(path, SPEC)


@pytest.mark.parametrize(
    ("array", "part"),
    [
        (np.zeros((8, 8, 3), np.float32), "must be uint8, got float32; .*astype"),
        (np.full((8, 8, 3), np.nan, np.float32), "NaN"),
        (np.zeros((8, 8, 3), np.int64), "must be uint8, got int64"),
        (np.zeros((3, 8, 8), np.uint8), "channels come last"),
        (np.zeros((8, 8, 2), np.uint8), "shape"),
        (np.zeros((8,), np.uint8), "shape"),
        (np.zeros((0, 8, 3), np.uint8), "shape"),
        (np.zeros((1, 1, 8, 8, 3), np.uint8), "shape"),
    ],
)
def test_arrays_that_do_not_fit(array, part):
    with pytest.raises(DataError, match=part):
        prepare(array, SPEC)


def test_arrays_of_gray_and_alpha():
    gray = noise(8, 8)[..., 0]
    expected = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(prepare(gray, SPEC), expected)
    np.testing.assert_array_equal(prepare(gray[..., None], SPEC), expected)
    rgba = np.concatenate([noise(8, 8), np.zeros((8, 8, 1), np.uint8)], axis=2)
    np.testing.assert_array_equal(prepare(rgba, SPEC), rgba[..., :3])


def test_a_view_that_is_not_contiguous():
    image = noise(16, 16)
    np.testing.assert_array_equal(prepare(image[::2, ::-2], SPEC), image[::2, ::-2])


def test_input_by_hand():
    spec = InputSpec(1, 2, 3, (0.0, 0.5, 0.25), (1.0, 0.5, 0.25))
    images = np.array([[[[255, 0, 0], [0, 255, 255]]]], np.uint8)
    expected = np.array([[[[1, 0]], [[-1, 1]], [[-1, 3]]]], np.float32)
    np.testing.assert_allclose(to_input(images, spec), expected, atol=1e-6)


def test_input_is_what_the_network_was_trained_on():
    torch = pytest.importorskip("torch")
    inputs = pytest.importorskip("edgepress.models.inputs")
    images = np.stack([noise(224, 224, seed) for seed in range(2)])
    trained = inputs.normalize(torch.from_numpy(images).permute(0, 3, 1, 2), IMAGENET)
    np.testing.assert_array_equal(to_input(images, IMAGENET), trained.numpy())
