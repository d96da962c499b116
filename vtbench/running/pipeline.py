"""THE pipeline: reading, the systems and the metrics, overlapped where that helps.

reader threads -> batches of originals (hash checked, view applied) -> every system's output (this thread) -> sinks
(metrics and files; a thread of their own beside a model) -> rows

One pass serves one model (evaluate), many folders against one reference (score), a set alone (score --set, drawn
images) and every open choice at a view (explain): what differs is the systems and the sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from vtbench.running.sinks import Part as Part
from vtbench.running.sinks import Sink as Sink
from vtbench.running.sinks import Sinks, in_turn, overlapped, processes
from vtbench.running.sinks import Work as Work
from vtbench.types import interrupts
from vtbench.types.errors import RAISED, ImageFailed, VtbenchError
from vtbench.types.metric import Reference
from vtbench.types.shortage import Short, refuse_shortage

if TYPE_CHECKING:
    import torch

Batch = Sequence[tuple[Original, ...]]
"""Of each item the original, and the pictures that somebody already has of it."""


GIVEN_UP = 3
"""So many images that do not fit into memory, and none that did: the model fits nowhere, and the run ends."""


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
    ends = [lane.sink for lane in lanes]
    beside = processes(ends, pace.in_all - pace.begun)
    sinks, works = Sinks(ends, tick, beside), _work(lanes, groups, pace, beside)
    try:
        (overlapped if overlap else in_turn)(sinks, works)
    finally:
        if beside is not None:
            beside.close()


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
    except (ImageFailed, Short):
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
        refuse_shortage(bad, first)
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
