"""Workers of a cluster that are set up for one order: who began, who answers, who is gone, who takes its place."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vtbench.running.cluster import Cluster
from vtbench.running.handout import Event, Spans
from vtbench.types.errors import VtbenchError

PATIENCE = 300.0
"""Seconds that a worker may take to begin: a place in the cluster, torch, the model, the images' hashes."""
LAST_WORDS = 30.0
"""Seconds for a worker to say what memory it took."""
ALIKE = {"cuda": ("kind", "name"), "mps": ("kind", "cpu"), "cpu": ("kind", "cpu")}
"""What of the device's facts must be the same in all workers: a run's record states one device."""


class RayCrew:
    """Those of a cluster for one order. worker: the class of an actor. Those that die are replaced, as often as there
    are workers."""

    def __init__(self, cluster: Cluster, worker: Callable[[], Any], order: Mapping[str, Any], spans: Spans) -> None:
        self.cluster, self.spans, self._worker = cluster, spans, worker
        cluster.orders += 1
        self.order = {**order, "number": cluster.orders}
        self.devices: dict[str, Mapping[str, Any]] = {}
        """{worker: facts of its device} of those that are set up."""
        self._numbers: dict[str, int] = {}
        self._pending: dict[Any, tuple[str, int | None]] = {}
        """{reference: (worker, batch)}; no batch: the worker begins."""
        self._spare = cluster.wanted
        # One that would be handed nothing is not started.
        for _ in range(min(cluster.wanted, spans.count) - len(cluster.actors)):
            cluster.start(worker)
        for number in list(cluster.actors):
            self._begin(number)

    def _begin(self, number: int) -> None:
        worker = f"worker {number}"
        self._numbers[worker] = number
        self._pending[self.cluster.actors[number].begin.remote(self.order)] = (worker, None)

    def gather(self) -> list[str]:
        """Waits until all have begun; returns sentences on those that are gone, and on those that have no place yet.
        Raises VtbenchError by the name of the first that may not take part, and where there is none at all."""
        until, said = time.monotonic() + PATIENCE, []
        while self.expects() and time.monotonic() < until:
            event = self._wait(max(until - time.monotonic(), 0.01))
            if event is None or event.why is None:
                continue
            if event.refused:
                raise VtbenchError(f"{event.worker} takes no part: {event.why}", code=event.code)
            said.append(f"{event.worker} is gone before it began ({event.why})")
        if not self.devices:
            none = said[-1] if said else f"within {PATIENCE:.0f} seconds: is the cluster busy?"
            raise VtbenchError(f"no worker began: {none}" if said else f"no worker began {none}", code=1)
        late = [worker for worker, number in self._pending.values() if number is None]
        return [*said, *(f"{worker} has no place in the cluster yet, and joins when there is one" for worker in late)]

    # -- what is asked of a crew ---------------------------------------------------------------------------------------

    def workers(self) -> Sequence[str]:
        return list(self.devices)

    def expects(self) -> bool:
        return any(number is None for _, number in self._pending.values())

    def give(self, worker: str, number: int) -> None:
        actor = self.cluster.actors[self._numbers[worker]]
        self._pending[actor.measure.remote(self.order["number"], *self.spans.of(number))] = (worker, number)

    def next(self) -> Event:
        measuring = any(number is not None for _, number in self._pending.values())
        event = self._wait(None if measuring else PATIENCE)
        if event is not None:
            return event
        worker, _ = self._pending.pop(next(iter(self._pending)))
        return Event(worker, why=f"it did not begin within {PATIENCE:.0f} seconds")

    # -- answers -------------------------------------------------------------------------------------------------------

    def _wait(self, seconds: float | None) -> Event | None:
        """The next event, or None when the time is over."""
        ray = self.cluster.ray
        ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=seconds)
        if not ready:
            return None
        worker, number = self._pending.pop(ready[0])
        try:
            answer = ray.get(ready[0])
        except ray.exceptions.RayError as bad:
            return self._lost(worker, why_gone(bad))
        if number is None:
            return self._joined(worker, answer)
        if answer.get("back"):
            return Event(worker, number, back=True)
        if "why" in answer:
            return Event(worker, number, why=f"{answer['why']}", code=answer["code"], short=answer["short"])
        return Event(worker, number, answer)

    def _joined(self, worker: str, answer: Mapping[str, Any]) -> Event:
        name = f"{worker} on {answer['host']} (process {answer['process']})"
        number = self._numbers[name] = self._numbers[worker]
        if answer["host"] == socket.gethostname():
            self.cluster.processes[number] = answer["process"]
        why = answer.get("refused") or self._other_device(answer["device"])
        if why is not None:
            self.cluster.stop(number)
            return Event(name, why=why, code=answer.get("code", 2), refused=True)
        self.devices[name] = answer["device"]
        return Event(name)

    def _other_device(self, device: Mapping[str, Any]) -> str | None:
        """Why this device's numbers cannot stand beside the others'."""
        for worker, first in self.devices.items():
            for fact in ALIKE.get(str(first["kind"]), ("kind",)):
                if device.get(fact) != first.get(fact):
                    return (
                        f"its device is {device.get(fact)}, and that of {worker} {first.get(fact)}: the numbers of one "
                        "run are of one kind of device; leave the others out of the cluster"
                    )
        return None

    def _lost(self, worker: str, why: str) -> Event:
        """The worker is gone, with what it had in hand; another may take its place."""
        self.devices.pop(worker, None)
        self._pending = {r: p for r, p in self._pending.items() if p[0] != worker}
        self.cluster.stop(self._numbers[worker])
        if self._spare:
            self._spare -= 1
            self._begin(self.cluster.start(self._worker))
        return Event(worker, why=why, code=1)

    def end(self) -> list[Mapping[str, Any]]:
        """Ends the job in all workers; what memory each took."""
        ray, said = self.cluster.ray, []
        asked = [self.cluster.actors[self._numbers[w]].end.remote() for w in self.devices]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=LAST_WORDS) if asked else ([], [])
        for reference in ready:
            try:
                said.append(ray.get(reference))
            except ray.exceptions.RayError:
                continue
        return said


def why_gone(bad: BaseException) -> str:
    """What Ray says of a worker that is gone, in a few words; its own are a page."""
    text = str(bad)
    if "ModuleNotFoundError" in text or "ImportError" in text:
        return "its machine has not the vtbench of this command: install the same there"
    detail = re.search(r"Worker exit detail: (.*?)(?:\. |\n|$)", text)
    if detail is not None:
        return f"its process ended: {detail[1]}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(bad).__name__}: {lines[0][:160]}" if lines else type(bad).__name__
