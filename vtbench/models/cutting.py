"""A batch on its way through a vision transformer while a reducer cuts its tokens, image by image.

Images with as many tokens go through a block together, so that a batch of which nothing was cut is computed as the
model itself computes it, bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vtbench.models.attach import Blocks, Seen
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Cut, Needs, Reducer, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("rows", "received", "keys", "queries", "hidden")
"""What a view holds by layer."""


@dataclass
class Flow:
    """One image: x (L, C), of which the first `prefix` rows stand before the patches; where: int64 (N,), the row among
    the patches that each place of the picture is in by now, -1 for one that was dropped, None where nothing tells;
    sizes: (M,), patches that each row stands for, None before anything was merged; counts: patch rows behind every
    block so far."""

    x: Tensor
    prefix: int
    grid: tuple[int, int] | None
    where: Tensor | None
    sizes: Tensor | None = None
    counts: list[int] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)

    @property
    def patches(self) -> Tensor:
        return self.x[self.prefix :]

    @property
    def rows(self) -> int:
        return int(self.x.shape[0]) - self.prefix


@dataclass(frozen=True)
class Sight:
    """What a reducer sees of one image beside its tokens: by kind and layer, as `TowerView` holds it."""

    by_kind: Mapping[str, Mapping[int, Tensor]]

    def fields(self) -> dict[str, Any]:
        return dict(self.by_kind)


def layers_of(needs: Needs) -> set[int]:
    """Every layer that is asked for, as it is spelt."""
    return {layer for kind in KINDS for layer in getattr(needs, kind)}


def at_layer(needs: Needs, wanted: set[int]) -> Needs:
    """The needs of one layer alone, which is spelt as any of `wanted`."""
    own: dict[str, Any] = {kind: tuple(n for n in getattr(needs, kind) if n in wanted) for kind in KINDS}
    return replace(needs, **own)


def sights(blocks: Blocks, seen: Seen, needs: Needs, count: int, bias: Tensor | None = None) -> list[Sight]:
    """What one block showed of a batch of `count` images, under every spelling of its layer in `needs`."""
    shown: dict[str, Tensor | None] = {
        "rows": blocks.row(seen, bias) if needs.rows else None,
        "received": None if seen.attention is None else seen.attention.mean(dim=(1, 2)),
        "keys": seen.k,
        "queries": seen.q,
        "hidden": seen.out,
    }
    out = []
    for image in range(count):
        table: dict[str, dict[int, Tensor]] = {kind: {} for kind in KINDS}
        for kind in KINDS:
            value = shown[kind]
            if value is not None and getattr(needs, kind):
                table[kind] = dict.fromkeys(getattr(needs, kind), at_hand(value[image]))
        out.append(Sight(table))
    return out


def joined(parts: Sequence[Sight]) -> Sight:
    """Those of several layers as one."""
    return Sight({kind: {k: v for part in parts for k, v in part.by_kind[kind].items()} for kind in KINDS})


def started(x: Tensor, prefix: int, grid: tuple[int, int]) -> list[Flow]:
    """The images of a batch x (B, L, C), nothing of which is cut yet."""
    import torch

    places = torch.arange(int(x.shape[1]) - prefix)
    return [Flow(one, prefix, grid, places) for one in x]


def stacks(flows: Sequence[Flow]) -> list[list[int]]:
    """Which images have as many tokens and go on together."""
    groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for number, flow in enumerate(flows):
        groups[int(flow.x.shape[0]), flow.sizes is not None].append(number)
    return list(groups.values())


def whole(blocks: Blocks, x: Tensor, needs: Needs) -> tuple[Tensor, list[Sight]]:
    """(what stands behind the last block (B, L, C), what was seen of every image on the way) without any cut."""
    depth = len(blocks)
    seen: list[list[Sight]] = [[] for _ in range(len(x))]
    for number in range(depth):
        mine = at_layer(needs, {number, number - depth})
        x, look = blocks.through(number, x, mine)
        if layers_of(mine):
            for image, sight in enumerate(sights(blocks, look, mine, len(x))):
                seen[image].append(sight)
    return x, [joined(parts) for parts in seen]


@dataclass(frozen=True)
class Cuts:
    """What is done between which blocks, by a reducer; of every image its seed, picture and schedule."""

    reducer: Reducer
    schedules: Sequence[Mapping[int, Cut]]
    seeds: Sequence[int]
    pictures: Sequence[Tensor]
    heads: int = 1

    @property
    def needs(self) -> Needs:
        return self.reducer.needs

    def at(self, number: int) -> list[int]:
        """The images that are cut at a block."""
        return [image for image, schedule in enumerate(self.schedules) if number in schedule]


def cut_through(blocks: Blocks, flows: list[Flow], cuts: Cuts) -> list[Flow]:
    """Every image behind the last block, cut on the way. At a cut a view holds, whatever layer a reducer asks for, what
    was seen in the block before it, or (where it cuts inside a block) in that block itself."""
    last: list[Sight | None] = [None] * len(flows)
    for number in range(len(blocks)):
        here = cuts.at(number)
        if here and not cuts.reducer.inside:
            for image in here:
                flows[image] = _cut(flows[image], last[image], cuts, image, number)
        looks = bool(here) if cuts.reducer.inside else bool(cuts.at(number + 1))
        needs = cuts.needs if looks else Needs()
        for group in stacks(flows):
            _block(blocks, flows, group, number, needs, cuts, last)
        for flow in flows:
            flow.counts.append(flow.rows)
    return flows


def _block(
    blocks: Blocks,
    flows: list[Flow],
    group: Sequence[int],
    number: int,
    needs: Needs,
    cuts: Cuts,
    last: list[Sight | None],
) -> None:
    """One block for images of one length, cut between its attention and its MLP where the reducer does so."""
    import torch

    x = torch.stack([flows[image].x for image in group])
    bias = _bias([flows[image] for image in group], cuts.reducer.proportional, x)
    inside = cuts.reducer.inside and any(number in cuts.schedules[image] for image in group)
    step = blocks.attended if inside else blocks.through
    x, seen = step(number, x, needs, bias)
    shown = sights(blocks, seen, needs, len(group), bias) if layers_of(needs) else [None] * len(group)
    for image, one, sight in zip(group, x, shown, strict=True):
        flow, last[image] = replace(flows[image], x=one), sight
        if inside and number in cuts.schedules[image]:
            flow = _cut(flow, sight, cuts, image, number)
        flows[image] = flow
    if inside:
        for part in stacks([flows[image] for image in group]):
            images = [group[k] for k in part]
            y = blocks.widened(number, torch.stack([flows[image].x for image in images]))
            for image, one in zip(images, y, strict=True):
                flows[image] = replace(flows[image], x=one)


def _bias(flows: Sequence[Flow], proportional: bool, x: Tensor) -> Tensor | None:
    """log(size) of every key, (B, 1, 1, L), where attention is proportional and something was merged (ToMe, eq. 1)."""
    import torch

    if not proportional or flows[0].sizes is None:
        return None
    sizes = [flow.sizes for flow in flows]
    rows = [
        torch.cat([x.new_ones(f.prefix), s.to(x)]).log() for f, s in zip(flows, sizes, strict=True) if s is not None
    ]
    return torch.stack(rows)[:, None, None]


def _cut(flow: Flow, sight: Sight | None, cuts: Cuts, image: int, number: int) -> Flow:
    needs = cuts.needs
    if sight is None and layers_of(needs):
        raise VtbenchError(
            f"{cuts.reducer.card.name} reads what a block shows, and before block 0 there is none: give block=1 or more"
        )
    view = TowerView(
        at_hand(flow.patches),
        flow.grid,
        flow.prefix,
        lead=at_hand(flow.x[: flow.prefix]),
        sizes=flow.sizes,
        pixels=cuts.pictures[image] if needs.pixels else None,
        heads=cuts.heads,
        seed=cuts.seeds[image],
        layer=number,
        **({} if sight is None else sight.fields()),
    )
    reduction = checked(cuts.schedules[image][number](view), view, cuts.reducer.card.name)
    return after(flow, reduction)


def at_hand(x: Tensor) -> Tensor:
    """As reducers take it, whose rules are written for the processor: there, and in float32 at least."""
    import torch

    return (x if x.dtype in (torch.float32, torch.float64) else x.float()).cpu()


def placed(reduction: Reduction, patches: Tensor) -> Tensor:
    """(M, C): the rows that go on, where and in what the model computes."""
    if reduction.values is not None:
        return reduction.values.to(patches)
    return replace(reduction, kept=None if reduction.kept is None else reduction.kept.to(patches.device)).rows_of(
        patches
    )


def after(flow: Flow, reduction: Reduction) -> Flow:
    """The image with a reduction's rows in the place of its patches."""
    import torch

    count = flow.rows
    rows = placed(reduction, flow.patches)
    target = reduction.target(count)
    where = None
    if target is not None and flow.where is not None:
        gone = flow.where < 0
        where = torch.where(gone, flow.where, target[flow.where.clamp(min=0)])
    sizes = flow.sizes
    if reduction.values is not None or sizes is not None:
        own = torch.ones(count, dtype=torch.float64) if sizes is None else sizes
        sizes = None
        if target is not None:
            kept = target >= 0
            sizes = torch.zeros(len(reduction), dtype=torch.float64).index_add_(0, target[kept], own[kept])
            # A row that nothing went into (a summary, a learned query) stands for one.
            sizes = sizes.clamp(min=1.0)
    whole = reduction.values is None and reduction.kept is not None and reduction.kept.tolist() == list(range(count))
    return replace(
        flow,
        x=torch.cat([flow.x[: flow.prefix], rows]),
        grid=flow.grid if whole else None,
        where=where,
        sizes=sizes,
        reductions=[*flow.reductions, reduction],
    )


