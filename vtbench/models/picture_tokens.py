"""The picture's tokens as a language model gets them, whole or reduced, and the prompt's sequence with them in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vtbench.models.attached import Attached
from vtbench.models.cutting import Cuts, Flow, at_hand, checked, cut_through, placed
from vtbench.models.llm_stage import policy_of, rows_kept
from vtbench.models.sequence_cuts import Policy, Row
from vtbench.models.tower_reading import answer, schedule
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Point
from vtbench.types.reduction import Needs, Reducer, Reduction, TowerView

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pictured:
    """The picture's tokens as the language model gets them: tokens (M, D); kept int64 (M,), whose place each takes, -1
    for none; of: how many there are without any reduction."""

    tokens: Tensor
    kept: Tensor
    of: int
    grid: tuple[int, int] | None = None
    policy: Policy = "original"
    fallbacks: tuple[str, ...] = ()

    @property
    def duplicates(self) -> int:
        places = self.kept[self.kept >= 0]
        return len(places) - len({*places.tolist()})


def whole(attached: Attached, inputs: Mapping[str, Any], seed: int) -> Pictured:
    """All of the picture's tokens."""
    return _Looked.at(attached, inputs, Needs(), seed).all()


def reduced(
    attached: Attached,
    inputs: Mapping[str, Any],
    reducer: Reducer,
    *,
    keep: int | None,
    projected: bool,
    policy: Policy | None,
    seed: int,
) -> Pictured:
    """What a reducer leaves of them. projected: it acts behind the projector. keep: None for all. policy: of positions,
    instead of the reducer's own. Raises VtbenchError (code 1) for more tokens than the picture has."""
    looked = _Looked.at(attached, inputs, reducer.needs, seed)
    count = len(looked.tokens)
    if keep is not None and keep > count:
        raise too_many(keep, count)
    looked = looked.behind_the_projector(reducer.needs == Needs(), seed) if projected else looked
    views = [handed(view) for view in looked.views]
    budgets = [len(view) for view in views]
    if keep is not None and keep < count:
        own = reducer.shares(views, keep) if len(views) > 1 else None
        budgets = shares(views, keep) if own is None else own
    answers = [_of_tile(reducer, view, share) for view, share in zip(views, budgets, strict=True)]
    return looked.packed(answers, projected, policy, row_ends=reducer.row_ends or keep in (None, count))


def reduced_inside(
    attached: Attached, inputs: Mapping[str, Any], point: Point, *, policy: Policy | None, seed: int
) -> Pictured:
    """What is left of them where they are cut between the blocks of the tower, each tile by itself."""
    if point.keep is None:
        return whole(attached, inputs, seed)
    answers, tiles, views = [], [], []
    flows, counts = flows_inside(attached, inputs, point, seed)
    for flow, count in zip(flows, counts, strict=True):
        kept = _chosen(flow)
        several = kept is not None and len(flows) > 1
        tokens = flow.x.new_zeros(count, attached.width)
        if kept is not None and several:
            tokens[kept.to(tokens.device)] = attached.project(flow.patches)
        tiles.append(tokens)
        views.append(TowerView(flow.x.new_zeros(count, flow.x.shape[1]), seed=seed))
        notes = tuple(dict.fromkeys(note for one in flow.reductions for note in one.fallbacks))
        # Of several tiles those that select are laid on their grid again, as `packed` does it.
        answers.append(Reduction(kept, None if several else flow.patches, fallbacks=notes))
    return _Looked(attached, views, *attached.pack(inputs, tiles)).packed(answers, False, policy)


def _chosen(flow: Flow) -> Tensor | None:
    """int64 (M,): the place of every row where tokens were selected alone, each once; else None."""
    import torch

    if flow.where is None or any(one.values is not None or one.duplicates for one in flow.reductions):
        return None
    places = (flow.where >= 0).nonzero().flatten()
    kept = torch.empty(flow.rows, dtype=torch.int64)
    kept[flow.where[places]] = places
    return kept


