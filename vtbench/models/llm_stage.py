"""A reducer's view of one sequence inside a language model, and its answer as a cut of that sequence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from vtbench.models.cutting import at_hand, checked
from vtbench.models.sequence_cuts import LayerView, Policy, SequenceCut, SequenceRule
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Point
from vtbench.types.reduction import Cut, Needs, Reducer, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor

LAYER = 2
"""Where a rule without a schedule cuts, counted from 0: before the layer before which FastV does."""


def view_of(at: LayerView, needs: Needs) -> TowerView:
    """The sequence before a layer k as a reducer sees it: `features` are the hidden states of the picture's tokens.

    Of the layers that the reducer needs it gets k - 1, as that one worked, and k, as it is about to (rows: the prompt's
    last token; keys and queries: not turned by positions; hidden[k - 1]: the whole sequence as it goes into k).
    `extra` holds "attention", a function from positions (Q,) to (heads, Q, L), the attention of layer k - 1 (of layer 0
    before the first), "own", the same of layer k as it is about to work, and "first", (N0, C), the picture's tokens as
    they went into the language model.
    """
    import torch

    k, depth = at.layer, at.depth
    places = at.image.nonzero().flatten()
    count = len(places)
    prefix = int(places[0]) if count else 0

    def attention(layer: int, queries: Tensor) -> Tensor:
        return at_hand(at.attention(layer, queries.to(at.hidden.device)))

    last = torch.tensor([len(at.image) - 1])

    def here(layers: tuple[int, ...]) -> list[tuple[int, int]]:
        return [(j, j % depth) for j in layers if j % depth in (k - 1, k) and -depth <= j < depth]

    first = at.row.image.nonzero().flatten()
    grid = at.row.grid
    return TowerView(
        at_hand(at.hidden[places]),
        grid if grid is not None and grid[0] * grid[1] == count else None,
        prefix=prefix,
        suffix=len(at.image) - prefix - count,
        rows={j: attention(layer, last)[:, 0] for j, layer in here(needs.rows)},
        keys={j: at_hand(at.projection("k_proj", layer)) for j, layer in here(needs.keys)},
        queries={j: at_hand(at.projection("q_proj", layer)) for j, layer in here(needs.queries)},
        hidden={j: at_hand(at.hidden) for j in needs.hidden if j % depth == k - 1},
        text=at_hand(at.row.embeds[int(first[-1]) + 1 :]) if needs.text and len(first) else None,
        seed=at.row.seed,
        layer=k,
        extra={
            "attention": lambda queries: attention(max(k - 1, 0), queries),
            "own": lambda queries: attention(k, queries),
            "first": at_hand(at.row.embeds[at.row.image]),
        },
    )


def cut_of(reduction: Reduction, view: TowerView, at: LayerView, policy: Policy | None) -> SequenceCut:
    """The sequence with the reduction's rows in the place of the picture's tokens. policy: instead of its own."""
    import torch

    count, device = len(view), at.hidden.device
    kept = rows_kept(reduction)
    before = torch.arange(view.prefix, device=device)
    after = torch.arange(view.prefix + count, len(at.image), device=device)
    own = torch.where(kept < 0, kept, kept + view.prefix)
    sources = torch.cat([before, own.to(device), after])
    states = None
    if reduction.values is not None:
        states = torch.cat([at.hidden[: view.prefix], reduction.values.to(at.hidden), at.hidden[after]])
    return SequenceCut(sources, states, policy or policy_of(reduction))


def rows_kept(reduction: Reduction) -> Tensor:
    """int64 (M,): of every row that goes on, the token whose place it takes, -1 for none."""
    import torch

    return torch.full((len(reduction),), -1, dtype=torch.int64) if reduction.kept is None else reduction.kept


def policy_of(reduction: Reduction) -> Policy:
    """Values have no place any more: they are numbered."""
    if not isinstance(reduction.positions, str):
        raise VtbenchError("explicit positions are not taken by a language model: give original or renumbered", code=1)
    return "original" if reduction.positions == "original" else "renumbered"


def schedule_of(point: Point, depth: int, count: int, budget: int) -> list[tuple[int, Cut]]:
    """What is done before which of `depth` layers: the reducer's own schedule, or its rule before one layer."""
    reducer, name = point.reducer, point.reducer.card.name
    if type(reducer).schedule is Reducer.schedule:
        layer = min(LAYER, depth - 1) if point.block is None else point.block
        return [(layer, lambda view: reducer.reduce(view, budget, view.seed))]
    if point.block is not None:
        raise VtbenchError(f"{name} has a schedule of its own: leave out --option block={point.block}")
    return reducer.schedule(depth, count, budget)


def rules_of(
    point: Point, depth: int, count: int, budget: int, policy: Policy | None, say: Callable[[Reduction], None]
) -> Mapping[int, SequenceRule]:
    """The point's schedule for a picture of `count` tokens in a model of `depth` layers. say: hears every
    reduction."""
    reducer = point.reducer

    def rule(cut: Cut) -> SequenceRule:
        def of(at: LayerView) -> SequenceCut:
            view = view_of(at, reducer.needs)
            reduction = cut(view)
            # Between layers a method may drop the whole picture, as BTP does before its last ones.
            if not isinstance(reduction, Reduction) or len(reduction) or reduction.kept is None:
                reduction = checked(reduction, view, reducer.card.name)
            say(reduction)
            return cut_of(reduction, view, at, policy)

        return of

    schedule = schedule_of(point, depth, count, budget)
    if any(not 0 <= layer < depth for layer, _ in schedule):
        worst = max(layer for layer, _ in schedule)
        raise VtbenchError(
            f"{reducer.card.name} cuts before layer {worst}, counted from 0, and the language model has {depth}: give "
            f"{'--option block' if point.block is not None else 'its option layers (or layer), all'} below that"
        )
    return {layer: rule(cut) for layer, cut in schedule}
