"""THE pipeline: order, sizes, what lanes share, what is timed, and what becomes of failures on every side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtbench.images.seeds import image_seed
from vtbench.images.stream import Original
from vtbench.metrics._beside import ARRAYS, Needs
from vtbench.models.outputs import Output
from vtbench.models.system import System
from vtbench.running.pipeline import Batch, Lane, Pace, Work, run
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

SIZES = ((4, 4), (4, 6))


def original(number: int, size: tuple[int, int] | None = None, why: str | None = None) -> Original:
    item = Item(f"{number:02d}.png", Path(f"{number:02d}.png"))
    if why is not None:
        return Original(item, None, why=why)
    height, width = size or SIZES[number % 2]
    return Original(item, np.full((height, width, 3), number, np.uint8), f"sha-{number}")


def batches(originals: Sequence[Original], size: int) -> Iterator[Batch]:
    for start in range(0, len(originals), size):
        yield [(o,) for o in originals[start : start + size]]


class Adds(System):
    """Every image plus `step` levels."""

    def __init__(self, step: int = 1, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.card = Card(name="adds", family="test", kind="closed", title="Adds", sizes=Multiple(1))
        self.options: dict[str, Any] = {}
        self.step, self.fails_at, self.error = step, fails_at, error or RuntimeError("no more")
        self.asked: list[tuple[list[str], list[int], bool]] = []

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        names = [i.id for i in items]
        if self.fails_at is not None and f"{self.fails_at:02d}.png" in names:
            raise self.error
        self.asked.append((names, list(seeds), count_macs))
        return Output(images + self.step / 255)


class Sink:
    """Keeps everything; raises at one batch if it is told to."""

    def __init__(self, fails_at: int | None = None, error: BaseException | None = None, slow: float = 0.0) -> None:
        self.works: list[Work] = []
        self.fails_at, self.error, self.slow = fails_at, error or OSError("disk"), slow
        self.threads: set[str] = set()

    def write(self, work: Work) -> None:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.slow)
        if self.fails_at == len(self.works):
            raise self.error
        self.works.append(work)

    def names(self) -> list[list[str]]:
        return [[o.item.id for o in work.originals] for work in self.works]


BOTH = pytest.mark.parametrize("overlap", [False, True], ids=["in-turn", "overlapped"])


@BOTH
def test_batches_arrive_whole_and_in_order(overlap: bool) -> None:
    originals = [original(k) for k in range(7)]
    system, sink, ticks = Adds(), Sink(slow=0.01), []
    run([Lane("adds", system, sink)], batches(originals, 3), Pace(3, 7), seed=5, overlap=overlap, tick=ticks.append)
    assert sink.names() == [["00.png", "01.png", "02.png"], ["03.png", "04.png", "05.png"], ["06.png"]]
    assert ticks == [3, 3, 1]
    # One size a call, in the order in which sizes first appear.
    assert [names for names, _, _ in system.asked] == [
        ["00.png", "02.png"],
        ["01.png"],
        ["03.png", "05.png"],
        ["04.png"],
        ["06.png"],
    ]
    first = sink.works[0].parts[0]
    assert list(first.positions) == [0, 2]
    assert first.seeds == [image_seed(5, "sha-0"), image_seed(5, "sha-2")]
    assert torch.allclose(first.output.images * 255, first.reference.images.float() + 1)
    assert sink.threads == ({"metrics"} if overlap else {threading.current_thread().name})


class Begins(Sink):
    """Has its batches on their way beside one another."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []

    def needs(self) -> Needs:
        return ARRAYS

    def begin(self, work: Work) -> Callable[[], None]:
        first = work.originals[0].item.id
        self.steps.append(f"begin {first}")

        def end() -> None:
            self.steps.append(f"end {first}")
            self.write(work)

        return end


