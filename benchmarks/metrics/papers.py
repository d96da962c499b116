"""GMSD and HaarPSI from their papers, float64: sums and differences of arrays, no convolution of any library.

Both work on 8-bit values and begin by halving the picture: means of 2 x 2 squares, zeros beyond an odd border (Matlab's
conv2, "same", then every second value).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics.pictures import GREY

Plane = NDArray[np.float64]

YIQ = np.array([GREY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""RGB to YIQ with the digits that the authors of HaarPSI use."""
YIQ_OF_FCC = np.array([GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
"""The same to four digits, as the FCC's NTSC standard of 1953 gives it and piq has it."""
GRADIENTS = 170.0
"""The constant of GMSD for values up to 255; the paper's 0.0026 is that over 255²."""
WAVELETS = 30.0
"""C of HaarPSI."""
STEEPNESS = 4.2
"""alpha of HaarPSI."""


def halved(plane: Plane) -> Plane:
    """Means of 2 x 2 squares."""
    height, width = plane.shape
    even = np.zeros((height + height % 2, width + width % 2))
    even[:height, :width] = plane
    corners = (even[i::2, j::2] for i in (0, 1) for j in (0, 1))
    return sum(corners, np.zeros((even.shape[0] // 2, even.shape[1] // 2))) / 4


def similarity(a: Plane, b: Plane, constant: float) -> Plane:
    return (2 * a * b + constant) / (a**2 + b**2 + constant)


def prewitt(plane: Plane) -> Plane:
    """Magnitude of the gradient: means of three differences of next but one pixels, zeros outside the picture."""
    height, width = plane.shape
    wide = np.pad(plane, 1)
    across = sum(wide[i : i + height, 2:] - wide[i : i + height, :-2] for i in range(3)) / 3
    down = sum(wide[2:, j : j + width] - wide[:-2, j : j + width] for j in range(3)) / 3
    return np.sqrt(across**2 + down**2)


def gmsd(x: Any, y: Any) -> float:
    """Xue et al. 2014, of two uint8 (H, W, 3): the deviation, over N, of the similarity of gradients.
    (The authors' Matlab divides by N - 1.)"""
    a, b = (prewitt(halved(image @ GREY)) for image in (x, y))
    return float(similarity(a, b, GRADIENTS).std())


def haar(plane: Plane, scale: int) -> tuple[Plane, Plane]:
    """Magnitudes of the Haar responses of squares of 2^scale pixels, upper against lower and left against right half.

    Sums of rectangles from a table of sums. A square of side s lies from s / 2 - 1 before a pixel to s / 2 behind it;
    the filter holds ±1 / s.
    """
    height, width = plane.shape
    side, half = 2**scale, 2 ** (scale - 1)
    sums = np.pad(np.pad(plane, (half - 1, half)).cumsum(0).cumsum(1), (1, 0))

    def box(top: int, bottom: int, left: int, right: int) -> Plane:
        rows = [sums[i : i + height] for i in (bottom, top)]
        of_rows = rows[0] - rows[1]
        return of_rows[:, right : right + width] - of_rows[:, left : left + width]

    down = box(0, half, 0, side) - box(half, side, 0, side)
    across = box(0, side, 0, half) - box(0, side, half, side)
    return abs(down) / side, abs(across) / side


def haarpsi(x: Any, y: Any, to_yiq: Any = YIQ) -> float:
    """Reisenhofer et al. 2018, with colour, of two uint8 (H, W, 3)."""
    (y1, *colours1), (y2, *colours2) = ([halved(p) for p in np.moveaxis(i @ to_yiq.T, -1, 0)] for i in (x, y))
    ones, twos = ([haar(luma, scale) for scale in (1, 2, 3)] for luma in (y1, y2))
    alike, weights = [], []
    for way in (0, 1):
        alike.append(_mean([similarity(ones[k][way], twos[k][way], WAVELETS) for k in (0, 1)]))
        weights.append(np.maximum(ones[2][way], twos[2][way]))
    pairs = [(_blurred(a), _blurred(b)) for a, b in zip(colours1, colours2, strict=True)]
    alike.append(_mean([similarity(a, b, WAVELETS) for a, b in pairs]))
    weights.append(_mean(weights))
    bent = [1 / (1 + np.exp(-STEEPNESS * a)) for a in alike]
    mean = sum(float((w * s).sum()) for w, s in zip(weights, bent, strict=True)) / sum(float(w.sum()) for w in weights)
    return float((np.log(mean / (1 - mean)) / STEEPNESS) ** 2)


def _mean(planes: Sequence[Plane]) -> Plane:
    return np.mean(planes, axis=0)


def _blurred(plane: Plane) -> Plane:
    """Magnitude of the mean of every pixel and its three neighbours to the right and below."""
    wide = np.pad(plane, (0, 1))
    return abs(wide[:-1, :-1] + wide[1:, :-1] + wide[:-1, 1:] + wide[1:, 1:]) / 4
