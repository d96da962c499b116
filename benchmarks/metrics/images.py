"""Per-image metrics on photographs: through the same calls as a run, and by their definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import FLOATS, NUMPY, Comparison, largest, version
from benchmarks.metrics.pictures import GREY, Pixels, jpeg, pages, pairs_of_pictures, photographs, stacked, values
from vtbench import registry
from vtbench.metrics import colour, detail
from vtbench.metrics.psnr import MSE
from vtbench.scoring.measure import measure
from vtbench.types.metric import Batch, Reference

OCTAVES = range(1, 5)


def image_comparisons() -> list[Comparison]:
    """Per-image metrics against their libraries on photographs and their JPEGs, through the same calls as a run."""
    originals = [*photographs(256), *pages(256)]
    candidates = [jpeg(image) for image in originals]
    on = f"{len(originals)} pictures of 256 px against their JPEGs (quality 30)"

    def ours(name: str) -> list[float]:
        reference = Reference(stacked(originals), [], [str(i) for i in range(len(originals))])
        batch = Batch(reference, stacked(candidates))
        return [float(v.value) for v in measure(name, registry.metric(name), batch) if v.value is not None]

    out = []
    for name, package, call, tolerance in _by_library():
        wanted = [call(a, b) for a, b in zip(originals, candidates, strict=True)]
        out.append(Comparison(name, version(package), on, largest(ours(name), wanted), tolerance, FLOATS))
    return out


def _by_library() -> list[tuple[str, str, Callable[[Any, Any], float], float]]:
    """(metric, package, its number for two pictures, tolerance)."""
    import piq
    import torch
    from skimage import metrics

    library: Any = metrics

    def psnr(a: Any, b: Any) -> float:
        return float(library.peak_signal_noise_ratio(a, b, data_range=255))

    def ssim(span: float, unit: float = 1, **options: Any) -> Callable[[Any, Any], float]:
        similarity = library.structural_similarity
        return lambda a, b: float(similarity(a / unit, b / unit, channel_axis=2, data_range=span, **options))

    def ms_ssim(a: Any, b: Any) -> float:
        x, y = (torch.from_numpy(i.astype(np.float64) / 255).permute(2, 0, 1)[None] for i in (a, b))
        return float(piq.multi_scale_ssim(x, y, data_range=1.0))

    gaussian: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    scikit = "scikit-image"
    return [
        ("psnr", scikit, psnr, 1e-9),
        ("ssim", scikit, ssim(255, **gaussian), 1e-6),
        ("ssim-uniform7", scikit, ssim(255), 1e-6),
        ("ssim-range2", scikit, ssim(2.0, unit=255), 1e-6),
        ("ms-ssim", "piq", ms_ssim, 1e-6),
    ]


def definition_comparisons() -> list[Comparison]:
    """Metrics of pixels by their definitions."""
    xs, ys, on = pairs_of_pictures()
    pairs = list(zip(xs, ys, strict=True))
    return [*_errors(pairs, on), _edges(pairs, on), *_spectra(pairs, on)]


def _errors(pairs: Sequence[tuple[Pixels, Pixels]], on: str) -> list[Comparison]:
    """Squared error, shifts of the channels, the worst tile."""
    from skimage import metrics

    library: Any = metrics
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    scikit = version("scikit-image")
    mse = [float(library.mean_squared_error(x, y)) for x, y in pairs]
    gap = largest(values(MSE(), xs, ys), mse)
    out = [Comparison("mse", scikit, on, gap, 1e-9, FLOATS)]

    def shifts(c: int) -> list[float]:
        return [float(np.mean(y[..., c] - x[..., c].astype(float))) for x, y in pairs]

    gap = max(largest(values(colour.Bias(c), xs, ys), shifts(c)) for c in range(3))
    out.append(Comparison("bias-r, bias-g, bias-b", NUMPY, on, gap, 1e-9, FLOATS))
    tiles = [(slice(i, i + 32), slice(j, j + 32)) for i in range(0, 128, 32) for j in range(0, 128, 32)]
    worst = [min(float(library.peak_signal_noise_ratio(x[t], y[t], data_range=255)) for t in tiles) for x, y in pairs]
    gap = largest(values(detail.WorstTilePSNR(), xs, ys), worst)
    out.append(Comparison("worst-tile-psnr", f"{scikit}, tile by tile", on, gap, 1e-9, FLOATS))
    return out


def _edges(pairs: Sequence[tuple[Pixels, Pixels]], on: str) -> Comparison:
    f1 = [edge_f1(x, y) for x, y in pairs]
    how = f"{version('scikit-image')} canny, dilation by a disc of 2 px"
    gap = largest(values(detail.EdgeF1(), [x for x, _ in pairs], [y for _, y in pairs]), f1)
    return Comparison("edge-f1", how, on, gap, 1e-12, "counts of pixels")


def _spectra(pairs: Sequence[tuple[Pixels, Pixels]], on: str) -> list[Comparison]:
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    spectra = [gains(x, y) for x, y in pairs]
    gap = max(largest(values(detail.CoherentGain(k), xs, ys), [s[0][k - 1] for s in spectra]) for k in OCTAVES)
    gap = max(gap, largest(values(detail.CoherentGain(), xs, ys), [float(np.mean(s[0])) for s in spectra]))
    names = ", ".join(["coherent-gain", *(f"coherent-gain-o{k}" for k in OCTAVES)])
    how = f"the whole Fourier plane, {NUMPY}"
    coherent = Comparison(names, how, on, gap, 1e-9, FLOATS)
    gap = largest(values(detail.ExcessPower(), xs, ys), [float(np.mean(s[1])) for s in spectra])
    return [coherent, Comparison("excess-power", how, on, gap, 1e-9, FLOATS)]


def gains(x: Any, y: Any) -> tuple[list[float], list[float]]:
    """(coherent gain, excess power) of four octaves from the whole plane of the Fourier transform, by masks."""
    a, b = (np.asarray(i, dtype=np.float64) @ GREY for i in (x, y))
    window = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n) for n in a.shape))
    fa, fb = (np.fft.fft2((i - i.mean()) * window) for i in (a, b))
    radius = np.hypot(np.fft.fftfreq(a.shape[0])[:, None], np.fft.fftfreq(a.shape[1])[None])
    gain, excess = [], []
    for k in OCTAVES:
        inside = (radius > 2.0 ** -(k + 1)) & (radius <= 2.0**-k)
        power = float((abs(fa[inside]) ** 2).sum())
        cross = complex((fb[inside] * fa[inside].conj()).sum())
        gain.append(cross.real / power)
        excess.append((float((abs(fb[inside]) ** 2).sum()) - abs(cross) ** 2 / power) / power)
    return gain, excess


def edge_f1(x: Any, y: Any) -> float:
    """F1 of Canny edges, partners within 2 px, by dilation with a disc."""
    from scipy.ndimage import binary_dilation
    from skimage import feature

    canny: Any = feature.canny
    disc = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2
    a, b = (canny(i @ GREY / 255, sigma=1.0) for i in (x, y))
    precision = binary_dilation(a, disc)[b].mean()
    recall = binary_dilation(b, disc)[a].mean()
    return float(2 * precision * recall / (precision + recall))