@BOTH
def test_what_was_begun_is_finished_where_the_system_fails(overlap: bool) -> None:
    sink, ticks = Begins(), []
    lane = Lane("adds", Adds(fails_at=5), sink)
    with pytest.raises(VtbenchError, match=r"adds raised RuntimeError on 05\.png: no more"):
        run([lane], batches([original(k) for k in range(7)], 2), Pace(2, 7), overlap=overlap, tick=ticks.append)
    assert sink.steps == ["begin 00.png", "begin 02.png", "end 00.png", "end 02.png"]
    assert ticks == [2, 2]


def test_ctrl_c_waits_for_nothing_that_was_begun() -> None:
    sink = Begins()
    lane = Lane("adds", Adds(fails_at=5, error=KeyboardInterrupt()), sink)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        run([lane], batches([original(k) for k in range(7)], 2), Pace(2, 7))
    assert sink.steps == ["begin 00.png", "begin 02.png"]


def test_what_cannot_be_read_reaches_the_sink_and_no_system() -> None:
    originals = [original(0), original(1, why="torn"), original(2, (4, 4))]
    system, sink = Adds(), Sink()
    run([Lane("adds", system, sink)], batches(originals, 3), Pace(3, 3))
    assert [o.why for o in sink.works[0].originals] == [None, "torn", None]
    assert system.asked[0][0] == ["00.png", "02.png"]
    assert list(sink.works[0].parts[0].positions) == [0, 2]
    empty = Sink()
    run([Lane("adds", system, empty)], batches([original(1, why="torn")], 3), Pace(3, 1))
    assert (empty.works[0].parts, len(system.asked)) == ([], 1)


def test_lanes_share_the_reference_and_what_is_kept_on_it() -> None:
    """One object a batch and size for all: what a metric computes on the originals is computed once."""
    pair = [(original(k, (4, 4)), original(k + 10, (4, 4))) for k in range(2)]
    computed: list[int] = []

    class Asks(Sink):
        def write(self, work: Work) -> None:
            super().write(work)
            for part in work.parts:
                part.reference.once("stage", lambda: computed.append(1))

    sinks = [Asks(), Asks(), Asks()]
    lanes = [Lane("system", Adds(), sinks[0]), Lane("pictures", None, sinks[1], 1), Lane("itself", None, sinks[2], 0)]
    run(lanes, [pair], Pace(2, 2))
    parts = [sink.works[0].parts[0] for sink in sinks]
    assert parts[0].reference is parts[1].reference is parts[2].reference
    assert computed == [1]
    levels = [p.output.images.amax(dim=(1, 2, 3)).tolist() for p in parts]
    assert levels[1:] == [[10, 11], [0, 1]]
    assert levels[0] == pytest.approx([1 / 255, 2 / 255])
    assert parts[1].output.images.dtype == torch.uint8


def test_a_picture_that_is_missing_is_named_and_black() -> None:
    pair = [(original(0, (4, 4)), original(0, (4, 4))), (original(1, (4, 4)), original(1, why="no image for 01.png"))]
    sink = Sink()
    run([Lane("pictures", None, sink, 1)], [pair], Pace(2, 2))
    output = sink.works[0].parts[0].output
    assert output.failed == {1: "no image for 01.png"}
    assert not output.images[1].any()


def test_the_first_batch_of_several_warms_up_and_is_counted() -> None:
    """Counted only where the run begins; a run of one batch is timed."""

    def passes(n: int, begun: int) -> tuple[list[bool], list[bool]]:
        system, sink = Adds(), Sink()
        originals = [original(k, (4, 4)) for k in range(begun, n)]
        run([Lane("adds", system, sink)], batches(originals, 2), Pace(2, n, begun))
        return [w.warm_up for w in sink.works], [counts for _, _, counts in system.asked]

    assert passes(6, 0) == ([True, False, False], [True, False, False])
    assert passes(6, 2) == ([True, False], [False, False])
    assert passes(6, 4) == ([False], [False])
    assert passes(2, 0) == ([False], [False])