def flows_inside(
    attached: Attached, inputs: Mapping[str, Any], point: Point, seed: int
) -> tuple[list[Flow], list[int]]:
    """(what stands behind the last block that is read, one flow a tile; every tile's tokens before anything is cut)"""
    blocks, flows = attached.inside, attached.embedded(inputs)
    if blocks is None:
        raise VtbenchError(f"no tokens can be cut inside this tower: {attached.not_inside}", code=1)
    tiles = [range(flow.rows) for flow in flows]
    budgets = [len(tile) for tile in tiles] if point.keep is None else shares(tiles, point.keep)
    schedules = [
        dict(schedule(replace(point, keep=share), len(blocks), len(tile)))
        for share, tile in zip(budgets, tiles, strict=True)
    ]
    cuts = Cuts(point.reducer, schedules, [seed] * len(flows), inputs["pixel_values"], blocks.heads)
    return cut_through(blocks, flows, cuts), [len(tile) for tile in tiles]


def _of_tile(reducer: Reducer, view: TowerView, share: int) -> Reduction:
    """What a reducer leaves of one tile; nothing where its share is 0."""
    import torch

    if share == 0:
        return Reduction(kept=torch.zeros(0, dtype=torch.int64))
    return checked(answer(reducer, view, share), view, reducer.card.name)


def handed(view: TowerView) -> TowerView:
    """The view as reducers take it, whose rules are written for the processor."""
    tables = ("rows", "received", "keys", "queries", "hidden")
    near: dict[str, Any] = {n: {j: at_hand(x) for j, x in getattr(view, n).items()} for n in tables}
    lead = None if view.lead is None else at_hand(view.lead)
    return replace(view, features=at_hand(view.features), lead=lead, **near)


def too_many(keep: int, count: int) -> VtbenchError:
    """The sentence for a budget above the picture's tokens."""
    return VtbenchError(f"--keep {keep}: the picture has {count} tokens in this model; give 1 to {count}", code=1)


class _Looked:
    """A picture as the tower sees it: a view a tile, and the whole sequence (tokens, and of which tile's token each is
    made: sources, -1 for one of the model's own)."""

    def __init__(self, attached: Attached, views: Sequence[TowerView], tokens: Tensor, sources: Tensor) -> None:
        self.attached, self.views, self.tokens, self.sources = attached, views, tokens, sources
        self.grid = self.views[0].grid if len(self.views) == 1 else None

    @classmethod
    def at(cls, attached: Attached, inputs: Mapping[str, Any], needs: Needs, seed: int) -> _Looked:
        views = attached.look(inputs, needs, seed)
        return cls(attached, views, *attached.pack(inputs, [attached.project(view.features) for view in views]))

    def all(self) -> Pictured:
        import torch

        count = len(self.tokens)
        return Pictured(self.tokens, torch.arange(count, device=self.tokens.device), count, self.grid)

    def behind_the_projector(self, alone: bool, seed: int) -> _Looked:
        """The same with projected features. alone: the reducer reads nothing else, so that it sees the whole sequence
        as one."""
        import torch

        if alone:
            self.views = [TowerView(self.tokens, self.grid, seed=seed)]
            self.sources = torch.arange(len(self.tokens), device=self.tokens.device)
        else:
            self.views = [replace(view, features=self.attached.project(view.features)) for view in self.views]
        return self

    def packed(
        self, answers: Sequence[Reduction], projected: bool, policy: Policy | None, *, row_ends: bool = True
    ) -> Pictured:
        """The tiles' reductions as one sequence. row_ends: with the model's own tokens of rows that are not empty."""
        import torch

        views, count = self.views, len(self.tokens)
        kept = [rows_kept(r) for r in answers]
        notes = tuple(dict.fromkeys(note for r in answers for note in r.fallbacks))
        if len(views) > 1:
            spent = [len(r) for r in answers]
            notes = (
                *notes,
                f"{len(views)} tiles were reduced one by one, with {', '.join(map(str, spent))} tokens left",
            )
        selects = all(r.values is None for r in answers)
        # As HiPrune's form for Qwen has it: positions of three numbers are sliced, a count has no place in a grid.
        policy = policy or ("original" if self.attached.three and selects else policy_of(answers[0]))
        if len(views) > 1 and selects:
            # Tiles are laid on one grid again: of the model's own tokens those go on in whose row something is left.
            offsets = [sum(len(v) for v in views[:k]) for k in range(len(views))]
            chosen = torch.cat([k + offset for k, offset in zip(kept, offsets, strict=True)]).to(self.sources.device)
            stays = torch.isin(self.sources, chosen)
            ends = with_row_ends(self.sources, stays, len(views[0]))
            places = ends if row_ends else stays.nonzero().flatten()
            return Pictured(self.tokens[places], places, count, None, policy, notes)
        rows = [placed(r, v.features) for r, v in zip(answers, views, strict=True)]
        tokens = torch.cat([row if projected else self.attached.project(row) for row in rows])
        if len(views) > 1:
            kept = [torch.full((len(tokens),), -1)]
            notes = (*notes, "merged tokens of tiles lie on no grid: no ends of rows are marked")
        same = selects and len(tokens) == count
        return Pictured(tokens, torch.cat(kept).to(tokens.device), count, self.grid if same else None, policy, notes)


