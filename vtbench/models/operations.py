"""Floating-point operations of a model that reads pictures, whole and reduced: counted by torch, under eager attention.

Two operations a multiply-add. Other kinds of attention are one fused operation, of which torch's counter knows nothing
on the CPU (DINOv2-S at 224 pixels: 11.03 instead of 12.25 GFLOP), so that the count switches to eager and back. What
papers print counts otherwise (multiply-adds; an MLP of two matrices where LLaMA has three) and is never copied.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vtbench.models.clocks import Clock
from vtbench.models.macs import counting
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import Whole
from vtbench.types.item import Item
from vtbench.types.reading import Point, Subject
from vtbench.types.reduction import Cut, Needs, Reducer, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


IMPLEMENTATIONS = ("sdpa", "eager")
"""Of attention, of which the whole model is timed with the fastest."""
TIMED = 3


@dataclass(frozen=True)
class Operations:
    """Of one image, by part: `tower`, `score and reduce`, `projector`, `head`, `prefill`, `decoded token`."""

    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Of all parts but a decoded token, which is paid again for each."""
        return sum(value for name, value in self.parts.items() if name != "decoded token")


def layer_operations(
    tokens: int, width: int, inner: int, *, keys: int | None = None, key_width: int | None = None, gated: bool = False
) -> float:
    """The closed form of one transformer layer: 2 (q + k + v + o) + 4 n m d + MLP.

    tokens n that ask, of `keys` m (the same); width d; key_width: of k and v, less than d where heads share them;
    inner: of the MLP, which has three matrices where it is gated (SwiGLU), else two.
    """
    keys, key_width = keys or tokens, key_width or width
    projections = 2 * tokens * width * (2 * width + 2 * key_width)
    return projections + 4 * tokens * keys * width + 2 * tokens * width * inner * (3 if gated else 2)


def counted(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and the operations that it takes."""
    with counting(True) as macs:
        out = work()
    return out, 2 * float(macs())


@contextlib.contextmanager
def attention(network: Any, kind: str) -> Iterator[None]:
    """The network with another implementation of attention."""
    before = network.config._attn_implementation
    network.set_attn_implementation(kind)
    try:
        yield
    finally:
        network.set_attn_implementation(before)


class Metered(Reducer):
    """A reducer whose own operations are counted."""

    def __init__(self, inner: Reducer) -> None:
        super().__init__(inner.card, inner.options)
        self.inner, self.operations = inner, 0.0
        self.needs, self.inside, self.proportional = inner.needs, inner.inside, inner.proportional

    @property
    def stages(self) -> Any:
        return self.inner.stages

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        return self._meter(lambda: self.inner.reduce(view, budget, seed))

    def resized(self, grid: tuple[int, int], budget: int) -> tuple[int, int]:
        return self.inner.resized(grid, budget)

    def _meter(self, work: Callable[[], Reduction]) -> Reduction:
        out, operations = counted(work)
        self.operations += operations
        reduction: Reduction = out
        return reduction


class MeteredSchedule(Metered):
    """The same of a reducer with a schedule of its own."""

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        def metered(cut: Cut) -> Cut:
            return lambda view: self._meter(lambda: cut(view))

        return [(layer, metered(cut)) for layer, cut in self.inner.schedule(depth, n, budget)]


def metered(reducer: Reducer) -> Metered:
    own = type(reducer).schedule is not Reducer.schedule
    return (MeteredSchedule if own else Metered)(reducer)


def tower_operations(
    subject: TowerSubject, point: Point, images: Tensor, seeds: Sequence[int]
) -> tuple[Operations, Operations]:
    """(whole, reduced) of one image, float32 (1, 3, H, W) in [0, 1].

    What a reducer reads beside the tokens (a row of attention that is computed again) counts with its rule, as does the
    rule itself.
    """
    import torch

    tower, reducer = subject.tower, metered(point.reducer)
    at_tower = point.stage == "tower"
    with torch.inference_mode(), attention(tower.network, "eager"):
        pictures = tower.pictures(images)
        pixels = tower.pixels(pictures)
        done, whole = counted(lambda: tower.whole(pixels))
        _, head = counted(lambda: tower.head(done.output))
        needs = point.reducer.needs if at_tower else Needs()
        looked, looking = counted(lambda: tower.whole(pixels, needs))
        rows = Rows(tower.blocks)
        with rows.metered():
            flows, cutting = counted(
                lambda: subject.reduced(looked, pictures, replace(point, reducer=reducer), list(seeds))
            )
        _, last = counted(lambda: tower.head(flows[0].x[None]))
    scoring = reducer.operations + (looking - whole if at_tower else rows.operations)
    network = whole if at_tower else cutting - scoring
    return (
        Operations({"tower": whole, "head": head}),
        Operations({"tower": network, "score and reduce": scoring, "head": last}),
    )


def tower_seconds(subject: TowerSubject, point: Point, images: Tensor, seeds: Sequence[int]) -> tuple[float, float]:
    """(whole, reduced) of one image, the median of a few after one that warms up: the whole tower with whichever
    attention is fastest, the reduced one with its own, scores and rule included."""
    import torch

    tower = subject.tower
    reads = point.reducer.needs if point.stage == "tower" else Needs()
    pictures = tower.pictures(images)

    def whole() -> None:
        tower.head(tower.whole(tower.pixels(pictures)).output)

    def reduced() -> None:
        if point.stage == "tower":
            done = tower.whole(tower.pixels(pictures), reads)
        else:
            empty = torch.empty(1, 0, 0)
            done = Whole(empty, [], tower.grid)
        tower.head(subject.reduced(done, pictures, point, list(seeds))[0].x[None])

    with torch.inference_mode():
        times = []
        for kind in IMPLEMENTATIONS:
            with attention(tower.network, kind):
                times.append(median(whole, subject.device))
        return min(times), median(reduced, subject.device)


def median(work: Callable[[], Any], device: str) -> float:
    """Seconds of a few runs after one that warms up."""
    clock, times = Clock(device), []
    for run in range(1 + TIMED):
        start = clock.mark()
        work()
        seconds = float(clock.between(start, clock.mark()))
        times += [seconds] if run else []
    return sorted(times)[len(times) // 2]


def costs(
    subject: Subject, point: Point, images: Tensor, seeds: Sequence[int], items: Sequence[Item]
) -> dict[str, float]:
    """What one image takes, by the names of scores: operations, those of the rule among them, and seconds."""
    if not isinstance(subject, TowerSubject):
        return {}
    whole, reduced = tower_operations(subject, point, images, seeds)
    slow, fast = tower_seconds(subject, point, images, seeds)
    return {
        "flops": reduced.total,
        "flops-full": whole.total,
        "flops-score": reduced.parts["score and reduce"],
        "seconds-reduced": fast,
        "seconds-full": slow,
    }


class Rows:
    """The operations of rows of attention that are computed again for a reducer."""

    def __init__(self, blocks: Any) -> None:
        self.blocks, self.operations = blocks, 0.0

    @contextlib.contextmanager
    def metered(self) -> Iterator[None]:
        plain = self.blocks.row

        def row(*args: Any) -> Any:
            out, operations = counted(lambda: plain(*args))
            self.operations += operations
            return out

        self.blocks.row = row
        try:
            yield
        finally:
            del self.blocks.row
