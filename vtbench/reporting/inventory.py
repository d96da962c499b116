"""What runs lie below a path: model, task, images, date, versions, what is out of date, and the disk they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.reporting import runs as facts
from vtbench.reporting.measured import measured_images
from vtbench.results.record import find_runs, read_run
from vtbench.results.removal import disk_use
from vtbench.results.stale import Stale, stale_metrics
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading


@dataclass(frozen=True)
class Listed:
    """One run's folder; `stale`: metrics whose version here is another; `why`: what keeps it from being read."""

    path: Path
    bytes: int
    model: str = ""
    setting: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    suite: str = ""
    images: int | None = None
    status: str | None = None
    date: str | None = None
    vtbench: str | None = None
    kept: Sequence[str] = ()
    """What it kept to be scored again by: images, tokens, features."""
    stale: Mapping[str, Stale] = field(default_factory=dict)
    why: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "stale": {name: stale._asdict() for name, stale in self.stale.items()}}


def inventory(paths: Sequence[Path]) -> list[Listed]:
    """Every run at or below the paths, in the order of their places; one that cannot be read says why."""
    return [_listed(path) for path in find_runs([Path(p) for p in paths])]


def _listed(path: Path) -> Listed:
    try:
        return _read(path)
    except VtbenchError as bad:
        return Listed(path, disk_use(path), why=str(bad))


def _read(path: Path) -> Listed:
    with reading(path, "a run", "it is damaged, or no result of vtbench"):
        run = read_run(path)
        when = facts.provenance(run)
        kept = ("generated", "images", "tokens.bin", "features")
        return Listed(
            path,
            disk_use(path),
            facts.model_name(run),
            facts.options(run),
            facts.task_name(run),
            facts.suite_name(run),
            measured_images(run),
            facts.status(run),
            when.finished or when.started,
            facts.vtbench_version(run),
            [name.partition(".")[0] for name in kept if _holds(path / name)],
            stale_metrics(run, registry.metric_version),
        )


def _holds(path: Path) -> bool:
    """Whether a folder holds anything, or a file is there."""
    return any(path.iterdir()) if path.is_dir() else path.is_file()
