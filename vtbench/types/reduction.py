"""Reducers of visual tokens: what is stated of one, what it sees, and what it answers. Standard library only.

A reducer drops or merges the tokens that a vision transformer or a vision-language model reads. It sees one image at a
time, as a `TowerView` (of what the model computed, only what it `Needs`), and answers with a `Reduction`: which tokens
stay, or what stands for them. How it is attached to a model is the business of `vtbench.models`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from torch import Tensor

Stage = Literal["input", "tower", "projector", "vit", "llm"]
"""Where tokens are dropped: pictures before the model, the tower's output, behind the projector, between blocks of the
vision transformer, between layers of the language model."""
Training = Literal["training-free", "trained"]
Rule = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""(input tensors, parameters, weights by name) -> outputs: tensors, or plain numbers and lists. parameters["outputs"]
is what the fixture lists of its outputs (shapes; plain numbers), for a rule that can give any of many."""


@dataclass(frozen=True, repr=False)
class ReducerCard:
    """Everything stated about one method. A fact stands once, here; numbers without a source are not stated.

    query_aware: the rule reads the question as well, so that it stands in no one ranking with those that do not.
    positions: what becomes of a kept token's position in the next stage. code: upstream's repository; commit: that of
    the facts. deviates: where upstream's code differs from its paper; the rule follows the code. no_code: why there is
    no rule here ("no code to compare"). rules: by the method's name in parity fixtures. build: the reducer itself, from
    the card and resolved options (None: nobody can run it here yet); options: every option with its default.
    """

    name: str
    title: str
    stages: tuple[Stage, ...]
    output: Literal["select", "merge", "select and merge", "new tokens", "resize"]
    training: Training = "training-free"
    query_aware: bool = False
    needs: tuple[str, ...] = ()
    positions: str | None = None
    knob: str | None = None
    licence: str | None = None
    paper: str | None = None
    code: str | None = None
    commit: str | None = None
    deviates: str | None = None
    note: str | None = None
    no_code: str | None = None
    baseline: bool = False
    """One of those that every table of reducers holds beside the methods."""
    spread_over: str | None = None
    """The option that only says which throw of the dice it is."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    build: Callable[[ReducerCard, Mapping[str, Any]], Reducer] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<ReducerCard {self.name}: {self.title}>"


@dataclass(frozen=True)
class Needs:
    """What a reducer reads of the model beside the tokens themselves; nothing else is computed for it.

    Layers count from 0, or from the end as in Python (-2: the last but one). rows: the attention of one query after the
    softmax, of the CLS token in a tower, of the last token of the prompt in a language model; recomputed from q and k,
    so that any attention implementation will do. received: the attention that each token gets, mean over heads and
    queries; it takes the whole map, which only eager attention gives. keys, queries: what the layer's projections give,
    heads side by side. hidden: behind a layer (-1: the last; hidden states count as layers do, 0 is behind the first).
    cls: the tower must have a CLS token. grid: tokens must lie on one. text: the question; pixels: the picture itself.
    """

    rows: tuple[int, ...] = ()
    received: tuple[int, ...] = ()
    keys: tuple[int, ...] = ()
    queries: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    cls: bool = False
    grid: bool = False
    tiles: bool = False
    frames: bool = False
    text: bool = False
    pixels: bool = False

    @property
    def maps(self) -> bool:
        """Whether a whole attention map is needed, which sdpa and flash attention do not give."""
        return bool(self.received)


@dataclass(frozen=True)
class TowerView:
    """What a model computed of one image, as far as the reducer asked for it.

    features: float (N, C), the visual tokens as the next stage gets them, without CLS token and registers. grid:
    (height, width) with height * width = N, or None where tokens lie on none (after an earlier cut). The dicts are by
    the layers asked for, spelt as in `Needs`; their rows are a whole sequence of L = prefix + N + suffix tokens: prefix
    stand before the picture (CLS token and registers; in a language model what the prompt says first), suffix behind.
    rows: (heads, L); received: (L,); keys, queries: (L, D), of which every head has D / heads; hidden: (L, C).
    lead: (prefix, C), those of the tokens before the picture that stand beside `features` in a tower. sizes: (N,), how
    many patches each token stands for. tiles, frames: the grids of the picture's parts, the whole picture first. text:
    (T, C), the question's embeddings as the language model gets them. pixels: float32 (3, H, W) in [0, 1]. seed: the
    item's own, for whatever is random. layer: before which block or layer the cut lies; None at the tower's output.
    extra: what else one stage hands over (named by whoever attaches it).
    """

    features: Tensor
    grid: tuple[int, int] | None = None
    prefix: int = 0
    suffix: int = 0
    rows: Mapping[int, Tensor] = field(default_factory=dict)
    received: Mapping[int, Tensor] = field(default_factory=dict)
    keys: Mapping[int, Tensor] = field(default_factory=dict)
    queries: Mapping[int, Tensor] = field(default_factory=dict)
    hidden: Mapping[int, Tensor] = field(default_factory=dict)
    lead: Tensor | None = None
    sizes: Tensor | None = None
    tiles: Sequence[tuple[int, int]] = ()
    frames: Sequence[tuple[int, int]] = ()
    text: Tensor | None = None
    pixels: Tensor | None = None
    heads: int = 1
    seed: int = 0
    layer: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.features.shape[0])

    def image(self, values: Tensor) -> Tensor:
        """Of values along a sequence (…, L): those of the picture's tokens, (…, N)."""
        return values[..., self.prefix : self.prefix + len(self)]

    def image_rows(self, values: Tensor) -> Tensor:
        """Of one row a token (L, …): those of the picture's tokens, (N, …)."""
        return values[self.prefix : self.prefix + len(self)]


