"""Cuts inside and before the language models of tiny LLaVA, LLaVA-NeXT, Qwen2-VL and Qwen2.5-VL, saved to disk and
loaded as a user's model is. Truth: the models themselves, whole, or with the dropped tokens masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_language_models as tiny
import torch
from torch import Tensor

from vtbench.models.answering import VisionLanguage
from vtbench.models.picture_tokens import row_of, whole
from vtbench.models.sequence_cuts import LayerView, Row, SequenceCut, SequenceRule
from vtbench.models.tower_files import model_files
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item

KINDS = ("llava", "llava-next", "qwen2", "qwen2.5")
MAKERS = {
    "llava": tiny.llava,
    "llava-next": tiny.llava_next,
    "qwen2": tiny.qwen,
    "qwen2.5": lambda folder: tiny.qwen(folder, version="2.5"),
}
TOLERANCE = {"sdpa": 1e-10, "eager": 1e-5}
"""Of logits of order 1 in float64, which hold 1e-16: sums of a few thousand terms in another order. transformers' eager
attention takes its softmax in float32, whatever comes in: 6e-8 of every weight, through four layers."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: MAKERS[kind](root / kind) for kind in KINDS}


def opened(folder: Path, attention: str = "eager", *, double: bool = False) -> VisionLanguage:
    subject = VisionLanguage(model_files(str(folder)), "cpu", "float32", {"attention": attention})
    if double:
        subject.attached.model.double()
    return subject


@pytest.fixture(scope="module")
def exact(folders: dict[str, Path]) -> dict[str, VisionLanguage]:
    """The models in float64."""
    return {kind: opened(folder, "sdpa", double=True) for kind, folder in folders.items()}


def asked(
    subject: VisionLanguage, seed: int = 1, text: str = "is there a cat ?", size: Any = (112, 140)
) -> dict[str, Any]:
    pixels = torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))
    return subject.inputs(pixels, Item("q", "q.png", meta={"question": text}))


def whole_row(subject: VisionLanguage, inputs: Mapping[str, Any]) -> Row:
    with torch.inference_mode():
        return row_of(subject.attached, inputs, whole(subject.attached, inputs, 0), 0)


