"""THE pipeline: reading, the systems and the metrics, overlapped where that helps.

reader threads -> batches of originals (hash checked, view applied) -> every system's output (this thread) -> sinks
(metrics and files; a thread of their own beside a model) -> rows

One pass serves one model (evaluate), many folders against one reference (score), a set alone (score --set, drawn
images) and every open choice at a view (explain): what differs is the systems and the sinks.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from vtbench.images.ahead import read_ahead
from vtbench.images.rounding import to_float
from vtbench.images.seeds import image_seed
from vtbench.images.stream import Group, Original, by_size, stacked
from vtbench.metrics._beside import Beside
from vtbench.models.devices import sent
from vtbench.models.isolation import isolated
from vtbench.models.memory import out_of_memory
from vtbench.models.outputs import Output
from vtbench.models.system import System
from vtbench.types import interrupts
from vtbench.types.errors import RAISED, ImageFailed, VtbenchError
from vtbench.types.metric import Reference

if TYPE_CHECKING:
    import torch

Batch = Sequence[tuple[Original, ...]]
"""Of each item the original, and the pictures that somebody already has of it."""


PIXELS_AHEAD = 1 << 24
"""Of all lanes' batches that are on their way to their rows together: some 64 bytes a pixel."""
GIVEN_UP = 3
"""So many images that do not fit into memory, and none that did: the model fits nowhere, and the run ends."""


@dataclass(frozen=True)
class Part:
    """Images of one size of a batch: the originals and where they stand in it, one seed each, the reference as every
    metric reads it (shared by all lanes, as is what metrics compute on it), and one lane's output."""

    positions: Sequence[int]
    originals: Sequence[Original]
    seeds: Sequence[int]
    reference: Reference
    output: Output


@dataclass(frozen=True)
class Work:
    """A batch on its way from a system to its sink; `warm_up`: its times do not count; `beside`: processes that
    measure for it."""

    originals: Sequence[Original]
    parts: Sequence[Part]
    warm_up: bool = False
    beside: Beside | None = None


class Sink(Protocol):
    """What takes a system's batches, in order."""

    def write(self, work: Work) -> None: ...


@runtime_checkable
class Beginning(Sink, Protocol):
    """A sink whose batches may be on their way beside one another: `begin` has other processes begin, and returns what
    finishes the batch. Both are called in the batches' order."""

    def begin(self, work: Work) -> Callable[[], None]: ...


@dataclass(frozen=True)
class Lane:
    """A system and what becomes of its output; `name` is what a failure calls it. side: which picture of an item is
    its output (0: the original itself); None: the system makes it."""

    name: str
    system: System | None
    sink: Sink
    side: int | None = None


@dataclass(frozen=True)
class Pace:
    """batch: images at a time. begun: images that an earlier try has finished. in_all: images of the run. The first
    batch of several warms up; the very first is counted (multiply-accumulates) instead of timed."""

    batch: int
    in_all: int
    begun: int = 0

    def warms_up(self, number: int) -> bool:
        return number == 0 and self.in_all - self.begun > self.batch

    def counts_macs(self, number: int) -> bool:
        return number == 0 and self.begun == 0 and self.in_all > self.batch


@isolated()
def run(
    lanes: Sequence[Lane],
    batches: Iterable[Batch],
    pace: Pace,
    *,
    seed: int = 0,
    overlap: bool = False,
    device: str = "cpu",
    tick: Callable[[int], None] | None = None,
) -> None:
    """Sends every batch through every lane. overlap: sinks work in a thread while the systems make the next batch.
    device: where the metrics are measured; pixels cross to a CUDA device once, as bytes, and stay there. tick: called
    with the number of images that are finished. Raises VtbenchError (code 1) if a system fails; what was written until
    then stays."""
    groups = _grouped(batches, seed, device)
    beside = _processes(lanes, pace) if overlap else None
    sinks, works = _Sinks(lanes, tick, beside), _work(lanes, groups, pace, beside)
    try:
        if overlap:
            _overlapped(sinks, works)
            return
        for batch in works:
            sinks.take(batch)
    finally:
        if beside is not None:
            beside.close()


