"""Reading, views, rounding and serving: against torchvision, Pillow, arithmetic, and ADM's rule derived once more."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vtbench import images
from vtbench.images.reading import BadImage, decode, rgb_sha256
from vtbench.images.rounding import to_float, to_uint8
from vtbench.images.serving import serve
from vtbench.images.views import View
from vtbench.types.cards import Fixed, Multiple
from vtbench.types.errors import VtbenchError

RNG = np.random.default_rng(7)


def noise(height: int, width: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def photograph(height: int = 300, width: int = 451) -> np.ndarray[Any, Any]:
    """scikit-image's cat, cut."""
    from skimage import data

    return np.ascontiguousarray(data.chelsea()[:height, :width])


def written(image: Image.Image, kind: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format=kind, **how)
    return out.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# -- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_plain(kind: str) -> None:
    rgb = noise(5, 7)
    assert np.array_equal(decode(written(Image.fromarray(rgb), kind), "x"), rgb)


def test_cameras_pairs_are_read_as_their_first_frame() -> None:
    first, second = (Image.fromarray(photograph(64, 64)).rotate(turn) for turn in (0, 90))
    both = written(first, "MPO", save_all=True, append_images=[second], quality=95)
    assert np.array_equal(decode(both, "x"), decode(written(first, "JPEG", quality=95), "x"))


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000)])
def test_odd_shapes(size: tuple[int, int]) -> None:
    rgb = noise(*size)
    assert np.array_equal(decode(written(Image.fromarray(rgb), "PNG"), "x"), rgb)


def test_grey_bilevel_and_palette() -> None:
    grey = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
    assert np.array_equal(decode(written(Image.fromarray(grey), "PNG"), "x"), np.repeat(grey[..., None], 3, axis=2))
    bits = Image.fromarray(grey > 128)
    assert np.array_equal(decode(written(bits, "PNG"), "x")[..., 0], np.where(grey > 128, 255, 0))
    indexed = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8), "P")
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    red, green, blue = [255, 0, 0], [0, 255, 0], [0, 0, 255]
    assert decode(written(indexed, "PNG"), "x").tolist() == [[red, green], [blue, green]]
    # A transparent palette entry is laid on white.
    assert decode(written(indexed, "PNG", transparency=2), "x").tolist() == [[red, green], [[255] * 3, green]]


def test_alpha_on_white() -> None:
    # 100 x 51/255 + 255 x 204/255 = 224; full and no alpha leave ink and paper.
    rgba = np.array([[[100, 100, 100, 51], [9, 8, 7, 255], [9, 8, 7, 0]]], dtype=np.uint8)
    found = decode(written(Image.fromarray(rgba), "PNG"), "x")
    assert found.tolist() == [[[224, 224, 224], [9, 8, 7], [255, 255, 255]]]
    la = Image.fromarray(rgba[..., [0, 3]], "LA")
    assert decode(written(la, "PNG"), "x")[0, 0].tolist() == [224, 224, 224]


def test_sixteen_bits() -> None:
    """Grey and colour keep the high byte alike: 0x1234 is 0x12, 65535 is 255, 255 is 0."""
    values = [0x1234, 65535, 255, 256]
    grey = png(4, 1, 16, 0, b"\0" + struct.pack(">4H", *values))
    colour = png(4, 1, 16, 2, b"\0" + b"".join(struct.pack(">3H", v, v, v) for v in values))
    assert decode(grey, "x")[0, :, 0].tolist() == [0x12, 255, 0, 1]
    assert np.array_equal(decode(grey, "x"), decode(colour, "x"))


def test_unstated_ranges_are_refused() -> None:
    floats = written(Image.fromarray(np.zeros((2, 2), np.float32), "F"), "TIFF")
    with pytest.raises(BadImage, match=r"depth\.tif holds floating-point samples"):
        decode(floats, "depth.tif")
    wide = written(Image.fromarray(np.full((2, 2), 100_000, np.int32), "I"), "TIFF")
    with pytest.raises(BadImage, match="100000, whose range is not stated"):
        decode(wide, "x")
    # Small values tell nothing: 255 of 2^31 would be black, 255 of 255 white.
    small = written(Image.fromarray(np.full((2, 2), 255, np.int32), "I"), "TIFF")
    with pytest.raises(BadImage, match="32-bit integers"):
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
    plain = written(Image.fromarray(values), "TIFF")
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
    found = decode(written(cmyk, "JPEG", quality=100), "x").astype(int)
    assert np.abs(found[2, 2] - [0, 255, 255]).max() <= 3
    assert found[2, 13].max() <= 3


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation(turn: int) -> None:
    """TIFF 6.0, orientation tag: row 0 and column 0 of the stored picture are these sides of the shown one."""
    shown = noise(4, 6)
    stored = {
        1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1], 5: shown.transpose(1, 0, 2),
        6: np.rot90(shown, 1), 7: shown[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(shown, -1),
    }[turn]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    data = written(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert np.array_equal(decode(data, "x"), shown)


def test_header_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(noise(4, 6)).save(path, exif=exif)
    assert images.header_size(path) == decode(path.read_bytes(), "x").shape[1::-1] == (4, 6)
    path.write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"turned\.jpg"):
        images.header_size(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5])
