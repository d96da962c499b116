"""Colour profiles: what a picture states of its colours, whether two pictures state the same, and the way to sRGB.

No reader of the field applies a profile, so none is applied here unless a view asks for it; what was stated is said.
"""

from __future__ import annotations

import functools
import io
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.images.boxes import code_points
from vtbench.images.limits import BadImage
from vtbench.types.shortage import refuse_shortage

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SRGB = "srgb"
"""The one conversion that a view may ask for: to sRGB, relative colorimetric with black point compensation."""
_STEPS = 9
"""Levels a channel at which profiles are compared."""
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode by the signature of a profile's colour space (ICC.1, 7.2.6)."""
_UNSTATED, _BT709, _SRGB_CURVE = 2, 1, 13
"""Code points of ITU-T H.273: nothing is said; sRGB's primaries; sRGB's transfer."""
IN_WORDS = re.compile(r"(?:nclx|cICP) [\d/]+|(?:gAMA|cHRM) [\d.].*|(?:ROMM|Adobe) RGB, as \w+ says")
"""Names of what is stated without an ICC profile, which nothing here converts."""
_EXIF, _COLOUR_SPACE, _INTEROPERABILITY = 0x8769, 0xA001, 0xA005


@dataclass(frozen=True, eq=False)
class Profile:
    """What a picture states: `name` for people; mode of the pictures that it is of ("" where it cannot be applied), and
    `effect`, what it makes of a few colours, uint8 (n, 3)."""

    name: str
    mode: str = ""
    icc: bytes = field(default=b"", repr=False)
    effect: np.ndarray[Any, Any] | None = field(default=None, repr=False)

    @property
    def is_srgb(self) -> bool:
        """True where conversion moves no colour by more than one level: it was rounded once more."""
        return self.effect is not None and self.mode in ("RGB", "L") and _near(self.effect, _levels(self.mode))


def stated(statement: bytes | str | None) -> tuple[Profile | None, bool]:
    """(profile, whether it could be read) of an ICC profile or of words; None for sRGB and where nothing is stated."""
    if not statement:
        return None, True
    if isinstance(statement, str):
        return Profile(statement), True
    profile = _read(statement)
    return (None if profile is None or profile.is_srgb else profile), profile is not None


def in_other_words(image: Image.Image, data: bytes) -> str | None:
    """What a file without an ICC profile says of its colours, where that is not sRGB: a HEIF or AVIF by code points,
    others by Exif, as cameras mark Adobe RGB (the colour space 2, or none and the interoperability index R03 of JEITA
    CP-3461). `image`: the file, opened."""
    points = code_points(data) if data[4:8] == b"ftyp" else None
    if points is not None and not (points[0] in (_BT709, _UNSTATED) and points[1] in (_SRGB_CURVE, _UNSTATED)):
        return f"nclx {points[0]}/{points[1]}"
    try:
        exif = image.getexif()
        space = exif.get_ifd(_EXIF).get(_COLOUR_SPACE)
        # Asked for where it counts alone: of a file without such an index, Pillow 11 raises KeyError.
        index = exif.get_ifd(_INTEROPERABILITY).get(1) if space == 0xFFFF else None
    except Exception as bad:
        refuse_shortage(bad, "a picture's Exif block")
        # A block that is no TIFF, or damaged: Pillow raises whatever its parser stumbles over.
        return None
    return "Adobe RGB, as Exif says" if space == 2 or (space == 0xFFFF and str(index)[:3] == "R03") else None


def differ(one: Profile | None, other: Profile | None) -> bool:
    """Whether two pictures state different colours; None is sRGB."""
    if one is other:
        return False
    if one is None or other is None:
        return True
    if one.effect is None or other.effect is None or one.mode != other.mode:
        return one.name != other.name
    return not _near(one.effect, other.effect)


def named(profile: Profile | None) -> str:
    return "none" if profile is None else profile.name


def to_srgb(image: Image.Image, profile: Profile, name: str) -> Image.Image:
    """The picture, of mode L, RGB, RGBA or CMYK, in sRGB: RGB, or RGBA where it has alpha. Raises BadImage for what
    littleCMS cannot convert."""
    from PIL import Image, ImageCms

    if not profile.mode:
        raise BadImage(
            f"{name} states its colours as {profile.name}, which --icc srgb does not convert: embed an ICC profile"
        )
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    if (profile.mode == "CMYK") != (image.mode == "CMYK"):
        raise BadImage(f"{name} has {image.mode} pixels and a profile of {profile.mode} ({profile.name}): save it anew")
    plain = image if image.mode == profile.mode else image.convert("RGB").convert(profile.mode)
    try:
        out = ImageCms.applyTransform(plain, _transform(profile.icc, profile.mode))
    except ImageCms.PyCMSError as bad:
        raise BadImage(f"{name} cannot be converted from {profile.name} to sRGB ({bad}): leave out --icc") from bad
    assert isinstance(out, Image.Image)
    if alpha is not None:
        out.putalpha(alpha)
    return out


@functools.lru_cache(maxsize=16)
def _read(icc: bytes) -> Profile | None:
    """None where it is no profile that can be applied to pictures."""
    from PIL import Image, ImageCms

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        name = " ".join(ImageCms.getProfileDescription(opened).split())[:80]
        mode = _MODES.get(opened.profile.xcolor_space.strip(), "")
        if not mode:
            return Profile(name or "an ICC profile")
        probe = (
            Image.fromarray(_levels(mode)[None], mode) if mode != "L" else Image.fromarray(_levels(mode)[None, :, 0])
        )
        seen = ImageCms.applyTransform(probe, _transform(icc, mode))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    import numpy as np

    return Profile(name or "an ICC profile", mode, icc, np.asarray(seen).reshape(-1, 3))


@functools.lru_cache(maxsize=16)
def _transform(icc: bytes, mode: str) -> Any:
    from PIL import ImageCms

    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(icc)),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _levels(mode: str) -> np.ndarray[Any, Any]:
    """uint8 (n, 3 or 4): colours all over the cube; greys, three alike, where the mode is L."""
    import numpy as np

    if mode == "L":
        return np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[:, None], 3, axis=1)
    steps = np.linspace(0, 255, _STEPS if mode == "RGB" else 5).round().astype(np.uint8)
    return np.stack(np.meshgrid(*[steps] * len(mode), indexing="ij"), axis=-1).reshape(-1, len(mode))


def _near(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    import numpy as np

    return one.shape == other.shape and int(np.abs(one.astype(int) - other).max()) <= 1
