"""SEED-Voken's and VTBench's conventions written out, against vtbench on one folder pair."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import table
from benchmarks.metrics.pictures import Pixels, jpeg, pages, photographs, stacked
from vtbench.images.rounding import truncate_through_range
from vtbench.running import folders

Pair = tuple[Pixels, Pixels]
Step = tuple[str, float]
"""(what changes, the number after it)."""


def ssim_with_borders(x: Any, y: Any, span: float) -> float:
    """torchmetrics' SSIM of two float (H, W, 3) images: 11 Gaussian taps, mirrored borders, mean over all positions."""
    from scipy.ndimage import correlate1d

    taps = np.exp(-(((np.arange(11) - 5) / 1.5) ** 2) / 2)
    taps /= taps.sum()

    def blur(z: Any) -> Any:
        return correlate1d(correlate1d(z, taps, axis=0, mode="mirror"), taps, axis=1, mode="mirror")

    mx, my = blur(x), blur(y)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    spread = blur(x * x) - mx**2 + blur(y * y) - my**2
    ssim = (2 * mx * my + c1) * (2 * (blur(x * y) - mx * my) + c2) / ((mx**2 + my**2 + c1) * (spread + c2))
    return float(ssim.mean())


def psnr(pairs: Sequence[Pair]) -> list[float]:
    from skimage import metrics

    library: Any = metrics
    return [float(library.peak_signal_noise_ratio(a, b, data_range=255)) for a, b in pairs]


def pooled_psnr(pairs: Sequence[Pair], span: float) -> float:
    error = np.mean([((a / 255 - b / 255) ** 2).mean() for a, b in pairs])
    return float(10 * np.log10(span**2 / error))


def ssim(pairs: Sequence[Pair], **options: Any) -> list[float]:
    """skimage's, with its uniform window unless `options` say otherwise."""
    from skimage import metrics

    library: Any = metrics
    similarity = library.structural_similarity
    return [float(similarity(a / 255, b / 255, data_range=1.0, channel_axis=2, **options)) for a, b in pairs]


def by_batch(values: Sequence[float], size: int = 4) -> float:
    """The mean of batch means."""
    return float(np.mean([np.mean(values[i : i + size]) for i in range(0, len(values), size)]))


def spans_of_batches(pairs: Sequence[Pair], size: int = 8) -> list[float]:
    """For every pair the range that torchmetrics takes from its batch: max - min, of originals or of outputs."""
    spans = []
    for i in range(0, len(pairs), size):
        part = pairs[i : i + size]
        sides = list(zip(*part, strict=True))
        span = max(float(max(x.max() for x in s)) - float(min(x.min() for x in s)) for s in sides) / 255
        spans += [span] * len(part)
    return spans


def stories(pairs: Sequence[Pair], cut: Sequence[Pair]) -> dict[str, list[Step]]:
    """From our number to each peer's, one change a step. `cut`: the pairs rounded down by way of [-1, 1]."""
    wang = ssim(pairs, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    bordered = [ssim_with_borders(a / 255, b / 255, 1.0) for a, b in pairs]
    spans = spans_of_batches(pairs)
    ranged = [ssim_with_borders(a / 255, b / 255, span) for (a, b), span in zip(pairs, spans, strict=True)]
    low, high = min(a.min() for a, _ in pairs) / 255, max(a.max() for a, _ in pairs) / 255
    extremes = high - min(low, 0)
    ours = ("vtbench `ssim`", float(np.mean(wang))), ("vtbench `psnr`", float(np.mean(psnr(pairs))))
    how_cut, how_batched = "originals and outputs cut to uint8 by way of [-1, 1]", "mean of batch means, batches of 4"
    return {
        "SEED-Voken, SSIM": [
            ours[0],
            ("7 x 7 uniform window, sample covariance (skimage's default)", float(np.mean(ssim(pairs)))),
            (how_cut, float(np.mean(ssim(cut)))),
            (how_batched, by_batch(ssim(cut))),
        ],
        "SEED-Voken, PSNR": [
            ours[1],
            (how_cut, float(np.mean(psnr(cut)))),
            (how_batched, by_batch(psnr(cut))),
        ],
        "VTBench (torchmetrics), PSNR": [
            ours[1],
            ("squared error pooled over the set before the logarithm", pooled_psnr(pairs, 1.0)),
            (f"range taken from the originals' extremes, {extremes:.3f}", pooled_psnr(pairs, extremes)),
        ],
        "VTBench (torchmetrics), SSIM": [
            ours[0],
            ("borders reflected and counted (torchmetrics crops nothing)", float(np.mean(bordered))),
            ("range = max - min of each batch of 8 (the last holds one page of text)", float(np.mean(ranged))),
        ],
    }


def peer() -> list[str]:
    """Lines of the page; raises if the first step of a story is not what vtbench itself says."""
    originals = [*photographs(256), *pages(256)]
    candidates = [jpeg(p) for p in originals]
    ours = _ours(originals, candidates)
    pairs = list(zip(originals, candidates, strict=True))
    cut = list(zip(*([_cut(x) for x in side] for side in (originals, candidates)), strict=True))
    out = [
        f"{len(pairs)} pictures of scikit-image (the last two are text) at 256 px (ADM crop) against their JPEGs at "
        "quality 30. The peers' arithmetic is written out here from `evaluation_image.py` of SEED-Voken b9a17ea (lines "
        "230-267) and "
        "`evaluations/evaluate_images.py` of VTBench 793d275 (lines 44-92); each line changes one thing more, so that "
        "the last is the peer's number and the steps add up to the whole difference. (VTBench's two were held against "
        "torchmetrics 1.9.0 itself when this was written: equal to 1e-6.)",
        "",
    ]
    for title, steps in stories(pairs, cut).items():
        metric = "psnr" if "PSNR" in title else "ssim"
        gap = abs(steps[0][1] - (ours[metric] or 0))
        if gap > 1e-6:
            raise AssertionError(f"{metric}: the page's own arithmetic differs from vtbench by {gap}")
        rows = [
            [what, f"{value:.4f}", "" if i == 0 else f"{value - steps[i - 1][1]:+.4f}"]
            for i, (what, value) in enumerate(steps)
        ]
        rows.append(["**the whole difference**", "", f"**{steps[-1][1] - steps[0][1]:+.4f}**"])
        out += table([title, "value", "step"], rows)
    return out


def _ours(originals: Sequence[Pixels], candidates: Sequence[Pixels]) -> Mapping[str, float | None]:
    """What `vtbench score` says of the two folders."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        for side, images in (("ref", originals), ("cand", candidates)):
            (Path(name) / side).mkdir()
            for i, image in enumerate(images):
                Image.fromarray(image).save(Path(name) / side / f"{i}.png")
        scored = folders.score(Path(name) / "ref", [Path(name) / "cand"], ["psnr", "ssim"])
    return {s.metric: s.value for s in scored.candidates[0].scores}


def _cut(image: Pixels) -> Pixels:
    return np.asarray(truncate_through_range(stacked([image]))[0].permute(1, 2, 0))