def keeping(share: float, policy: Any = "original") -> SequenceRule:
    """Every token but some of the picture's, which of them by a rule of its own."""

    def rule(at: LayerView) -> SequenceCut:
        places = at.image.nonzero().flatten()
        kept = max(1, round(len(places) * share))
        chosen = places[(torch.arange(len(places)) * 7 % len(places)).argsort(stable=True)[:kept]]
        sources = torch.cat([chosen, (~at.image).nonzero().flatten()]).sort().values
        return SequenceCut(sources, policy=policy)

    return rule


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_keeping_all_is_the_model_itself_to_the_bit(folders: dict[str, Path], kind: str, attention: str) -> None:
    """Hooks at work, everything kept at three layers: the logits are the model's, and so are the tokens of generate."""
    subject = opened(folders[kind], attention)
    inputs, model, decoder = asked(subject), subject.attached.model, subject.attached.decoder
    with torch.inference_mode():
        own = model(**inputs, logits_to_keep=1).logits[:, -1]
        steps = model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=3)
    row = replace(whole_row(subject, inputs), rules={layer: keeping(1.0) for layer in (0, 1, 3)})
    state = decoder.prefill([row])
    assert torch.equal(state.logits, own)
    tokens = decoder.greedy(state, subject.attached.embed, 6, ())
    assert tokens == [steps[0, inputs["input_ids"].shape[1] :].tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_selection_is_the_full_model_with_the_dropped_tokens_masked(
    exact: dict[str, VisionLanguage], kind: str
) -> None:
    """Half of the picture dropped before layer 1, half of the rest before layer 3."""
    subject = exact[kind]
    inputs, decoder = asked(subject), subject.attached.decoder
    row = replace(whole_row(subject, inputs), rules={1: keeping(0.5), 3: keeping(0.5)})
    state = decoder.prefill([row])
    length = len(row.embeds)
    kept_1 = state.cuts[0][1].sources
    kept_3 = kept_1[state.cuts[0][3].sources]
    hidden = {layer: torch.ones(length, dtype=torch.bool) for layer in (1, 2, 3)}
    for layer, kept in ((1, kept_1), (2, kept_1), (3, kept_3)):
        hidden[layer][kept] = False

    def masked(layer: int) -> Any:
        def before(_: Any, arguments: Any, more: dict[str, Any]) -> Any:
            mask = torch.full((1, 1, length, length), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)
            mask = mask.masked_fill(hidden[layer][None, None, None], torch.finfo(torch.float64).min)
            return arguments, {**more, "attention_mask": mask}

        return before

    handles = [decoder.layers[n].register_forward_pre_hook(masked(n), with_kwargs=True) for n in (1, 2, 3)]
    with torch.inference_mode():
        out = decoder.decoder(inputs_embeds=row.embeds[None], position_ids=row.places.unsqueeze(-2), use_cache=False)
        wanted = decoder.head(out.last_hidden_state[:, -1])
    for handle in handles:
        handle.remove()
    assert torch.allclose(state.logits, wanted, rtol=0, atol=TOLERANCE["sdpa"])
    counts = [int(row.image[kept].sum()) for kept in (torch.arange(length), kept_1, kept_1, kept_3)]
    assert state.image_tokens == [counts]


def longer(row: Row, extra: Tensor, cuts: Mapping[int, SequenceCut]) -> Row:
    """The prompt with tokens (T, C) behind it, cut where the prompt was cut."""
    count = torch.arange(len(extra))

    def again(layer: int) -> SequenceRule:
        def rule(at: LayerView) -> SequenceCut:
            behind = len(at.hidden) - len(extra) + count
            return SequenceCut(torch.cat([cuts[layer].sources, behind]), policy=cuts[layer].policy)

        return rule

    return replace(
        row,
        embeds=torch.cat([row.embeds, extra]),
        places=torch.cat([row.places, (row.following + count).expand(*row.places.shape[:-1], -1)], dim=-1),
        image=torch.cat([row.image, torch.zeros(len(extra), dtype=torch.bool)]),
        following=row.following + len(extra),
        rules={layer: again(layer) for layer in cuts},
    )


@pytest.mark.parametrize("policy", ["original", "renumbered"])
@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_cached_decoding_is_the_loop_without_a_cache(exact: dict[str, VisionLanguage], kind: str, policy: str) -> None:
    """At every step; the loop runs the whole sequence anew, cut where the prompt was cut."""
    subject = exact[kind]
    inputs, decoder = asked(subject), subject.attached.decoder
    row = replace(whole_row(subject, inputs), rules={1: keeping(0.6, policy), 2: keeping(0.5, policy)})
    state = decoder.prefill([row])
    logits, extra = state.logits, row.embeds[:0]
    for _ in range(4):
        with torch.inference_mode():
            embeds = subject.attached.embed(logits.argmax(dim=-1))
        logits, extra = decoder.step(state, embeds), torch.cat([extra, embeds])
        again = decoder.prefill([longer(row, extra, state.cuts[0])], cached=False)
        assert torch.allclose(logits, again.logits, rtol=0, atol=TOLERANCE["sdpa"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["llava", "qwen2.5"])
def test_a_padded_batch_of_different_counts_is_its_parts(folders: dict[str, Path], kind: str, attention: str) -> None:
    """Prompts of three lengths, pictures of different sizes, cut differently (one of them not at all): every sequence
    as if alone, through the prefill and while decoding."""
    subject = opened(folders[kind], attention, double=True)
    decoder, texts = subject.attached.decoder, ("is there a cat ?", "what ?", "is the dog in the picture red or blue ?")
    prompts = [asked(subject, seed=k, text=text, size=(84 + 28 * k, 112)) for k, text in enumerate(texts)]
    rules: list[dict[int, SequenceRule]] = [{1: keeping(0.5), 2: keeping(0.5)}, {}, {1: keeping(0.3), 3: keeping(0.9)}]
    rows = [replace(whole_row(subject, p), rules=r) for p, r in zip(prompts, rules, strict=True)]
    together = decoder.prefill(rows)
    alone = [decoder.prefill([row]) for row in rows]
    assert torch.allclose(together.logits, torch.cat([a.logits for a in alone]), rtol=0, atol=TOLERANCE[attention])
    assert together.image_tokens == [a.image_tokens[0] for a in alone]
    for _ in range(3):
        embeds = subject.attached.embed(together.logits.argmax(dim=-1)).detach()
        together.logits = decoder.step(together, embeds)
        for number, one in enumerate(alone):
            one.logits = decoder.step(one, embeds[number : number + 1])
        assert torch.allclose(together.logits, torch.cat([a.logits for a in alone]), rtol=0, atol=TOLERANCE[attention])


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_positions_are_sliced_or_numbered_anew(exact: dict[str, VisionLanguage], kind: str) -> None:
    """A cut before the first layer is the model on the shorter sequence with these positions; the two ways differ."""
    subject = exact[kind]
    inputs, decoder = asked(subject), subject.attached.decoder
    row, logits = whole_row(subject, inputs), {}
    for policy in ("original", "renumbered"):
        state = decoder.prefill([replace(row, rules={0: keeping(0.4, policy)})])
        sources, logits[policy] = state.cuts[0][0].sources, state.logits
        places = row.places[..., sources]
        if policy == "renumbered":
            places = torch.arange(len(sources)).expand(*places.shape[:-1], -1)
        with torch.inference_mode():
            out = decoder.decoder(inputs_embeds=row.embeds[sources][None], position_ids=places.unsqueeze(-2))
            wanted = decoder.head(out.last_hidden_state[:, -1])
        assert torch.allclose(state.logits, wanted, rtol=0, atol=TOLERANCE["sdpa"])
    assert (logits["original"] - logits["renumbered"]).abs().max() > 1e-4
    if kind == "qwen2":
        # Height and width run over the picture, and the text goes on behind the larger of them.
        rope, delta = subject.attached.model.model.get_rope_index(
            inputs["input_ids"], inputs["mm_token_type_ids"], image_grid_thw=inputs["image_grid_thw"]
        )
        assert torch.equal(row.places, rope[:, 0])
        assert row.following == len(row.embeds) + int(delta)
        assert len({tuple(p) for p in row.places[:, row.image].T.tolist()}) == int(row.image.sum())


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_recomputed_rows_are_those_of_eager_attention(folders: dict[str, Path], kind: str) -> None:
    subject = opened(folders[kind], "eager", double=True)
    inputs, decoder, rows = asked(subject), subject.attached.decoder, {}

    def rule(at: LayerView) -> SequenceCut:
        queries = torch.tensor([5, len(at.hidden) - 1])
        rows[at.layer] = at.attention(at.layer, queries)
        rows[at.layer - 1] = at.attention(at.layer - 1, queries)
        with pytest.raises(VtbenchError, match="that layer and the one before it"):
            at.attention(0, queries)
        return SequenceCut(torch.arange(len(at.hidden)))

    row = replace(whole_row(subject, inputs), rules={2: rule})
    decoder.prefill([row])
    with torch.inference_mode():
        out = decoder.decoder(
            inputs_embeds=row.embeds[None], position_ids=row.places.unsqueeze(-2), output_attentions=True
        )
    for layer in (1, 2):
        # transformers' own softmax is of float32, whatever comes in.
        assert torch.allclose(rows[layer].double(), out.attentions[layer][0][:, [5, -1]].double(), rtol=0, atol=1e-6)


def test_values_take_places_only_where_they_are_numbered(exact: dict[str, VisionLanguage]) -> None:
    """Two tokens merged into one: the sequence that the next layers see, and no position of its own for it."""
    subject = exact["llava"]
    inputs, decoder, layers = asked(subject), subject.attached.decoder, []

    def merging(policy: Any) -> SequenceRule:
        def rule(at: LayerView) -> SequenceCut:
            places = at.image.nonzero().flatten()
            first, last = int(places[0]), int(places[-1]) + 1
            mean = at.hidden[places].mean(dim=0, keepdim=True)
            states = torch.cat([at.hidden[:first], mean, at.hidden[last:]])
            layers.append(states)
            sources = torch.cat([torch.arange(first), torch.tensor([-1]), torch.arange(last, len(at.hidden))])
            return SequenceCut(sources, states, policy)

        return rule

    row = whole_row(subject, inputs)
    state = decoder.prefill([replace(row, rules={3: merging("renumbered")})])
    assert state.image_tokens == [[36, 36, 36, 1]]
    with torch.inference_mode():
        x, count = layers[0][None], len(layers[0])
        mask = torch.full((count, count), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)[None, None]
        angles = decoder.rotary(x, torch.arange(count)[None])
        out = decoder.layers[3](x, attention_mask=mask, position_embeddings=angles)
        wanted = decoder.head(decoder.decoder.norm(out)[:, -1])
    assert torch.allclose(state.logits, wanted, rtol=0, atol=TOLERANCE["sdpa"])
    with pytest.raises(VtbenchError, match="merged tokens have no position of their own"):
        decoder.prefill([replace(row, rules={3: merging("original")})])


def test_what_cannot_be_cut_is_refused(folders: dict[str, Path], exact: dict[str, VisionLanguage]) -> None:
    subject = exact["llava"]
    row = whole_row(subject, asked(subject))
    with pytest.raises(VtbenchError, match="before layer 4, counted from 0, and the language model has 4"):
        subject.attached.decoder.prefill([replace(row, rules={4: keeping(1.0)})])
    decoder = subject.attached.model.model.language_model
    from vtbench.models.attach_decoder import LanguageModel

    for name, value, says in (
        (
            "_attn_implementation_internal",
            "flash_attention_2",
            "flash_attention_2 attention, whose masks cannot be cut",
        ),
        ("layer_types", ["sliding_attention"], "sliding windows"),
    ):
        before = getattr(decoder.config, name, None)
        setattr(decoder.config, name, value)
        try:
            with pytest.raises(VtbenchError, match=says):
                LanguageModel(decoder, None)
        finally:
            setattr(decoder.config, name, before)
