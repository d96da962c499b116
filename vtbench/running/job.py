"""One question for one loaded model, and what names its answer."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.models.adapter_files import code_of
from vtbench.models.load import Loaded
from vtbench.results import sources
from vtbench.results.files import plain
from vtbench.results.provenance import core_files
from vtbench.results.record import IDENTITY_RULE
from vtbench.scoring.loading import inputs_of, unverified_files
from vtbench.types.item import Item
from vtbench.types.metric import MetricCard
from vtbench.types.task import Task


@dataclass(frozen=True)
class Job:
    """`loaded`: the system with what identifies it; `suite_spec` opens the suite again; `facts`: further facts on the
    model for the record; `asked`: what else is part of the question (a generator's prompts)."""

    loaded: Loaded
    task: Task
    suite: Suite
    view: View
    out: Path
    batch_size: int = 4
    limit: int | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    save: frozenset[str] = frozenset()
    shard: tuple[int, int] | None = None
    command: str | None = None
    suite_spec: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Options of `evaluate` that ask this one question again; empty for an object."""

    @property
    def name(self) -> str:
        return str(self.loaded.identity["name"])

    def cards(self) -> dict[str, MetricCard]:
        """The task's metrics, and those that they are made from."""
        names = dict.fromkeys(name for n in self.task.metrics for name in (n, *inputs_of(n)))
        return {n: registry.card_of(registry.metrics().get(n)) for n in names}

    def source_files(self) -> list[Path]:
        """Where the code begins that decides these numbers: the model's, the task's, the metrics'."""
        metrics, tasks = registry.metrics(), registry.tasks()
        origins = [metrics.source(n) for n in self.cards()]
        if self.task.name in tasks:
            origins.append(tasks.source(self.task.name))
        return [*self.loaded.sources, *code_of(one.file for one in origins)]

    def question(self) -> dict[str, Any]:
        """Everything that can move a number; commit, batch size and limit are recorded, not hashed."""
        cards = self.cards()
        return {
            "rule": IDENTITY_RULE,
            "model": {**self.loaded.identity, **self.asked},
            "task": {"name": self.task.name, "version": self.task.version, "fit": self.task.fit},
            "metrics": {n: c.version for n, c in cards.items()},
            "metric_weights": unverified_files(cards.values()),
            "code": sources.digest([*core_files(), *self.source_files()]),
            "suite": self.suite.hash,
            "view": self.view.fingerprint(),
            "dtype": self.dtype,
            "seed": self.seed,
            "device": self.device.partition(":")[0],
        }

    @functools.cached_property
    def id(self) -> str:
        """sha256 of the question."""
        text = json.dumps(plain(self.question()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def folder(self) -> Path:
        """The folder of the answer: names that a reader knows, then the question's first digits."""
        model, task = _as_file_name(self.name) or "model", _as_file_name(self.task.name) or "task"
        shard = f"--shard-{self.shard[0]}-of-{self.shard[1]}" if self.shard else ""
        return self.out / f"{model}--{task}--{self.id[:12]}{shard}"

    def items(self) -> Sequence[Item]:
        """The items of this run: the suite's, cut to the limit, or the shard's whole batches."""
        items = self.suite.items
        if self.limit is not None:
            items = items[: self.limit]
        first, end = self.span
        return items if self.shard is None else items[first:end]

    @property
    def begins(self) -> bool:
        """Whether the suite's first image is one of this run's; a shard before that one may be empty."""
        first, end = self.span
        return first == 0 < end

    @property
    def span(self) -> tuple[int, int]:
        """Which of the suite's images are this run's: the first one, and the end. A shard's are whole batches; where
        there are fewer batches than shards, some shards are empty."""
        images = len(self.suite.items)
        images = images if self.limit is None else min(images, self.limit)
        if self.shard is None:
            return 0, images
        part, parts = self.shard
        batches = -(-images // self.batch_size)
        return (part - 1) * batches // parts * self.batch_size, part * batches // parts * self.batch_size


def _as_file_name(name: str) -> str:
    """A name as a part of a folder's, whoever gave it."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:60].strip("-.")