def _processes(lanes: Sequence[Lane], pace: Pace) -> Beside | None:
    """Those that measure for the lanes; none where a batch must be finished before the next is begun."""
    if all(isinstance(lane.sink, Beginning) for lane in lanes):
        return Beside((pace.in_all - pace.begun) * len(lanes))
    return None


class _Sinks:
    """The lanes' ends, in the order of the batches: a few of them are begun before the first is finished, so that the
    processes beside this one always have work."""

    def __init__(self, lanes: Sequence[Lane], tick: Callable[[int], None] | None, beside: Beside | None) -> None:
        self._lanes, self._tick, self._beside = lanes, tick, beside
        self._begun: deque[tuple[Sequence[Work], list[Callable[[], None]]]] = deque()

    def take(self, works: Sequence[Work]) -> None:
        self._begun.append((works, [_begin(lane.sink, w) for lane, w in zip(self._lanes, works, strict=True)]))
        while len(self._begun) > self._ahead(len(works[0].originals)):
            self._finish_first()

    def finish(self) -> None:
        while self._begun:
            self._finish_first()

    def _ahead(self, images: int) -> int:
        """How many batches may be on their way: twice what the processes are sent at a time; none beyond what memory
        should hold."""
        pixels = sum(_pixels(w) for works, _ in self._begun for w in works)
        if self._beside is None or pixels > PIXELS_AHEAD:
            return 0
        return self._beside.batches_ahead(images)

    def _finish_first(self) -> None:
        works, ends = self._begun.popleft()
        for end in ends:
            end()
        if self._tick is not None:
            self._tick(len(works[0].originals))


def _begin(sink: Sink, work: Work) -> Callable[[], None]:
    if work.beside is not None and isinstance(sink, Beginning):
        return sink.begin(work)
    return lambda: sink.write(work)


def _pixels(work: Work) -> int:
    return sum(part.output.images[0, 0].numel() * len(part.positions) for part in work.parts)


@dataclass(frozen=True)
class _Grouped:
    """A batch, and its pictures by size."""

    batch: Batch
    originals: Sequence[Original]
    groups: Sequence[_Group]


def _grouped(batches: Iterable[Batch], seed: int, device: str) -> Iterator[_Grouped]:
    """The batches as tensors; those of a CUDA device a batch ahead, so that it need not wait for pixels."""

    def group(batch: Batch) -> _Grouped:
        originals = [sides[0] for sides in batch]
        return _Grouped(batch, originals, [_Group(g, g.of(originals), seed, device) for g in by_size(originals)])

    if device.startswith("cuda"):
        return read_ahead(group, batches, most=2, threads=1, name="send")
    return map(group, batches)


def _work(
    lanes: Sequence[Lane], grouped: Iterable[_Grouped], pace: Pace, beside: Beside | None
) -> Iterator[list[Work]]:
    """Every batch's output of every lane, made when it is asked for."""
    memory = _Memory()
    for number, one in enumerate(grouped):
        interrupts.check()
        originals, groups, batch = one.originals, one.groups, one.batch
        macs = pace.counts_macs(number)
        yield [
            Work(
                originals,
                [p for g in groups for p in _parts(lane, g, batch, macs, memory)],
                pace.warms_up(number),
                beside,
            )
            for lane in lanes
        ]


class _Group:
    """Originals of one size, with what all lanes share of them."""

    def __init__(self, group: Group, originals: list[Original], seed: int, device: str) -> None:
        self.group, self.originals, self._seed, self.device = group, originals, seed, device
        self.seeds = [image_seed(seed, o.sha256) for o in originals]
        images = sent(group.images, device)
        self.reference = Reference(images, [o.item for o in originals], [o.sha256 for o in originals])

    def pictures(self, device: str) -> torch.Tensor:
        """The originals' pixels for a system of that device: those that the metrics read, where these lie there too."""
        return self.reference.images if device == self.device else self.group.images

    def alone(self) -> list[_Group]:
        """Each image of it as a group of its own."""
        images, seed = self.group.images, self._seed
        return [
            _Group(Group([position], images[k : k + 1]), [self.originals[k]], seed, self.device)
            for k, position in enumerate(self.group.positions)
        ]


