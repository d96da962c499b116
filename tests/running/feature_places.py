"""A folder of originals, a task with metrics of sets, a cache, and the numbers of a run in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import cuts
from tiny_features import NAMES

import vtbench
from vtbench.results.record import Run

Numbers = dict[str, tuple[Any, ...]]


class Place:
    """A folder of originals, a task, and a cache; every call of `jpeg` goes into a folder of results by name."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, task: str, images: int = 24) -> None:
        self.folder, self.patch, self.task = folder, monkeypatch, task
        self.images = cuts(folder / "images", images, ((64, 64),))
        self.use_cache("cache")

    def use_cache(self, name: str) -> None:
        self.cache = self.folder / name
        self.patch.setenv("VTBENCH_CACHE", str(self.cache))

    def jpeg(self, quality: int, out: str, images: Path | None = None, **more: Any) -> Run:
        place = images or self.images
        choices: dict[str, Any] = {"view": "native", "tasks": [self.task], "options": {"quality": quality}, **more}
        (run,) = vtbench.evaluate("jpeg", images=place, out=self.folder / out, **choices).runs
        return run

    def fresh(self, quality: int, images: Path | None = None, **more: Any) -> Numbers:
        """What a folder and a cache that nobody has used give."""
        before, number = self.cache.name, len(list(self.folder.glob("fresh-*")))
        self.use_cache(f"fresh-cache-{number}")
        run = self.jpeg(quality, f"fresh-{number}", images, **more)
        self.use_cache(before)
        return numbers(run)

    @property
    def kept(self) -> list[Path]:
        return sorted((self.cache / "features").glob("*"))


def numbers(run: Run) -> Numbers:
    names = (*NAMES, "psnr", "rfid")
    stated = {s.metric.rpartition("-")[2]: (s.value, s.low, s.high, s.n, s.why) for s in run.scores}
    return {name: stated[name] for name in names if name in stated}
