"""Run folders with known contents, for the tests of reports and of the page. Every number here is arithmetic."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.reporting.reading import read_runs
from vtbench.results.record import Run

CARDS = {
    "psnr": ("PSNR", "dB", "higher", "image"),
    "ssim": ("SSIM", "", "higher", "image"),
    "lpips-alex": ("LPIPS (AlexNet)", "", "lower", "image"),
    "rfid": ("rFID", "", "lower", "set"),
    "bpp": ("Bits per pixel", "bit/px", "lower", "image"),
    "tokens": ("Tokens per image", "tokens", "lower", "image"),
    "cer": ("Character error rate", "", "lower", "image"),
    "visual-tokens": ("Visual tokens", "tokens", "lower", "image"),
    "centred-cosine": ("Centred cosine", "", "higher", "set"),
}


def card(name: str) -> dict[str, Any]:
    title, unit, better, kind = CARDS[name]
    return {
        "name": name,
        "title": title,
        "version": 1,
        "unit": unit,
        "better": better,
        "source": f"definition of {title}",
        "bounds": [None, None],
        "min_size": 1,
        "kind": kind,
        "needs": [],
        "convention_of": None,
        "reduction": "mean of per-image values",
        "paired": True,
    }


def score(metric: str, value: float | None, *, n: int = 6, half: float = 0.0, **more: Any) -> dict[str, Any]:
    """A line of scores.jsonl with a symmetric interval of half width `half` (none at 0)."""
    _, unit, better, _ = CARDS[metric]
    with_interval = value is not None and half > 0
    return {
        "metric": metric,
        "value": value,
        "n": n,
        "missing": 0,
        "low": value - half if with_interval and value is not None else None,
        "high": value + half if with_interval and value is not None else None,
        "why": None,
        "warning": None,
        "unit": unit,
        "better": better,
        "version": 1,
        "details": {},
        **more,
    }


def write(
    folder: Path,
    *,
    name: str = "jpeg",
    kind: str = "codec",
    family: str = "codecs",
    title: str | None = None,
    options: Mapping[str, Any] | None = None,
    knob: str | None = None,
    task: str = "reconstruction",
    suite: str = "starter-natural",
    n: int = 6,
    view: str = "256",
    status: str = "complete",
    ranked: bool = True,
    why_not_ranked: str | None = None,
    limit: int | None = None,
    weights: Mapping[str, Any] | None = None,
    scores: Sequence[Mapping[str, Any]] = (),
    values: Mapping[str, Sequence[float | None]] | None = None,
    items: Sequence[str] | None = None,
    samples: Sequence[Mapping[str, str]] | None = None,
    schema: int = 1,
    seed: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a run folder as the runner does; `values` are per-image values by metric. Returns its path."""
    options = dict(options or {})
    question = json.dumps([name, kind, options, task, suite, view, limit, seed, dict(weights or {})], sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(items or [f"{i:03d}.png" for i in range(n)])
    used = [str(s["metric"]) for s in scores]
    rest = {k: v for k, v in options.items() if k != knob}
    info = {
        "schema": schema,
        "id": hashlib.sha256(question.encode()).hexdigest()[:24],
        "vtbench": "0.1.0",
        "model": {
            "name": name,
            "family": family,
            "kind": kind,
            "title": title or name.upper(),
            "card": {
                "name": name,
                "options": {k: None for k in options},
                "licence": "MIT",
                "paper": "https://example.org/paper",
                "trained_on": [],
                "published": [],
            },
            "options": options,
            "knob": knob,
            "curve": f"{name} {json.dumps(rest, sort_keys=True)}" if knob else None,
            "weights": dict(weights or {"status": "none", "files": []}),
            "adapter_sha256": hashlib.sha256(family.encode()).hexdigest(),
        },
        "task": {"name": task, "version": 1, "title": task.capitalize()},
        "suite": {"name": suite, "hash": hashlib.sha256(suite.encode()).hexdigest(), "n": n},
        "view": {"name": view, "protocol": "vtbench", "fingerprint": hashlib.sha256(view.encode()).hexdigest()[:16]},
        "protocol": "vtbench",
        "dtype": "float32",
        "device": {"kind": "cpu", "threads": 2, "cpu": "A processor", "cores": 2},
        "seed": seed,
        "status": status,
        "ranked": ranked,
        "why_not_ranked": why_not_ranked,
        "limit": limit,
        "batch_size": 4,
        "provenance": {
            "vtbench": "0.1.0",
            "git": "0123456789abcdef0123456789abcdef01234567",
            "code_sha256": "ab" * 32,
            "release": True,
            "python": "3.11.9",
            "platform": "Linux",
            "packages": {"torch": "2.6.0", "pillow": "11.3.0"},
            "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:00:10Z",
        },
        "service": {"encode_seconds": 0.012, "decode_seconds": 0.034},
        "metrics": {m: card(m) for m in used if m in CARDS},
        **(extra or {}),
    }
    (folder / "run.json").write_text(json.dumps(info, indent=1))
    lines = [json.dumps({"task": task, **s}) for s in scores]
    (folder / "scores.jsonl").write_text("".join(line + "\n" for line in lines))
    rows = []
    for i, item in enumerate(names):
        measured = {k: v[i] for k, v in (values or {}).items()}
        rows.append(
            {
                "item": item,
                "bits": 1000.0,
                "values": measured,
                "weights": {},
                "why": {k: "identical to the original" for k, v in measured.items() if v is None},
                "seconds": {"encode": 0.01, "decode": 0.02},
            }
        )
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    if samples is not None:
        (folder / "samples").mkdir(exist_ok=True)
        (folder / "samples" / "samples.json").write_text(json.dumps(list(samples)))
    return folder


def run_of(root: Path, name: str, values: list[float | None], *, metric: str = "psnr", **more: Any) -> Run:
    """A run of six images whose score is the mean of its values, written to `root/name` and read."""
    present = [v for v in values if v is not None]
    mean = sum(present) / len(present) if present else None
    line = score(metric, mean, n=len(present), missing=len(values) - len(present), why=None if present else "lossless")
    more.setdefault("scores", [line, score("bpp", 1.0)])
    write(root / name, name=name, values={metric: values}, **more)
    return read_runs([root / name])[0]


def picture(path: Path, *, size: tuple[int, int] = (96, 64), noise: float = 0.0, seed: int = 0) -> Path:
    """A PNG of waves, with `noise` grey levels of noise, seeded."""
    import numpy as np
    from PIL import Image

    width, height = size
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 90 * np.sin(x / (5 + c + seed) + y / (9 - c)) for c in range(3)]
    image = np.stack(planes, -1) + np.random.default_rng(seed).normal(0, 1, (height, width, 3)) * noise
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.rint(image), 0, 255).astype("uint8")).save(path)
    return path


