"""Rows of docs/metrics.md: readings of text, statistics of tokens, rates and stability, each computed a second time by
its definition, by SciPy or by Pillow. Called by vtbench.metrics_references.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtbench import registry
from vtbench.metrics.reference import Comparison, stack, version
from vtbench.metrics_references import FLOATS, NUMPY, largest


def _lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Longest common subsequence by its recurrence."""
    row = [0] * (len(b) + 1)
    for x in a:
        last = 0
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], last + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def text() -> list[Comparison]:
    """Measures of readings on random strings, the fit of legibility on readings whose limit is known."""
    from vtbench.metrics import legibility, reference
    from vtbench.metrics import text as measures

    rng = np.random.default_rng(0)

    def draw(least: int) -> str:
        return "".join(rng.choice(list("ab "), rng.integers(least, 30)))

    lines = [measures.Line(draw(1).strip() or "a", draw(0).strip(), float(rng.uniform(0, 10))) for _ in range(300)]
    on = "300 pairs of random strings"
    how = "the recurrence of Wagner and Fischer"

    def distance(a: Sequence[str], b: Sequence[str]) -> int:
        codes = {w: chr(i + 1) for i, w in enumerate(dict.fromkeys([*a, *b]))}
        return reference._recurrence("".join(codes[w] for w in a), "".join(codes[w] for w in b))

    words = [(k.truth.split(), k.reading.split()) for k in lines]
    wanted = sum(distance(a, b) for a, b in words)
    out = [Comparison("wer, wer-ceiling", f"{how}, of words", on, abs(measures._wer(lines)[0] - wanted), 0, "integers")]
    wanted = sum(_lcs(a, b) for a, b in words)
    gap = abs(measures._words(lines)[0] - wanted)
    names = ("word-accuracy", "word-accuracy-ceiling", "word-accuracy-rapidocr", "word-accuracy-tesseract")
    how_words = "the recurrence of the longest common subsequence"
    out.append(Comparison(", ".join(names), how_words, on, gap, 0, "integers"))
    shares = [1 - distance(k.truth, k.reading) / max(len(k.truth), len(k.reading)) for k in lines]
    gap = abs(measures._ned(lines)[0] - sum(shares))
    out.append(Comparison("ned, ned-ceiling", how, on, gap, 1e-9, FLOATS))
    found = [measures._bucket(a, b, lines) for a, b in ((0, 3), (3, 4), (4, 6), (6, 100))]
    each = [(k.height, distance(k.truth, k.reading) / len(k.truth)) for k in lines]
    gap = max(
        abs(f[0] - sum(v for h, v in each if a <= h < b))
        for f, (a, b) in zip(found, ((0, 3), (3, 4), (4, 6), (6, 101)), strict=True)
    )
    out.append(Comparison("cer-h0-3, cer-h3-4, cer-h4-6, cer-h6-100", how, on, gap, 1e-9, FLOATS))
    quotes = [n for n in registry.metrics() if n.startswith("quote-")]
    if quotes:
        out.append(_quotes(quotes, lines, [distance(k.truth, k.reading) for k in lines], on))
    long = sum(len(k.reading) / len(k.truth) > 3 for k in lines)
    empty = sum(k.reading == "" for k in lines)
    gap = abs(measures._overlong(lines)[0] - long) + abs(measures._empty(lines)[0] - empty)
    out.append(Comparison("ocr-empty, ocr-overlong", "counting", on, gap, 0, "integers"))
    heights = rng.uniform(4, 30, 400)
    right = rng.binomial(40, 1 / (1 + (9.2 / heights) ** 6.0))
    rows = [
        {"lines": [{"x_height": h, "chars": 40, "read_right": int(r)}]} for h, r in zip(heights, right, strict=True)
    ]
    fitted = legibility.Legibility().finish(rows, []).value or 0.0
    what = "400 lines of 40 characters drawn from a curve with its middle at 9.2 px"
    both = ("legibility", "legibility-ceiling")
    why = "sampling: 16,000 characters"
    gap = abs(fitted / 9.2 - 1)
    out.append(Comparison(", ".join(both), "the curve that was drawn from", what, gap, 0.02, why, True))
    return out


