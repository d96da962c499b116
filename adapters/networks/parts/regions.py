"""A picture cut into regions, smaller where there is more to see: where GPSToken's Gaussians begin.

xtudbxk/GPSToken @ 372231d datasets/adaptivegps.py:38-150.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtbench.types.errors import VtbenchError

Floats = NDArray[np.floating[Any]]
_SIDE = 64
"""Every region is resized to this before its edges are measured."""
_BINS, _RANGE = 512, (-5.5, 5.5)


@dataclass(frozen=True)
class _Region:
    """Rows and columns, ends included, and how much there is to see."""

    top: int
    bottom: int
    left: int
    right: int
    detail: float

    @property
    def height(self) -> int:
        return self.bottom - self.top + 1

    @property
    def width(self) -> int:
        return self.right - self.left + 1


def detail(grey: Floats, weight: float) -> float:
    """(entropy of the histogram of the edges' magnitudes) ** weight x pixels, of grey values in [-1, 1]."""
    import cv2

    small = cv2.resize((grey + 1.0) / 2.0, dsize=(_SIDE, _SIDE))
    along, down = (
        cv2.Sobel(small, cv2.CV_64F, *order, ksize=3, borderType=cv2.BORDER_REPLICATE) for order in ((1, 0), (0, 1))
    )
    counts, _ = np.histogram(np.sqrt(along**2 + down**2), bins=_BINS, range=_RANGE)
    shares = counts / (counts.sum() + 1e-5)
    entropy = float(-np.sum(shares * np.log2(shares + 1e-10)))
    # A flat region's entropy is 0 but for the small constants, which may push it below: no power of that.
    return max(entropy, 0.0) ** weight * grey.shape[0] * grey.shape[1]


def split(grey: Floats, count: int, *, shortest: int, weight: float) -> tuple[Floats, Floats]:
    """`count` regions of a grey picture (h, w) in [-1, 1]: codes (count, 5) and boxes (count, 4), both float32.

    The region with most detail is halved again and again across its longer side, a square across the side that leaves
    less detail in its emptier half; regions of at most `shortest` + 1 pixels a side are left alone. A code is
    (sigma_x, sigma_y, rho, x, y) with a third of the region's side as deviation, a box (x0, y0, x1, y1); pictures are
    [-1, 1] wide and high, the centres of the outermost pixels at the ends.
    """
    height, width = grey.shape
    if min(height, width) < 2:
        raise VtbenchError(f"a picture of {height} x {width} cannot be split into regions: give two pixels or more")
    regions = [_Region(0, height - 1, 0, width - 1, detail(grey, weight))]
    while len(regions) < count:
        regions.sort(key=lambda region: region.detail, reverse=True)
        chosen = next((r for r in regions if r.height - 1 > shortest or r.width - 1 > shortest), None)
        if chosen is None:
            raise VtbenchError(
                f"a picture of {height} x {width} has no {count} regions of at least {shortest} pixels: give a larger "
                "picture, fewer Gaussians (gps.num) or a smaller gps.adaptive_min_size"
            )
        regions.remove(chosen)
        regions += _halves(grey, chosen, weight)
    return _codes(regions, height, width), _boxes(regions, height, width)


def _halves(grey: Floats, region: _Region, weight: float) -> list[_Region]:
    def part(top: int, bottom: int, left: int, right: int) -> _Region:
        return _Region(top, bottom, left, right, detail(grey[top : bottom + 1, left : right + 1], weight))

    r = region
    x, y = r.left + r.width // 2, r.top + r.height // 2
    beside = [part(r.top, r.bottom, r.left, x - 1), part(r.top, r.bottom, x, r.right)] if r.width >= r.height else []
    if r.width > r.height:
        return beside
    above = [part(r.top, y - 1, r.left, r.right), part(y, r.bottom, r.left, r.right)]
    if r.width < r.height:
        return above
    return beside if min(p.detail for p in beside) < min(p.detail for p in above) else above


def _codes(regions: list[_Region], height: int, width: int) -> Floats:
    rows = [
        (
            (r.width - 1) / width * 2.0 / 3.0,
            (r.height - 1) / height * 2.0 / 3.0,
            0.0,
            ((r.right + r.left) / 2.0 / (width - 1) - 0.5) * 2.0,
            ((r.bottom + r.top) / 2.0 / (height - 1) - 0.5) * 2.0,
        )
        for r in regions
    ]
    return np.array(rows, dtype=np.float32)


def _boxes(regions: list[_Region], height: int, width: int) -> Floats:
    rows = [
        tuple(
            (at / (n - 1) - 0.5) * 2
            for at, n in ((r.left, width), (r.top, height), (r.right, width), (r.bottom, height))
        )
        for r in regions
    ]
    return np.array(rows, dtype=np.float32)