@dataclass(frozen=True)
class Curve:
    """A system at several settings: step k has rate * 2^k bits per pixel and start + gain * log2(1 + k) decibels."""

    name: str
    kind: str
    family: str
    title: str
    knob: str | None
    settings: Sequence[int | None]
    start: float
    gain: float
    rate: float


CURVES = (
    Curve("jpeg", "codec", "codecs", "JPEG (Pillow, libjpeg-turbo)", "quality", [10, 30, 50, 75, 95], 22.0, 6.4, 0.25),
    Curve("avif", "codec", "codecs", "AVIF", "quality", [20, 40, 60, 80], 25.0, 6.6, 0.16),
    Curve("pca-patch", "continuous", "pca", "PCA of 8×8 patches, float16", "dims", [4, 12, 32], 20.5, 4.5, 1.0),
    Curve("taef2", "continuous", "tae", "TAESD for FLUX.2", None, [None], 31.2, 0.0, 0.5),
    Curve("kmeans-vq", "discrete", "vq", "k-means patch VQ", "codes", [256, 1024, 4096], 19.0, 3.0, 0.12),
    Curve("dct-prefix", "discrete", "dct", "Progressive DCT", "budget", [64, 128, 256], 20.0, 4.0, 0.3),
)


def small_world(root: Path) -> Path:
    """About twenty runs of six systems over three tasks, with curves, ties, nulls, warnings and unranked runs."""
    for curve in CURVES:
        for step, setting in enumerate(curve.settings):
            _operating_point(root, curve, step, setting)
    _without_a_place(root)
    return root


