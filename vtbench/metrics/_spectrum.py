"""The spectra of a pair: how much of each octave of the original's luma comes through (`vtbench.metrics.detail`)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from vtbench.metrics._beside import SIGNAL
from vtbench.metrics._pixels import OfPair, luma, lumas
from vtbench.types.metric import Batch, Value

OCTAVES = 4
BANDS_AN_OCTAVE = 8
ROUNDING = 1 / 12
"""Variance of rounding to whole grey levels."""
GAP = 0.01
"""A band this much weaker than one above it is a gap in a test pattern's spectrum."""
NO_DETAIL = "the original has less detail in this band than the noise of rounding to bytes"


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


def spectrum(x: Any, y: Any) -> Spectrum:
    """Of a pair: uint8 (H, W, 3) each."""
    return Spectrum(_transform(luma(x)), _transform(luma(y)), x.shape[:2])


def _spectrum_here(batch: Batch) -> Callable[[int], Spectrum]:
    """Of an image of a batch, whose originals' transforms all candidates share."""
    both = lumas(batch)
    left = batch.reference.once("spectrum", lambda: [_transform(x) for x, _ in both])
    return lambda k: Spectrum(left[k], _transform(both[k][1]), both[k][1].shape)


SPECTRA = OfPair("spectra", spectrum, here=_spectrum_here, needs=SIGNAL)


def spectra(batch: Batch) -> list[Any]:
    """One Spectrum an image."""
    return SPECTRA.of(batch)
