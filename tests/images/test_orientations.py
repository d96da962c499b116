"""Which way up: the orientation of every format, and header and pixels that never disagree about the size."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, photograph, save
from PIL import Image

import vtbench
from vtbench.images.reading import BadImage, header_size, read_picture

STORED = photograph(24, 40)
WAYS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF jpeg": {"compression": "jpeg", "quality": 95},
}


def turned(way: str, turn: int) -> bytes:
    kind = way.partition(" ")[0]
    if kind == "TIFF":
        return encoded(STORED, kind, tiffinfo={0x0112: turn}, **WAYS[way])
    exif = Image.Exif()
    exif[0x0112] = turn
    return encoded(STORED, kind, exif=exif.tobytes(), **WAYS[way])


def shown(turn: int) -> np.ndarray:
    """TIFF 6.0, section 8: row 0 is this side of the shown picture, column 0 that one."""
    swapped = STORED.transpose(1, 0, 2)
    return {
        1: STORED,
        2: STORED[:, ::-1],
        3: STORED[::-1, ::-1],
        4: STORED[::-1],
        5: swapped,
        6: swapped[:, ::-1],
        7: swapped[::-1, ::-1],
        8: swapped[::-1],
    }[turn]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("way", WAYS)
def test_every_format_is_shown_as_it_says(way: str, turn: int, tmp_path: Path) -> None:
    data = turned(way, turn)
    rgb = read_picture(data, "x").rgb
    assert rgb.shape == shown(turn).shape
    assert np.abs(rgb.astype(int) - shown(turn)).mean() < 4
    (tmp_path / "x").write_bytes(data)
    assert header_size(tmp_path / "x") == rgb.shape[1::-1]


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("way", ["JPEG", "PNG", "TIFF"])
def test_no_orientation_is_none(way: str, value: int) -> None:
    assert read_picture(turned(way, value), "x").rgb.shape == STORED.shape


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_xmp_counts_where_exif_says_nothing(kind: str) -> None:
    packet = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
        data = encoded(STORED, kind, pnginfo=info)
    else:
        data = encoded(STORED, kind, xmp=packet)
    assert read_picture(data, "x").rgb.shape == (40, 24, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_rational_software_tag_is_no_damage(kind: str) -> None:
    """Exif may hold tags of types that its standard does not give them: they are not written anew, and cannot fail."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x0131, 5, 1, 38)
    block = b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + struct.pack("<II", 3, 2)
    picture = read_picture(encoded(STORED, kind, exif=b"Exif\0\0" + block), "x")
    assert picture.rgb.shape == (40, 24, 3)
    assert picture.flags == {}


@pytest.mark.parametrize("way", ["TIFF", "TIFF lzw", "JPEG", "PNG", "WEBP"])
def test_pairs_are_of_the_size_that_is_shown(way: str, tmp_path: Path) -> None:
    """A right pair is scored, and one of the stored size is not, through every verb that pairs."""
    suffix = {"T": "tif", "J": "jpg", "P": "png", "W": "webp"}[way[0]]
    (tmp_path / "ref").mkdir()
    (tmp_path / "ref" / f"0.{suffix}").write_bytes(turned(way, 6))
    upright = read_picture(turned(way, 6), "x").rgb
    save(tmp_path / "right" / "0.png", upright)
    save(tmp_path / "wrong" / "0.png", np.ascontiguousarray(upright.transpose(1, 0, 2)))
    scored = vtbench.score(tmp_path / "ref", tmp_path / "right", ["mse", "ssim"])
    assert [s.value for s in scored.candidates[0].scores] == [0, 1]
    with pytest.raises(vtbench.VtbenchError, match="40x24, wanted 24x40"):
        vtbench.score(tmp_path / "ref", tmp_path / "wrong", ["ssim"])
    ask = {"images": tmp_path / "ref", "view": "native", "tasks": ["compression"], "out": tmp_path / "out"}
    runs = vtbench.evaluate(f"folder:{tmp_path / 'right'}", **ask).runs
    (row,) = runs[0].rows()
    assert (row.size, row.why.get("*")) == ([40, 24], None)
    with pytest.raises(vtbench.VtbenchError, match="40x24, wanted 24x40"):
        vtbench.evaluate(f"folder:{tmp_path / 'wrong'}", **ask)


def test_a_container_that_states_two_sizes_is_believed_in_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import WebPImagePlugin

    load = WebPImagePlugin.WebPImageFile.load

    def other(self: WebPImagePlugin.WebPImageFile) -> object:
        out = load(self)
        self._size = (9, 9)
        return out

    monkeypatch.setattr(WebPImagePlugin.WebPImageFile, "load", other)
    with pytest.raises(BadImage, match="states 40 x 24 pixels, has 9 x 9"):
        read_picture(turned("WEBP", 1), "x")
