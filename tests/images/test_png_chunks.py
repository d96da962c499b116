"""PNG: transparency at every depth against the standard's words, and damage where it decides pixels and where not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, noise
from PIL import Image

from vtbench.images.reading import BadImage, decode, header_size, read_picture

MARK = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes, wrong: bool = False) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def samples(depth: int, channels: int, height: int = 5, width: int = 7) -> np.ndarray:
    """int (H, W, channels) of all bits; the first two pixels are alike but for the lowest bit of one sample."""
    out = np.random.default_rng(depth).integers(0, 1 << depth, (height, width, channels))
    out[0, 1] = out[0, 0]
    out[0, 1, -1] ^= 1
    return out


def packed(rows: np.ndarray, depth: int) -> bytes:
    """Rows of samples as a PNG stores them before it compresses: the filter's byte, then the most significant first."""
    out = b""
    for row in rows.reshape(len(rows), -1):
        bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8).ravel()
        out += b"\0" + np.packbits(bits).tobytes()
    return out


def png(values: np.ndarray, depth: int, colour: int, *before: bytes, tail: bytes = b"", parts: int = 1) -> bytes:
    height, width = values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    stream = zlib.compress(packed(values, depth))
    cuts = [stream[len(stream) * k // parts : len(stream) * (k + 1) // parts] for k in range(parts)]
    idat = b"".join(chunk(b"IDAT", cut) for cut in cuts)
    return MARK + chunk(b"IHDR", head) + b"".join(before) + idat + tail + chunk(b"IEND", b"")


def eight(values: np.ndarray, depth: int) -> np.ndarray:
    """Samples of a depth as 8 bits: the high byte, or all of 0..255."""
    return (values >> (depth - 8) if depth >= 8 else values * 255 // ((1 << depth) - 1)).astype(np.uint8)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)])
def test_one_colour_is_transparent_at_the_pictures_own_depth(depth: int, colour: int, parts: int) -> None:
    """W3C PNG, 11.3.2.1: pixels of exactly the samples in tRNS are transparent, compared at all bits."""
    values = samples(depth, 3 if colour else 1)
    key = values[0, 0]
    # Bits above the depth are no part of the sample (two bytes each, whatever the depth).
    stated = key | (0xFF00 if depth == 8 else 0)
    data = png(values, depth, colour, chunk(b"tRNS", stated.astype(">u2").tobytes()), parts=parts)
    seen = (values == key).all(axis=2)
    assert seen[0, 0]
    assert not seen[0, 1]
    wanted = np.where(seen[..., None], 255, np.broadcast_to(eight(values, depth), (*seen.shape, 3)))
    assert np.array_equal(decode(data, "x"), wanted)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_have_an_alpha_each(depth: int) -> None:
    values = samples(depth, 1)
    count = 1 << depth
    colours = np.random.default_rng(1).integers(0, 256, (count, 3), dtype=np.uint8)
    alpha = np.array([0, 255, *[128] * (count - 2)], np.uint8)
    data = png(values, depth, 3, chunk(b"PLTE", colours.tobytes()), chunk(b"tRNS", alpha.tobytes()))
    ink = colours[values[..., 0]].astype(float)
    cover = alpha[values[..., 0], None] / 255
    assert np.abs(decode(data, "x") - (ink * cover + 255 * (1 - cover))).max() <= 1


@pytest.mark.parametrize(("depth", "colour"), [(2, 0), (16, 0), (16, 2)])
def test_interlaced_pictures_keep_their_transparent_colour(depth: int, colour: int) -> None:
    """Adam7 (W3C PNG, 8.1): seven passes, each a picture of its own."""
    values = samples(depth, 3 if colour else 1, 13, 11)
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = [packed(values[y::down, x::across], depth) for x, y, across, down in passes]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 13, depth, colour, 0, 0, 1))
    key = chunk(b"tRNS", values[0, 0].astype(">u2").tobytes())
    data = MARK + head + key + chunk(b"IDAT", zlib.compress(b"".join(parts))) + chunk(b"IEND", b"")
    seen = (values == values[0, 0]).all(axis=2, keepdims=True)
    assert np.array_equal(decode(data, "x"), np.where(seen, 255, np.broadcast_to(eight(values, depth), (13, 11, 3))))


PIXELS = samples(8, 3)
EXIF = chunk(b"eXIf", b"\0\x08\0\2\1\x12\0\3junk")
DAMAGED = {
    "Exif that is none": ((EXIF,), b"", "eXIf"),
    "Exif whose checksum differs": ((chunk(b"eXIf", b"II*\0junk", wrong=True),), b"", "eXIf"),
    "a text above a megabyte": ((chunk(b"tEXt", b"key\0" + b"x" * (1 << 21)),), b"", "tEXt"),
    "a text that unpacks to 100 MB": ((chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8))),), b"", "zTXt"),
    "a text after the pixels": ((), chunk(b"iTXt", b"key\0\1\0\0\0" + b"no stream"), "iTXt"),
    "a checksum of a time": ((chunk(b"tIME", b"1234567", wrong=True),), b"", "tIME"),
    "a profile that is no stream": ((chunk(b"iCCP", b"name\0\0junk"),), b"", "iCCP"),
    "a profile that is none": ((chunk(b"iCCP", b"name\0\0" + zlib.compress(b"junk" * 99)),), b"", "ICC profile"),
    "torn after the pixels": ((), b"\0\0\xff\xfftEXtno", "what follows the pixels"),
    "tRNS after the pixels": ((), chunk(b"tRNS", bytes(6)), "tRNS"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_metadata_is_named_and_no_damaged_picture(case: str, tmp_path: Path) -> None:
    before, after, named = DAMAGED[case]
    data = png(PIXELS, 8, 2, *before, tail=after)
    picture = read_picture(data, "x")
    assert np.array_equal(picture.rgb, PIXELS)
    assert named in str(picture.flags["ignored"])
    (tmp_path / "x.png").write_bytes(data)
    assert header_size(tmp_path / "x.png") == (7, 5)


def test_a_large_profile_is_read() -> None:
    """2 MB unpacked, which Pillow's limit for texts would refuse: whether it is one is another question."""
    data = png(PIXELS, 8, 2, chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2_000_000))))
    assert read_picture(data, "x").flags == {"ignored": ["ICC profile (damaged)"]}


