"""A metric of sets with a network of its own that costs nothing, and a task of it, as a user's file.

Truth is arithmetic: features are means of quadrants, and their Fréchet distance is written out again in the tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

METRICS = """
from vtbench.metrics.frechet import frechet, interval
from vtbench.metrics.kid import kid
from vtbench.metrics.prdc import manifold
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue


class Quadrants(Extractor):
    id, dim = "quadrants/{version}", {dim}

    def load(self, device="cpu"):
        pass

    def extract(self, images):
        x = images.float()
        height, width = x.shape[2] // 2, x.shape[3] // 2
        parts = [x[:, :, :height, :width], x[:, :, height:, :width], x[:, :, :height, width:], x[:, :, height:, width:]]
        return {scale} * torch_stack([p.mean(dim=(2, 3)) for p in parts]).numpy()[:, : self.dim]


def torch_stack(parts):
    import torch

    return torch.cat(parts, dim=1)


QUADRANTS = Quadrants()


class OfSets(SetMetric):
    def __init__(self, name, compute, paired):
        self.card = MetricCard(name, name, {version}, "", "lower", "test", kind="set", paired=paired)
        self.compute = compute

    def extractor(self):
        return QUADRANTS

    def finish(self, reference, candidate):
        spread = interval(reference, candidate, paired=True) if self.card.paired else None
        low, high = (None, None) if spread is None else (spread.low, spread.high)
        return SetValue(float(self.compute(reference, candidate)), low, high, n=len(candidate))


METRICS = (
    lambda: OfSets("{tag}-fid", frechet, True),
    lambda: OfSets("{tag}-kid", kid, False),
    lambda: OfSets("{tag}-precision", lambda a, b: manifold(a, b, 2, strict=True).precision, False),
)
"""
TASK = """
from vtbench import Task

TASK = Task(name="{tag}", title="Quadrants", version=1, suites=(), view="native", metrics=({metrics}){prompts})
"""
NAMES = ("fid", "kid", "precision")
"""Of the metrics, after the tag and a hyphen."""


def task(folder: Path, *, tag: str, dim: int = 12, version: int = 1, scale: float = 1.0, prompts: str = "") -> str:
    """A task that scores PSNR, rate and the metrics of sets, as `FILE@NAME`; `tag` begins their names, which a process
    knows once: each file of tests takes another. prompts: the suite of a task for generators. folder: where the files
    are written."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / f"metrics_of_{tag}.py"
    facts = {"tag": tag, "dim": dim, "version": version, "scale": scale}
    text = METRICS
    for name, fact in facts.items():
        text = text.replace(f"{{{name}}}", str(fact))
    metrics.write_text(text)
    listed = ", ".join(repr(f"{metrics}@{tag}-{name}") for name in NAMES)
    file = folder / f"{tag}_task.py"
    of_pairs = "" if prompts else "'psnr', 'bpp', "
    words = f", prompts=({prompts!r},)" if prompts else ""
    file.write_text(TASK.format(tag=tag, metrics=of_pairs + listed, prompts=words))
    return f"{file}@{tag}"


COUNTING = """
import os
import signal

{text}

class Counting(Quadrants):
    def extract(self, images):
        with open(os.environ["VTBENCH_TEST_CALLS"], "a") as calls:
            calls.write(f"{len(images)} ")
        if len(open(os.environ["VTBENCH_TEST_CALLS"]).read().split()) > int(os.environ["VTBENCH_TEST_LAST"]):
            {end}
        return super().extract(images)


QUADRANTS = Counting()
"""
KILLED, STOPPED = "os.kill(os.getpid(), signal.SIGKILL)", "raise KeyboardInterrupt"


def counting(folder: Path, end: str, *, tag: str, dim: int, prompts: str = "") -> str:
    """As `task`, its network noting the size of every batch in the file VTBENCH_TEST_CALLS; asked once more than
    VTBENCH_TEST_LAST times, it does `end` (KILLED or STOPPED)."""
    made = task(folder, tag=tag, dim=dim, prompts=prompts)
    file = folder / f"metrics_of_{tag}.py"
    classes, rest = file.read_text().split("QUADRANTS = Quadrants()\n")
    file.write_text(COUNTING.replace("{end}", end).replace("{text}", classes) + rest)
    return made


def calls(folder: Path) -> list[int]:
    """Sizes of the batches that the network was asked for since it was last looked at, as `folder`/calls has them."""
    path = folder / "calls"
    sizes = [int(n) for n in path.read_text().split()] if path.exists() else []
    path.unlink(missing_ok=True)
    return sizes


def features(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(n, 12) float64 of uint8 (n, H, W, 3): the mean of each channel of each quadrant."""
    x = pixels.astype(np.float64)
    height, width = x.shape[1] // 2, x.shape[2] // 2
    parts = [x[:, :height, :width], x[:, height:, :width], x[:, :height, width:], x[:, height:, width:]]
    return np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=1)


def frechet_by_numpy(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """The textbook formula, its root by eigenvalues of the product."""
    one, two = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.clip(np.linalg.eigvals(one @ two).real, 0, None)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * root)
