from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from oracle_files import oracle
from PIL import Image

from segzoo import kernels
from segzoo.data.read import decode_label, read_image, read_label
from segzoo.errors import DatasetError


def picture(height=31, width=47):
    """A smooth picture [H, W, 3], so that JPEG keeps it nearly as it is."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 4, (rows + columns) * 2], axis=-1).astype(np.uint8)


def jpeg_bytes(**options):
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "JPEG", quality=95, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def test_png_comes_as_rgb_pixel_by_pixel(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    assert np.array_equal(image, picture())


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (5, lambda image: image.transpose(1, 0, 2)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda image: np.rot90(image)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, orientation, turned):
    (tmp_path / "upright.jpg").write_bytes(jpeg_bytes())
    (tmp_path / "turned.jpg").write_bytes(jpeg_bytes(exif=exif(orientation)))
    upright, image = read_image(tmp_path / "upright.jpg"), read_image(tmp_path / "turned.jpg")
    assert np.array_equal(image, turned(upright))


def test_grey_is_repeated_in_three_channels(tmp_path):
    grey = picture()[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.repeat(grey[..., None], 3, axis=-1))


def test_alpha_is_dropped_without_compositing(tmp_path):
    colours = picture()
    Image.fromarray(np.dstack([colours, np.zeros(colours.shape[:2], np.uint8)])).save(tmp_path / "clear.png")
    assert np.array_equal(read_image(tmp_path / "clear.png"), colours)


def test_grey_with_alpha_and_palettes_become_colours(tmp_path):
    grey = picture()[..., 0]
    Image.fromarray(np.dstack([grey, 255 - grey])).save(tmp_path / "la.png")
    assert np.array_equal(read_image(tmp_path / "la.png"), np.repeat(grey[..., None], 3, axis=-1))
    palette = Image.fromarray((grey // 64).astype(np.uint8)).convert("P")
    palette.putpalette([200, 10, 30, 1, 2, 3, 0, 255, 0, 9, 9, 9])
    palette.save(tmp_path / "p.png")
    assert np.array_equal(read_image(tmp_path / "p.png"), np.array(palette.convert("RGB")))


def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path):
    values = np.array([[0, 0x00FF, 0x0100], [0x12FF, 0xFE80, 0xFFFF]], np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), np.dstack([values] * 3))
    assert read_image(tmp_path / "deep.png")[..., 0].tolist() == [[0, 0, 1], [0x12, 0xFE, 0xFF]]


def test_the_recorded_pictures_decode_to_the_recorded_pixels():
    folder = oracle("protocol/images")
    facts = json.loads((folder.parent / "preprocess/images.json").read_text())
    checked = 0
    for name, fact in facts.items():
        image = read_image(folder / name)
        assert list(image.shape) == [*fact["decoded_hw"], 3], name
        assert zlib.crc32(np.ascontiguousarray(image[..., ::-1]).tobytes()) == fact["decoded_bgr_crc32"], name
        checked += 1
    assert checked == 8


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["baseline", "progressive", "thumbnail", "png", "bmp", "webp"])
def test_a_truncated_image_is_an_error_that_names_the_file(tmp_path, capfd, kind, kept):
    if kind in ("baseline", "progressive"):
        data = jpeg_bytes(progressive=kind == "progressive")
    elif kind == "thumbnail":
        # The metadata hold a whole JPEG with its own end marker.
        data = jpeg_bytes(exif=b"Exif\0\0" + jpeg_bytes())
    else:
        file = io.BytesIO()
        Image.fromarray(picture()).save(file, kind)
        data = file.getvalue()
    path = tmp_path / f"cut.{kind}"
    path.write_bytes(data)
    read_image(path)
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DatasetError, match=rf"cut\.{kind} is"):
        read_image(path)
    assert capfd.readouterr().err == ""


def test_a_png_with_a_flipped_bit_is_an_error(tmp_path):
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "PNG")
    data = bytearray(file.getvalue())
    data[len(data) // 2] ^= 1
    (tmp_path / "bit.png").write_bytes(data)
    with pytest.raises(DatasetError, match=r"bit\.png is corrupt \(wrong checksum of the PNG chunk"):
        read_image(tmp_path / "bit.png")
    with pytest.raises(DatasetError, match=r"the label .*bit\.png is corrupt"):
        read_label(tmp_path / "bit.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"<html>no</html>", "not an image"), (b"\xff\xd8\xff\xe0", "truncated")],
)
def test_what_is_no_image_is_an_error(tmp_path, content, message):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_image(tmp_path / "a.jpg")


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(DatasetError, match="there is no file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(DatasetError, match="cannot read"):
        read_label(tmp_path)


def test_labels_keep_the_values_of_the_file(tmp_path):
    indices = np.array([[0, 1, 149], [150, 254, 255]], np.uint8)
    Image.fromarray(indices).save(tmp_path / "grey.png")
    palette = Image.fromarray(indices).convert("L")
    palette.putpalette([colour % 256 for colour in range(0, 768 * 7, 7)])
    assert palette.mode == "P"
    palette.save(tmp_path / "palette.png")
    for name in ("grey.png", "palette.png"):
        label = read_label(tmp_path / name)
        assert label.dtype == np.uint8
        assert np.array_equal(label, indices), name


def test_labels_of_sixteen_bits_and_of_one_bit(tmp_path):
    deep = np.array([[0, 300], [65535, 7]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_label(tmp_path / "deep.png").tolist() == deep.tolist()
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1").save(tmp_path / "bit.png")
    label = read_label(tmp_path / "bit.png")
    assert label.dtype == np.uint8 and label.tolist() == [[0, 1], [1, 0]]


def test_labels_ignore_exif_orientation(tmp_path):
    indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(indices).save(tmp_path / "turned.png", exif=exif(6))
    assert np.array_equal(read_label(tmp_path / "turned.png"), indices)


def test_colour_and_lossy_labels_are_errors(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "colour.png")
    with pytest.raises(DatasetError, match="has mode RGB, not one channel"):
        read_label(tmp_path / "colour.png")
    (tmp_path / "lossy.jpg").write_bytes(jpeg_bytes())
    with pytest.raises(DatasetError, match="is a JPEG, whose values are not exact"):
        read_label(tmp_path / "lossy.jpg")


def png(width: int, height: int, kind: int, data: bytes, *further: tuple[bytes, bytes]) -> bytes:
    """A PNG of 8 bits a pixel with any image data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    middle = b"".join(chunk(*one) for one in further)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_labels_of_one_byte_a_pixel_are_what_pillow_reads(tmp_path):
    kernels.load()
    label = np.zeros((50, 83), np.uint8)
    label[7:31, 20:60], label[33:, 5:9] = 17, 200
    label[np.random.default_rng(0).random(label.shape) < 0.03] = 3
    for mode in ("L", "P"):
        image = Image.fromarray(label)
        if mode == "P":
            image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
        for words in ({}, {"compress_level": 0}, {"optimize": True}):
            image.save(tmp_path / "label.png", **words)
            np.testing.assert_array_equal(
                read_label(tmp_path / "label.png"), np.array(Image.open(tmp_path / "label.png"))
            )
            np.testing.assert_array_equal(read_label(tmp_path / "label.png"), label)


def test_image_data_of_another_length_are_refused_whatever_they_would_grow_to():
    kernels.load()
    rows = zlib.compress(bytes(3 * 5))
    assert decode_label(png(4, 3, 0, rows), "x").tolist() == [[0] * 4] * 3
    for data in (zlib.compress(bytes(3 * 5 - 1)), rows[:-6], b"not deflated"):
        with pytest.raises(DatasetError, match="x cannot be decoded"):
            decode_label(png(4, 3, 0, data), "x")
    # A gigabyte of zeros behind the picture is not unpacked.
    tracemalloc.start()
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    tracemalloc.reset_peak()
    decode_label(png(4, 3, 0, bomb), "x")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
