"""Every way in which an image can be stored, and every way in which a file can be no image."""

import io
import os
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from tledge.errors import InputError
from tledge.inputs import image as images
from tledge.inputs.image import MAX_PIXELS, Facts, ImageInput, check, decode

COLOURS = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def pixels(value):
    decoded = decode(value)
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


def saved(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width, height):
    """The smallest PNG file that claims to be so large."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def refused(value, *parts):
    with pytest.raises(InputError) as caught:
        decode(value)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message
    return message


def test_every_kind_of_value(tmp_path):
    path = tmp_path / "a photo.png"
    Image.fromarray(COLOURS).save(path)
    data = path.read_bytes()
    values = [path, str(path), data, bytearray(data), memoryview(data), Image.open(path), Image.fromarray(COLOURS)]
    values += [COLOURS, {"path": str(path), "bytes": None}, {"bytes": data}, {"bytes": data, "path": "elsewhere.png"}]
    for value in values:
        np.testing.assert_array_equal(pixels(value), COLOURS)
        check(value)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (COLOURS[..., 0], np.repeat(COLOURS[..., :1], 3, axis=2)),
        (COLOURS[..., :1], np.repeat(COLOURS[..., :1], 3, axis=2)),
        (np.concatenate([COLOURS, COLOURS[..., :1]], axis=2), COLOURS),
        (COLOURS.astype(np.uint16) * 256 + 255, COLOURS),
        (COLOURS[..., 0].astype(np.uint16) * 256, np.repeat(COLOURS[..., :1], 3, axis=2)),
        (COLOURS[::-1, ::2], COLOURS[::-1, ::2]),
    ],
)
def test_arrays(array, expected):
    np.testing.assert_array_equal(pixels(array), expected)


@pytest.mark.parametrize(
    "array", [COLOURS.astype(np.float32), COLOURS.astype(np.int64), COLOURS[0, 0], COLOURS[None], COLOURS[:0],
              COLOURS[..., :2], COLOURS > 9, np.array("photo.jpg")],
)  # fmt: skip
def test_arrays_that_are_no_images(array):
    refused(array, "of uint8 or uint16", f"got {array.shape} of {array.dtype}")


GREY = np.arange(0, 65536, 911, dtype=np.uint16).reshape(8, 9)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits(kind):
    image = Image.fromarray(GREY)
    assert image.mode == "I;16"
    expected = np.repeat((GREY // 256).astype(np.uint8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(pixels(saved(image, kind)), expected)
    np.testing.assert_array_equal(pixels(image), expected)
    np.testing.assert_array_equal(pixels(Image.fromarray(GREY.astype(np.int32))), expected)  # mode I
    np.testing.assert_array_equal(pixels(GREY), expected)


def test_numbers_beyond_sixteen_bits_are_clipped():
    image = Image.fromarray(np.array([[-5, 70_000, 32_768]], dtype=np.int32))
    assert pixels(image)[0, :, 0].tolist() == [0, 255, 128]


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "PNG", (255, 255, 255)),
        ("L", "PNG", (59, 59, 59)),  # 0.299 * 200 of red
        ("LA", "PNG", (59, 59, 59)),
        ("P", "PNG", (200, 0, 0)),
        ("P", "GIF", (200, 0, 0)),
        ("RGBA", "PNG", (200, 0, 0)),
        ("CMYK", "TIFF", (200, 0, 0)),
        ("YCbCr", "TIFF", (200, 0, 0)),
        ("RGB", "BMP", (200, 0, 0)),
        ("RGB", "WEBP", (200, 0, 0)),
        ("RGB", "JPEG", (200, 0, 0)),
    ],
)
def test_modes(mode, kind, expected):
    image = Image.new("RGB", (5, 4), (200, 0, 0))
    made = {"1": Image.new("1", (5, 4), 1), "P": image.quantize(4)}
    image = made[mode] if mode in made else image.convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    assert np.abs(pixels(saved(image, kind, **options)).astype(int) - expected).max() <= 2


def test_cmyk_jpeg_equals_pillow():
    image = Image.fromarray(COLOURS).convert("CMYK")
    data = saved(image, "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    np.testing.assert_array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_transparency_is_dropped_without_a_warning():
    clear = np.dstack([COLOURS, np.zeros((6, 9), np.uint8)])
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(clear))), COLOURS)
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for transparency in (0, bytes([0, 128])):
            data = saved(palette, transparency=transparency)
            np.testing.assert_array_equal(pixels(data), [[[10, 20, 30], [40, 50, 60]]])


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "TIFF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(pixels(data).astype(int) - (255, 0, 0)).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation):
    """The eight ways in which a camera can store the same upright picture."""
    stored = {
        1: COLOURS, 2: COLOURS[:, ::-1], 3: COLOURS[::-1, ::-1], 4: COLOURS[::-1],
        5: COLOURS.transpose(1, 0, 2), 6: np.rot90(COLOURS, 1), 7: np.rot90(COLOURS, 2).transpose(1, 0, 2),
        8: np.rot90(COLOURS, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(pixels(data), COLOURS)
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), COLOURS)
    np.testing.assert_array_equal(pixels(decode(data)), COLOURS, err_msg="turned twice")


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\xff" * 40])
def test_broken_exif_is_no_orientation(exif):
    data = saved(Image.new("RGB", (4, 3), "red"), "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(data).shape == (3, 4, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated(kind, share, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, str(path))
    refused(path.read_bytes(), f"an image of {int(len(data) * share)} bytes")
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_damaged_in_the_middle():
    """Whatever a reader trips over is one line; most damage is not noticed by any reader."""
    rng = np.random.default_rng(3)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        data = saved(Image.fromarray(COLOURS), kind)
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), 3):
                broken[at] = rng.integers(0, 256)
            try:
                pixels(bytes(broken))
            except InputError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"Not an image, but renamed.", b"<svg/>", b"%PDF-1.4"])
def test_no_image(content, tmp_path):
    path = tmp_path / "text.png"
    path.write_bytes(content)
    refused(path, f"{path} is no image")
    with pytest.raises(InputError, match="is no image"):
        check(path)


def test_formats_that_need_another_program_are_refused(tmp_path):
    path = tmp_path / "drawing.eps"
    Image.new("RGB", (4, 4)).save(path)
    refused(path, "EPS", "PNG")


def test_missing_folder_and_unreadable(tmp_path, monkeypatch):
    refused(tmp_path / "nowhere.jpg", "nowhere.jpg does not exist")
    refused(tmp_path, "is a folder")
    refused("nul\0byte.jpg", "does not exist")
    refused("", "is a folder") if os.name != "nt" else None
    path = tmp_path / "locked.png"
    Image.fromarray(COLOURS).save(path)
    if sys.platform != "win32" and os.geteuid() != 0:
        path.chmod(0)
        refused(path, "locked.png cannot be read: Permission denied")

    def locked(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)
    refused(path, "locked.png cannot be read: Permission denied")


def test_name_with_a_line_break_stays_one_line(tmp_path):
    refused(tmp_path / "a\nb.jpg", "a b.jpg does not exist")


@pytest.mark.parametrize("value", [None, 5, 1.5, ["a.jpg"], object(), {}, {"bytes": None, "path": None}, {"image": 1}])
def test_other_values(value):
    refused(value, "expected")


def test_mapping_is_named_by_its_path():
    refused({"bytes": b"nothing", "path": "cats/7.jpg"}, "cats/7.jpg is no image")


@pytest.mark.parametrize(
    ("width", "height"), [(20_000, 20_000), (9_600, 9_600), (100_000, 895), (2**31 - 1, 2**31 - 1)]
)
def test_bombs_are_refused_by_their_header(width, height, tmp_path):
    """Without the warning of Pillow, and without its global limit being changed."""
    limit = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(path, str(path), "pixels", "smaller")
        with pytest.raises(InputError):
            check(path)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_largest_image_is_no_bomb():
    side = int(MAX_PIXELS**0.5)
    check(png(side, side))
    refused(png(side, side), "is damaged")  # there are no pixels behind the header


def test_fractions_have_no_known_range():
    refused(Image.fromarray(np.ones((3, 3), np.float32)), "fractions")


def test_suffixes():
    known = images.suffixes()
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".bmp", ".gif"} <= known
    assert not {".eps", ".pdf", ".txt", ".mpg"} & known


def test_threads_share_one_object(tmp_path):
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.roll(COLOURS, i, axis=0)).save(paths[-1])
    ours = ImageInput(Facts((8, 8), 8, "bicubic", (0.5,) * 3, (0.5,) * 3))
    expected = [ours.encode([path])["pixel_values"] for path in paths]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: ours.encode([paths[i % 6]])["pixel_values"], range(120)))
    assert all(np.array_equal(result, expected[i % 6]) for i, result in enumerate(results))
