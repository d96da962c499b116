"""What a file states of its samples beside them: which component is which colour, what covers the picture, in which
colours it is, which way up. Every truth is the array that the file was made of."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from image_files import encoded, noise
from PIL import Image

from vtbench.images.limits import BadImage
from vtbench.images.reading import read_picture
from vtbench.scoring.remarks import differing_profiles, stated_profiles

PICTURE = noise(12, 16)
COVER = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8), (12, 16))
FOUR = np.dstack([PICTURE, COVER])
TWELVE = (FOUR.astype(np.uint16) << 4) | 7


def on_white(colour: np.ndarray, cover: np.ndarray = COVER) -> np.ndarray:
    return colour * (cover[..., None] / 255) + 255 * (1 - cover[..., None] / 255)


# -- JPEG 2000 ---------------------------------------------------------------------------------------------------------


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def jp2(samples: np.ndarray, *channels: tuple[int, int, int], space: int = 16) -> bytes:
    """A file whose box cdef says what its components are (component, kind, colour): ISO 15444-1, I.5.3.6."""
    how = {"reversible": True, "codecformat": "jp2", "mct": False, "bitspersample": 8 if samples.itemsize == 1 else 12}
    data = bytes(imagecodecs.jpeg2k_encode(np.ascontiguousarray(samples), level=0, **how))
    start = data.index(b"jp2h") - 4
    (length,) = struct.unpack(">I", data[start : start + 4])
    head = data[start + 8 : start + length]
    kept = head[: head.index(b"cdef") - 4] if b"cdef" in head else head
    kept = kept.replace(b"colr\1\0\0\0\0\0\x10", b"colr\1\0\0\0\0\0" + bytes([space]))
    table = box(b"cdef", struct.pack(">H", len(channels)) + b"".join(struct.pack(">HHH", *c) for c in channels))
    return data[:start] + box(b"jp2h", kept + (table if channels else b"")) + data[start + length :]


BACKWARDS, FIRST = [(0, 0, 3), (1, 0, 2), (2, 0, 1)], [(0, 1, 0), (1, 0, 1), (2, 0, 2), (3, 0, 3)]
FOURTH = [(0, 0, 1), (1, 0, 2), (2, 0, 3)]
CHANNELS: dict[str, tuple[list[int], list[tuple[int, int, int]], Any]] = {
    "blue first": ([2, 1, 0], BACKWARDS, lambda: PICTURE),
    "opacity first": ([3, 0, 1, 2], FIRST, lambda: on_white(PICTURE)),
    "a fourth of no kind": ([0, 1, 2, 3], [*FOURTH, (3, 65535, 65535)], lambda: PICTURE),
    "premultiplied": (
        [0, 1, 2, 3],
        [*FOURTH, (3, 2, 0)],
        lambda: np.minimum(PICTURE, COVER[..., None]) + 255.0 - FOUR[..., 3:],
    ),
    "blue first, with opacity": ([2, 1, 0, 3], [*BACKWARDS, (3, 1, 0)], lambda: on_white(PICTURE)),
}


@pytest.mark.parametrize("samples", [FOUR, TWELVE], ids=["8 bits", "12 bits"])
@pytest.mark.parametrize("name", CHANNELS)
def test_components_are_what_the_file_says(name: str, samples: np.ndarray) -> None:
    order, channels, truth = CHANNELS[name]
    if name == "premultiplied":
        shift = 0 if samples is FOUR else 4
        colour = np.minimum(samples[..., :3], samples[..., 3:] >> shift << shift)
        samples = np.dstack([colour, samples[..., 3]])
    rgb = read_picture(jp2(samples[..., order], *channels), "x").rgb
    assert np.abs(rgb - truth()).max() <= 1


def test_grey_of_every_depth_keeps_its_high_byte() -> None:
    """Of nine bits the header's byte is 8, which Pillow takes for eight."""
    for bits in (9, 10, 15, 16):
        grey = (PICTURE[..., 0].astype(np.uint16) << (bits - 8)) | 1
        for form in ("jp2", "j2k"):
            how = {"level": 0, "reversible": True, "codecformat": form, "bitspersample": bits}
            rgb = read_picture(bytes(imagecodecs.jpeg2k_encode(grey, **how)), "x").rgb
            assert np.array_equal(rgb[..., 0], PICTURE[..., 0]), (bits, form)


