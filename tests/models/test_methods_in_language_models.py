"""Methods inside the language model choose by its own attention, layers and question."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_language_models as tiny
import torch
from seen_by_reducers import item, method, opened, picture, row
from torch import Tensor

from vtbench import registry
from vtbench.models.answering import VisionLanguage
from vtbench.types.errors import VtbenchError
from vtbench.types.reading import Point
from vtbench.types.reduction import Needs


def eager_map(subject: VisionLanguage, inputs: Mapping[str, Any], layer: int) -> Tensor:
    """(heads, L, L) of transformers' own eager attention over the whole prompt."""
    with torch.inference_mode():
        out = subject.attached.model(**inputs, output_attentions=True)
    maps: Tensor = out.attentions[layer][0]
    return maps


def best(scores: Tensor, count: int) -> list[int]:
    return sorted(scores.sort(descending=True, stable=True).indices[:count].tolist())


def test_methods_inside_choose_by_the_models_own_attention(folders: dict[str, Path]) -> None:
    """FastV by layer 1's last row, PyramidDrop by layer 1's own before it works, at the first cut."""
    subject = opened(folders["llava"])
    inputs = subject.inputs(picture(), item())
    first, n = int((inputs["input_ids"][0] == subject.attached.placeholder).nonzero()[0]), 36
    for name, keep, layer, counts in (
        ("fastv", 12, 2, [36, 36, 12, 12]),
        # 36 (1 + r + r^2 + r^3) / 4 = 18 for r = 0.5437, the reciprocal of the tribonacci constant.
        ("pyramiddrop", 18, 1, [36, 19, 10, 5]),
    ):
        _, made = row(subject, inputs, method(name), keep, "llm")
        state = subject.attached.decoder.prefill([made])
        assert state.image_tokens == [counts]
        scores = eager_map(subject, inputs, 1)[:, -1].mean(dim=0)[first : first + n]
        kept = state.cuts[0][layer].sources
        assert [k - first for k in kept.tolist() if first <= k < first + n] == best(scores, counts[layer])
        assert state.cuts[0][layer].policy == ("original" if name == "fastv" else "renumbered")


