"""Statistics of codes, rates and stability, each computed a second time: by counting, by SciPy, by Pillow."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import FLOATS, NUMPY, Comparison, largest, relative, version
from benchmarks.metrics.pictures import Pixels, photographs, stacked
from vtbench import evaluate
from vtbench.images.reading import rgb_sha256
from vtbench.images.rounding import to_float
from vtbench.images.seeds import image_seed
from vtbench.metrics import codebook, cross_entropy, entropy_coding
from vtbench.models.load import load
from vtbench.types.tokens import Codes


def closed_forms() -> list[Comparison]:
    """Rates of a source whose entropy is known, and a coder's own words."""
    import torch

    rng = np.random.default_rng(0)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    draws = rng.choice(4, (400, 256), p=p)
    tokens = [Codes(torch.from_numpy(row)[None], (4,), (64, 64)) for row in draws]
    sizes = [(64, 64)] * len(tokens)
    estimate = cross_entropy.Entropy().finish(tokens, sizes).value or 0
    written = entropy_coding.Coded().finish(tokens, sizes).value or 0
    known = 1.75 * 256 / 4096
    on = "400 draws of 256 tokens from a source of 1.75 bits"
    gap, why = relative(estimate, known), "sampling: 102,400 tokens"
    entropy = Comparison("entropy-bpp", "the source's entropy", on, gap, 0.01, why, True)
    why = "a range coder ends within two 32-bit words of its model"
    return [entropy, Comparison("coded-bpp", "entropy-bpp", on, abs(written - estimate), 64 / 4096, why)]


def code_comparisons() -> list[Comparison]:
    """Codebook statistics by counting."""
    rng = np.random.default_rng(1)
    return [_neighbours(rng), *_usage(rng)]


def _neighbours(rng: np.random.Generator) -> Comparison:
    import torch
    from scipy import stats

    # Every token repeats its left neighbour with probability 0.9: 0.9 and 0.1 / 3 thrice, the first of a row is free.
    draws = np.zeros((600, 16, 16), dtype=np.int64)
    draws[..., 0] = rng.integers(0, 4, (600, 16))
    for k in range(1, 16):
        other = (draws[..., k - 1] + rng.integers(1, 4, (600, 16))) % 4
        draws[..., k] = np.where(rng.random((600, 16)) < 0.9, draws[..., k - 1], other)
    tokens = [Codes(torch.from_numpy(d.ravel())[None], (4,), (64, 64), grids=((16, 16),)) for d in draws]
    known = (15 * stats.entropy([0.9, *[0.1 / 3] * 3], base=2) + 2) / 16 * 256 / 4096
    ours = cross_entropy.EntropyNeighbours().finish(tokens, [(64, 64)] * len(tokens)).value or 0
    on = "600 grids of 16 x 16 tokens, each like its left neighbour in 9 of 10 cases"
    how, why = "the source's conditional entropy", "sampling: 153,600 tokens"
    return Comparison("entropy1-bpp", how, on, relative(ours, known), 0.01, why, True)


def _usage(rng: np.random.Generator) -> list[Comparison]:
    import torch
    from scipy import stats

    draws = rng.choice(64, (700, 20), p=np.arange(64) / np.arange(64).sum())
    tokens = [Codes(torch.from_numpy(d)[None], (64,), (64, 64)) for d in draws]
    sizes = [(64, 64)] * len(tokens)
    on = "700 draws of 20 tokens from 64 unequal symbols"
    counts = np.bincount(draws.ravel(), minlength=64)
    gap = abs((codebook.Usage().finish(tokens, sizes).value or 0) - 100 * len(np.unique(draws)) / 64)
    out = [Comparison("codebook-usage", NUMPY + " unique", on, gap, 1e-12, "counts")]
    used = [float(p) for t in tokens for p in t.positions if p is not None]
    gap = largest(used, [20.0] * len(used))
    out.append(Comparison("tokens", "the length of the arrays", on, gap, 0, "counts"))
    at = 200
    wanted = float(sum(1 - stats.hypergeom.pmf(0, counts.sum(), c, at) for c in counts if c))
    gap = relative(codebook.rarefaction(counts, [at])[0], wanted)
    how = version("scipy") + " hypergeom"
    out.append(Comparison("codebook-usage, rarefaction curve", how, on, gap, 1e-9, FLOATS, True))
    wanted = 2 ** float(stats.entropy(counts, base=2))
    gap = relative(codebook.Perplexity().finish(tokens, sizes).value or 0, wanted)
    how = version("scipy") + " stats.entropy"
    out.append(Comparison("codebook-perplexity", how, on, gap, 1e-12, FLOATS, True))
    wanted = float(np.mean([stats.entropy(np.bincount(c, minlength=64), base=2) for c in draws.T]))
    gap = relative(codebook.PositionEntropy().finish(tokens, sizes).value or 0, wanted)
    return [*out, Comparison("position-entropy", how, on, gap, 1e-12, FLOATS, True)]


# -- whole systems ---------------------------------------------------------------------------------------------------


