"""Detail metrics: known answers, the papers written out, and tiles by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data

from benchmarks.metrics import images, papers
from vtbench.metrics import detail
from vtbench.types.metric import Batch, Reference, Value


def stack(*images: Any) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.ascontiguousarray(i)).permute(2, 0, 1) for i in images])


def batch_of(x: Any, y: Any) -> Batch:
    return Batch(Reference(stack(x), [None], ["0"]), stack(y))  # type: ignore[list-item]


def one(metric: Any, x: Any, y: Any) -> Value:
    return metric.measure(batch_of(x, y))[0]


def white(shape: tuple[int, ...], seed: int, spread: float = 30) -> Any:
    """Noise of all frequencies alike, the same in the three channels."""
    noise = np.random.default_rng(seed).normal(128, spread, shape)
    return np.repeat(np.clip(np.rint(noise), 0, 255).astype(np.uint8)[..., None], 3, axis=2)


CAT = data.chelsea()
GRAVEL = np.repeat(data.gravel()[:256, :256, None], 3, axis=2)


def test_identity() -> None:
    for metric in (detail.CoherentGain(), *(detail.CoherentGain(k) for k in (1, 2, 3, 4))):
        assert one(metric, GRAVEL, GRAVEL).value == pytest.approx(1, abs=1e-12)
    assert one(detail.ExcessPower(), GRAVEL, GRAVEL).value == pytest.approx(0, abs=1e-12)
    assert one(detail.MTF50(), GRAVEL, GRAVEL).value == 128
    assert one(detail.EdgeF1(), GRAVEL, GRAVEL).value == 1
    assert one(detail.WorstTilePSNR(), GRAVEL, GRAVEL).why == "lossless (identical pixels)"
    assert one(detail.GMSD(), GRAVEL, GRAVEL).value == pytest.approx(0, abs=1e-12)
    assert one(detail.HaarPSI(), GRAVEL, GRAVEL).value == pytest.approx(1, abs=1e-9)


def test_invented_detail_has_no_gain() -> None:
    """Independent noise of the same power: gain 0 within its standard error, one over the root of the coefficients
    (o4 of a 512-px image holds about 800 that are free), and as much excess as the original has power."""
    x, y = white((512, 512), 1), white((512, 512), 2)
    for octave, free in ((1, 50_000), (2, 12_000), (3, 3_000), (4, 800)):
        assert abs(one(detail.CoherentGain(octave), x, y).value or 9) < 5 / math.sqrt(free / 2)
    assert one(detail.ExcessPower(), x, y).value == pytest.approx(1, abs=0.1)


def test_gain_is_the_factor_of_contrast() -> None:
    x = white((256, 200), 3)
    y = np.rint((x.astype(float) - 128) * 0.25 + 128).astype(np.uint8)
    for octave in (1, 2, 3, 4):
        assert one(detail.CoherentGain(octave), x, y).value == pytest.approx(0.25, abs=0.004)


@pytest.mark.parametrize(("sigma", "shape"), [(1.0, (512, 512)), (1.5, (384, 512)), (3.0, (512, 512))])
def test_mtf50_of_a_gaussian_blur(sigma: float, shape: tuple[int, int]) -> None:
    """exp(-2 pi² s² f²) = 1/2 at f = sqrt(ln 2 / 2) / (pi s) cycles per pixel."""
    x = white(shape, 4, 50)
    blurred = gaussian_filter(x[..., 0].astype(float), sigma, mode="wrap", truncate=6)
    y = np.repeat(np.rint(blurred).astype(np.uint8)[..., None], 3, axis=2)
    wanted = math.sqrt(math.log(2) / 2) / (math.pi * sigma) * min(shape)
    # Bands are an eighth of an octave wide; interpolation inside one leaves about a hundredth.
    assert one(detail.MTF50(), x, y).value == pytest.approx(wanted, rel=0.02)


def test_mtf50_of_a_resize_is_its_sampling_limit() -> None:
    """A quarter of the frequencies kept by an exact low pass: the gain falls at an eighth of a cycle per pixel."""
    x = white((256, 256), 6, 50)
    spectrum = np.fft.fft2(x[..., 0].astype(float))
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])
    low = np.real(np.fft.ifft2(spectrum * (f <= 0.125)))
    y = np.repeat(np.clip(np.rint(low), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    assert one(detail.MTF50(), x, y).value == pytest.approx(32, rel=0.06)


@pytest.mark.parametrize("shape", [(64, 80), (81, 66)])
def test_gain_and_excess_are_those_of_the_whole_plane(shape: tuple[int, int]) -> None:
    """The transform of real numbers holds half of it, with its own first and last column counted once."""
    x, y = white(shape, 1), white(shape, 2)
    gain, excess = images.gains(x, y)
    ours = [one(detail.CoherentGain(octave), x, y).value for octave in (1, 2, 3, 4)]
    assert ours == pytest.approx(gain, abs=1e-12)
    assert one(detail.ExcessPower(), x, y).value == pytest.approx(np.mean(excess), abs=1e-12)


def test_bands_are_an_eighth_of_an_octave_and_never_under_one_cycle() -> None:
    """White noise has every band: from one centre to the next down 2^(-1/8), until that would be less than a cycle."""
    centres = [f for f, _ in detail.spectra(batch_of(GRAVEL, white((256, 256), 3)))[0].curve][::-1]
    edges = [128.0]
    while edges[-1] > 2:
        edges.append(min(edges[-1] * 2 ** (-1 / 8), edges[-1] - 1))
    wanted = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    assert len(centres) > 30
    assert centres == pytest.approx(wanted[: len(centres)], rel=1e-12)


def test_mtf50_passes_over_gaps_of_a_pattern() -> None:
    """Noise without frequencies under 1/16 cycle per pixel, and a candidate with weak noise of its own down there."""
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])
    pattern, weak = (np.fft.fft2(white((256, 256), seed)[..., 0].astype(float) - 128) for seed in (8, 9))
    x = np.real(np.fft.ifft2(pattern * (f > 1 / 16)))
    y = x + 0.08 * np.real(np.fft.ifft2(weak * (f <= 1 / 16)))
    x, y = (np.repeat(np.rint(v + 128).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2) for v in (x, y))
    assert one(detail.MTF50(), x, y).value == 128


def test_no_detail_no_number() -> None:
    flat = np.full((64, 80, 3), 90, np.uint8)
    for metric in (detail.CoherentGain(), detail.CoherentGain(1), detail.ExcessPower(), detail.MTF50()):
        value = one(metric, flat, white((64, 80), 1))
        assert value.value is None
        assert "rounding" in (value.why or "")
    assert one(detail.EdgeF1(), flat, flat) == Value(None, why="the original has no edge")
    smooth = np.repeat(np.rint(128 + 60 * np.sin(np.arange(256) / 256 * 2 * np.pi * 6))[None, :, None], 256, axis=0)
    smooth = np.repeat(smooth, 3, axis=2).astype(np.uint8)
    assert "where the detail ends" in (one(detail.MTF50(), smooth, smooth).why or "")


def test_edges_within_tolerance() -> None:
    def step(column: int) -> Any:
        x = np.zeros((64, 64, 3), np.uint8)
        x[:, column:] = 255
        return x

    # Between two equal gradients Canny keeps both columns: an edge at 30 is found at 29 and 30.
    assert one(detail.EdgeF1(), step(30), step(32)).value == 1
    assert one(detail.EdgeF1(), step(30), step(33)).value == 0.5
    assert one(detail.EdgeF1(), step(30), step(34)).value == 0
    assert one(detail.EdgeF1(), step(30), np.zeros((64, 64, 3), np.uint8)).value == 0


@pytest.mark.parametrize("shape", [(64, 64), (101, 130), (100, 131), (101, 131), (17, 16)])
def test_gmsd_and_haarpsi_are_what_their_papers_say(shape: tuple[int, int]) -> None:
    """Written out in benchmarks/metrics/papers.py, odd sizes and borders too; YIQ with the digits of the metric."""
    x = CAT[40 : 40 + shape[0], 90 : 90 + shape[1]]
    y = np.clip(x.astype(int) + np.random.default_rng(0).integers(-20, 20, x.shape), 0, 255).astype(np.uint8)
    assert one(detail.GMSD(), x, y).value == pytest.approx(papers.gmsd(x, y), abs=1e-12)
    assert one(detail.HaarPSI(), x, y).value == pytest.approx(papers.haarpsi(x, y, papers.YIQ_OF_FCC), abs=1e-12)
    assert one(detail.HaarPSI(), x, y).value == pytest.approx(papers.haarpsi(x, y), abs=1e-3)
    assert papers.haarpsi(x, y) < 0.95


def test_two_black_pictures_have_no_haarpsi() -> None:
    black = np.zeros((64, 64, 3), np.uint8)
    nothing = one(detail.HaarPSI(), black, black)
    assert nothing.value is None
    assert "black" in (nothing.why or "")
    assert detail.GMSD().card.min_size == detail.HaarPSI().card.min_size == 16


def test_worst_tile_by_hand() -> None:
    x = np.full((70, 100, 3), 100, np.uint8)
    y = x.copy()
    y[66:70, 97:100] += 10  # 12 pixels, only in the last tile, which reaches the corner
    y[0, 0, 0] += 3
    wanted = 10 * math.log10(255**2 / (12 * 3 * 100 / (32 * 32 * 3)))
    assert one(detail.WorstTilePSNR(), x, y).value == pytest.approx(wanted, abs=1e-12)


def test_batches_do_not_mix() -> None:
    xs = [GRAVEL[:128, :150], CAT[:128, :150], CAT[100:228, 200:350]]
    ys = [np.clip(x.astype(int) + 5 * k - 3, 0, 255).astype(np.uint8)[::-1] for k, x in enumerate(xs)]
    batch = Batch(Reference(stack(*xs), [None] * 3, ["a", "b", "c"]), stack(*ys))  # type: ignore[list-item]
    for metric in (f() for f in detail.METRICS):
        together = metric.measure(batch)
        for value, x, y in zip(together, xs, ys, strict=True):
            assert value.value == pytest.approx(one(metric, x, y).value, rel=1e-9), metric.card.name
