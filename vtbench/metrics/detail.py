"""Detail: gradients, edges, how much of each octave comes through, where it ends, and the worst tile.

Coherent gain. X, Y: Fourier coefficients of the luma of original and candidate, mean removed, under a Hann window (its
absence would let the jump at the image's border pass for detail). In a band of frequencies

    gain = Re sum Y X* / sum |X|²,    excess = (sum |Y|² - |sum Y X*|² / sum |X|²) / sum |X|²:

gain is 1 where detail came through, 0 where it is gone or was replaced by other detail of the same strength, which a
ratio of powers would reward; excess is the candidate's power that is no copy of the original, over the original's.
Octaves count down from the sampling limit: o1 is (1/4, 1/2] cycles per pixel, o2 (1/8, 1/4], o3, o4. A band in which
the original holds less than the noise of rounding to bytes (1/12) has no gain.

MTF50: the lowest frequency at which the gain, in bands an eighth of an octave wide, falls under one half; in cycles per
image (its shorter side), interpolated. A gain that stays above up to the sampling limit reads as the limit. A band a
hundred times weaker than one above it is a gap in a test pattern's spectrum, filled by what leaks and by coding noise:
it is passed over (spectra of photographs fall with frequency and have none).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vtbench.metrics._on_device import on_device
from vtbench.metrics._pixels import each, lumas, pairs
from vtbench.metrics.psnr import LOSSLESS, decibels
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

if TYPE_CHECKING:
    import torch

OCTAVES = 4
BANDS_AN_OCTAVE = 8
ROUNDING = 1 / 12
"""Variance of rounding to whole grey levels."""
GAP = 0.01
TILE = 32
EDGE_SIGMA, EDGE_TOLERANCE = 1.0, 2.0
"""Canny's smoothing and how far an edge may lie from its partner, in pixels."""
NO_DETAIL = "the original has less detail in this band than the noise of rounding to bytes"

BLACK = "both pictures are black: HaarPSI weighs by wavelet coefficients, and all are zero"


def _similarity(name: str, title: str, better: Any, bounds: tuple[float, float | None]) -> MetricCard:
    source = {"gmsd": "Xue et al. 2014; piq.gmsd", "haarpsi": "Reisenhofer et al. 2018; piq.haarpsi"}[name]
    # piq halves the image and takes differences (GMSD), or Haar wavelets of up to 16 px (HaarPSI); on less it returns
    # a perfect score.
    return MetricCard(
        name=name, title=title, version=1, unit="", better=better, source=source, bounds=bounds, min_size=16
    )


