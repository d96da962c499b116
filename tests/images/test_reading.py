"""Reading: bytes of every kind of image file -> RGB, against Pillow, arithmetic and the formats' own words."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, noise, photograph
from PIL import Image

from vtbench.images.reading import PIXEL_LIMIT, BadImage, decode, header_size, rgb_sha256


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_plain(kind: str) -> None:
    rgb = noise(5, 7)
    assert np.array_equal(decode(encoded(Image.fromarray(rgb), kind), "x"), rgb)


def test_cameras_pairs_are_read_as_their_first_frame() -> None:
    first, second = (Image.fromarray(photograph(64, 64)).rotate(turn) for turn in (0, 90))
    both = encoded(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert np.array_equal(decode(both, "x"), decode(encoded(first, "JPEG", quality=95), "x"))


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000)])
def test_thin_shapes(size: tuple[int, int]) -> None:
    rgb = noise(*size)
    assert np.array_equal(decode(encoded(Image.fromarray(rgb), "PNG"), "x"), rgb)


def test_grey_bilevel_and_palette() -> None:
    grey = noise(4, 6)[..., 0].copy()
    assert np.array_equal(decode(encoded(Image.fromarray(grey), "PNG"), "x"), np.repeat(grey[..., None], 3, axis=2))
    bits = Image.fromarray(grey > 128)
    assert np.array_equal(decode(encoded(bits, "PNG"), "x")[..., 0], np.where(grey > 128, 255, 0))
    indexed = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    red, green, blue = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    assert decode(encoded(indexed, "PNG"), "x").tolist() == [[red, green], [blue, green]]
    # A transparent palette entry is laid on white.
    assert decode(encoded(indexed, "PNG", transparency=2), "x").tolist() == [[red, green], [[255] * 3, green]]


def test_alpha_on_white() -> None:
    # 100 x 51/255 + 255 x 204/255 = 224; full and no alpha leave ink and paper.
    rgba = np.array([[[100, 100, 100, 51], [9, 8, 7, 255], [9, 8, 7, 0]]], dtype=np.uint8)
    assert decode(encoded(Image.fromarray(rgba), "PNG"), "x").tolist() == [
        [[224, 224, 224], [9, 8, 7], [255, 255, 255]]
    ]
    la = Image.fromarray(rgba[..., [0, 3]], "LA")
    assert decode(encoded(la, "PNG"), "x")[0, 0].tolist() == [224, 224, 224]


def test_sixteen_bits() -> None:
    """Grey and colour keep the high byte alike: 0x1234 is 0x12, 65535 is 255, 255 is 0."""
    values = [0x1234, 65535, 255, 256]
    grey = png(4, 1, 16, 0, b"\0" + struct.pack(">4H", *values))
    colour = png(4, 1, 16, 2, b"\0" + b"".join(struct.pack(">3H", v, v, v) for v in values))
    assert decode(grey, "x")[0, :, 0].tolist() == [0x12, 255, 0, 1]
    assert np.array_equal(decode(grey, "x"), decode(colour, "x"))


def test_unstated_ranges_are_refused() -> None:
    floats = encoded(Image.fromarray(np.zeros((2, 2), np.float32), "F"), "TIFF")
    with pytest.raises(BadImage, match=r"depth\.tif holds floating-point samples"):
        decode(floats, "depth.tif")
    wide = encoded(Image.fromarray(np.full((2, 2), 100_000, np.int32), "I"), "TIFF")
    with pytest.raises(BadImage, match="32-bit signed integers, whose range is not stated"):
        decode(wide, "x")
    # Small values tell nothing: 255 of 2^31 would be black, 255 of 255 white.
    small = encoded(Image.fromarray(np.full((2, 2), 255, np.int32), "I"), "TIFF")
    with pytest.raises(BadImage, match="32-bit signed integers"):
        decode(small, "x")


def tiff_with(data: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF with the (short) value of one tag replaced: TIFF 6.0, section 2."""
    out = bytearray(data)
    (start,) = struct.unpack("<I", data[4:8])
    (entries,) = struct.unpack("<H", data[start : start + 2])
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack("<H", data[entry : entry + 2])[0] == tag:
            out[entry + 8 : entry + 10] = struct.pack("<H", value)
    return bytes(out)


def test_sixteen_bit_tiffs_as_their_tags_say() -> None:
    values = np.array([[0x1234, 65535, 255, 0]], np.uint16)
    plain = encoded(Image.fromarray(values), "TIFF")
    assert decode(plain, "x")[0, :, 0].tolist() == [0x12, 255, 0, 0]
    # PhotometricInterpretation 0: white is zero.
    assert decode(tiff_with(plain, 262, 0), "x")[0, :, 0].tolist() == [255 - 0x12, 0, 255, 255]
    # BitsPerSample 12, packed: 0x341, 0x2ff, …; the high eight of twelve bits stay.
    packed = np.asarray(Image.open(io.BytesIO(tiff_with(plain, 258, 12)))).astype(int)
    assert decode(tiff_with(plain, 258, 12), "x")[0, :, 0].tolist() == (packed[0] >> 4).tolist()


def test_cmyk() -> None:
    # Pillow's plain formula: 255 - C, … with no black; half black halves.
    cmyk = Image.fromarray(
        np.array([[[255, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8).repeat(8, 0).repeat(8, 1), "CMYK"
    )
    rgb = decode(encoded(cmyk, "JPEG", quality=100), "x").astype(int)
    assert np.abs(rgb[2, 2] - [0, 255, 255]).max() <= 3
    assert rgb[2, 13].max() <= 3


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation(turn: int) -> None:
    """TIFF 6.0, orientation tag: row 0 and column 0 of the stored picture are these sides of the shown one."""
    shown = noise(4, 6)
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.transpose(1, 0, 2),
        6: np.rot90(shown, 1),
        7: shown[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(shown, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(decode(data, "x"), shown)


def test_header_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(noise(4, 6)).save(path, exif=exif)
    assert header_size(path) == decode(path.read_bytes(), "x").shape[1::-1] == (4, 6)
    path.write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"turned\.jpg"):
        header_size(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5])
def test_truncated(kind: str, part: float) -> None:
    whole = encoded(Image.fromarray(photograph(64, 96)), kind)
    assert decode(whole, "x").shape == (64, 96, 3)
    with pytest.raises(BadImage, match="half of it"):
        decode(whole[: int(part * len(whole))], "half of it")


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM"],
)
def test_no_image(data: bytes) -> None:
    with pytest.raises(BadImage, match=r"page\.png (is|cannot)"):
        decode(data, "page.png")


def test_bomb() -> None:
    """A few hundred bytes that claim 40,000 x 40,000 pixels are refused from the header, before any pixel."""
    for side in (40_000, 17_000):
        with pytest.raises(BadImage, match="limit"):
            decode(png(side, side, 8, 2, b"\0" * 1000), "bomb.png")
    assert PIXEL_LIMIT == 16384**2


def test_hash_knows_shape() -> None:
    rgb = noise(2, 8)
    assert rgb_sha256(rgb) == rgb_sha256(np.asfortranarray(rgb)) != rgb_sha256(rgb.reshape(4, 4, 3))
