"""An image tower as a subject: every picture read whole, and with the tokens that a reducer leaves.

Tokens are cut from the picture itself ("input": the whole tower on a smaller one), between blocks ("vit"), or from the
tower's output ("tower"). Where what is pooled or classified reads the CLS token alone, tokens that are dropped behind
the tower move nothing, and the reading says so instead of giving a perfect number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.models.cutting import Cuts, Flow, after, checked, cut_through, layers_of, started
from vtbench.models.tower_pixels import resized
from vtbench.models.towers import Tower, Whole
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Dense, Point, Rate, Reading, Subject
from vtbench.types.reduction import Cut, Needs, Reducer, Reduction, Stage, TowerView

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 3
"""Without --option block, tokens are cut behind the first third of the blocks (DINOv2-S: before block 4 of 12)."""


class TowerSubject(Subject):
    """A tower and the ways in which it is read."""

    kind = "image tower"
    stages: tuple[Stage, ...] = ("input", "vit", "tower")

    def __init__(self, tower: Tower) -> None:
        self.tower, self.name, self.device, self.dtype = tower, tower.name, tower.device, tower.dtype
        self.identity = {"files": tower.files.sha256, "class": tower.class_name, **tower.options}
        self.facts, self.weights = tower.facts(), tower.files.record()

    def parameter_count(self) -> int | None:
        return self.tower.parameter_count()

    @property
    def dim(self) -> int | None:
        return self.tower.dim

    @property
    def tokens(self) -> int | None:
        return self.tower.tokens

    def check(self, point: Point, items: Sequence[Item]) -> None:
        card, needs, tower = point.reducer.card, point.reducer.needs, self.tower
        if point.stage not in self.stages:
            raise VtbenchError(
                f"{card.name} acts at the stage {point.stage}, and {self.name} is an image tower, which has "
                f"{', '.join(self.stages)}: give a language model that sees, such as LLaVA"
            )
        if needs.text:
            raise VtbenchError(
                f"{card.name} reads the question, and {self.name} is an image tower, which is asked none: give a "
                "language model that sees, such as LLaVA"
            )
        if point.keep is not None and not 1 <= point.keep <= tower.tokens:
            raise VtbenchError(
                f"--keep {point.keep}: a picture is {tower.tokens} tokens to {self.name}; give 1 to that"
            )
        if needs.maps and tower.options["attention"] != "eager":
            raise VtbenchError(
                f"{card.name} reads a whole attention map, which {tower.options['attention']} does not give: give "
                "--option attention=eager"
            )
        if (needs.cls or needs.rows) and not tower.family.cls:
            raise VtbenchError(f"{card.name} reads the CLS token, and {self.name} has none: give CLIP, DINOv2 or ViT")
        depth = len(tower.blocks)
        absent = [n for n in sorted(layers_of(needs)) if point.stage == "tower" and not -depth <= n < depth]
        if absent:
            raise VtbenchError(f"{card.name} reads layer {absent[-1]}, and {self.name} has {depth}, counted from 0")
        if point.stage == "vit":
            schedule(point, depth, tower.tokens)
        self.check_items(items)

    def check_items(self, items: Sequence[Item]) -> None:
        self.tower.classes.check(items, folders=self.tower.options["labels"] == "folders")

    def read(self, images: Tensor, point: Point, seeds: Sequence[int], items: Sequence[Item]) -> Reading:
        import torch

        with torch.inference_mode():
            pictures = self.tower.pictures(images)
            needs = point.reducer.needs if point.stage == "tower" else Needs()
            done = self.tower.whole(self.tower.pixels(pictures), needs)
            flows = self.reduced(done, pictures, point, seeds)
            return reading(self.tower, done, flows, point, items)

    def compare(self, originals: Tensor, others: Tensor, items: Sequence[Item]) -> Reading:
        import torch

        with torch.inference_mode():
            done, there = (self.tower.whole(self.tower.pixels(self.tower.pictures(x))) for x in (originals, others))
            flows = started(there.output, self.tower.prefix, there.grid)
            return reading(self.tower, done, flows, None, items)

    def reduced(self, done: Whole, pictures: Tensor, point: Point, seeds: Sequence[int]) -> list[Flow]:
        """Every image's tower output with the tokens that go on. done: the whole tower's; pictures: uint8, prepared."""
        tower = self.tower
        budget = tower.tokens if point.keep is None else point.keep
        if point.stage == "input":
            grid = done.grid if budget >= tower.tokens else point.reducer.resized(done.grid, budget)
            return _small(tower, pictures, grid, done.grid)
        if point.stage == "tower":
            flows = started(done.output, tower.prefix, done.grid)
            views = tower.views(done, point.reducer.needs, seeds, pictures)
            name = point.reducer.card.name
            answers = [checked(answer(point.reducer, view, budget), view, name) for view in views]
            return [after(flow, one) for flow, one in zip(flows, answers, strict=True)]
        cuts = Cuts(
            point.reducer,
            [dict(schedule(point, len(tower.blocks), tower.tokens)) for _ in seeds],
            seeds,
            [picture.float() / 255 for picture in pictures],
            tower.blocks.heads,
        )
        flows = started(tower.embedded(tower.pixels(pictures)), tower.prefix, done.grid)
        return _finished(tower, cut_through(tower.blocks, flows, cuts))


def answer(reducer: Reducer, view: TowerView, budget: int) -> Reduction:
    """The reducer's, or all tokens as they are where it is asked for as many as there are."""
    import torch

    if budget >= len(view):
        return Reduction(kept=torch.arange(len(view)), positions="original")
    return reducer.reduce(view, budget, view.seed)


