"""Run folders with known contents, for the tests of aggregate and of the page. Every number here is arithmetic."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CARDS = {
    "psnr": ("PSNR", "dB", "higher", "image"),
    "ssim": ("SSIM", "", "higher", "image"),
    "lpips-alex": ("LPIPS (AlexNet)", "", "lower", "image"),
    "rfid": ("rFID", "", "lower", "set"),
    "bpp": ("Bits per pixel", "bit/px", "lower", "image"),
    "tokens": ("Tokens per image", "tokens", "lower", "image"),
    "cer": ("Character error rate", "", "lower", "image"),
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


def score(metric: str, found: float | None, *, n: int = 6, half: float = 0.0, **more: Any) -> dict[str, Any]:
    """A line of scores.jsonl with a symmetric interval of half width `half` (none at 0)."""
    _, unit, better, _ = CARDS[metric]
    with_interval = found is not None and half > 0
    return {
        "metric": metric,
        "value": found,
        "n": n,
        "missing": 0,
        "low": found - half if with_interval and found is not None else None,
        "high": found + half if with_interval and found is not None else None,
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
    told = json.dumps([name, kind, options, task, suite, view, limit, seed, dict(weights or {})], sort_keys=True)
    folder.mkdir(parents=True, exist_ok=True)
    names = list(items or [f"{i:03d}.png" for i in range(n)])
    used = [str(s["metric"]) for s in scores]
    rest = {k: v for k, v in options.items() if k != knob}
    info = {
        "schema": schema,
        "id": hashlib.sha256(told.encode()).hexdigest()[:24],
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
        found = {k: v[i] for k, v in (values or {}).items()}
        rows.append(
            {
                "item": item,
                "bits": 1000.0,
                "values": found,
                "weights": {},
                "why": {k: "identical to the original" for k, v in found.items() if v is None},
                "seconds": {"encode": 0.01, "decode": 0.02},
            }
        )
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    if samples is not None:
        (folder / "samples").mkdir(exist_ok=True)
        (folder / "samples" / "samples.json").write_text(json.dumps(list(samples)))
    return folder


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


def small_world(root: Path) -> Path:
    """About twenty runs of six systems over three tasks, with curves, ties, nulls, warnings and unranked runs."""
    systems: list[dict[str, Any]] = [
        dict(name="jpeg", kind="codec", family="codecs", title="JPEG (Pillow, libjpeg-turbo)", knob="quality",
             settings=[10, 30, 50, 75, 95], a=22.0, b=6.4, r0=0.25),
        dict(name="avif", kind="codec", family="codecs", title="AVIF", knob="quality",
             settings=[20, 40, 60, 80], a=25.0, b=6.6, r0=0.16),
        dict(name="pca-patch", kind="continuous", family="pca", title="PCA of 8×8 patches, float16", knob="dims",
             settings=[4, 12, 32], a=20.5, b=4.5, r0=1.0),
        dict(name="taef2", kind="continuous", family="tae", title="TAESD for FLUX.2", knob=None,
             settings=[None], a=31.2, b=0.0, r0=0.5),
        dict(name="kmeans-vq", kind="discrete", family="vq", title="k-means patch VQ", knob="codes",
             settings=[256, 1024, 4096], a=19.0, b=3.0, r0=0.12),
        dict(name="dct-prefix", kind="discrete", family="dct", title="Progressive DCT", knob="budget",
             settings=[64, 128, 256], a=20.0, b=4.0, r0=0.3),
    ]  # fmt: skip
    for spec in systems:
        for step, setting in enumerate(spec["settings"]):
            bpp = spec["r0"] * 2**step
            psnr = spec["a"] + spec["b"] * math.log2(1 + step)
            per = [psnr + d for d in (-3.0, -1.5, -0.2, 0.4, 1.3, 3.0)]
            half = 2.2
            options = {spec["knob"]: setting} if spec["knob"] else {}
            common = dict(
                name=spec["name"], kind=spec["kind"], family=spec["family"], title=spec["title"], knob=spec["knob"],
                options=options,
                weights={"status": "official" if spec["name"] == "taef2" else "built-in",
                         "files": [{"file": "model.safetensors", "sha256": "cd" * 32}]},
            )  # fmt: skip
            folder = root / f"{spec['name']}-{setting}"
            names = [f"photo-{i}.png" for i in range(6)]
            samples = []
            for i, item in enumerate(names[:3]):
                picture(folder / "samples" / f"{item}.reference.png", size=(256, 256), seed=i)
                picture(folder / "samples" / f"{item}.candidate.png", size=(256, 256), seed=i, noise=60 / psnr * 8)
                samples.append(
                    {"item": item, "reference": f"{item}.reference.png", "candidate": f"{item}.candidate.png"}
                )
            write(
                folder,
                **common,
                items=names,
                samples=samples,
                values={"psnr": per, "ssim": [min(0.999, p / 45) for p in per], "bpp": [bpp] * 6},
                scores=[
                    score("psnr", psnr, half=half),
                    score("ssim", min(0.999, psnr / 45), half=0.03),
                    score("lpips-alex", None, n=0, missing=6, why="the AlexNet weights are not here: vtbench doctor"),
                    score("rfid", 900 / psnr, warning="6 images: an FID below 10,000 images is biased; read KID"),
                    score("bpp", bpp, half=bpp / 10),
                    score("tokens", 256.0)
                    if spec["kind"] == "discrete"
                    else score("tokens", None, n=0, missing=6, why="a bitstream has no tokens"),
                ],
            )
            if step < 2:
                write(
                    root / f"{spec['name']}-{setting}-text",
                    **common,
                    task="text",
                    suite="starter-text",
                    view="512",
                    scores=[score("cer", max(0.0, 0.9 - psnr / 40), half=0.05), score("bpp", bpp, half=bpp / 10)],
                )
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
    return root
