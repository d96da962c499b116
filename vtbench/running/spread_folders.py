"""`vtbench score --ray`: pairs of pictures measured by workers of a cluster; this process alone writes and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.running import folders
from vtbench.running.cluster import Cluster, connected
from vtbench.running.crew import RayCrew
from vtbench.running.folders import Pairs, Scored, Tick
from vtbench.running.handout import HandOut, Spans
from vtbench.running.request import check_workers
from vtbench.running.setups import pairs_question
from vtbench.running.spread import order_of
from vtbench.running.worker import Worker
from vtbench.running.writer import Writer
from vtbench.scoring.feature_cache import Say
from vtbench.scoring.loading import Metrics


def score(
    reference: Path,
    candidates: Sequence[Path],
    metrics: Sequence[str] | None = None,
    *,
    ray: str,
    workers: int | None = None,
    device: str = "cpu",
    icc: str | None = None,
    progress: Tick | None = None,
    say: Say | None = None,
    hashing: Tick | None = None,
) -> Scored:
    """As `running.folders.score`, by workers of the cluster at `ray`."""
    check_workers(ray, workers)
    specs = list(metrics or folders.DEFAULT)
    names = registry.metric_names(specs)
    # What does not pair is said before a cluster is started.
    Pairs.opened(reference, candidates, icc)
    with connected(ray, workers, device) as cluster:
        through = Through(cluster, specs, reference, candidates, icc, say or (lambda _: None))
        return folders.score(
            reference,
            candidates,
            names,
            icc=icc,
            progress=progress,
            say=say,
            hashing=hashing,
            through=through,
        )


class Through:
    """Hands the pairs out, and appends in order what comes back. specs: the metrics as the user named them; a worker
    knows nobody's file before it is told."""

    def __init__(
        self,
        cluster: Cluster,
        specs: Sequence[str],
        reference: Path,
        candidates: Sequence[Path],
        icc: str | None,
        say: Say,
    ) -> None:
        self.cluster, self.say = cluster, say
        self.question = {
            "verb": "score",
            "metrics": list(specs),
            "reference": str(reference),
            "candidates": [str(path) for path in candidates],
            "icc": icc,
            "device": cluster.kind,
        }

    @property
    def device(self) -> str:
        return self.cluster.kind

    def __call__(
        self, pairs: Pairs, metrics: Metrics, writers: Sequence[Writer], begun: int, tick: Callable[[int], None]
    ) -> None:
        items = pairs.original.items
        if begun == len(items):
            return
        order = {
            **order_of(self.cluster.threads),
            **self.question,
            "contents": pairs.contents(),
            "question": pairs_question(pairs, metrics, self.device),
            "unavailable": dict(metrics.unavailable),
        }
        crew = RayCrew(self.cluster, Worker, order, Spans(begun, len(items), folders.BATCH))
        for sentence in crew.gather():
            self.say(sentence)

        def keep(answer: Mapping[str, Any]) -> None:
            for writer, outcome in zip(writers, answer["outcomes"], strict=True):
                writer.append(outcome)
            tick(len(answer["outcomes"][0].rows))

        def name(number: int) -> str:
            first, end = crew.spans.of(number)
            return f"the batch of {items[first].id} to {items[end - 1].id}"

        HandOut(crew, crew.spans.count, keep, self.say, name).run()