Positions = Literal["original", "renumbered", "none"]


@dataclass(frozen=True)
class Reduction:
    """What goes on in the place of one image's N tokens: M rows, in the order in which the next stage gets them.

    Either `kept`: int64 (M,), positions among the N tokens, whose features go on as they are; or `values`: float (M, C)
    of their own, with `sources`: int64 (E, 2) pairs (row, token) and `weights` (E,) that say what a row is made from.
    kept beside values: the position of the token whose place a row takes, -1 for a row that has none (a CLS token, a
    summary, a learned query). positions: what becomes of a kept token's position, or explicit ids, int64 (M,).
    fallbacks: what the method could not do for this image, in sentences.
    """

    kept: Tensor | None = None
    values: Tensor | None = None
    sources: Tensor | None = None
    weights: Tensor | None = None
    positions: Positions | Tensor = "renumbered"
    fallbacks: tuple[str, ...] = ()

    def __len__(self) -> int:
        rows = self.values if self.values is not None else self.kept
        return 0 if rows is None else int(rows.shape[0])

    def rows_of(self, features: Tensor) -> Tensor:
        """(M, C): the rows that go on, of the tokens (N, C). The tokens themselves where all are kept in order, so that
        keeping everything changes no bit."""
        if self.values is not None:
            return self.values
        if self.kept is None:
            raise VtbenchError("a Reduction has neither kept nor values: give one of them", code=1)
        return features[self.kept]

    @property
    def duplicates(self) -> int:
        """Rows whose token stands in another row as well: they cost as much as any, and say nothing new."""
        if self.kept is None:
            return 0
        places = self.kept[self.kept >= 0]
        return len(places) - len(set(places.tolist()))

    def target(self, count: int) -> Tensor | None:
        """int64 (N,): the row that each of `count` tokens went into, the one of the greatest weight, -1 for a token
        that stands in none. None where nothing says so (values without sources)."""
        if self.sources is None and (self.values is not None or self.kept is None):
            return None
        if self.sources is None:
            kept = self.kept
            assert kept is not None
            out = kept.new_full((count,), -1)
            # From behind, so that of duplicates the first row stands.
            out[kept.flip(0)] = kept.new_tensor(range(len(kept))).flip(0)
            return out
        out = self.sources.new_full((count,), -1)
        order = range(len(self.sources))
        if self.weights is not None:
            order = self.weights.argsort(stable=True).tolist()  # type: ignore[assignment]
        for edge in order:
            row, token = self.sources[edge].tolist()
            out[token] = row
        return out


Cut = Callable[[TowerView], Reduction]
"""What happens at one block of a vision transformer, or at one layer of a language model."""


class Reducer(ABC):  # noqa: B024
    """One method, built from its card with options resolved. It sees one image at a time and keeps nothing from one to
    the next, so that a batch of n is n times a batch of one."""

    needs: Needs = Needs()
    """At the stages of `reduce` and `schedule`; a method whose options decide sets it in `__init__`."""
    inside: bool = False
    """Where a cut of `schedule` lies: before the block or layer, or (True) between a block's attention and its MLP."""
    equivariant: bool = False
    """Whether it claims that places are nothing to it: the same tokens in another order are the same answer."""
    proportional: bool = False
    """Whether attention behind a merge counts a token as often as the patches it stands for (ToMe)."""
    together: bool = False
    """Whether it acts at the tower's output and inside the language model, where there is one (VScan)."""
    row_ends: bool = True
    """Of a picture of several tiles: whether the model's own marks of row ends go on where their row has a token."""

    def __init__(self, card: ReducerCard, options: Mapping[str, Any] | None = None) -> None:
        self.card = card
        self.options: dict[str, Any] = {**card.options, **(options or {})}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Where this one acts; at "input", "tower" and "projector" by `reduce`, at "vit" and "llm" by `schedule`."""
        return self.card.stages

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:  # noqa: B027
        """Reads weights, where the method has any; strict in their names."""

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        """Which of the image's tokens go on; budget: how many are wanted, 1 or more, at most N. What comes out may be
        more or fewer (upstream's rule decides): it is counted where the next stage takes it."""
        raise VtbenchError(f"{self.card.name} does not act at the output of a tower", code=1)

    def shares(self, views: Sequence[TowerView], budget: int) -> list[int] | None:
        """The budget by the tiles of one picture, the whole picture first; None: in proportion to their tokens."""
        return None

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        """Before which of `depth` blocks or layers (counted from 0) what is done to the image's n tokens."""
        raise VtbenchError(f"{self.card.name} does not act between blocks or layers", code=1)

    def resized(self, grid: tuple[int, int], budget: int) -> tuple[int, int]:
        """At stage "input": the grid of tokens to whose size a picture of `grid` tokens is resized."""
        raise VtbenchError(f"{self.card.name} does not act on pictures", code=1)
