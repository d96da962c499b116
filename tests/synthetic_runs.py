"""A leaderboard of any size as run folders: systems of every kind with curves, ties, gaps and unranked runs.

For benchmarks and for tests of the page at its targets (100 and 500 operating points). Every number follows from the
arguments; metrics, units and reasons are those of the real tasks, read from the registry.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vtbench import registry

TASKS = ("reconstruction", "text", "detail", "compression", "stability")
SUITES = {"text": "starter-text", "stability": "starter-stability"}
COSTS = (
    ("encode-seconds-p50", "s/image", "lower"),
    ("decode-seconds-p50", "s/image", "lower"),
    ("images-per-second", "image/s", "higher"),
    ("peak-memory", "MiB", "lower"),
    ("parameters", "parameters", "lower"),
)
CARD = ("name", "title", "version", "unit", "better", "source", "min_size", "kind", "convention_of", "reduction")
NO_VALUE = {
    "kid": "6 GB of features are not here",
    "lpips-vgg": "the VGG weights are not here: vtbench doctor",
    "cmmd": "the CLIP weights are not here: vtbench doctor",
}
"""Metrics that no run has."""


@dataclass(frozen=True)
class System:
    """One operating point. `quality`: 0 … 1, the better the larger, before the rate's share."""

    name: str
    title: str
    kind: str
    family: str
    knob: str | None
    setting: int | None
    bpp: float | None
    quality: float