def test_truncated(kind: str, part: float) -> None:
    whole = written(Image.fromarray(photograph(64, 96)), kind)
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
    """A few hundred bytes that claim 40,000 x 40,000 pixels are refused from the header, before anything is made."""
    for side in (40_000, 17_000):
        with pytest.raises(BadImage, match="limit"):
            decode(png(side, side, 8, 2, b"\0" * 1000), "bomb.png")
    assert images.PIXEL_LIMIT == 16384**2


def test_hash_knows_shape() -> None:
    rgb = noise(2, 8)
    assert rgb_sha256(rgb) == rgb_sha256(np.asfortranarray(rgb)) != rgb_sha256(rgb.reshape(4, 4, 3))


# -- views -----------------------------------------------------------------------------------------------------------


def adm(rgb: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """ADM's rule, derived from its words: count the halvings first, crop the array by integer division."""
    picture = Image.fromarray(rgb)
    short = min(picture.size)
    while short // 2 >= size:
        picture = picture.resize((picture.width >> 1, picture.height >> 1), Image.Resampling.BOX)
        short = min(picture.size)
    wide, tall = (int(np.rint(side * (size / short))) for side in picture.size)
    whole = np.asarray(picture.resize((wide, tall), Image.Resampling.BICUBIC))
    y, x = (tall - size) // 2, (wide - size) // 2
    return whole[y : y + size, x : x + size]


SHAPES = [(300, 451), (64, 64), (65, 200), (128, 127), (33, 90), (257, 129), (20, 31)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [32, 64, 63])
def test_adm(shape: tuple[int, int], size: int) -> None:
    rgb = photograph(*shape)
    found, flags = View.parse(str(size)).apply(rgb)
    assert np.array_equal(found, adm(rgb, size))
    assert flags == ({"enlarged": True} if min(shape) < size else {})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("protocol", "resized", "filter_name"),
    [("titok", 64, "BICUBIC"), ("clean", 64, "BICUBIC"), ("magvit2", 64, "BILINEAR"), ("var", 72, "LANCZOS")],
)
def test_torchvision_fits(shape: tuple[int, int], protocol: str, resized: int, filter_name: str) -> None:
    """The views of other protocols are torchvision's transforms, bit for bit. VAR: round(1.125 x 64) = 72."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    mode = getattr(InterpolationMode, filter_name)
    upstream = Compose([Resize(resized, interpolation=mode), CenterCrop(64)])
    rgb = photograph(*shape)
    found, _ = View.parse("64", protocol).apply(rgb)
    assert np.array_equal(found, np.asarray(upstream(Image.fromarray(rgb))))


def test_native_and_own_size_are_untouched() -> None:
    rgb = noise(64, 64)
    assert View.parse("native").apply(rgb) == (rgb, {})
    for protocol in ("vtbench", "titok", "llamagen", "magvit2", "clean"):
        assert np.array_equal(View.parse("64", protocol).apply(rgb)[0], rgb)


def test_fingerprints_differ() -> None:
    views = [
        View.parse("native"),
        View.parse("64"),
        View.parse("65"),
        View.parse("64", "titok"),
        View.parse("64", "var"),
    ]
    assert len({v.fingerprint() for v in views}) == len(views)
    assert View.parse("native", "titok").fingerprint() == View.parse("native").fingerprint()
    assert [v.name for v in views[:2]] == ["native", "64"]


@pytest.mark.parametrize("text", ["0", "-3", "256x256", "natve", "99999", "2.5", ""])
def test_no_view(text: str) -> None:
    with pytest.raises(VtbenchError, match="no view"):
        View.parse(text)
    with pytest.raises(VtbenchError, match="titok"):
        View.parse("256", "titk")


def test_ribbon_is_refused_before_it_is_enlarged() -> None:
    with pytest.raises(BadImage, match="px long"):
        View.parse("1024").apply(noise(1, 3000))


# -- rounding --------------------------------------------------------------------------------------------------------


def test_all_levels_survive() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()
    assert torch.equal(to_uint8(to_float(levels)), levels)
    assert to_float(levels).dtype == torch.float32


def test_round_to_nearest_and_clamp() -> None:
    given = torch.tensor([-0.2, 0.49 / 255, 0.51 / 255, 99.6 / 255, 254.6 / 255, 1.004, 7.0])
    assert to_uint8(given).tolist() == [0, 0, 1, 100, 255, 255, 255]
    # The caller's tensor is left as it is, and half precision is rounded in float32.
    assert given[0] == pytest.approx(-0.2)
    assert to_uint8(torch.tensor([0.5], dtype=torch.bfloat16)).tolist() == [128]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_numbers(value: float) -> None:
    with pytest.raises(VtbenchError, match="NaN or infinity"):
        to_uint8(torch.tensor([0.5, value]))
    with pytest.raises(VtbenchError, match="converts uint8"):
        to_float(torch.zeros(3))


# -- serving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "shape", "wanted"),
    [
        (Multiple(16), (33, 50), (48, 64)),
        (Multiple(16, 64), (33, 50), (64, 64)),
        (Multiple(14, 32), (5, 40), (42, 42)),
        (Multiple(8), (1, 1), (8, 8)),
        (Multiple(32), (2, 70), (32, 96)),
    ],
)
def test_multiples(sizes: Multiple, shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    """The padded picture is numpy's reflection where there is enough to reflect, its edge beyond that."""
    given = torch.rand(2, 3, *shape)
    service = serve(sizes, *shape, rule="resize")
    padded = service.to_model(given)
    assert tuple(padded.shape) == (2, 3, *wanted)
    assert torch.equal(service.from_model(padded), given)
    assert "reflection" in service.record["served"]
    below, right = wanted[0] - shape[0], wanted[1] - shape[1]
    first = (min(below, shape[0] - 1), min(right, shape[1] - 1))
    truth = np.pad(given.numpy(), ((0, 0), (0, 0), (0, first[0]), (0, first[1])), mode="reflect")
    truth = np.pad(truth, ((0, 0), (0, 0), (0, below - first[0]), (0, right - first[1])), mode="edge")
    assert np.array_equal(padded.numpy(), truth)