def test_sparsevlm_rates_by_the_question_and_merges_what_it_drops(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava"])
    inputs = subject.inputs(picture(), item("what colour is the dog in the picture ?"))
    first, n = int((inputs["input_ids"][0] == subject.attached.placeholder).nonzero()[0]), 36
    _, made = row(subject, inputs, method("sparsevlm", layers="0+1+2"), 12, "llm")
    state = subject.attached.decoder.prefill([made])
    text = made.embeds[first + n :]
    similar = (made.embeds[first : first + n] @ text.T).softmax(dim=-1).mean(dim=0)
    raters = [first + n + k for k in range(len(text)) if similar[k] > similar.mean()]
    assert 0 < len(raters) < len(text)
    scores = eager_map(subject, inputs, 0)[:, raters][:, :, first : first + n].mean(dim=(0, 1))
    cut = state.cuts[0][1]
    # The table's 300, 200 and 110 of 576: 19, 12 and 7 of 36. Of the 17 dropped, 6 are merged into one, and so on.
    assert [k - first for k in cut.sources.tolist() if first <= k < first + n] == best(scores, 19)
    assert int((cut.sources < 0).sum()) == 1
    assert state.image_tokens == [[36, 20, 13, 8]]
    with pytest.raises(VtbenchError, match="SparseVLM's table has no --keep 13 of 36 tokens: give 12, 8, 6, 4"):
        row(subject, inputs, method("sparsevlm", layers="0+1+2"), 13, "llm")


def test_dart_keeps_pivots_and_what_is_least_like_them(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava"])
    inputs = subject.inputs(picture(), item())
    first, n = int((inputs["input_ids"][0] == subject.attached.placeholder).nonzero()[0]), 36
    _, made = row(subject, inputs, method("dart"), 20, "llm")
    state = subject.attached.decoder.prefill([made])
    assert state.image_tokens == [[36, 36, 20, 20]]
    with torch.inference_mode():
        hidden = subject.attached.model(**inputs, output_hidden_states=True).hidden_states
        layer = subject.attached.decoder.layers[1]
        keys = layer.self_attn.k_proj(layer.input_layernorm(hidden[1]))[0].abs().sum(dim=-1)
    pivots = [first + k for k in best(keys[first : first + n], 4)]
    kept = [k for k in state.cuts[0][2].sources.tolist() if first <= k < first + n]
    assert set(pivots) <= set(kept)
    # What the first pivot brings is the least like it of all that are no pivots.
    unit = torch.nn.functional.normalize(hidden[2][0], dim=-1)
    words = [first + n + k for k in best(keys[first + n :], 4)]
    start = next(iter(set(pivots + words)))
    others = [k for k in range(first, first + n) if k not in pivots]
    assert set(sorted(others, key=lambda k: float(unit[k] @ unit[start]))[:2]) <= set(kept)


@pytest.mark.parametrize("kind", ["qwen2", "qwen2.5"])
def test_hiprune_on_qwen_follows_its_own_form(folders: dict[str, Path], kind: str) -> None:
    """Upstream's rule, which fixtures hold, on sums over the queries; positions are sliced."""
    subject = opened(folders[kind])
    inputs = subject.inputs(picture(), item())
    reducer = method("hiprune", object_layer=2, deep_layer=-1, alpha=0.5)
    chosen, made = row(subject, inputs, reducer, 12)
    with torch.inference_mode():
        (view,) = subject.attached.look(inputs, Needs(received=(1, -1)), 0)
    rule = registry.reducers().get("hiprune").rules["hiprune-qwen"]
    scores = {"object_scores": view.received[1] * 80, "deep_scores": view.received[-1] * 80}
    assert float(scores["deep_scores"].mean()) == pytest.approx(1.0, abs=1e-4)
    first = int(made.image.nonzero()[0])
    out = rule(scores, {"retain": 0.6, "alpha": 0.5, "grid": [4, 5], "image_start": first, "text": 3}, {})
    assert torch.equal(chosen.kept, out["kept"])
    full = subject.attached.places(inputs)
    assert torch.equal(made.places[:, made.image], full[:, first + out["kept"]])


def test_vscan_acts_twice(folders: dict[str, Path]) -> None:
    """Merged behind the projector by the CLS token's attention; half of what is left goes before layer 2 of 4."""
    subject = opened(folders["llava"])
    reducer = method("vscan", shallow_layer=0, window=3)
    chosen, made = row(subject, inputs := subject.inputs(picture(), item()), reducer, 16, "projector")
    assert len(chosen.tokens) == 16
    assert made.places.tolist() == list(range(len(made.embeds)))
    state = subject.attached.decoder.prefill([made])
    assert state.image_tokens == [[16, 16, 8, 8]]
    first = int((inputs["input_ids"][0] == subject.attached.placeholder).nonzero()[0])
    with torch.inference_mode():
        out = subject.attached.decoder.decoder(inputs_embeds=made.embeds[None], output_attentions=True)
    scores = out.attentions[2][0][:, -1].mean(dim=0)[first : first + 16]
    kept = [k - first for k in state.cuts[0][2].sources.tolist() if first <= k < first + 16]
    assert kept == best(scores, 8)
    reading = subject.read(picture()[None], Point(reducer, 16, "projector"), [0], [item()])
    assert (reading.rates[0].by_layer, reading.rates[0].tokens) == ((16, 16, 8, 8), 8)


def test_btp_has_one_schedule(folders: dict[str, Path], tmp_path: Path) -> None:
    """Half, a quarter, a twelfth, none; what its second stage chooses twice is counted and said."""
    subject = opened(tiny.llava(tmp_path / "deep", layers=5))
    reading = subject.read(picture()[None], Point(method("btp", layers="1+2+3+4"), 9, "llm"), [0], [item()])
    (rate,) = reading.rates
    assert rate.by_layer == (36, 18, 9, 3, 0)
    assert rate.tokens == 0
    assert "budget of 9 is not read" in rate.fallbacks[0]