def _floats(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(originals, candidates) as float64, where they are if that device is measured on, else on the CPU."""
    sides = batch.reference.images, batch.candidate
    x, y = (side.double() if on_device(batch) else side.cpu().double() for side in sides)
    return x, y


class GMSD(ImageMetric):
    card = _similarity("gmsd", "Gradient magnitude similarity deviation", "lower", (0.0, None))

    def measure(self, batch: Batch) -> Sequence[Value]:
        import piq

        values = piq.gmsd(*_floats(batch), data_range=255.0, reduction="none")
        return [Value(v) for v in values.tolist()]


class HaarPSI(ImageMetric):
    card = _similarity("haarpsi", "HaarPSI", "higher", (0.0, 1.0))

    def measure(self, batch: Batch) -> Sequence[Value]:
        import piq

        values = piq.haarpsi(*_floats(batch), data_range=255.0, reduction="none").tolist()
        # All weights are zero where both are black: piq's quotient of two epsilons is 1, its logit infinite.
        return [Value(v) if math.isfinite(v) else Value(None, why=BLACK) for v in values]


def edges(luma: Any) -> Any:
    """Canny edges, bool (H, W): sigma 1 px, thresholds 0.1 and 0.2 of the full range (scikit-image's)."""
    from skimage.feature import canny

    return canny(luma / 255.0, sigma=EDGE_SIGMA)  # type: ignore[no-untyped-call]


def near_edges(edge: Any) -> Any:
    """Pixels within EDGE_TOLERANCE of an edge: bool (H, W) each."""
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    if not edge.any():
        return np.zeros_like(edge)
    return distance_transform_edt(~edge) <= EDGE_TOLERANCE


class EdgeF1(ImageMetric):
    on_cpu = True
    card = MetricCard(
        name="edge-f1",
        title="Edges kept, F1 within 2 px",
        version=1,
        unit="",
        better="higher",
        bounds=(0.0, 1.0),
        source="Canny 1986 (scikit-image, sigma 1) on luma; an edge pixel counts if its partner is within 2 px",
        min_size=16,
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        both = lumas(batch)

        def reference_side() -> list[tuple[Any, Any]]:
            return [(e, near_edges(e)) for e in (edges(x) for x, _ in both)]

        left = batch.reference.once("edges", reference_side)
        out = []
        for (mine, near), (_, y) in zip(left, both, strict=True):
            theirs = edges(y)
            if not mine.any():
                out.append(Value(None, why="the original has no edge"))
                continue
            precision = float(near[theirs].mean()) if theirs.any() else 0.0
            recall = float(near_edges(theirs)[mine].mean())
            out.append(Value(2 * precision * recall / (precision + recall) if precision + recall else 0.0))
        return out


@functools.lru_cache(maxsize=8)
def _grid(height: int, width: int) -> tuple[Any, Any, Any, Any, Any]:
    """(window, octave index, fine band index, multiplicity, centres of fine bands in cycles per pixel) of a size."""
    import numpy as np
    from scipy import fft
    from scipy.signal.windows import hann

    window = np.outer(hann(height, sym=False), hann(width, sym=False))
    frequency = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None, :])
    twice = np.full(width // 2 + 1, 2.0)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    multiplicity = np.broadcast_to(twice, frequency.shape).ravel()
    with np.errstate(divide="ignore"):
        below = np.log2(0.5 / frequency).ravel()  # octaves under the sampling limit; infinite at 0
    octave = np.where((below >= 0) & (below < OCTAVES), np.floor(below), OCTAVES).astype(np.intp)
    # Bands an eighth of an octave wide, and never narrower than one cycle per image.
    short = min(height, width)
    bounds = [0.5]
    while bounds[-1] * short > 2:
        bounds.append(min(bounds[-1] * 2 ** (-1 / BANDS_AN_OCTAVE), bounds[-1] - 1 / short))
    upward = np.array(bounds[::-1])
    fine = np.searchsorted(upward, frequency.ravel(), side="left")  # 1 .. len - 1 inside; 0 and len outside
    centres = (upward[:-1] + upward[1:]) / 2
    return window, octave, fine, multiplicity, centres


def _transform(luma: Any) -> Any:
    from scipy import fft

    window = _grid(*luma.shape)[0]
    return fft.rfft2((luma - luma.mean()) * window).ravel()


def _sums(index: Any, weights: Any, x: Any, y: Any, n: int) -> tuple[Any, Any, Any, Any]:
    """Per band: sum |X|², sum |Y|², sum Y X*, count; `weights`: multiplicity of half-plane coefficients.

    Pictures are real: over a whole band the imaginary parts of Y X* cancel, and half of the plane must not keep them.
    """
    import numpy as np

    cross = weights * (y.real * x.real + y.imag * x.imag)
    parts = (weights * (x.real**2 + x.imag**2), weights * (y.real**2 + y.imag**2), cross, weights)
    return tuple(np.bincount(index, v, n) for v in parts)  # type: ignore[return-value]


class Spectrum:
    """Gains and excess of one pair: per octave, float or None, and (frequency, gain) in fine bands."""

    def __init__(self, x: Any, y: Any, shape: tuple[int, int]) -> None:
        import numpy as np

        window, octave, fine, multiplicity, centres = _grid(*shape)
        floor = ROUNDING * float((window**2).sum())
        power, other, cross, count = _sums(octave, multiplicity, x, y, OCTAVES + 1)
        self.gain: list[float | None] = []
        self.excess: list[float | None] = []
        for k in range(OCTAVES):
            if count[k] == 0 or power[k] < floor * count[k]:
                self.gain.append(None)
                self.excess.append(None)
            else:
                self.gain.append(float(cross[k] / power[k]))
                residual = float(other[k]) - float(cross[k] ** 2 / power[k])
                self.excess.append(max(0.0, residual) / float(power[k]))
        n = len(centres) + 2
        power, _, cross, count = _sums(fine, multiplicity, x, y, n)
        short = min(shape)
        self.limit = short / 2
        density = power[1:-1] / np.maximum(count[1:-1], 1)
        above = np.maximum.accumulate(density[::-1])[::-1]
        self.curve = [
            (float(centres[k]) * short, float(cross[k + 1] / power[k + 1]))
            for k in range(len(centres))
            if density[k] > 0 and density[k] >= max(floor, GAP * above[k])
        ]
        self.whole = bool(self.curve) and self.curve[-1][0] == float(centres[-1]) * short

    def mtf50(self) -> Value:
        if not self.curve:
            return Value(None, why=NO_DETAIL.replace("in this band ", ""))
        before = (0.0, 1.0)
        for frequency, gain in self.curve:
            if gain < 0.5:
                low, high = before
                return Value(low + (frequency - low) * (high - 0.5) / (high - gain))
            before = (frequency, gain)
        if self.whole:
            return Value(self.limit)
        return Value(None, why=f"the gain stays over one half up to {before[0]:.0f} cycles, where the detail ends")


def spectra(batch: Batch) -> list[Spectrum]:
    both = lumas(batch)
    left = batch.reference.once("spectrum", lambda: [_transform(x) for x, _ in both])
    return each(batch, "spectra", lambda k: Spectrum(left[k], _transform(both[k][1]), both[k][1].shape))


def _mean(values: Sequence[float | None]) -> Value:
    """The mean over octaves that have a value."""
    there = [v for v in values if v is not None]
    return Value(sum(there) / len(there)) if there else Value(None, why=NO_DETAIL.replace("in this band ", ""))


class CoherentGain(ImageMetric):
    """`octave` 1 to 4, or None for the mean over octaves."""

    on_cpu = True

    def __init__(self, octave: int | None = None) -> None:
        self.octave = octave
        span = "" if octave is None else f", octave (1/{2 ** (octave + 1)}, 1/{2**octave}] cycles per pixel"
        self.card = MetricCard(
            name="coherent-gain" if octave is None else f"coherent-gain-o{octave}",
            title="Coherent gain" + (span or ", mean of four octaves"),
            version=1,
            unit="",
            better="higher",
            source="Re sum Y X* / sum |X|² of luma under a Hann window" + span,
            min_size=64,
        )

    def measure(self, batch: Batch) -> Sequence[Value]:
        by_octave = [s.gain for s in spectra(batch)]
        if self.octave is None:
            return [_mean(gains) for gains in by_octave]
        of_one = [gains[self.octave - 1] for gains in by_octave]
        return [Value(g) if g is not None else Value(None, why=NO_DETAIL) for g in of_one]


class ExcessPower(ImageMetric):
    on_cpu = True
    card = MetricCard(
        name="excess-power",
        title="Power that is no copy of the original",
        version=1,
        unit="",
        better="lower",
        source="(sum |Y|² - |sum Y X*|² / sum |X|²) / sum |X|² of luma under a Hann window, mean of four octaves",
        bounds=(0.0, None),
        min_size=64,
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [_mean(s.excess) for s in spectra(batch)]


class MTF50(ImageMetric):
    on_cpu = True
    card = MetricCard(
        name="mtf50",
        title="Resolution: gain falls under one half",
        version=1,
        unit="cycles/image",
        better="higher",
        source="coherent gain in bands of an eighth of an octave; at most half of the shorter side in pixels",
        bounds=(0.0, None),
        min_size=64,
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        return [s.mtf50() for s in spectra(batch)]


def worst_tile_error(x: Any, y: Any, tile: int = TILE) -> float:
    """Largest mean squared error of a tile x tile square: uint8 (H, W, 3) each, sides at least `tile`.

    Tiles start at the top left; the last of a row or column is moved inward so that every tile is whole.
    """
    import numpy as np

    difference = x.astype(np.int32) - y
    sums = np.zeros((x.shape[0] + 1, x.shape[1] + 1), np.int64)
    sums[1:, 1:] = (difference * difference).sum(axis=2).cumsum(0).cumsum(1)
    rows, columns = (np.array([*range(0, n - tile, tile), n - tile]) for n in x.shape[:2])
    a, b = rows[:, None], columns[None, :]
    tiles = sums[a + tile, b + tile] - sums[a, b + tile] - sums[a + tile, b] + sums[a, b]
    return float(tiles.max()) / (3 * tile * tile)


class WorstTilePSNR(ImageMetric):
    on_cpu = True
    card = MetricCard(
        name="worst-tile-psnr",
        title="PSNR, worst 32-px tile",
        version=1,
        unit="dB",
        better="higher",
        source="psnr of the tile with the largest squared error",
        bounds=(0.0, None),
        min_size=TILE,
        reduction="mean of each image's worst tile; identical images are counted apart",
    )

    def measure(self, batch: Batch) -> Sequence[Value]:
        worst = [worst_tile_error(x, y) for x, y in pairs(batch)]
        return [Value(decibels(e)) if e > 0 else Value(None, why=LOSSLESS) for e in worst]


METRICS = (
    GMSD,
    HaarPSI,
    EdgeF1,
    CoherentGain,
    *(functools.partial(CoherentGain, k + 1) for k in range(OCTAVES)),
    ExcessPower,
    MTF50,
    WorstTilePSNR,
)
