"""Views: ADM's rule derived once more, torchvision's transforms for the others; protocols and their fingerprints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from image_files import noise, photograph
from PIL import Image

from vtbench.images.protocols import PROTOCOLS, get
from vtbench.images.reading import BadImage
from vtbench.images.views import View
from vtbench.scoring.fingerprint import fingerprint_under
from vtbench.types.errors import VtbenchError


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
    pixels, flags = View.parse(str(size)).apply(rgb)
    assert np.array_equal(pixels, adm(rgb, size))
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
    pixels, _ = View.parse("64", protocol).apply(rgb)
    assert np.array_equal(pixels, np.asarray(upstream(Image.fromarray(rgb))))


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


RECORDED = {
    "vtbench": ("9a2a35ea881b95db", "1a54ad6f52668b50", "8f111f427bcb75db", "71d96cc50c02e5ad"),
    "titok": ("97ac3c7549e9c0c5", "32d8a4ec28964c61", "8d009eab267deee6", "71d96cc50c02e5ad"),
    "llamagen": ("e10ed83b715c25e7", "d6195a08f68b68be", "4d602a63bf68bb8e", "b1486d0d8f8c9d20"),
    "var": ("9a25dd9825ec14cb", "a7372015bd829d16", "a3ba7bd306103ba5", "71d96cc50c02e5ad"),
    "magvit2": ("8e4ebaad6d9fbc49", "052552f5af0fc51e", "056e3e501e1e8550", "5fccb870a65d58b8"),
    "clean": ("f302764b84ae2c6c", "f36a57e20afe4296", "8c4a69655cfaf54a", "71d96cc50c02e5ad"),
    "lanczos": ("339673ca27d7e252", "c477be8f70af4f2e", "babcfe4213795d9e", "71d96cc50c02e5ad"),
    "torch-bicubic": ("0574dbcbd2da120a", "f7c2883add64eedf", "30b9f507bdee4f7c", "71d96cc50c02e5ad"),
    "torch-bilinear": ("0bcb3785098910d7", "2e47a4e4f5492137", "ff38a49fa85ef882", "71d96cc50c02e5ad"),
    "crop-bicubic": ("c776f4e725b485ca", "d59cb90c8a084002", "fc39f477f34f13c1", "71d96cc50c02e5ad"),
    "crop-bilinear": ("d838c702bb908586", "03cb07a18b092d58", "0c5bde4e1902a52b", "71d96cc50c02e5ad"),
    "crop-lanczos": ("f5d8ae74fe9f8eb2", "2689811b1ed0754c", "af7cc19fa8f71d9e", "71d96cc50c02e5ad"),
    "stretch-bicubic": ("952067b5d80e6959", "3a270319172d2d26", "112fbde4f1607a0f", "71d96cc50c02e5ad"),
    "native": ("96dcce30b0ebd5ad", "80e8ff2fb619c6cc", "e956c4d1267fd679", "71d96cc50c02e5ad"),
}
"""As they were while the fits and the protocols were two tables: of the view at 256 px, then of ssim and rfid at it and
of psnr at the native view. The seven that follow `clean` came later."""


def test_fingerprints_are_those_that_runs_on_disk_hold() -> None:
    """A number that was fingerprinted before the tables became one must still be found equal to one of today."""
    assert set(RECORDED) == set(PROTOCOLS)
    for name, digits in RECORDED.items():
        protocol = PROTOCOLS[name]
        numbers = [fingerprint_under(protocol, *of) for of in ((256, "ssim"), (256, "rfid"), (None, "psnr"))]
        assert (View.parse("256", name).fingerprint(), *numbers) == digits, name
    assert View.parse("64").fingerprint() == "3a4533b2ae48fbce"


def test_no_protocol_is_named_twice_and_native_has_no_square() -> None:
    assert [name for name, p in PROTOCOLS.items() if p.crop is None] == ["native"]
    assert all(name == p.name for name, p in PROTOCOLS.items())
    with pytest.raises(VtbenchError, match=r"there is no protocol 'titik'.*titok"):
        get("titik")
    with pytest.raises(VtbenchError, match="has no view of a size"):
        View("native", 64).apply(noise(9, 9))


@pytest.mark.parametrize("text", ["0", "-3", "256x256", "natve", "99999", "2.5", ""])
def test_no_view(text: str) -> None:
    with pytest.raises(VtbenchError, match="no view"):
        View.parse(text)
    with pytest.raises(VtbenchError, match="titok"):
        View.parse("256", "titk")


def test_ribbon_is_refused_before_it_is_enlarged() -> None:
    with pytest.raises(BadImage, match="px long"):
        View.parse("1024").apply(noise(1, 3000))