def _flipped(data: bytes, kind: bytes, place: int) -> bytes:
    """The file with a bit flipped `place` bytes into the named chunk (its CRC stands after its body)."""
    start = data.index(kind) + 4
    out = bytearray(data)
    out[start + place] ^= 1
    return bytes(out)


def test_damage_to_what_decides_pixels_is_refused() -> None:
    whole = png(PIXELS, 8, 2, chunk(b"tRNS", bytes(6)))
    for kind, place in ((b"IHDR", 2), (b"IHDR", 14), (b"tRNS", 1), (b"tRNS", 7), (b"IDAT", 9)):
        with pytest.raises(BadImage, match=rf"checksum of its {kind.decode()}"):
            decode(_flipped(whole, kind, place), "x")
    paletted = encoded(Image.fromarray(PIXELS.astype(np.uint8)).quantize(8), "PNG")
    with pytest.raises(BadImage, match="checksum of its PLTE"):
        decode(_flipped(paletted, b"PLTE", 3), "x")


@pytest.mark.parametrize("parts", [1, 2, 40])
def test_zlibs_own_checksum_counts_where_the_chunks_are_right(parts: int) -> None:
    """Adler-32 over the samples stands at the stream's end, here in a chunk of its own or torn over several."""
    stream = zlib.compress(packed(PIXELS, 8))
    wrong = stream[:-1] + bytes([stream[-1] ^ 1])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 8, 2, 0, 0, 0))
    size = -(-len(wrong) // parts)
    for data, read in ((stream, True), (wrong, False)):
        idat = b"".join(chunk(b"IDAT", data[k : k + size]) for k in range(0, len(data), size))
        file = MARK + head + idat + chunk(b"IEND", b"")
        if read:
            assert np.array_equal(decode(file, "x"), PIXELS)
        else:
            with pytest.raises(BadImage, match="broken data stream"):
                decode(file, "x")


def test_what_no_standard_knows_is_refused_by_name() -> None:
    with pytest.raises(BadImage, match="critical chunk CgBI"):
        decode(png(PIXELS, 8, 2, chunk(b"CgBI", bytes(4))), "x")
    with pytest.raises(BadImage, match="colour type 2 at 4 bits"):
        decode(png(PIXELS, 4, 2), "x")
    whole = png(PIXELS, 8, 2, parts=2)
    place = whole.rindex(b"IDAT") - 4
    with pytest.raises(BadImage, match="IDAT chunks are torn apart"):
        decode(whole[:place] + chunk(b"tEXt", b"a\0b") + whole[place:], "x")
    whole = png(PIXELS, 8, 2, tail=chunk(b"tEXt", b"a\0b"))
    assert read_picture(whole[:-12], "x").flags == {"ignored": ["the end mark is missing"]}
    for cut in range(8, whole.index(b"tEXt") - 8, 5):
        with pytest.raises(BadImage):
            decode(whole[:cut], "x")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "1", "I;16"])
def test_a_wholly_transparent_picture_is_refused_by_name(mode: str) -> None:
    grey = np.full((4, 4), 1, np.uint8)
    clear = np.dstack([noise(4, 4), np.zeros((4, 4), np.uint8)])
    data = {
        "RGBA": lambda: encoded(Image.fromarray(clear), "PNG"),
        "LA": lambda: encoded(Image.fromarray(clear[..., 2:], "LA"), "PNG"),
        "P": lambda: encoded(Image.fromarray(grey).convert("P"), "PNG", transparency=bytes([255, 0])),
        "RGB": lambda: png(np.full((4, 4, 3), 9), 8, 2, chunk(b"tRNS", b"\0\x09" * 3)),
        "1": lambda: png(np.ones((4, 4, 1), int), 1, 0, chunk(b"tRNS", b"\0\1")),
        "I;16": lambda: png(np.full((4, 4, 1), 300), 16, 0, chunk(b"tRNS", b"\1\x2c")),
    }[mode]()
    with pytest.raises(BadImage, match=r"wholly transparent \(alpha 0 everywhere\)"):
        decode(data, "x")


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "AVIF", "JPEG2000", "GIF"])
def test_so_it_is_in_other_formats(kind: str) -> None:
    clear = Image.fromarray(np.dstack([noise(16, 16), np.zeros((16, 16), np.uint8)]))
    how = {"WEBP": {"lossless": True, "exact": True}}.get(kind, {})
    with pytest.raises(BadImage, match="wholly transparent"):
        decode(encoded(clear, kind, **how), "x")


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.fromarray(noise(6, 6, seed)) for seed in (1, 2)]
    out = io.BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:])
    picture = read_picture(out.getvalue(), "x")
    assert np.array_equal(picture.rgb, noise(6, 6, 1))
    assert picture.flags == {}
