"""`vtbench quickstart`: the built-in tokenizers on the built-in suites, and the page, without network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vtbench import leaderboard
from vtbench.running.evaluate import evaluate
from vtbench.running.request import Progress, Request
from vtbench.types.errors import VtbenchError

TASKS = ("reconstruction", "detail", "text", "compression")
POINTS: tuple[tuple[str, Mapping[str, Any], tuple[str, ...]], ...] = (
    ("jpeg", {"quality": [10, 30, 75]}, TASKS),
    ("webp", {"quality": [10, 50]}, TASKS),
    ("png", {}, TASKS),
    ("pca", {"dims": [4, 16]}, TASKS),
    ("kmeans-vq", {}, TASKS),
    ("residual-vq", {"depth": [2, 4]}, TASKS),
    ("dct", {"budget": [0.5]}, TASKS),
    ("ngram-kmeans", {}, ("generation",)),
)
"""(model, options, tasks): about twelve operating points, three kinds of tokenizer, each with something to compare;
and one generator."""


def run(out: Path, progress: Progress | None = None) -> tuple[Path, dict[str, str]]:
    """Evaluates and builds the page; returns its index.html and the models that failed."""
    # As it says: nothing is downloaded, whatever could be.
    os.environ["VTBENCH_OFFLINE"] = "1"
    if out.exists() and not out.is_dir():
        raise VtbenchError(f"--out {out} is a file: give a folder")
    paths: list[Path] = []
    failures: dict[str, str] = {}
    for model, options, tasks in POINTS:
        command = f"vtbench quickstart --out {out}"
        request = Request(models=[model], tasks=tasks, options=options, out=out / "runs", command=command)
        try:
            result = evaluate(request, progress)
        except VtbenchError as bad:
            failures[model] = str(bad)
            continue
        paths += [run.path for run in result.runs]
        failures.update(result.failures)
    if not paths:
        raise VtbenchError("no model could be evaluated: " + "; ".join(failures.values()), code=1)
    site = leaderboard.build(paths, out / "site")
    return (site / "index.html" if site.is_dir() else site), failures
