"""`vtbench generate --ray`: images drawn by workers of a cluster; this process alone writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.models.load import Loaded
from vtbench.models.memory import Memory
from vtbench.results.files import plain
from vtbench.running.cluster import Cluster
from vtbench.running.crew import RayCrew
from vtbench.running.draw import Drawer, Order
from vtbench.running.handout import HandOut, Spans
from vtbench.running.sampling import DrawnBatch, Sample
from vtbench.running.spread import LargestMemory, order_of
from vtbench.running.worker import Worker
from vtbench.scoring.feature_cache import Say


@dataclass(frozen=True)
class Asked:
    """How a worker is asked for the generator and the prompts: as on the command line."""

    model: str
    options: Mapping[str, str]
    suite: str
    rewritten: bool = False
    checkpoint: Path | None = None
    prefix: str | None = None
    tokenizer_checkpoint: Path | None = None


class SpreadDrawer(Drawer):
    """Workers of a cluster."""

    def __init__(self, cluster: Cluster, asked: Asked, say: Say) -> None:
        self.cluster, self.asked, self.say = cluster, asked, say
        self._crew: RayCrew | None = None
        self._memory = LargestMemory("cpu")

    def memory(self, order: Order) -> Memory:
        self._memory = LargestMemory(order.device)
        return self._memory

    def ready(self, loaded: Loaded, order: Order, images: int) -> Mapping[str, Any]:
        message = {
            **order_of(self.cluster.threads),
            "verb": "generate",
            "asked": plain(vars(self.asked)),
            "question": plain(order.question(loaded)),
            "per_prompt": order.per_prompt,
            "seed": order.seed,
            "batch": order.batch_size,
            "device": order.device,
            "dtype": order.dtype,
            "images": images,
        }
        self._crew = RayCrew(self.cluster, Worker, message, Spans(0, images, order.batch_size))
        for sentence in self._crew.gather():
            self.say(sentence)
        return next(iter(self._crew.devices.values()))

    def batches(
        self,
        loaded: Loaded,
        order: Order,
        left: Sequence[Sample],
        finished: int,
        keep: Callable[[DrawnBatch], None],
    ) -> None:
        crew = self._crew
        if crew is None or not left:
            return
        crew.spans = Spans(finished, finished + len(left), order.batch_size)
        opened = loaded.system.opened

        def take(answer: Mapping[str, Any]) -> None:
            if opened is not None:
                for path in answer["opened"]:
                    opened.note(path, writes=False)
            keep(answer["outcomes"][0])

        def name(number: int) -> str:
            first, end = crew.spans.of(number)
            return f"the batch of {left[first - finished].id} to {left[end - 1 - finished].id}"

        HandOut(crew, crew.spans.count, take, self.say, name).run()
        self._memory.workers = crew.end()
