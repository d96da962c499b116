"""Sequences of a language model that become shorter between its layers: what goes in, what a rule sees, what stays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from torch import Tensor

Policy = Literal["original", "renumbered"]
"""What position a kept token has behind a cut: its own, or its place among the kept."""


@dataclass(frozen=True)
class Row:
    """One sequence: embeds (L, C); places int64 (L,), or (3, L) of M-RoPE; image bool (L,), which of them stand for the
    picture; following: the position of the first token that is generated. grid: (height, width) of the picture's
    tokens, where they are a grid. seed: for whatever is random. rules: what cuts it, by the layer (counted from 0)
    before which it does."""

    embeds: Tensor
    places: Tensor
    image: Tensor
    following: int
    grid: tuple[int, int] | None = None
    seed: int = 0
    rules: Mapping[int, SequenceRule] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceCut:
    """What stays of one sequence: sources int64 (L',), positions of the sequence before the cut, -1 for a row that has
    none. states (L', C): the hidden states that go on, where they are not those of the sources."""

    sources: Tensor
    states: Tensor | None = None
    policy: Policy = "original"


class Attends(Protocol):
    """What recomputes attention and keys for a rule."""

    def attention_rows(self, layer: int, hidden: Tensor, places: Tensor, queries: Tensor) -> Tensor: ...

    def projected(self, name: str, layer: int, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class LayerView:
    """One sequence, unpadded, before a layer: hidden (L, C) goes into it; places (L,) or (3, L); image bool (L,).

    before: hidden states and positions that went into the layer before. row: the sequence as it went into the language
    model, which has `depth` layers.
    """

    model: Attends
    layer: int
    hidden: Tensor
    places: Tensor
    image: Tensor
    before: tuple[Tensor, Tensor] | None
    row: Row
    depth: int

    def attention(self, layer: int, queries: Tensor) -> Tensor:
        """(heads, Q, L) float32: causal attention of these positions in the layer that is about to work, or in the one
        before it."""
        return self.model.attention_rows(layer, *self._input(layer), queries)

    def projection(self, name: str, layer: int) -> Tensor:
        """(L, D): what the layer's projection (`q_proj`, `k_proj`) gives, heads side by side, not turned by
        positions."""
        return self.model.projected(name, layer, self._input(layer)[0])

    def _input(self, layer: int) -> tuple[Tensor, Tensor]:
        if layer == self.layer:
            return self.hidden, self.places
        if layer == self.layer - 1 and self.before is not None:
            return self.before
        raise VtbenchError(
            f"a rule before layer {self.layer} reads layer {layer}: it may read that layer and the one before it",
            code=1,
        )


SequenceRule = Callable[[LayerView], SequenceCut]


@dataclass
class Segment:
    """Layers that see the same tokens, from `first` on. Rows of `valid` bool (B, L) are padded at the left; following:
    the position of the next token of every row. mask and rotary: what these layers get in place of the model's own."""

    first: int
    valid: Tensor
    image: Tensor
    places: Tensor
    following: list[int]
    mask: Tensor | None = None
    rotary: tuple[Tensor, Tensor] | None = None


def padded(
    first: int, hidden: Sequence[Tensor], places: Sequence[Tensor], image: Sequence[Tensor], following: Sequence[int]
) -> tuple[Tensor, Segment]:
    """(hidden states (B, L, C), the segment) of sequences of different lengths, padded at the left with zeros."""
    import torch

    length = max(len(h) for h in hidden)

    def left(x: Tensor, dim: int) -> Tensor:
        missing = length - x.shape[dim]
        shape = [*x.shape]
        shape[dim] = missing
        return torch.cat([x.new_zeros(shape), x], dim=dim) if missing else x

    valid = torch.stack([left(torch.ones_like(i, dtype=torch.bool), 0) for i in image])
    at = torch.stack([left(p, -1) for p in places], dim=-2)
    segment = Segment(first, valid, torch.stack([left(i, 0) for i in image]), at, list(following))
    return torch.stack([left(h, 0) for h in hidden]), segment


def shortened(
    cut: SequenceCut, hidden: Tensor, places: Tensor, image: Tensor, following: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """(hidden states, positions, which are the picture's, next position) of one sequence behind its cut."""
    import torch

    new = cut.sources < 0
    at = cut.sources.clamp(min=0)
    states = hidden[at] if cut.states is None else cut.states.to(hidden.dtype)
    kind = image[at] | new
    if cut.policy == "renumbered":
        count = torch.arange(len(cut.sources), device=places.device)
        return states, count.expand(*places.shape[:-1], -1).clone(), kind, len(count)
    if bool(new.any()):
        raise VtbenchError("merged tokens have no position of their own: give the option positions=renumbered")
    return states, places[..., cut.sources], kind, following