def test_what_fits_is_untouched() -> None:
    given = torch.rand(1, 3, 32, 48)
    for service in (serve(Multiple(16), 32, 48, "resize"), serve(Fixed(32), 32, 32, "resize")):
        assert service.record == {}
        assert service.to_model(given) is given


def test_fixed_is_resized_there_and_back() -> None:
    """A smooth ramp survives a resize: both ways it stays within a hundredth, and sizes are right."""
    ramp = torch.linspace(0.1, 0.9, 96).expand(1, 3, 64, 96).contiguous()
    service = serve(Fixed(48), 64, 96, "resize")
    small = service.to_model(ramp)
    assert tuple(small.shape) == (1, 3, 48, 48)
    back = service.from_model(small)
    assert tuple(back.shape) == (1, 3, 64, 96)
    assert float((back - ramp)[..., 4:-4].abs().max()) < 0.01
    assert service.record["served"].startswith("resized to 48 x 48 and back")


def test_resize_is_pillows() -> None:
    """Antialiased bicubic on floats is Pillow's bicubic but for Pillow's rounding between and after the passes."""
    rgb = photograph(200, 300)
    given = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    ours = serve(Fixed(96), 200, 300, "resize").to_model(given)[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(Image.fromarray(rgb).resize((96, 96), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(ours - theirs).max() <= 2


def test_tiles() -> None:
    given = torch.rand(2, 3, 70, 100)
    service = serve(Fixed(32), 70, 100, "tiles")
    tiles = service.to_model(given)
    assert tuple(tiles.shape) == (2 * 3 * 4, 3, 32, 32)
    # Image-major, then raster order: tile 12 is the second image's first, tile 5 the first image's row 1, column 1.
    assert torch.equal(tiles[12], given[1, :, :32, :32])
    assert torch.equal(tiles[5], given[0, :, 32:64, 32:64])
    assert torch.equal(service.from_model(tiles), given)
    assert service.record == {"served": "12 tiles of 32 x 32"}