def checked(reduction: Any, view: TowerView, name: str) -> Reduction:
    """The reduction, unless it is none of this image's tokens: a reducer of somebody's may answer anything."""
    import torch

    count = len(view)

    def refuse(what: str) -> VtbenchError:
        return VtbenchError(f"{name} gave {what} for {count} tokens: wanted a vtbench.Reduction of them", code=1)

    if not isinstance(reduction, Reduction):
        raise refuse(f"a {type(reduction).__name__}")
    kept, values = reduction.kept, reduction.values
    if kept is None and values is None:
        raise refuse("neither kept nor values")
    if kept is not None:
        if not isinstance(kept, torch.Tensor) or kept.dtype != torch.int64 or kept.ndim != 1:
            raise refuse("kept positions that are no int64 vector")
        least = -1 if values is not None else 0
        if kept.numel() and not (least <= int(kept.min()) and int(kept.max()) < count):
            raise refuse(f"positions from {int(kept.min())} to {int(kept.max())}")
    if values is not None:
        if not isinstance(values, torch.Tensor) or values.ndim != 2 or values.shape[1:] != view.features.shape[1:]:
            raise refuse(f"values of the shape {tuple(getattr(values, 'shape', ()))}")
        if not bool(torch.isfinite(values).all()):
            raise refuse("values that are not finite")
        if kept is not None and len(kept) != len(values):
            raise refuse(f"{len(values)} rows and {len(kept)} places")
    sources = reduction.sources
    if sources is not None and (
        sources.ndim != 2
        or sources.shape[1:] != (2,)
        or (len(sources) > 0 and not (int(sources.min()) >= 0 and int(sources[:, 0].max()) < len(reduction)))
        or (len(sources) > 0 and int(sources[:, 1].max()) >= count)
    ):
        raise refuse("sources that name other rows or tokens")
    if not len(reduction):
        raise refuse("no token at all")
    return reduction
