"""The view: the picture that is scored, cut from the image as its protocol says. numpy and Pillow, no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtbench.images.fits import Fit
from vtbench.images.limits import PIXEL_LIMIT, BadImage
from vtbench.images.profiles import SRGB
from vtbench.images.protocols import PROTOCOLS
from vtbench.images.reading import BACKGROUND, READER
from vtbench.types.errors import VtbenchError, near

if TYPE_CHECKING:
    from vtbench.images.reading import RGB


@dataclass(frozen=True)
class View:
    """The picture that is scored: `size` is the side of a square, None the image as it is; `protocol` names the fit;
    `icc` is "srgb" where colour profiles are applied, "" where they are not."""

    protocol: str = "vtbench"
    size: int | None = None
    icc: str = ""

    @staticmethod
    def parse(text: str, protocol: str = "vtbench", icc: str | None = None) -> View:
        """ "native", or a side in pixels such as "256"; the protocol is one of PROTOCOLS. Either may end in "+srgb", as
        `name` writes it, which `icc` "srgb" adds."""
        text, plus, named = text.partition("+")
        icc = named if plus else icc or ""
        if icc not in ("", SRGB) or (plus and not named):
            raise VtbenchError(
                f"--icc {icc!r} is no choice: give {SRGB}, or leave it out: profiles are then not applied"
            )
        if protocol == "native" or text == "native":
            return View("native" if protocol == "native" else protocol, None, icc)
        square = [name for name, p in PROTOCOLS.items() if p.crop is not None]
        if protocol not in square:
            raise VtbenchError(
                f"there is no protocol {protocol!r}{near(protocol, square)}: choose {', '.join(square)} or native"
            )
        if not text.isdigit() or not 1 <= int(text) <= 16384:
            raise VtbenchError(f"--view {text!r} is no view: give native, or the side of a square such as 256")
        return View(protocol, int(text), icc)

    @property
    def name(self) -> str:
        """As `parse` reads it: "native", "256", "native+srgb"."""
        return ("native" if self.size is None else str(self.size)) + (f"+{self.icc}" if self.icc else "")

    @property
    def fit(self) -> Fit:
        """The protocol's fit; only a view of a size has one."""
        crop = PROTOCOLS[self.protocol].crop
        if crop is None:
            raise VtbenchError(f"the protocol {self.protocol} leaves pictures as they are: it has no view of a size")
        return crop

    @property
    def of_file(self) -> View:
        """The view at which a picture that is this view already is read: as it is, in the same colours."""
        return View("native", None, self.icc)

    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that decides the view's pixels."""
        fit = {} if self.size is None else {"fit": self.protocol, "version": self.fit.version}
        icc = {"icc": self.icc} if self.icc else {}
        text = json.dumps({"size": self.size, "background": BACKGROUND, "reader": READER, **fit, **icc}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def apply(self, rgb: RGB) -> tuple[RGB, dict[str, Any]]:
        """The view of a uint8 (H, W, 3) image, and flags: `enlarged` if it was smaller than the view."""
        import numpy as np
        from PIL import Image

        if self.size is None:
            return rgb, {}
        flags = {"enlarged": True} if min(rgb.shape[:2]) < self.size else {}
        long = max(rgb.shape[:2]) * self.size / min(rgb.shape[:2])
        if long * self.size > PIXEL_LIMIT:
            raise BadImage(
                f"an image of {rgb.shape[1]} x {rgb.shape[0]} would be {int(long)} px long at {self.size}: cut it"
            )
        return np.array(self.fit.apply(Image.fromarray(rgb), self.size)), flags
