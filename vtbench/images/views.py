"""The view: the picture that is scored, cut from the image as its protocol says. numpy and Pillow, no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtbench.images.fits import Fit
from vtbench.images.protocols import PROTOCOLS
from vtbench.images.reading import BACKGROUND, PIXEL_LIMIT, BadImage
from vtbench.types.errors import VtbenchError, near

if TYPE_CHECKING:
    from vtbench.images.reading import RGB


@dataclass(frozen=True)
class View:
    """The picture that is scored: `size` is the side of a square, None the image as it is; `protocol` names the fit."""

    protocol: str = "vtbench"
    size: int | None = None

    @staticmethod
    def parse(text: str, protocol: str = "vtbench") -> View:
        """ "native", or a side in pixels such as "256"; the protocol is one of PROTOCOLS."""
        if protocol == "native" or text == "native":
            return View("native" if protocol == "native" else protocol, None)
        square = [name for name, p in PROTOCOLS.items() if p.crop is not None]
        if protocol not in square:
            raise VtbenchError(
                f"there is no protocol {protocol!r}{near(protocol, square)}: choose {', '.join(square)} or native"
            )
        if not text.isdigit() or not 1 <= int(text) <= 16384:
            raise VtbenchError(f"--view {text!r} is no view: give native, or the side of a square such as 256")
        return View(protocol, int(text))

    @property
    def name(self) -> str:
        return "native" if self.size is None else str(self.size)

    @property
    def fit(self) -> Fit:
        """The protocol's fit; only a view of a size has one."""
        crop = PROTOCOLS[self.protocol].crop
        if crop is None:
            raise VtbenchError(f"the protocol {self.protocol} leaves pictures as they are: it has no view of a size")
        return crop

    def fingerprint(self) -> str:
        """16 hexadecimal digits over everything that decides the view's pixels."""
        fit = {} if self.size is None else {"fit": self.protocol, "version": self.fit.version}
        text = json.dumps({"size": self.size, "background": BACKGROUND, "reader": 1, **fit}, sort_keys=True)
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