def _operating_point(root: Path, curve: Curve, step: int, setting: int | None) -> None:
    bpp = curve.rate * 2**step
    psnr = curve.start + curve.gain * math.log2(1 + step)
    # Differences of two systems scatter a little: of a constant one, six images can say no more than p = 2 / 2^6.
    scatter = 1 + 0.01 * (step + 3 * CURVES.index(curve))
    per = [psnr + scatter * d for d in (-3.0, -1.5, -0.2, 0.4, 1.3, 3.0)]
    status = "official" if curve.name == "taef2" else "built-in"
    common: dict[str, Any] = {
        "name": curve.name,
        "kind": curve.kind,
        "family": curve.family,
        "title": curve.title,
        "knob": curve.knob,
        "options": {curve.knob: setting} if curve.knob else {},
        "weights": {"status": status, "files": [{"file": "model.safetensors", "sha256": "cd" * 32}]},
    }
    folder = root / f"{curve.name}-{setting}"
    names = [f"photo-{i}.png" for i in range(6)]
    tokens = score("tokens", None, n=0, missing=6, why="a bitstream has no tokens")
    write(
        folder,
        **common,
        items=names,
        samples=[_sample(folder, item, i, psnr) for i, item in enumerate(names[:3])],
        values={"psnr": per, "ssim": [min(0.999, p / 45) for p in per], "bpp": [bpp] * 6},
        scores=[
            score("psnr", psnr, half=2.2),
            score("ssim", min(0.999, psnr / 45), half=0.03),
            score("lpips-alex", None, n=0, missing=6, why="the AlexNet weights are not here: vtbench doctor"),
            score("rfid", 900 / psnr, warning="6 images: an FID below 10,000 images is biased; read KID"),
            score("bpp", bpp, half=bpp / 10),
            score("tokens", 256.0) if curve.kind == "discrete" else tokens,
        ],
    )
    if step < 2:
        scores = [score("cer", max(0.0, 0.9 - psnr / 40), half=0.05), score("bpp", bpp, half=bpp / 10)]
        text = root / f"{curve.name}-{setting}-text"
        write(text, **common, task="text", suite="starter-text", view="512", scores=scores)


def _sample(folder: Path, item: str, seed: int, psnr: float) -> dict[str, str]:
    """Writes an original and its reconstruction; returns their line of samples.json."""
    names = {"reference": f"{item}.reference.png", "candidate": f"{item}.candidate.png"}
    picture(folder / "samples" / names["reference"], size=(256, 256), seed=seed)
    picture(folder / "samples" / names["candidate"], size=(256, 256), seed=seed, noise=60 / psnr * 8)
    return {"item": item, **names}


def _without_a_place(root: Path) -> None:
    """Runs that are limited, failed, or of a closed system without a rate."""
    write(
        root / "limited",
        name="webp",
        title="WebP",
        knob="quality",
        options={"quality": 50},
        ranked=False,
        why_not_ranked="limited to 2 of 6 images",
        limit=2,
        scores=[score("psnr", 33.0, n=2), score("bpp", 0.6, n=2)],
    )
    write(
        root / "failed",
        name="my-vae",
        kind="continuous",
        family="mine",
        title="My VAE",
        status="failed",
        ranked=False,
        why_not_ranked="decode returned NaN for photo-2.png",
        weights={"status": "unverified", "files": [{"file": "last.ckpt", "sha256": "ef" * 32}]},
        scores=[score("psnr", None, n=0, missing=6, why="the model failed"), score("bpp", 2.0, n=2)],
    )
    write(
        root / "closed",
        name="api-image",
        kind="closed",
        family="api",
        title="A closed system",
        scores=[
            score("psnr", 21.5, half=1.8),
            score("ssim", 0.71, half=0.02),
            score("bpp", None, n=0, missing=6, why="this system sends no tokens, so its rate is unknown"),
        ],
    )