def _quotes(names: Sequence[str], lines: Sequence[Any], distances: Sequence[int], on: str) -> Comparison:
    """Measures of quoted strings; the buckets of their lengths are the same measures of fewer images."""
    from vtbench.metrics import quoted

    gap = 0.0
    for k, d in zip(lines, distances, strict=True):
        words = k.truth.split()
        wanted = {
            "quote-exact": float(d == 0), "quote-cer": d / len(k.truth),
            "quote-ned": 1 - d / max(len(k.truth), len(k.reading)),
            "quote-word-accuracy": _lcs(words, k.reading.split()) / len(words),
        }  # fmt: skip
        found = {name: kind[1](k.truth, k.reading)[0] for name, kind in quoted._KINDS.items()}
        gap = max(gap, *(abs(found[n] - v) for n, v in wanted.items()))
    return Comparison(
        ", ".join(names), "the recurrences of edit distance and common subsequence", on, gap, 1e-9, FLOATS
    )


def tokens() -> list[Comparison]:
    """Codebook statistics and rates by counting."""
    import torch
    from scipy import stats

    from vtbench.metrics import codebook
    from vtbench.types.tokens import Codes

    rng = np.random.default_rng(1)
    # Every token repeats its left neighbour with probability 0.9: 0.9 and 0.1 / 3 thrice, the first of a row is free.
    draws = np.zeros((600, 16, 16), dtype=np.int64)
    draws[..., 0] = rng.integers(0, 4, (600, 16))
    for k in range(1, 16):
        other = (draws[..., k - 1] + rng.integers(1, 4, (600, 16))) % 4
        draws[..., k] = np.where(rng.random((600, 16)) < 0.9, draws[..., k - 1], other)
    made = [Codes(torch.from_numpy(d.ravel())[None], (4,), (64, 64), grids=((16, 16),)) for d in draws]
    sizes = [(64, 64)] * len(made)
    known = (15 * stats.entropy([0.9, *[0.1 / 3] * 3], base=2) + 2) / 16 * 256 / 4096
    found = codebook.EntropyNeighbours().finish(made, sizes)
    on = "600 grids of 16 x 16 tokens, each like its left neighbour in 9 of 10 cases"
    out = [Comparison("entropy1-bpp", "the source's conditional entropy", on, abs((found.value or 0) / known - 1), 0.01,
                      "sampling: 153,600 tokens", True)]  # fmt: skip
    draws = rng.choice(64, (700, 20), p=np.arange(64) / np.arange(64).sum())
    made = [Codes(torch.from_numpy(d)[None], (64,), (64, 64)) for d in draws]
    sizes = [(64, 64)] * len(made)
    on = "700 draws of 20 tokens from 64 unequal symbols"
    counts = np.bincount(draws.ravel(), minlength=64)
    gap = abs((codebook.Usage().finish(made, sizes).value or 0) - 100 * len(np.unique(draws)) / 64)
    out.append(Comparison("codebook-usage", NUMPY + " unique", on, gap, 1e-12, "counts"))
    used = [float(p) for t in made for p in t.positions if p is not None]
    out.append(Comparison("tokens", "the length of the arrays", on, largest(used, [20.0] * len(used)), 0, "counts"))
    at = 200
    wanted = float(sum(1 - stats.hypergeom.pmf(0, counts.sum(), c, at) for c in counts if c))
    gap = abs(codebook.rarefaction(counts, [at])[0] / wanted - 1)
    out.append(
        Comparison("codebook-usage, rarefaction curve", version("scipy") + " hypergeom", on, gap, 1e-9, FLOATS, True)
    )
    wanted = 2 ** float(stats.entropy(counts, base=2))
    gap = abs((codebook.Perplexity().finish(made, sizes).value or 0) / wanted - 1)
    scipy = version("scipy") + " stats.entropy"
    out.append(Comparison("codebook-perplexity", scipy, on, gap, 1e-12, FLOATS, True))
    wanted = float(np.mean([stats.entropy(np.bincount(c, minlength=64), base=2) for c in draws.T]))
    gap = abs((codebook.PositionEntropy().finish(made, sizes).value or 0) / wanted - 1)
    out.append(Comparison("position-entropy", scipy, on, gap, 1e-12, FLOATS, True))
    return out


