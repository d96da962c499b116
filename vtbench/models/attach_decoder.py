"""Cuts between the layers of a language model of transformers: pre-hooks, no fork and no subclass.

This file knows what transformers calls the parts of a decoder: `layers`, `rotary_emb`, `self_attn.q_proj`. Tokens are
cut before a layer: hidden states, rotary positions and the mask that this layer and all behind it get are those of the
tokens that stay, and so is what they put into the cache. While decoding, every layer gets the mask and the position of
its own cut. A rule sees one sequence at a time, without padding, so that a batch is its parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.models.sequence_cuts import LayerView, Row, Segment, SequenceCut, padded, shortened
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ATTENTION = ("eager", "sdpa")
"""Implementations of attention whose masks this file builds. Rows of attention are recomputed from q and k under both;
no layer has to return its map."""
PARTS = ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.scaling", "self_attn.head_dim")


@dataclass
class Prefilled:
    """logits (B, vocabulary) of every sequence's next token; the cuts of every sequence by layer; image_tokens: of
    every sequence, how many of the picture's tokens went into each layer; and what decoding goes on from."""

    logits: Tensor
    cuts: list[dict[int, SequenceCut]]
    image_tokens: list[list[int]]
    cache: Any
    segments: list[Segment] = field(default_factory=list)
    steps: int = 0

    def kv_bytes(self, row: int) -> int:
        """Bytes of a prompt's keys and values, padding left out: what every step of decoding reads."""
        total = 0
        for number, layer in enumerate(self.cache.layers if self.cache is not None else ()):
            segment = [s for s in self.segments if s.first <= number][-1]
            tokens = int(segment.valid[row].sum()) - self.steps
            total += tokens * sum(t.element_size() * t.shape[1] * t.shape[3] for t in (layer.keys, layer.values))
        return total


