"""A metric and a task that stand outside the tree, and processes of their own that are told of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import warm

ROOT = Path(__file__).resolve().parents[1]
WORST_PIXEL = """
from vtbench.types.metric import ImageMetric, MetricCard, Value


class WorstPixel(ImageMetric):
    card = MetricCard(
        name="worst-pixel", title="Largest error", version=1, unit="grey levels", better="lower",
        source="largest absolute difference of the uint8 samples", bounds=(0.0, 255.0),
    )

    def measure(self, batch):
        off = (batch.reference.images.int() - batch.candidate.int()).abs().flatten(1).amax(dim=1)
        return [Value(float(v)) for v in off]


METRICS = (WorstPixel,)
"""
PORTRAITS = """
from vtbench.types.task import Task

TASK = Task(
    name="portraits", title="Faces at 256", version=1, suites=("starter-natural",), view="256",
    metrics=("psnr", "worst_pixel.py@worst-pixel", "bpp"),
)
"""


def run(*command: object, cwd: Path, path: tuple[Path, ...] = (), wanted: int = 0) -> subprocess.CompletedProcess[str]:
    """A process of its own, since a registry lives as long as its process; `path` comes before vtbench."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(p) for p in (*path, ROOT)),
        "VTBENCH_OFFLINE": "1",
        "COLUMNS": "200",
    }
    ran = warm.ran(command, cwd, environment)
    assert ran.returncode == wanted, ran.stdout + ran.stderr
    return ran


def python(code: str, cwd: Path, **more: object) -> str:
    return run(sys.executable, "-c", code, cwd=cwd, **more).stdout  # type: ignore[arg-type]


def vtbench(*words: object, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "vtbench", *words, cwd=cwd, **more)  # type: ignore[arg-type]