def models() -> list[Comparison]:
    """Rates and stability of JPEG by Pillow's own bytes and pictures, of a discrete tokenizer by encoding again."""
    import torch
    from PIL import Image

    from vtbench import api, evaluate
    from vtbench.images.reading import rgb_sha256
    from vtbench.images.rounding import to_float
    from vtbench.images.seeds import image_seed
    from vtbench.metrics_report import photographs

    images = photographs(64)[:4]
    on = f"{len(images)} photographs of 64 px"

    def coded(x: Any) -> bytes:
        held = io.BytesIO()
        Image.fromarray(x).save(held, "JPEG", quality=75, subsampling=2)
        return held.getvalue()

    def decibels(x: Any, y: Any) -> float:
        return float(10 * np.log10(255**2 / ((x.astype(float) - y) ** 2).mean()))

    with tempfile.TemporaryDirectory(prefix="vtbench-") as folder:
        for i, x in enumerate(images):
            (Path(folder) / "images").mkdir(exist_ok=True)
            Image.fromarray(x).save(Path(folder) / "images" / f"{i}.png")
        out, where = Path(folder) / "runs", Path(folder) / "images"
        tasks = ["compression", "stability"]
        done = evaluate("jpeg", tasks=tasks, images=where, view="native", options={"quality": "75"}, out=out)
        held = {**{s["metric"]: s["value"] for r in done.runs for s in r.scores}}
        other = evaluate("dct", tasks=["stability"], images=where, view="native", out=out)
        shares = {s["metric"]: s["value"] for s in other.runs[0].scores}
    size = [8 * len(coded(x)) for x in images]
    png = []
    for x in images:
        file = io.BytesIO()
        Image.fromarray(x).save(file, "PNG", compress_level=9)
        png.append(8 * len(file.getvalue()))
    wanted = {
        "bits": float(np.mean(size)), "bpp": float(np.mean(size)) / 4096, "ratio": 24 * 4096 / float(np.mean(size)),
        "ratio-png": sum(png) / sum(size),
    }  # fmt: skip
    pillow = version("pillow")
    shown = {n: v for n, v in wanted.items() if held.get(n) is not None}
    gap = max(abs(held[n] / v - 1) for n, v in shown.items())
    rows = [Comparison(", ".join(shown), f"{pillow}'s bytes (JPEG, quality 75)", on, gap, 1e-12, "bytes", True)]
    after: dict[int, list[float]] = {1: [], 2: [], 5: []}
    for x in images:
        y = x
        for cycle in range(1, 6):
            y = np.asarray(Image.open(io.BytesIO(coded(y))))
            if cycle in after:
                after[cycle].append(decibels(x, y))
    gap = max(abs(held[f"drift-psnr-{n}"] - float(np.mean(v))) for n, v in after.items())
    rows.append(
        Comparison("drift-psnr-1, drift-psnr-2, drift-psnr-5", f"{pillow}, JPEG again and again", on, gap, 1e-9, FLOATS)
    )
    subject: Any = api.prepare("dct", {}, None, "cpu", "float32", "resize").subject

    def indices(x: Any) -> Any:
        return subject.model.encode(to_float(stack([x])), [0]).indices.numpy()

    def share(x: Any, y: Any) -> float:
        a, b = indices(x), indices(y)
        return float((a != b)[(a >= 0) | (b >= 0)].mean())

    def again(x: Any, times: int) -> Any:
        for _ in range(times):
            with torch.inference_mode():
                made = subject.model.decode(subject.model.encode(to_float(stack([x])), [0]), [0])
            x = np.rint(np.clip(made[0].permute(1, 2, 0).numpy().astype(float), 0, 1) * 255).astype(np.uint8)
        return x

    def compressed(x: Any) -> Any:
        held = io.BytesIO()
        Image.fromarray(x).save(held, "JPEG", quality=90, subsampling=2)
        return np.asarray(Image.open(held))

    def noisy(x: Any) -> Any:
        noise = np.random.default_rng(image_seed(0, rgb_sha256(x))).normal(0, 2, (3, *x.shape[:2]))
        return np.clip(np.rint(x + np.moveaxis(noise, 0, 2)), 0, 255).astype(np.uint8)

    expected = {
        "shift-tokens": [share(x, np.concatenate([x[:, :1], x[:, :-1]], axis=1)) for x in images],
        "jpeg90-tokens": [share(x, compressed(x)) for x in images],
        "noise2-tokens": [share(x, noisy(x)) for x in images],
        # The last cycle's tokens against those of the cycle before it.
        "drift-tokens-2": [share(x, again(x, 1)) for x in images],
        "drift-tokens-5": [share(again(x, 3), again(x, 4)) for x in images],
    }
    gap = max(abs(shares[n] - float(np.mean(v))) for n, v in expected.items())
    rows.append(Comparison(", ".join(expected), "the built-in DCT tokenizer asked again", on, gap, 1e-12, "counts"))
    return rows
