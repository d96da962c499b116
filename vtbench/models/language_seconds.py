"""How long a language model that sees takes with all visual tokens and with fewer: its prompt and its answer apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtbench.models.answering import VisionLanguage
from vtbench.models.language_operations import attending
from vtbench.models.operations import IMPLEMENTATIONS, median
from vtbench.models.picture_tokens import row_of, whole
from vtbench.models.sequence_cuts import Row
from vtbench.types.item import Item
from vtbench.types.reading import Point

if TYPE_CHECKING:
    from torch import Tensor


def language_seconds(
    subject: VisionLanguage, point: Point, images: Tensor, seeds: Sequence[int], items: Sequence[Item]
) -> dict[str, float]:
    """Of the first question, by the names of scores: the prompt's way through the language model, with the cuts and the
    rules that are at work there, and one more token beside the cache, each the median of a few after one that warms up.

    The whole model with whichever attention is the faster of the two for that part, the reduced one with its own. No
    token is decoded where an answer is one token, which the prompt's own pass gives: then there is no such time.
    """
    import torch

    image, seed, item = images[0], seeds[0], items[0]
    with torch.inference_mode():
        inputs = subject.inputs(image, item)
        full = row_of(subject.attached, inputs, whole(subject.attached, inputs, seed), seed)
        if point.stage == "input":
            _, less = subject.shrunk(inputs, image, item, seed, point)
        else:
            _, less = subject.cut_row(inputs, point, seed, [])
        each = []
        for kind in IMPLEMENTATIONS:
            with attending(subject, kind):
                each.append(_timed(subject, full))
        fastest = {name: min(one[name] for one in each) for name in each[0]}
        return {**_timed(subject, less), **{f"{name}-full": value for name, value in fastest.items()}}


def _timed(subject: VisionLanguage, row: Row) -> dict[str, float]:
    decoder, device = subject.attached.decoder, subject.device
    out = {"seconds-prefill": median(lambda: decoder.prefill([row]), device)}
    if int(subject.options["answer_tokens"]) > 1:
        state = decoder.prefill([row])
        embeds = subject.attached.embed(state.logits.argmax(dim=-1))
        out["seconds-decoded-token"] = median(lambda: decoder.step(state, embeds), device)
    return out