@BOTH
def test_a_system_that_raises_is_named_with_its_image(overlap: bool) -> None:
    sink = Sink()
    with pytest.raises(VtbenchError, match=r"^adds raised RuntimeError on 04\.png: no more") as caught:
        run(
            [Lane("adds", Adds(fails_at=4), sink)],
            batches([original(k) for k in range(8)], 2),
            Pace(2, 8),
            overlap=overlap,
        )
    assert caught.value.code == 1
    # What was finished until then is written.
    assert sink.names() == [["00.png", "01.png"], ["02.png", "03.png"]]


@BOTH
def test_a_refusal_in_mid_run_is_a_failure_of_the_model(overlap: bool) -> None:
    refuses = Adds(fails_at=0, error=VtbenchError("give another size"))
    with pytest.raises(VtbenchError, match=r"^give another size$") as caught:
        run([Lane("adds", refuses, Sink())], batches([original(0)], 2), Pace(2, 1), overlap=overlap)
    assert caught.value.code == 1


@BOTH
@pytest.mark.parametrize("error", [OSError("disk"), VtbenchError("full"), KeyboardInterrupt(), MemoryError()])
def test_what_a_sink_raises_arrives_as_it_is(overlap: bool, error: BaseException) -> None:
    """And the systems stop soon, though they may be two batches ahead."""
    system, sink, before = Adds(), Sink(fails_at=1, error=error), set(threading.enumerate())
    originals = [original(k, (4, 4)) for k in range(40)]
    with pytest.raises(type(error)) as caught:
        run([Lane("adds", system, sink)], batches(originals, 2), Pace(2, 40), overlap=overlap)
    assert caught.value is error
    assert sink.names() == [["00.png", "01.png"]]
    assert len(system.asked) <= (6 if overlap else 2)
    assert not [t for t in set(threading.enumerate()) - before if t.name == "metrics"]


@BOTH
def test_a_reader_that_raises_leaves_no_thread(overlap: bool) -> None:
    def broken() -> Iterator[Batch]:
        yield [(original(0),)]
        raise VtbenchError("the archive ends here")

    sink, before = Sink(slow=0.05), set(threading.enumerate())
    with pytest.raises(VtbenchError, match="the archive ends here"):
        run([Lane("adds", Adds(), sink)], broken(), Pace(1, 2), overlap=overlap)
    assert sink.names() == [["00.png"]]
    assert not [t for t in set(threading.enumerate()) - before if t.name == "metrics"]


def test_the_system_works_while_the_sink_does() -> None:
    """The first batch is not written before the system was asked for the second."""
    second = threading.Event()

    class Tells(Adds):
        def produce(self, *args: Any, **more: Any) -> Output:
            if len(self.asked) == 1:
                second.set()
            return super().produce(*args, **more)

    class Waits(Sink):
        def write(self, work: Work) -> None:
            assert second.wait(30), "the system waits for the sink"
            super().write(work)

    sink = Waits()
    run([Lane("adds", Tells(), sink)], batches([original(0), original(1)], 1), Pace(1, 2), overlap=True)
    assert len(sink.works) == 2


def test_only_a_few_batches_are_ahead() -> None:
    """A slow sink holds the systems back: memory does not grow with the images."""
    system, sink = Adds(), Sink(slow=0.02)
    ahead: list[int] = []

    def reading() -> Iterator[Batch]:
        for k in range(30):
            ahead.append(k - len(sink.works))
            yield [(original(k, (4, 4)),)]

    run([Lane("adds", system, sink)], reading(), Pace(1, 30), overlap=True)
    assert max(ahead) <= 4


def test_a_lane_without_anything_is_refused() -> None:
    with pytest.raises(VtbenchError, match="nothing has neither pictures nor a system"):
        run([Lane("nothing", None, Sink())], batches([original(0)], 1), Pace(1, 1))
