"""Handing out whole batches, against workers that a test makes up: kept once, in order, whoever is slow or dies."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

import pytest

from vtbench.running.handout import AHEAD, IN_FLIGHT, TRIES, Event, HandOut, Spans
from vtbench.types.errors import VtbenchError


class MadeUp:
    """Workers whose batches finish in an order drawn by `seed`; `fate` says what becomes of a batch at a worker."""

    def __init__(
        self, names: Sequence[str], fate: Callable[[str, int], str] = lambda *_: "done", seed: int = 0, spare: int = 0
    ) -> None:
        self.alive, self.fate, self.spare = list(names), fate, spare
        self.draw = random.Random(seed)
        self.at: dict[str, list[int]] = {name: [] for name in names}
        self.handed: list[tuple[str, int]] = []
        self.joining: list[str] = []
        self.most = 0
        self.coming: deque[Event] = deque()

    def workers(self) -> Sequence[str]:
        return self.alive

    def expects(self) -> bool:
        return bool(self.joining)

    def give(self, worker: str, number: int) -> None:
        self.at[worker].append(number)
        self.handed.append((worker, number))
        self.most = max(self.most, len(self.at[worker]))

    def next(self) -> Event:
        if self.coming:
            return self.coming.popleft()
        busy = [name for name in self.alive if self.at[name]]
        if not busy or (self.joining and self.draw.random() < 0.3):
            name = self.joining.pop()
            self.alive.append(name)
            self.at[name] = []
            return Event(name)
        worker = self.draw.choice(busy)
        number = self.at[worker].pop(0)
        fate = self.fate(worker, number)
        if fate == "dies":
            self.alive.remove(worker)
            if self.spare:
                self.spare -= 1
                self.joining.append(f"{worker}'")
            return Event(worker, why="its process ended")
        if fate == "fails":
            self.coming.extend(Event(worker, n, back=True) for n in self.at[worker])
            self.at[worker] = []
            return Event(worker, number, why=f"the model raised on {number}")
        return Event(worker, number, result=number)


def outcome(crew: MadeUp, count: int = 40) -> tuple[list[int], list[str], str | None]:
    """(batches in the order in which they were kept, what was said, the reason why it ended)."""
    kept: list[int] = []
    said: list[str] = []
    try:
        HandOut(crew, count, kept.append, said.append, lambda n: f"batch {n}").run()
    except VtbenchError as bad:
        return kept, said, str(bad)
    return kept, said, None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("workers", [1, 2, 7])
def test_every_batch_is_kept_once_and_in_order(workers: int, seed: int) -> None:
    crew = MadeUp([f"w{k}" for k in range(workers)], seed=seed)
    assert outcome(crew) == (list(range(40)), [], None)
    assert len(crew.handed) == 40
    assert crew.most <= IN_FLIGHT


def test_a_slow_worker_gets_less() -> None:
    crew = MadeUp(["slow", "quick"])
    crew.draw.choice = lambda busy: "quick" if "quick" in busy and len(crew.handed) % 6 else busy[0]  # type: ignore
    assert outcome(crew)[0] == list(range(40))
    counts = [sum(name == w for name, _ in crew.handed) for w in ("slow", "quick")]
    assert counts[0] < counts[1]


def test_what_waits_in_memory_is_bounded() -> None:
    """One worker never answers until the others may hand out no more."""
    crew = MadeUp(["stuck", "quick"])
    crew.draw.choice = lambda busy: "quick" if "quick" in busy else "stuck"  # type: ignore
    waiting: list[int] = []
    hand_out = HandOut(crew, 400, lambda _: waiting.append(len(hand_out._waiting)), print, str)
    hand_out.run()
    assert max(waiting) <= AHEAD * IN_FLIGHT * 2


@pytest.mark.parametrize("seed", range(6))
def test_a_dead_workers_batches_go_to_others(seed: int) -> None:
    died: list[str] = []

    def fate(worker: str, number: int) -> str:
        if worker == "w1" and number > 9 and not died:
            died.append(worker)
            return "dies"
        return "done"

    kept, said, why = outcome(MadeUp(["w0", "w1", "w2"], fate, seed))
    assert (kept, why) == (list(range(40)), None)
    assert len(said) == 1
    assert said[0].startswith("w1 is gone (its process ended)")


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_that_kills_is_tried_three_times_and_named(seed: int) -> None:
    """Alone from the second time on, so that no other batch is named for it; the batches before it are kept."""
    crew = MadeUp(["a", "b"], lambda _, n: "dies" if n == 17 else "done", seed, spare=9)
    kept, said, why = outcome(crew)
    assert kept == list(range(17))
    assert why is not None
    assert why.startswith(f"batch 17 lost {TRIES} workers, the last one ")
    assert len(said) == TRIES
    assert sum(n == 17 for _, n in crew.handed) == TRIES
    again = [n for _, n in crew.handed if sum(m == n for _, m in crew.handed) > 2]
    assert set(again) <= {17}


def test_a_model_that_fails_ends_the_run_where_one_process_would() -> None:
    for seed in range(6):
        kept, said, why = outcome(MadeUp(["a", "b"], lambda _, n: "fails" if n in (21, 25) else "done", seed))
        assert (kept, said, why) == (list(range(21)), [], "the model raised on 21")


def test_without_workers_it_ends_with_the_rows_it_has() -> None:
    kept, said, why = outcome(MadeUp(["a", "b"], lambda w, n: "dies" if n >= 12 else "done"))
    assert kept == list(range(12))
    assert why is not None
    assert why.startswith("no worker is left: ")
    assert "its process ended" in why
    assert len(said) == 2


def test_a_worker_that_takes_the_place_of_another_finishes_the_run() -> None:
    crew = MadeUp(["only"], lambda w, n: "dies" if (w, n) == ("only", 5) else "done", spare=1)
    kept, _, why = outcome(crew)
    assert (kept, why) == (list(range(40)), None)
    assert crew.alive == ["only'"]


@pytest.mark.parametrize(("begun", "end", "batch"), [(0, 42, 4), (8, 42, 4), (0, 3, 4), (40, 42, 4), (0, 0, 4)])
def test_batches_are_those_of_one_process(begun: int, end: int, batch: int) -> None:
    spans = Spans(begun, end, batch)
    images = [list(range(end))[slice(*spans.of(n))] for n in range(spans.count)]
    assert images == [list(range(k, min(k + batch, end))) for k in range(begun, end, batch)]