def test_colour_spaces_are_converted_flagged_or_refused() -> None:
    ycc = np.asarray(Image.fromarray(PICTURE, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(read_picture(jp2(PICTURE, space=18), "x").rgb - ycc).max() <= 1
    picture = read_picture(jp2(PICTURE, space=21), "x")
    assert (picture.flags, np.array_equal(picture.rgb, PICTURE)) == ({"profile": "ROMM RGB, as EnumCS says"}, True)
    for space in (1, 12, 14, 20):
        with pytest.raises(BadImage, match=f"3 components in the enumerated colour space {space}, which is not read"):
            read_picture(jp2(PICTURE, space=space), "x")
    with pytest.raises(BadImage, match="which is not read"):
        read_picture(jp2(PICTURE, (0, 0, 1), (1, 0, 2), (2, 0, 7)), "x")


# -- TIFF and PNG ------------------------------------------------------------------------------------------------------


def tiff(pixels: np.ndarray, photometric: str, **how: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, photometric=photometric, metadata=None, **how)
    return out.getvalue()


def test_tiff_alpha_need_not_be_the_first_extra_sample() -> None:
    five = np.dstack([PICTURE, PICTURE[..., 0], COVER])
    rgb = read_picture(tiff(five, "rgb", extrasamples=["unspecified", "unassalpha"]), "x").rgb
    assert np.abs(rgb - on_white(PICTURE)).max() <= 1
    assert np.array_equal(read_picture(tiff(FOUR, "rgb", extrasamples=["unspecified"]), "x").rgb, PICTURE)


@pytest.mark.parametrize("compression", [None, "packbits"])
def test_a_tiff_palette_of_bytes_is_no_black_picture(compression: str | None) -> None:
    """As libtiff reads it: a palette without a value above 255 was not scaled to 16 bits."""
    index, table = PICTURE[..., 0], np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    for scaled in (table, table << 8, table * 257):
        data = tiff(index, "palette", colormap=scaled, compression=compression)
        assert np.array_equal(read_picture(data, "x").rgb, table.T[index])


def test_samples_whose_format_is_undefined_are_read_as_numbers() -> None:
    data = tiff(PICTURE, "rgb", extratags=[(339, 3, 3, (4, 4, 4), True)])
    assert np.array_equal(read_picture(data, "x").rgb, PICTURE)


def png_of_palette(colours: int) -> bytes:
    """Indices 0 to 7, and so many colours."""
    rows = b"".join(b"\0" + (row % 8).tobytes() for row in PICTURE[..., 0])
    head = struct.pack(">IIBBBBB", 16, 12, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", head), (b"PLTE", bytes(range(3 * colours))), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_a_png_whose_pixels_have_no_colour_is_damaged() -> None:
    assert np.array_equal(read_picture(png_of_palette(8), "x").rgb[..., 0], PICTURE[..., 0] % 8 * 3)
    with pytest.raises(BadImage, match="its pixels name colours behind the 4 of its palette"):
        read_picture(png_of_palette(4), "x")


# -- which way up, and in which colours --------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [1, 3, 6])
def test_jpeg_xl_is_turned_by_its_codestream_alone(turn: int) -> None:
    """libjxl turns the picture; what Exif says beside it must not turn it again (ISO 18181-2)."""
    pillow_jxl = pytest.importorskip("pillow_jxl", reason="NOT CHECKED: JPEG XL, without pillow_jxl (extra formats)")
    assert pillow_jxl is not None
    exif = Image.Exif()
    exif[0x112] = turn
    data = encoded(PICTURE, "JXL", lossless=True, use_container=True, exif=exif.tobytes())
    assert b"Exif" in data
    assert np.array_equal(read_picture(data, "x").rgb, PICTURE)
    smooth = np.asarray(Image.fromarray(PICTURE[:3, :4]).resize((16, 12)))
    packed = imagecodecs.jpegxl_encode_jpeg(encoded(smooth, "JPEG", quality=98, subsampling=0, exif=exif.tobytes()))
    upright = {1: smooth, 3: smooth[::-1, ::-1], 6: np.rot90(smooth, -1)}[turn].astype(int)
    rgb = read_picture(packed, "x").rgb
    assert rgb.shape == upright.shape
    assert np.abs(rgb - upright).mean() < 4


@pytest.mark.parametrize(("points", "said"), [((1, 13), {}), ((2, 2), {}), ((12, 13), "12/13"), ((9, 16), "9/16")])
def test_avif_states_its_colours_by_code_points(points: tuple[int, int], said: Any) -> None:
    data = encoded(PICTURE, "AVIF", quality=100, subsampling="4:4:4")
    place = data.index(b"nclx") + 4
    data = data[:place] + struct.pack(">HH", *points) + data[place + 4 :]
    assert read_picture(data, "x").flags == ({"profile": f"nclx {said}"} if said else {})
    if said:
        with pytest.raises(BadImage, match="embed an ICC profile"):
            read_picture(data, "x", "srgb")


def test_remarks_offer_a_conversion_only_where_there_is_one() -> None:
    words = ("nclx 12/13", "cICP 12/13/0/1", "gAMA 1", "cHRM 0.3 0.3 0.6", "ROMM RGB, as EnumCS says")
    for name in (*words, "Adobe RGB, as Exif says"):
        for said in (differing_profiles({f"none and {name}": 1}, 1), stated_profiles({name: 1}, 1)):
            assert said[0].endswith("; --icc srgb needs ICC profiles")
    for name in ("Display P3", "Adobe RGB (1998)", "gAMA"):
        assert differing_profiles({f"none and {name}": 1}, 1)[0].endswith("which are not applied: give --icc srgb")
        assert stated_profiles({name: 1}, 1)[0].endswith(": --icc srgb does")


@pytest.mark.parametrize(
    ("space", "index", "said"), [(1, "R98", False), (2, None, True), (0xFFFF, "R03", True), (0xFFFF, None, False)]
)
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_cameras_mark_adobe_rgb_in_exif(kind: str, space: int, index: str | None, said: bool) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = space
    if index is not None:
        exif.get_ifd(0x8769)[0xA005] = {1: index}
    flags = read_picture(encoded(PICTURE, kind, exif=exif.tobytes()), "x").flags
    assert flags == ({"profile": "Adobe RGB, as Exif says"} if said else {})
