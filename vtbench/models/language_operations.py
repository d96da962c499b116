"""Operations of a language model that sees, with all visual tokens and with fewer: by part, and its cache's bytes.

Counted while the run's own hooks are at work, under eager attention (see `operations`). What vtbench does beside the
method is left out: a picture that is looked at a second time, tokens that are projected only to be counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vtbench.models.answering import VisionLanguage, acts_before
from vtbench.models.operations import Operations, Rows, attention, counted, metered
from vtbench.models.picture_tokens import Pictured, flows_inside, row_of, whole
from vtbench.models.sequence_cuts import Row
from vtbench.types.item import Item
from vtbench.types.reading import Point
from vtbench.types.reduction import Needs

if TYPE_CHECKING:
    from torch import Tensor

PARTS: Mapping[str, str] = {
    "flops-tower": "tower",
    "flops-projector": "projector",
    "flops-prefill": "prefill",
    "flops-decoded-token": "decoded token",
}
"""Names of scores, each of them once more with `-full`."""


@dataclass(frozen=True)
class Answering:
    """What one question on one picture takes: operations by part, and bytes of keys and values behind the prompt.

    The prefill holds all layers and the head at the prompt's last token; a decoded token the same beside the cache.
    """

    operations: Operations
    kv_bytes: int


class _Meter:
    """Operations of whatever is called through it."""

    def __init__(self) -> None:
        self.operations = 0.0

    def of(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            out, operations = counted(lambda: plain(*args, **more))
            self.operations += operations
            return out

        return call


@contextlib.contextmanager
def _metered(owner: Any, name: str) -> Iterator[_Meter]:
    """Counts an object's method."""
    own, meter = vars(owner), _Meter()
    before = {name: own[name]} if name in own else {}
    own[name] = meter.of(getattr(owner, name))
    try:
        yield meter
    finally:
        del own[name]
        own.update(before)


@contextlib.contextmanager
def attending(subject: VisionLanguage, kind: str) -> Iterator[None]:
    """The model with another implementation of attention."""
    decoder = subject.attached.decoder
    before = decoder.kind
    with attention(subject.attached.model, kind):
        decoder.kind = kind
        try:
            yield
        finally:
            decoder.kind = before


def language_operations(
    subject: VisionLanguage, point: Point, image: Tensor, seed: int, item: Item
) -> tuple[Answering, Answering]:
    """(whole, reduced) of one question on its picture, float32 (3, H, W) in [0, 1].

    What a reducer reads beside the tokens (attention that is computed again) counts with its rule. An operation of
    which torch's counter makes nothing leaves 0 in every part around it.
    """
    import torch

    with torch.inference_mode(), attending(subject, "eager"):
        inputs = subject.inputs(image, item)
        with _metered(subject.attached.projector, "forward") as projector:
            picture, seen = counted(lambda: whole(subject.attached, inputs, seed))
        row = row_of(subject.attached, inputs, picture, seed)
        full = {"tower": seen - projector.operations, "projector": projector.operations}
        if point.stage == "input":
            less, parts = _shrunk(subject, inputs, point, image, seed, item)
        elif point.stage == "vit":
            less, parts = _inside(subject, inputs, point, seed)
        else:
            less, parts = _cut(subject, inputs, point, seed, full)
        return _answered(subject, row, full), _answered(subject, less, parts)


def _shrunk(
    subject: VisionLanguage, inputs: Mapping[str, Any], point: Point, image: Tensor, seed: int, item: Item
) -> tuple[Row, dict[str, float]]:
    """A smaller picture: what is read of the large one, its grid, is not the method's."""
    attached = subject.attached
    with _metered(attached.projector, "forward") as first:
        _, looking = counted(lambda: attached.look(inputs, Needs(), seed))
    with _metered(attached.projector, "forward") as both:
        (_, row), operations = counted(lambda: subject.shrunk(inputs, image, item, seed, point))
    projector = both.operations - first.operations
    return row, {"tower": operations - looking - projector, "score and reduce": 0.0, "projector": projector}