def schedule(point: Point, depth: int, count: int) -> list[tuple[int, Cut]]:
    """What is done before which block: the reducer's own schedule, or its rule before one block."""
    reducer, budget = point.reducer, count if point.keep is None else point.keep
    if type(reducer).schedule is not Reducer.schedule and "vit" in reducer.stages:
        if point.block is not None:
            raise VtbenchError(f"{reducer.card.name} has a schedule of its own: leave out --option block={point.block}")
        return reducer.schedule(depth, count, budget) if budget < count else []
    block = min(-(-depth // BLOCK), depth - 1) if point.block is None else point.block
    least = 1 if layers_of(reducer.needs) else 0
    if not least <= block < depth:
        why = f"{reducer.card.name} reads the block before, so that " if block == 0 and least else ""
        raise VtbenchError(f"--option block={block}: {why}give {least} to {depth - 1}")
    return [(block, lambda view: answer(reducer, view, budget))]


def _small(tower: Tower, pictures: Tensor, small: tuple[int, int], grid: tuple[int, int]) -> list[Flow]:
    """The whole tower on smaller pictures; a place's row is the one whose patch covers its middle."""
    import torch

    done = tower.whole(
        tower.pixels(resized(pictures, (small[0] * tower.patch, small[1] * tower.patch), tower.preparation.resample))
        if small != grid
        else tower.pixels(pictures)
    )
    rows = (torch.arange(grid[0]) * 2 + 1) * small[0] // (2 * grid[0])
    columns = (torch.arange(grid[1]) * 2 + 1) * small[1] // (2 * grid[1])
    where = (rows[:, None] * small[1] + columns).flatten()
    return [replace(flow, where=where) for flow in started(done.output, tower.prefix, small)]


def _by_length(flows: Sequence[Flow]) -> list[list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for number, flow in enumerate(flows):
        groups[int(flow.x.shape[0])].append(number)
    return list(groups.values())


def _finished(tower: Tower, flows: list[Flow]) -> list[Flow]:
    """Through the last norm."""
    import torch

    for group in _by_length(flows):
        x = tower.blocks.finished(torch.stack([flows[k].x for k in group]))
        for k, one in zip(group, x, strict=True):
            flows[k] = replace(flows[k], x=one)
    return flows


# -- what came out -----------------------------------------------------------------------------------------------------


def reading(tower: Tower, done: Whole, flows: Sequence[Flow], point: Point | None, items: Sequence[Item]) -> Reading:
    """Both sides through the next stage. point: None where whole pictures are compared."""
    features, logits = tower.head(done.output)
    reduced, reduced_logits = _heads(tower, flows)
    full = done.output[:, tower.prefix :]
    why = _unmoved(tower, flows, point)
    if logits is None:
        why["logits"] = tower.classes.why or "there is no classifier"

    def seen(name: str, value: Tensor | None) -> Tensor | None:
        return None if value is None or name in why else value.float().cpu()

    return Reading(
        [rate(flow, int(full.shape[1])) for flow in flows],
        seen("features", features),
        seen("features", reduced),
        seen("logits", logits),
        seen("logits", reduced_logits),
        coverage=[_coverage(one.float().cpu(), flow) for one, flow in zip(full, flows, strict=True)],
        dense=[None if "dense" in why else _dense(one, flow) for one, flow in zip(full, flows, strict=True)],
        labels=[tower.classes.label(item) for item in items],
        classes=[tower.classes.name(item) for item in items],
        why=why,
    )


def _heads(tower: Tower, flows: Sequence[Flow]) -> tuple[Tensor, Tensor | None]:
    """The next stage of the reduced output, images of one length together."""
    import torch

    features: list[Any] = [None] * len(flows)
    logits: list[Any] = [None] * len(flows)
    for group in _by_length(flows):
        pooled, classes = tower.head(torch.stack([flows[k].x for k in group]))
        for place, k in enumerate(group):
            features[k] = pooled[place]
            logits[k] = None if classes is None else classes[place]
    return torch.stack(features), None if logits[0] is None else torch.stack(logits)


def _unmoved(tower: Tower, flows: Sequence[Flow], point: Point | None) -> dict[str, str]:
    """Why what cannot have moved is no number, where tokens are dropped behind the tower."""
    if point is None or point.stage != "tower" or point.keep in (None, tower.tokens):
        return {}
    why: dict[str, str] = {}
    said = "tokens are dropped behind the tower, after its CLS token was read"
    if not tower.pools_patches:
        why["features"] = f"{said}: give --option stage=vit, or --option pool=mean"
    if not tower.classifies_patches:
        why["logits"] = f"{said}: give --option stage=vit"
    if all(flow.reductions[-1].values is None for flow in flows):
        why["dense"] = "tokens that are chosen behind the tower are what they were: only coverage says something"
    return why


def rate(flow: Flow, count: int) -> Rate:
    """Counted on what goes on."""
    last = flow.reductions[-1] if flow.reductions else None
    return Rate(
        flow.rows,
        count,
        last.duplicates if last is not None else 0,
        tuple(flow.counts),
        fallbacks=tuple(text for one in flow.reductions for text in one.fallbacks),
    )


def _unit(x: Tensor) -> Tensor:
    from torch.nn.functional import normalize

    return normalize(x.double(), dim=-1)


def _kept(flow: Flow) -> Tensor | None:
    """The places whose own tokens go on, each in a row of its own; None where rows were merged or nothing tells."""
    if flow.where is None or any(one.values is not None for one in flow.reductions):
        return None
    return (flow.where >= 0).nonzero().flatten()


def _coverage(full: Tensor, flow: Flow) -> float | None:
    """Mean over all places of the largest cosine to a kept place's token in the full model's output; to a row itself
    where rows were merged behind the tower. None where rows, of another picture or of inside a tower, have no place."""
    if not flow.reductions:
        return 1.0 if flow.where is not None and flow.rows == len(full) else None
    kept = _kept(flow)
    if kept is not None:
        rows = full[kept]
    elif not flow.counts:
        rows = flow.patches.float().cpu()
    else:
        return None
    return float((_unit(full) @ _unit(rows).T).amax(dim=1).clamp(-1, 1).mean())


def _dense(full: Tensor, flow: Flow) -> Dense | None:
    """The reduced model's map on the places of the full one."""
    import torch

    if flow.where is None:
        return None
    full, group = full.float().cpu(), flow.where.clone()
    gone = group < 0
    if bool(gone.any()):
        present = (~gone).nonzero().flatten()
        if not len(present):
            return None
        unit = _unit(full)
        group[gone] = group[present[(unit[gone] @ unit[present].T).argmax(dim=1)]]
    return Dense(full, flow.patches.float().cpu()[group.to(torch.int64)], group)
