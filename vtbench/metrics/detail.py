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
from collections.abc import Callable, Sequence
from typing import Any

from vtbench.metrics._beside import TORCH
from vtbench.metrics._on_device import on_device
from vtbench.metrics._pixels import OfPair, luma, lumas, planes, values
from vtbench.metrics._spectrum import NO_DETAIL, OCTAVES, SPECTRA, spectra
from vtbench.metrics.psnr import LOSSLESS, decibels
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

TILE = 32
EDGE_SIGMA, EDGE_TOLERANCE = 1.0, 2.0
"""Canny's smoothing and how far an edge may lie from its partner, in pixels."""
BLACK = "both pictures are black: HaarPSI weighs by wavelet coefficients, and all are zero"


def _similarity(name: str, title: str, better: Any, bounds: tuple[float, float | None]) -> MetricCard:
    source = {"gmsd": "Xue et al. 2014; piq.gmsd", "haarpsi": "Reisenhofer et al. 2018; piq.haarpsi"}[name]
    # piq halves the image and takes differences (GMSD), or Haar wavelets of up to 16 px (HaarPSI); on less it returns
    # a perfect score.
    return MetricCard(
        name=name, title=title, version=1, unit="", better=better, source=source, bounds=bounds, min_size=16
    )


def _of_piq(name: str, x: Any, y: Any) -> list[float]:
    """piq's function of that name: float64 tensors (B, 3, H, W) in grey levels -> one number an image."""
    import piq

    out: list[float] = getattr(piq, name)(x, y, data_range=255.0, reduction="none").tolist()
    return out


@functools.cache
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def similarity(x: Any, y: Any, name: str) -> float:
    """The same of a pair: uint8 (3, H, W) each. By one thread and of one image, since sums of several threads, or of a
    batch, come in another order and differ in the last digits."""
    import torch

    with _thread_pools().limit(limits=1, user_api="openmp"):
        return _of_piq(name, *(torch.from_numpy(side)[None].double() for side in (x, y)))[0]


_SIMILARITIES = {
    name: OfPair(name, functools.partial(similarity, name=name), planes, needs=TORCH) for name in ("gmsd", "haarpsi")
}


def _similarities(batch: Batch, name: str) -> list[Any]:
    """One number an image, or Unmeasured."""
    if on_device(batch):
        return _of_piq(name, batch.reference.images.double(), batch.candidate.double())
    return _SIMILARITIES[name].of(batch)


class GMSD(ImageMetric):
    card = _similarity("gmsd", "Gradient magnitude similarity deviation", "lower", (0.0, None))
    of_pairs = (_SIMILARITIES["gmsd"],)

    def measure(self, batch: Batch) -> Sequence[Value]:
        return values(Value, _similarities(batch, "gmsd"))


class HaarPSI(ImageMetric):
    card = _similarity("haarpsi", "HaarPSI", "higher", (0.0, 1.0))
    of_pairs = (_SIMILARITIES["haarpsi"],)

    def measure(self, batch: Batch) -> Sequence[Value]:
        # All weights are zero where both are black: piq's quotient of two epsilons is 1, its logit infinite.
        return values(
            lambda v: Value(v) if math.isfinite(v) else Value(None, why=BLACK), _similarities(batch, "haarpsi")
        )


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


def _agreement(mine: Any, near: Any, theirs: Any) -> Value:
    """F1 of edges, bool (H, W) each: the original's, what is near to them, and the candidate's."""
    if not mine.any():
        return Value(None, why="the original has no edge")
    precision = float(near[theirs].mean()) if theirs.any() else 0.0
    recall = float(near_edges(theirs)[mine].mean())
    return Value(2 * precision * recall / (precision + recall) if precision + recall else 0.0)


def edge_f1(x: Any, y: Any) -> Value:
    """Of a pair: uint8 (H, W, 3) each."""
    mine = edges(luma(x))
    return _agreement(mine, near_edges(mine), edges(luma(y)))


def _edges_here(batch: Batch) -> Callable[[int], Value]:
    """Of an image of a batch, whose originals' edges all candidates share."""
    both = lumas(batch)
    left = batch.reference.once("edges", lambda: [(e, near_edges(e)) for e in (edges(x) for x, _ in both)])
    return lambda k: _agreement(left[k][0], left[k][1], edges(both[k][1]))


_EDGES = OfPair("edge-f1", edge_f1, here=_edges_here)


class EdgeF1(ImageMetric):
    on_cpu = True
    of_pairs = (_EDGES,)
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
        return values(lambda value: value, _EDGES.of(batch))


def _mean(values: Sequence[float | None]) -> Value:
    """The mean over octaves that have a value."""
    there = [v for v in values if v is not None]
    return Value(sum(there) / len(there)) if there else Value(None, why=NO_DETAIL.replace("in this band ", ""))


class CoherentGain(ImageMetric):
    """`octave` 1 to 4, or None for the mean over octaves."""

    on_cpu = True
    of_pairs = (SPECTRA,)

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
        return values(lambda s: self._of(s.gain), spectra(batch))

    def _of(self, gains: Sequence[float | None]) -> Value:
        if self.octave is None:
            return _mean(gains)
        gain = gains[self.octave - 1]
        return Value(gain) if gain is not None else Value(None, why=NO_DETAIL)


class ExcessPower(ImageMetric):
    on_cpu = True
    of_pairs = (SPECTRA,)
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
        return values(lambda s: _mean(s.excess), spectra(batch))


class MTF50(ImageMetric):
    on_cpu = True
    of_pairs = (SPECTRA,)
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
        return values(lambda s: s.mtf50(), spectra(batch))


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


_WORST = OfPair("worst-tile", worst_tile_error)


class WorstTilePSNR(ImageMetric):
    on_cpu = True
    of_pairs = (_WORST,)
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
        return values(lambda e: Value(decibels(e)) if e > 0 else Value(None, why=LOSSLESS), _WORST.of(batch))


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