def system_comparisons() -> list[Comparison]:
    """Rates and stability of JPEG by Pillow's own bytes and pictures, of a discrete tokenizer by encoding again."""
    images = photographs(64)[:4]
    on = f"{len(images)} photographs of 64 px"
    codec, tokenizer = _scores(images)
    return [_rates(images, codec, on), _drift(images, codec, on), _sensitivity(images, tokenizer, on)]


def _scores(images: Sequence[Pixels]) -> tuple[dict[str, float], dict[str, float]]:
    """{metric: value} of JPEG at quality 75 and of the built-in DCT tokenizer, by `evaluate`."""
    from PIL import Image

    with tempfile.TemporaryDirectory(prefix="vtbench-") as name:
        folder, out = Path(name) / "images", Path(name) / "runs"
        folder.mkdir()
        for i, x in enumerate(images):
            Image.fromarray(x).save(folder / f"{i}.png")
        tasks, options = ["compression", "stability"], {"quality": "75"}
        codec = evaluate("jpeg", tasks=tasks, images=folder, view="native", options=options, out=out)
        tokenizer = evaluate("dct", tasks=["stability"], images=folder, view="native", out=out)
        of_codec, of_tokenizer = (
            {s["metric"]: s["value"] for run in runs for s in run.scores} for runs in (codec.runs, tokenizer.runs)
        )
        return of_codec, of_tokenizer


def _jpeg_bytes(image: Pixels, quality: int) -> bytes:
    """4:2:0, as the codec and the disturbance write it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2)
    return file.getvalue()


def _decoded(data: bytes) -> Pixels:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(data)))


def _rates(images: Sequence[Pixels], scores: Mapping[str, float], on: str) -> Comparison:
    from PIL import Image

    size = [8 * len(_jpeg_bytes(x, 75)) for x in images]
    png = []
    for x in images:
        file = io.BytesIO()
        Image.fromarray(x).save(file, "PNG", compress_level=9)
        png.append(8 * len(file.getvalue()))
    bits = float(np.mean(size))
    wanted = {"bits": bits, "bpp": bits / 4096, "ratio": 24 * 4096 / bits, "ratio-png": sum(png) / sum(size)}
    shown = {n: v for n, v in wanted.items() if scores.get(n) is not None}
    gap = max(relative(scores[n], v) for n, v in shown.items())
    how = f"{version('pillow')}'s bytes (JPEG, quality 75)"
    return Comparison(", ".join(shown), how, on, gap, 1e-12, "bytes", True)


def _drift(images: Sequence[Pixels], scores: Mapping[str, float], on: str) -> Comparison:
    def decibels(x: Any, y: Any) -> float:
        return float(10 * np.log10(255**2 / ((x.astype(float) - y) ** 2).mean()))

    after: dict[int, list[float]] = {1: [], 2: [], 5: []}
    for x in images:
        y = x
        for cycle in range(1, 6):
            y = _decoded(_jpeg_bytes(y, 75))
            if cycle in after:
                after[cycle].append(decibels(x, y))
    gap = max(abs(scores[f"drift-psnr-{n}"] - float(np.mean(v))) for n, v in after.items())
    how = f"{version('pillow')}, JPEG again and again"
    return Comparison("drift-psnr-1, drift-psnr-2, drift-psnr-5", how, on, gap, 1e-9, FLOATS)


def _sensitivity(images: Sequence[Pixels], scores: Mapping[str, float], on: str) -> Comparison:
    """The DCT tokenizer's tokens of changed pictures."""
    import torch

    model: Any = load("dct").model

    def indices(x: Pixels) -> Any:
        return model.encode(to_float(stacked([x])), [0]).indices.numpy()

    def share(x: Pixels, y: Pixels) -> float:
        a, b = indices(x), indices(y)
        return float((a != b)[(a >= 0) | (b >= 0)].mean())

    def again(x: Pixels, times: int) -> Pixels:
        for _ in range(times):
            with torch.inference_mode():
                picture = model.decode(model.encode(to_float(stacked([x])), [0]), [0])
            x = np.rint(np.clip(picture[0].permute(1, 2, 0).numpy().astype(float), 0, 1) * 255).astype(np.uint8)
        return x

    def noisy(x: Pixels) -> Pixels:
        noise = np.random.default_rng(image_seed(0, rgb_sha256(x))).normal(0, 2, (3, *x.shape[:2]))
        return np.clip(np.rint(x + np.moveaxis(noise, 0, 2)), 0, 255).astype(np.uint8)

    expected = {
        "shift-tokens": [share(x, np.concatenate([x[:, :1], x[:, :-1]], axis=1)) for x in images],
        "jpeg90-tokens": [share(x, _decoded(_jpeg_bytes(x, 90))) for x in images],
        "noise2-tokens": [share(x, noisy(x)) for x in images],
        # The last cycle's tokens against those of the cycle before it.
        "drift-tokens-2": [share(x, again(x, 1)) for x in images],
        "drift-tokens-5": [share(again(x, 3), again(x, 4)) for x in images],
    }
    gap = max(abs(scores[n] - float(np.mean(v))) for n, v in expected.items())
    return Comparison(", ".join(expected), "the built-in DCT tokenizer asked again", on, gap, 1e-12, "counts")