def _inside(
    subject: VisionLanguage, inputs: Mapping[str, Any], point: Point, seed: int
) -> tuple[Row, dict[str, float]]:
    """Fewer tokens from one block of the tower on, the blocks that are run and not read among them."""
    attached, reducer = subject.attached, metered(point.reducer)
    rows = Rows(attached.inside)
    with rows.metered():
        (flows, _), cutting = counted(lambda: flows_inside(attached, inputs, replace(point, reducer=reducer), seed))
    _, behind = counted(lambda: [attached.unread(flow.x[None]) for flow in flows])
    score = reducer.operations + rows.operations
    with _metered(attached.projector, "forward") as projector:
        _, row = subject.cut_row(inputs, point, seed, [])
    own = {"tower": cutting - score + behind, "score and reduce": score, "projector": projector.operations}
    return row, own


def _cut(
    subject: VisionLanguage, inputs: Mapping[str, Any], point: Point, seed: int, full: Mapping[str, float]
) -> tuple[Row, dict[str, float]]:
    """Fewer tokens of the same picture. Only what goes on is projected, where a method chooses before that."""
    attached, reducer = subject.attached, point.reducer
    with _metered(reducer, "reduce") as rule:
        picture, row = subject.cut_row(inputs, point, seed, [])
    if not acts_before(point):
        return row, {**full, "score and reduce": 0.0}
    with _metered(attached.projector, "forward") as inside:
        views, looking = counted(lambda: attached.look(inputs, Needs(), seed))
    _, reading = counted(lambda: attached.look(inputs, reducer.needs, seed))
    projector = full["projector"]
    if not (inside.operations or point.stage == "projector" or "tower" not in reducer.stages):
        projector *= _projected(subject, inputs, picture, [len(view) for view in views])
    return row, {
        "tower": full["tower"],
        "score and reduce": rule.operations + reading - looking,
        "projector": projector,
    }


def _projected(subject: VisionLanguage, inputs: Mapping[str, Any], picture: Pictured, tiles: Sequence[int]) -> float:
    """The share of the tower's tokens that goes through the projector; the model's own ends of rows do not."""
    if picture.kept.tolist() == list(range(picture.of)):
        return 1.0
    empty = [picture.tokens.new_zeros(count, picture.tokens.shape[1]) for count in tiles]
    _, sources = subject.attached.pack(inputs, empty)
    kept = picture.kept.to(sources.device)
    return float(((kept < 0) | (sources[kept.clamp(min=0)] >= 0)).sum()) / sum(tiles)


def _answered(subject: VisionLanguage, row: Row, parts: Mapping[str, float]) -> Answering:
    """The prompt through the language model, and the first token that is decoded behind it."""
    decoder, rules = subject.attached.decoder, _Meter()
    row = replace(row, rules={layer: rules.of(rule) for layer, rule in row.rules.items()})
    state, prefill = counted(lambda: decoder.prefill([row]))
    kept = state.kv_bytes(0)
    embeds = subject.attached.embed(state.logits.argmax(dim=-1))
    _, step = counted(lambda: decoder.step(state, embeds))
    score = parts.get("score and reduce", 0.0) + rules.operations
    own = {"score and reduce": score, "prefill": prefill - rules.operations, "decoded token": step}
    return Answering(Operations({**parts, **own}), kept)


def language_costs(
    subject: VisionLanguage, point: Point, images: Tensor, seeds: Sequence[int], items: Sequence[Item]
) -> dict[str, float]:
    """What the first question takes, by the names of scores; without operations where torch could not count them."""
    full, less = language_operations(subject, point, images[0], seeds[0], items[0])
    out = {"kv-bytes": float(less.kv_bytes), "kv-bytes-full": float(full.kv_bytes)}
    whole_parts, parts = full.operations.parts, less.operations.parts
    if any(each[part] <= 0 for each in (whole_parts, parts) for part in ("tower", "prefill", "decoded token")):
        return out
    for name, part in PARTS.items():
        out |= {name: parts[part], f"{name}-full": whole_parts[part]}
    return {
        **out,
        "flops": less.operations.total,
        "flops-full": full.operations.total,
        "flops-score": parts["score and reduce"],
    }