def row_of(attached: Attached, inputs: Mapping[str, Any], picture: Pictured, seed: int) -> Row:
    """The prompt's sequence with the picture's tokens in their place. Raises VtbenchError (code 1) where the prompt
    holds another number of places than the picture has tokens."""
    import torch

    ids = inputs["input_ids"][0]
    at = (ids == attached.placeholder).nonzero().flatten()
    if len(at) != picture.of or not len(at) or int(at[-1] - at[0]) + 1 != len(at):
        raise VtbenchError(
            f"the prompt holds {len(at)} places for the picture's tokens and the tower gives {picture.of}: the "
            "processor's configuration and the model's do not belong together",
            code=1,
        )
    first, end = int(at[0]), int(at[-1]) + 1
    words = attached.embed(ids)
    embeds = torch.cat([words[:first], picture.tokens.to(words.dtype), words[end:]])
    image = torch.zeros(len(embeds), dtype=torch.bool, device=embeds.device)
    image[first : first + len(picture.tokens)] = True
    places = attached.places(inputs)
    following = int(places.max()) + 1
    if picture.kept.tolist() == list(range(picture.of)):
        # All of them as they are: numbering three-dimensional positions anew would be another model.
        pass
    elif picture.policy == "renumbered":
        places = torch.arange(len(embeds), device=places.device).expand(*places.shape[:-1], -1).clone()
        following = len(embeds)
    elif bool((picture.kept < 0).any()):
        raise VtbenchError("merged tokens have no position of their own: give --option positions=renumbered")
    else:
        own = places[..., first + picture.kept.to(places.device)]
        places = torch.cat([places[..., :first], own, places[..., end:]], dim=-1)
    return Row(embeds, places, image, following, picture.grid, seed)


def shares(views: Sequence[Sized], budget: int) -> list[int]:
    """The budget by tiles, in proportion to their tokens; what does not divide goes to the first ones."""
    count = sum(len(view) for view in views)
    out = [budget * len(view) // count for view in views]
    for k in range(budget - sum(out)):
        out[k % len(out)] += 1
    return [max(1, min(share, len(view))) for share, view in zip(out, views, strict=True)]


def with_row_ends(sources: Tensor, chosen: Tensor, whole: int) -> Tensor:
    """int64: the places that go on, those of `chosen` bool (N,), and every row's end (source -1) whose row has one. The
    first `whole` places are the whole picture's, which stand before the grid's first row and have no end."""
    import torch

    ends = (sources < 0).nonzero().flatten().tolist()
    out, begin = chosen.clone(), whole
    for end in ends:
        out[end] = bool(chosen[begin:end].any())
        begin = end + 1
    return torch.nonzero(out).flatten()