@dataclass
class _Memory:
    """Whether the models have made anything yet, and how many images in a row did not fit into memory before that."""

    worked: bool = False
    refused: int = 0


def _parts(lane: Lane, group: _Group, batch: Batch, count_macs: bool, memory: _Memory) -> list[Part]:
    """The group as one part; where the system cannot take one of its images, each image as its own, and that one with
    the reason in place of a candidate."""
    try:
        part = _part(lane, group, batch, count_macs)
    except ImageFailed as bad:
        if len(group.originals) > 1:
            return [p for one in group.alone() for p in _parts(lane, one, batch, count_macs, memory)]
        if isinstance(bad, _TooLarge) and not memory.worked:
            memory.refused += 1
            if memory.refused == GIVEN_UP:
                raise VtbenchError(f"{bad}, nor for any before: try smaller images", code=1) from bad
        failed = Output(group.reference.images * 0, failed={0: str(bad)})
        return [Part(group.group.positions, group.originals, group.seeds, group.reference, failed)]
    memory.worked = True
    return [part]


class _TooLarge(ImageFailed):
    """The memory did not suffice."""


def _part(lane: Lane, group: _Group, batch: Batch, count_macs: bool) -> Part:
    try:
        output = _output(lane, group, batch, count_macs)
    except ImageFailed:
        raise
    except VtbenchError as bad:
        # In mid-run it is the model that failed, whatever the sentence: the others go on.
        raise VtbenchError(str(bad), code=1) from bad
    except RAISED as bad:
        if out_of_memory(bad):
            height, width = group.group.size
            raise _TooLarge(f"{lane.name} has not memory enough for an image of {width} x {height}") from bad
        # An adapter may raise anything.
        first = group.originals[0].item.id
        raise VtbenchError(f"{lane.name} raised {type(bad).__name__} on {first}: {bad}", code=1) from bad
    return Part(group.group.positions, group.originals, group.seeds, group.reference, output)


def _output(lane: Lane, group: _Group, batch: Batch, count_macs: bool) -> Output:
    if lane.side == 0:
        return Output(group.reference.images)
    if lane.side is not None:
        pictures = [sides[lane.side] for sides in group.group.of(batch)]
        images, failed = stacked(pictures, group.group.size)
        flags = {k: picture.flags for k, picture in enumerate(pictures) if picture.flags}
        return Output(sent(images.contiguous(), group.device), failed=failed, flags=flags)
    if lane.system is None:
        raise VtbenchError(f"{lane.name} has neither pictures nor a system that makes them", code=1)
    items = group.reference.items
    return lane.system.produce(to_float(group.pictures(lane.system.device)), group.seeds, items, count_macs=count_macs)


def _overlapped(sinks: _Sinks, works: Iterator[list[Work]]) -> None:
    """Metrics of a batch while the model works on the next."""
    from threadpoolctl import threadpool_limits

    waiting: queue.Queue[list[Work] | None] = queue.Queue(maxsize=1)
    trouble: list[BaseException] = []

    def consume() -> None:
        # A new thread has none of the caller's modes (autocast, inference mode, default device); the rest of what
        # `isolated` sets is the process's, and set already.
        # OpenMP's limit is the calling thread's own: a second team of workers would spin against the model's.
        with threadpool_limits(1, user_api="openmp"):
            while True:
                batch = waiting.get()
                try:
                    if batch is not None and not trouble:
                        sinks.take(batch)
                    elif not trouble:
                        sinks.finish()
                except BaseException as bad:
                    trouble.append(bad)
                if batch is None:
                    return

    thread = threading.Thread(target=consume, name="metrics")
    thread.start()
    try:
        for batch in works:
            if trouble:
                break
            waiting.put(batch)
    finally:
        waiting.put(None)
        thread.join()
    if trouble:
        raise trouble[0]