class LanguageModel:
    """A decoder of transformers with its head."""

    def __init__(self, decoder: Any, head: Any) -> None:
        self.decoder, self.head = decoder, head
        self.layers = list(decoder.layers)
        self.kind = str(decoder.config._attn_implementation)
        if self.kind not in ATTENTION:
            raise VtbenchError(
                f"the language model works with {self.kind} attention, whose masks cannot be cut: load it with "
                f"{' or '.join(ATTENTION)}"
            )
        if "sliding_attention" in (getattr(decoder.config, "layer_types", None) or ()):
            raise VtbenchError("a language model with sliding windows of attention cannot be cut: give another model")
        for part in PARTS:
            place: Any = self.layers[0]
            for name in part.split("."):
                place = getattr(place, name, None)
            if place is None:
                raise VtbenchError(
                    f"a layer of {type(decoder).__name__} has no {part}: give a model whose language model is LLaMA's, "
                    "Mistral's or Qwen2's kind"
                )

    # -- what rules read ----------------------------------------------------------------------------------------------

    def rotary(self, like: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin (B, L, d) of places (B, L) or (3, B, L)."""
        cos, sin = self.decoder.rotary_emb(like, places)
        return cos, sin

    def projected(self, name: str, layer: int, hidden: Tensor) -> Tensor:
        """(L, D) of hidden (L, C): the layer's norm and one of its projections, `q_proj` or `k_proj`."""
        part = self.layers[layer]
        out: Tensor = getattr(part.self_attn, name)(part.input_layernorm(hidden[None]))[0]
        return out

    def attention_rows(self, layer: int, hidden: Tensor, places: Tensor, queries: Tensor) -> Tensor:
        """(heads, Q, L) float32, after the softmax: what the layer's attention is at these queries, recomputed from its
        norm, q and k (upstream's way of PyramidDrop)."""
        import torch

        side, scaling = self.layers[layer].self_attn.head_dim, self.layers[layer].self_attn.scaling
        q, k = (self.projected(name, layer, hidden).reshape(len(hidden), -1, side) for name in ("q_proj", "k_proj"))
        cos, sin = (t[0] for t in self.rotary(hidden[None], places.unsqueeze(-2)))
        q = _turned(q[queries].transpose(0, 1), cos[queries], sin[queries])
        k = _turned(k.transpose(0, 1), cos, sin)
        k = k.repeat_interleave(len(q) // len(k), dim=0)
        scores = (q @ k.transpose(1, 2)) * scaling
        later = torch.arange(len(hidden), device=hidden.device)[None] > queries[:, None]
        scores = scores.masked_fill(later, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, dim=-1, dtype=torch.promote_types(torch.float32, scores.dtype))

    # -- running ------------------------------------------------------------------------------------------------------

    def prefill(self, rows: Sequence[Row], *, cached: bool = True) -> Prefilled:
        """The prompts through all layers, each cut by its own rules.

        cached: keep keys and values, for `step`. Raises VtbenchError for a layer that is not there.
        """
        import torch

        for layer in {layer for row in rows for layer in row.rules}:
            if not 0 <= layer < len(self.layers):
                raise VtbenchError(
                    f"the cut lies before layer {layer}, counted from 0, and the language model has "
                    f"{len(self.layers)}: give layers below that"
                )
        run = _Prefill(self, rows)
        with torch.inference_mode(), _hooks(self.layers, run.enter):
            out = self.decoder(
                inputs_embeds=run.embeds,
                attention_mask=run.segments[0].valid.long(),
                position_ids=run.segments[0].places,
                use_cache=cached,
            )
            logits = self.head(out.last_hidden_state[:, -1])
        return Prefilled(logits, run.cuts, run.tokens, out.cache if cached else None, run.segments)

    def step(self, state: Prefilled, embeds: Tensor) -> Tensor:
        """logits (B, vocabulary) behind one more token of every sequence, embeds (B, C); the state goes on."""
        import torch

        for segment in state.segments:
            ones = segment.valid.new_ones(len(embeds), 1)
            segment.valid = torch.cat([segment.valid, ones], dim=1)
            at = torch.tensor([place + state.steps for place in segment.following], device=embeds.device)[:, None]
            segment.places = at.expand(3, -1, -1) if segment.places.dim() == 3 else at
            segment.rotary = self.rotary(embeds[:, None], segment.places)
            segment.mask = self.mask(segment.valid, 1, embeds.dtype)
        state.steps += 1
        first = state.segments[0]
        with torch.inference_mode(), _hooks(self.layers, lambda layer, hidden: (hidden, _of(state.segments, layer))):
            out = self.decoder(
                inputs_embeds=embeds[:, None],
                attention_mask=first.valid.long(),
                position_ids=first.places,
                cache=state.cache,
                use_cache=True,
            )
            logits: Tensor = self.head(out.last_hidden_state[:, -1])
        return logits

    def mask(self, valid: Tensor, queries: int, dtype: torch.dtype) -> Tensor | None:
        """The mask of the last `queries` of a left-padded sequence as the attention wants it: boolean (sdpa) or added
        (eager), (B, 1, queries, L); None where the implementation's own rule is the same."""
        import torch

        length = valid.shape[1]
        if bool(valid.all()) and (queries == 1 or self.kind == "sdpa"):
            return None
        at = torch.arange(length, device=valid.device)
        own = at[length - queries :, None]
        # A padded query attends to itself: nobody reads what it computes, and no softmax is over nothing.
        allowed = ((at[None] <= own) & valid[:, None, :]) | (at[None] == own)
        if self.kind == "sdpa":
            return allowed[:, None]
        zero = torch.zeros((), dtype=dtype, device=valid.device)
        return torch.where(allowed[:, None], zero, torch.finfo(dtype).min)

    def resumed(self, layer: int, states: Tensor, places: Tensor) -> Tensor:
        """logits (1, vocabulary) of one sequence's next token, of what goes into a layer: states (L, C), places (L,) or
        (3, L)."""
        import torch

        x = states[None]
        mask = self.mask(torch.ones(x.shape[:2], dtype=torch.bool, device=x.device), len(states), x.dtype)
        angles = self.rotary(x, places.unsqueeze(-2))
        for part in self.layers[layer:]:
            x = part(x, attention_mask=mask, position_embeddings=angles)
        logits: Tensor = self.head(self.decoder.norm(x)[:, -1])
        return logits

    def masked(self, row: Row, stays: Mapping[int, tuple[Tensor, Tensor]]) -> Tensor:
        """logits (1, vocabulary) of one whole sequence of which, from every layer of `stays` on, nobody reads but the
        tokens that stay: int64 (L',) ascending, and their positions there. No token is cut."""
        import torch

        def before(layer: int) -> Callable[..., Any]:
            kept, places = stays[max(first for first in stays if first <= layer)]
            everywhere = row.places.clone()
            everywhere[..., kept] = places
            length, lowest = len(row.embeds), torch.finfo(row.embeds.dtype).min
            hidden = torch.ones(length, dtype=torch.bool, device=kept.device)
            hidden[kept] = False
            mask = torch.full((length, length), lowest, dtype=row.embeds.dtype, device=kept.device).triu(1)
            own = {
                "attention_mask": mask.masked_fill(hidden[None], lowest)[None, None],
                "position_embeddings": self.rotary(row.embeds[None], everywhere.unsqueeze(-2)),
                "position_ids": None,
            }
            return lambda _, arguments, more: (arguments, {**more, **own})

        with torch.inference_mode(), contextlib.ExitStack() as stack:
            for number, layer in enumerate(self.layers):
                stack.callback(layer.register_forward_pre_hook(before(number), with_kwargs=True).remove)
            places = row.places.unsqueeze(-2)
            out = self.decoder(inputs_embeds=row.embeds[None], position_ids=places, use_cache=False)
            logits: Tensor = self.head(out.last_hidden_state[:, -1])
        return logits

    def greedy(
        self, state: Prefilled, embed: Callable[[Tensor], Tensor], most: int, stops: Sequence[int]
    ) -> list[list[int]]:
        """Token ids of every sequence: the likeliest token each time, up to one of `stops` (left out) or `most`."""
        import torch

        logits = state.logits
        out: list[list[int]] = [[] for _ in range(len(logits))]
        ended = [False] * len(out)
        for number in range(most):
            ids = logits.argmax(dim=-1)
            for k, token in enumerate(ids.tolist()):
                ended[k] = ended[k] or token in stops
                if not ended[k]:
                    out[k].append(token)
            if all(ended) or number == most - 1:
                break
            with torch.inference_mode():
                embeds = embed(ids)
            logits = self.step(state, embeds)
        return out


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (heads, L, d) turned by rotary angles (L, d)."""
    import torch

    one, two = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-two, one], dim=-1) * sin


def _of(segments: Sequence[Segment], layer: int) -> Segment | None:
    """What a layer gets instead of what the model hands it; None for the layers before the first cut."""
    segment = [s for s in segments if s.first <= layer][-1]
    return None if segment is segments[0] else segment


@contextlib.contextmanager
def _hooks(layers: Sequence[Any], enter: Callable[[int, Tensor], tuple[Tensor, Segment | None]]) -> Iterator[None]:
    """enter(layer, hidden) gives a layer its hidden states and its segment."""

    def hook(layer: int) -> Callable[..., Any]:
        def before(_: Any, arguments: tuple[Any, ...], more: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            hidden, segment = enter(layer, arguments[0])
            if segment is not None:
                # Positions in the angles are all that these two implementations of attention read.
                own = {"attention_mask": segment.mask, "position_embeddings": segment.rotary, "position_ids": None}
                more = {**more, **own}
            return (hidden, *arguments[1:]), more

        return before

    with contextlib.ExitStack() as stack:
        for number, layer in enumerate(layers):
            stack.callback(layer.register_forward_pre_hook(hook(number), with_kwargs=True).remove)
        yield


class _Prefill:
    """One pass of prompts: the sequences as a left-padded batch, the cuts as they happen. tokens: the picture's, of
    every sequence, by layer."""

    def __init__(self, model: LanguageModel, rows: Sequence[Row]) -> None:
        self.model, self.rows = model, rows
        self._layers = {layer for row in rows for layer in row.rules}
        self.cuts: list[dict[int, SequenceCut]] = [{} for _ in rows]
        self.tokens: list[list[int]] = [[] for _ in rows]
        self._before: tuple[Tensor, Tensor] | None = None
        parts = zip(*((r.embeds, r.places, r.image, r.following) for r in rows), strict=True)
        self.embeds, first = padded(0, *parts)
        self.segments = [first]

    def enter(self, layer: int, hidden: Tensor) -> tuple[Tensor, Segment | None]:
        if layer in self._layers:
            hidden = self._cut(layer, hidden)
        now = self.segments[-1]
        if hidden.shape[:2] != now.valid.shape:
            raise VtbenchError(f"layer {layer} got {hidden.shape[1]} tokens, wanted {now.valid.shape[1]}", code=1)
        # Counted where the layer takes its input, whatever was asked for.
        for tokens, image in zip(self.tokens, now.image & now.valid, strict=True):
            tokens.append(int(image.sum()))
        self._before = (hidden, now.places) if layer + 1 in self._layers else None
        return hidden, _of(self.segments, layer)

    def _cut(self, layer: int, hidden: Tensor) -> Tensor:
        """The hidden states that stay; the segment that begins here."""
        import torch

        now, parts, depth = self.segments[-1], [], len(self.model.layers)
        for k, row in enumerate(self.rows):
            valid = now.valid[k]
            mine, places, image = hidden[k, valid], now.places[..., k, :][..., valid], now.image[k, valid]
            before = None
            if self._before is not None:
                before = self._before[0][k, valid], self._before[1][..., k, :][..., valid]
            cut = SequenceCut(torch.arange(len(mine), device=mine.device))
            if layer in row.rules:
                cut = row.rules[layer](LayerView(self.model, layer, mine, places, image, before, row, depth))
                self.cuts[k][layer] = cut
            parts.append(shortened(cut, mine, places, image, now.following[k]))
        states, segment = padded(layer, *zip(*parts, strict=True))
        segment.rotary = self.model.rotary(states, segment.places)
        segment.mask = self.model.mask(segment.valid, segment.valid.shape[1], states.dtype)
        self.segments.append(segment)
        return states