def systems(models: int) -> list[System]:
    """`models` operating points: a quarter on curves of codecs, a quarter continuous, the rest discrete (some with a
    budget), two closed."""
    out: list[System] = []
    codecs = max(1, models // 20)
    for c in range(codecs):
        for q in range(min(5, models)):
            out.append(_system("codec", c, f"Codec {c}", "quality", 10 + 20 * q, 0.06 * 2**q * (1 + c / 40), 0.5))
    number = 0
    while len(out) < models:
        kind = ("discrete", "continuous", "discrete", "discrete", "continuous")[number % 5]
        if number in (7, 19):
            out.append(_system("closed", number, f"Service {number}", None, None, None, 0.4))
        elif number % 12 == 6:
            for step in range(4):
                rate = 0.03 * 2**step
                out.append(_system("discrete", number, f"Budget tokenizer {number}", "budget", 32 << step, rate, 0.62))
        else:
            rate = {"discrete": (0.055, 0.0625, 0.11, 0.22), "continuous": (0.25, 0.5, 1.0, 2.0)}[kind][number % 4]
            word = "VQ" if kind == "discrete" else "VAE"
            quality = 0.35 + 0.5 * math.sin(number * 1.7) ** 2
            out.append(_system(kind, number, f"{word} tokenizer {number}", None, None, rate, quality))
        number += 1
    return out[:models]


def _system(
    kind: str, number: int, title: str, knob: str | None, setting: int | None, bpp: float | None, quality: float
) -> System:
    name = f"{title.lower().replace(' ', '-')}"
    return System(name, title, kind, f"family-{number % 9}", knob, setting, bpp, quality)


@functools.cache
def _cards(task: str) -> dict[str, dict[str, Any]]:
    """The cards of a task's metrics as a run keeps them."""
    out = {}
    for name in registry.tasks().get(task).metrics:
        card = registry.metric(name).card
        kept = (
            "name",
            "title",
            "version",
            "unit",
            "better",
            "source",
            "min_size",
            "kind",
            "convention_of",
            "reduction",
        )
        out[name] = {k: getattr(card, k) for k in kept} | {"bounds": list(card.bounds), "needs": list(card.needs)}
    return out


def write_world(root: Path, models: int = 100, tasks: int = 5, images: int = 32, generators: int | None = None) -> Path:
    """Writes `models` systems on each of the first `tasks` tasks, and a tenth as many generators on generation."""
    for index, system in enumerate(systems(models)):
        for task in TASKS[:tasks]:
            _write(root / f"{index:04d}-{task}", system, index, task, images)
    for index in range(max(2, models // 10) if generators is None else generators):
        name = f"Generator {index}"
        system = System(
            name.lower().replace(" ", "-"), name, "generator", "gen", "steps", 10 * 2 ** (index % 4), None, 0.5
        )
        _write(root / f"g{index:04d}", system, models + index, "generation", images)
    return root


def _write(folder: Path, system: System, index: int, task: str, images: int) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng([index, len(task)])
    level = system.quality + 0.12 * math.log2(1 + 16 * (system.bpp or 0.5))
    suite = SUITES.get(task, "starter-natural")
    # Images differ more than systems do, alike for all: what a paired test is for.
    hard = np.random.default_rng(len(suite)).normal(0, 0.12, images)
    per = level + hard + rng.normal(0, 0.02, images)
    values, scores = _measured(system, task, per, rng, index)
    digest = hashlib.sha256(f"{system.name} {system.setting} {task}".encode()).hexdigest()
    (folder / "run.json").write_text(json.dumps(_info(system, index, task, suite, images, digest)))
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores))
    rows = []
    for i in range(images):
        row: dict[str, Any] = {"item": f"{i:05d}.png", "bits": 65536 * (system.bpp or 0.0), "size": [256, 256]}
        row["values"] = {name: column[i] for name, column in values.items() if column[i] is not None}
        row["sha256"] = hashlib.sha256(f"{suite} {i}".encode()).hexdigest()
        row["seconds"] = {"encode": 0.01, "decode": 0.02}
        rows.append(json.dumps(row))
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")


def _measured(
    system: System, task: str, per: np.ndarray, rng: np.random.Generator, index: int
) -> tuple[dict[str, list[float | None]], list[dict[str, Any]]]:
    """Per-image values by metric, and the lines of scores.jsonl."""
    values: dict[str, list[float | None]] = {}
    scores = []
    n = len(per)
    for name, card in _cards(task).items():
        line: dict[str, Any] = {"task": task, "metric": name, "unit": card["unit"], "better": card["better"]}
        line |= {
            "version": card["version"],
            "n": n,
            "missing": 0,
            "low": None,
            "high": None,
            "why": None,
            "details": {},
        }
        why = _why_missing(system, name, index)
        if why is not None:
            scores.append({**line, "value": None, "n": 0, "missing": n, "why": why})
            continue
        column = _column(name, card, per, system)
        mean = float(column.mean())
        if card["kind"] == "image":
            values[name] = [round(float(x), 6) for x in column]
            half = 2 * float(column.std()) / math.sqrt(n)
            line |= {"low": mean - half, "high": mean + half}
        elif name in ("rfid", "fid"):
            line["warning"] = f"{n} images: an FID below 10,000 images is biased; read KID"
        scores.append({**line, "value": mean})
    if system.kind == "closed":
        return values, scores
    for name, unit, better in COSTS:
        cost = {"images-per-second": 40.0, "peak-memory": 900.0, "parameters": 1e7 * (1 + index % 90)}.get(name, 0.02)
        cost = float(cost if name == "parameters" else cost * rng.uniform(0.5, 2.0))
        line = {"task": task, "metric": name, "unit": unit, "better": better, "n": n, "missing": 0, "value": cost}
        scores.append({**line, "details": {"what": "resident memory of the process"} if name == "peak-memory" else {}})
    if system.kind == "generator":
        line = {"task": task, "metric": "nfe", "unit": "evaluations/image", "better": "lower", "n": n, "missing": 0}
        scores.append({**line, "value": float(system.setting or 1), "details": {}})
    return values, scores


def _why_missing(system: System, metric: str, index: int) -> str | None:
    if metric in NO_VALUE:
        return NO_VALUE[metric]
    if metric in ("bpp", "bits", "ratio", "ratio-png") and system.bpp is None:
        return "this system sends no tokens, so its rate is unknown"
    if "tokens" in metric and system.kind != "discrete":
        return "a bitstream has no tokens" if system.kind == "codec" else "only codes have tokens to count"
    if metric == "legibility" and index % 3 == 0:
        return "less than half of the characters are right at every x-height, up to 40 px: the limit lies above"
    return None


def _column(name: str, card: Mapping[str, Any], per: np.ndarray, system: System) -> np.ndarray:
    """A plausible value of each image."""
    rates = {"bpp": system.bpp, "bits": (system.bpp or 0) * 65536, "tokens": round((system.bpp or 0) * 65536 / 14)}
    if name in rates:
        return np.full(len(per), float(rates[name] or 0.0))
    low, high = card["bounds"]
    if card["unit"] == "dB":
        return 20 + 9 * per
    if card["better"] == "higher":
        return np.clip(0.45 + 0.3 * per, 0, 1) if high == 1 else 1 + 5 * np.abs(per)
    if card["better"] == "lower":
        worst = 1.0 if high == 1 or name in ("cer", "wer", "lpips-alex", "dists") else 12.0
        return worst * np.clip(0.75 - 0.4 * per, 0.004, 1)
    return per - 1.0 if low is None or low < 0 else np.abs(per)


def _info(system: System, index: int, task: str, suite: str, images: int, digest: str) -> dict[str, Any]:
    limited = index % 25 == 24
    official = system.kind in ("discrete", "continuous")
    file = hashlib.sha256(system.name.encode()).hexdigest()
    card = {
        "name": system.name,
        "options": {system.knob: None} if system.knob else {},
        "licence": ("MIT", "Apache-2.0", "CC-BY-NC-4.0", None)[index % 4],
        "paper": "https://example.org/paper",
        "code": "https://example.org/code",
        "trained_on": (["ImageNet"], [], ["OpenImages", "COCO"])[index % 3],
        "tokens_at_256": 256 if system.kind == "discrete" else None,
        "published": [{"metric": "rfid", "value": 1.5, "source": "https://example.org/table", "protocol": None}],
    }
    view = hashlib.sha256(b"256").hexdigest()[:16]
    return {
        "schema": 1,
        "identity_rule": 2,
        "id": digest,
        "vtbench": "0.1.0",
        "model": {
            "name": system.name,
            "family": system.family,
            "kind": system.kind,
            "title": system.title,
            "card": card,
            "options": {system.knob: system.setting} if system.knob else {},
            "knob": system.knob,
            "weights": {
                "status": "official" if official else "built-in",
                "files": [{"file": "model.safetensors", "sha256": file}] if official else [],
            },
            "adapter_sha256": hashlib.sha256(system.family.encode()).hexdigest(),
            "parameters": 10_000_000 * (1 + index % 90) if official else None,
        },
        "task": {"name": task, "version": 1, "title": registry.tasks().get(task).title, "fit": "pad"},
        "suite": {"name": suite, "hash": hashlib.sha256(suite.encode()).hexdigest(), "n": images},
        "view": {"name": "256", "protocol": "vtbench", "fingerprint": view},
        "protocol": "vtbench",
        "dtype": "float32",
        "device": {"kind": "cpu", "threads": 2, "cpu": "A processor", "cores": 2},
        "seed": 0,
        "status": "complete",
        "ranked": not limited,
        "why_not_ranked": f"limited to 8 of {images} images" if limited else None,
        "limit": 8 if limited else None,
        "n": images,
        "batch_size": 4,
        "command": f"vtbench evaluate {system.name} --task {task}",
        "provenance": {
            "vtbench": "0.1.0",
            "git": "0123456789abcdef0123456789abcdef01234567",
            "code_sha256": "ab" * 32,
            "release": True,
            "python": "3.11.9",
            "platform": "Linux",
            "packages": {"torch": "2.6.0", "pillow": "11.3.0"},
            "started": f"2026-01-{1 + index % 28:02d}T00:00:00Z",
            "finished": f"2026-01-{1 + index % 28:02d}T00:10:00Z",
        },
        "metrics": _cards(task),
    }
