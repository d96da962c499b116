"""Vision-language models as subjects: what reducers see of them, what goes on, what is answered, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_language_models as tiny
import torch
from torch import Tensor

from vtbench import registry
from vtbench.models.answering import VisionLanguage, divergence
from vtbench.models.picture_tokens import reduced, row_of, shares, whole, with_row_ends
from vtbench.models.tower_files import model_files
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Point
from vtbench.types.reduction import Cut, Needs, Reducer, ReducerCard, Reduction, TowerView

SIZE = (112, 140)
"""Of the pictures, in pixels: 4 x 5 merged tokens of Qwen's, 6 x 6 of LLaVA's, a picture and 2 x 2 tiles of NeXT's."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "llava": tiny.llava(root / "llava"),
        "llava-next": tiny.llava_next(root / "llava-next"),
        "qwen2": tiny.qwen(root / "qwen2"),
        "qwen2.5": tiny.qwen(root / "qwen2.5", version="2.5"),
    }


def opened(folder: Path, **options: Any) -> VisionLanguage:
    return VisionLanguage(model_files(str(folder)), "cpu", "float32", {"answer_tokens": 4, **options})


@pytest.fixture(scope="module")
def subjects(folders: dict[str, Path]) -> dict[str, VisionLanguage]:
    """In float64, so that what differs by rounding alone is told from what differs."""
    out = {kind: opened(folder, attention="sdpa") for kind, folder in folders.items()}
    for subject in out.values():
        subject.attached.model.double()
    return out


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))


def item(text: str = "is there a cat ?", name: str = "q") -> Item:
    return Item(name, f"{name}.png", meta={"question": text})


CARD = ReducerCard("odd-ones", "Every second token", ("tower", "projector", "llm"), "select")


class Fixed(Reducer):
    """Keeps what it is told to, at any stage; remembers what it saw."""

    def __init__(
        self, kept: Any = None, needs: Needs | None = None, positions: Any = "original", layer: int = 1
    ) -> None:
        super().__init__(CARD)
        self.kept, self.positions, self.layer, self.seen = kept, positions, layer, list[TowerView]()
        self.needs = needs or Needs()

    def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
        self.seen.append(view)
        kept = torch.arange(len(view))[::2][:budget] if self.kept is None else self.kept
        return Reduction(kept, positions=self.positions)

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        return [(self.layer, lambda view: self.reduce(view, budget, view.seed))]


def method(name: str, **options: Any) -> Reducer:
    card = registry.reducers().get(name)
    assert card.build is not None
    return card.build(card, options)


def row(subject: VisionLanguage, inputs: Mapping[str, Any], reducer: Reducer, keep: int, stage: Any = "tower") -> Any:
    with torch.inference_mode():
        return subject.cut_row(inputs, Point(reducer, keep, stage), 0, [])


# -- what reducers see of the tower ------------------------------------------------------------------------------------


def test_the_tower_of_llava_is_seen_as_it_works(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava"])
    inputs = subject.inputs(picture(), item())
    needs = Needs(rows=(-2, 0), received=(1,), keys=(-1,), queries=(0,), hidden=(-2, 2))
    with torch.inference_mode():
        (view,) = subject.attached.look(inputs, needs, 3)
        tower = subject.attached.model.model.vision_tower
        out = tower(inputs["pixel_values"], output_attentions=True, output_hidden_states=True)
        assert torch.equal(view.features, out.hidden_states[-2][0, 1:])
        assert torch.equal(view.lead, out.hidden_states[-2][0, :1])
        assert torch.equal(view.hidden[-2], out.hidden_states[2][0])
        assert torch.equal(view.hidden[2], out.hidden_states[3][0])
        for layer in (-2, 0):
            assert torch.allclose(view.rows[layer], out.attentions[layer][0, :, 0], rtol=0, atol=1e-6)
        assert torch.allclose(view.received[1], out.attentions[1][0].mean(dim=(0, 1)), rtol=0, atol=1e-6)
        layer = tower.encoder.layers[2]
        keys = layer.self_attn.k_proj(layer.layer_norm1(out.hidden_states[2]))[0]
        assert torch.allclose(view.keys[-1], keys, rtol=0, atol=1e-6)
        assert (view.grid, view.prefix, view.seed) == ((6, 6), 1, 3)
        features = subject.attached.model.model.get_image_features(inputs["pixel_values"]).pooler_output
        assert torch.equal(whole(subject.attached, inputs, 0).tokens, features[0])


@pytest.mark.parametrize("kind", ["qwen2", "qwen2.5"])
def test_attention_that_qwens_tokens_receive(
    folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held to the maps that transformers' own eager attention computes, window by window, put in order by hand."""
    subject = opened(folders[kind])
    visual = subject.attached.model.model.visual
    module = __import__(type(visual).__module__, fromlist=["eager_attention_forward"])
    inputs, maps, inner = subject.inputs(picture(), item()), list[Tensor](), module.eager_attention_forward

    def kept(*arguments: Any, **more: Any) -> Any:
        out, weights = inner(*arguments, **more)
        maps.append(weights[0])
        return out, weights

    monkeypatch.setattr(module, "eager_attention_forward", kept)
    with torch.inference_mode():
        (view,) = subject.attached.look(inputs, Needs(received=(1, -1)), 0)
        features = visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"]).pooler_output
    patches, height, width = 80, 4, 5
    by_layer: list[Tensor] = []
    while len(by_layer) < 3:
        sums: list[Tensor] = []
        while sum(map(len, sums)) < patches:
            sums.append(maps.pop(0).mean(dim=0).sum(dim=0))
        by_layer.append(torch.cat(sums).reshape(-1, 4).mean(dim=1))
    order = torch.arange(height * width)
    if kind == "qwen2.5":
        # Windows of 56 pixels are 2 x 2 merged tokens; blocks work on them one after the other.
        places = order.reshape(height, width)
        order = torch.cat([places[r : r + 2, c : c + 2].flatten() for r in range(0, 4, 2) for c in range(0, 5, 2)])
    for layer in (1, -1):
        wanted = torch.empty(height * width).index_put_((order,), by_layer[layer] / patches)
        assert torch.allclose(view.received[layer], wanted, rtol=0, atol=1e-6)
    assert torch.equal(view.features, features)
    assert (view.grid, view.extra["queries"]) == ((4, 5), 80)


# -- what goes on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["tower", "projector"])
@pytest.mark.parametrize("kind", ["llava", "qwen2", "qwen2.5"])
def test_tokens_dropped_at_the_tower_are_tokens_masked(
    subjects: dict[str, VisionLanguage], kind: str, stage: str
) -> None:
    """With original positions: the full model with the dropped columns masked from its first layer on."""
    subject = subjects[kind]
    inputs = subject.inputs(picture(), item())
    n = int((inputs["input_ids"] == subject.attached.placeholder).sum())
    chosen, short = row(subject, inputs, Fixed(), n // 2, stage)
    assert len(chosen.tokens) == n // 2
    first = int((inputs["input_ids"][0] == subject.attached.placeholder).nonzero()[0])
    mask = torch.ones(1, inputs["input_ids"].shape[1], dtype=torch.int64)
    mask[0, first : first + n] = 0
    mask[0, first + chosen.kept] = 1
    with torch.inference_mode():
        full = row_of(subject.attached, inputs, whole(subject.attached, inputs, 0), 0)
        out = subject.attached.decoder.decoder(
            inputs_embeds=full.embeds[None], attention_mask=mask, position_ids=full.places.unsqueeze(-2)
        )
        wanted = subject.attached.decoder.head(out.last_hidden_state[:, -1])
        short_logits = subject.attached.decoder.prefill([short]).logits
    assert torch.allclose(short_logits, wanted, rtol=0, atol=1e-10)
    assert short.following == full.following


def test_values_of_dropped_tokens_are_not_read(subjects: dict[str, VisionLanguage]) -> None:
    """A selection behind the tower: whatever the dropped tokens are changed to, the sequence is the same."""
    subject = subjects["llava"]
    inputs, look = subject.inputs(picture(), item()), subject.attached.look
    _, before = row(subject, inputs, Fixed(torch.tensor([3, 8, 30])), 3)

    def changed(*arguments: Any) -> list[TowerView]:
        view = look(*arguments)[0]
        noise = torch.randn(view.features.shape, dtype=torch.float64)
        noise[[3, 8, 30]] = 0
        return [replace(view, features=view.features + noise)]

    subject.attached.look = changed  # type: ignore[method-assign]
    try:
        _, after = row(subject, inputs, Fixed(torch.tensor([3, 8, 30])), 3)
    finally:
        del subject.attached.look
    assert torch.equal(before.embeds, after.embeds)


def test_merged_tokens_go_through_the_projector(subjects: dict[str, VisionLanguage]) -> None:
    """Behind the projector a mean is of projected tokens, before it the mean is projected; neither has a position."""

    class Mean(Fixed):
        def reduce(self, view: TowerView, budget: int, seed: int) -> Reduction:
            values = view.features.unflatten(0, (budget, -1)).mean(dim=1)
            return Reduction(values=values, positions=self.positions)

    subject = subjects["llava"]
    inputs = subject.inputs(picture(), item())
    with torch.inference_mode():
        (view,) = subject.attached.look(inputs, Needs(), 0)
        project = subject.attached.project
        want = {
            "tower": project(view.features.unflatten(0, (4, 9)).mean(dim=1)),
            "projector": project(view.features).unflatten(0, (4, 9)).mean(dim=1),
        }
    for stage, wanted in want.items():
        chosen, made = row(subject, inputs, Mean(positions="renumbered"), 4, stage)
        assert torch.allclose(chosen.tokens, wanted, rtol=0, atol=1e-12)
        assert made.places.tolist() == list(range(len(made.embeds)))
        assert made.following == len(made.embeds)
        with pytest.raises(VtbenchError, match="merged tokens have no position"):
            row(subject, inputs, Mean(positions="original"), 4, stage)
    assert not torch.allclose(want["tower"], want["projector"], rtol=0, atol=1e-3)


def test_tiles_share_the_budget_and_rows_keep_their_ends(subjects: dict[str, VisionLanguage]) -> None:
    """LLaVA-NeXT: every tile is reduced alone; of the model's own marks of row ends those stay whose row has one."""
    subject = subjects["llava-next"]
    inputs, reducer = subject.inputs(picture(), item()), Fixed(needs=Needs(rows=(-2,)))
    chosen, made = row(subject, inputs, reducer, 20)
    assert [len(view) for view in reducer.seen] == [16] * 5
    # Every second token of each 4 x 4 tile, four of them: the first two rows of each, so that rows 0, 1, 4, 5 have one.
    with torch.inference_mode():
        full = whole(subject.attached, inputs, 0)
        tiles = [subject.attached.project(v.features) for v in subject.attached.look(inputs, Needs(), 0)]
        _, sources = subject.attached.pack(inputs, tiles)
    assert full.of == 70
    kept = sources[chosen.kept]
    # 112 x 140 pixels lie on 2 x 2 tiles with a row of padding above and below the picture: 6 of 8 rows remain.
    assert int((sources == -1).sum()) == 6
    assert [int(k) for k in kept[kept >= 0] if k < 16] == [0, 2, 4, 6]
    assert {int(k) % 16 for k in kept[kept >= 0]} <= {0, 2, 4, 6}
    assert torch.equal(chosen.tokens, full.tokens[chosen.kept])
    ends = [k for k, source in enumerate(sources.tolist()) if source == -1]
    begins = [16, *(end + 1 for end in ends)]
    for begin, end in zip(begins, ends, strict=False):
        assert (end in chosen.kept.tolist()) == any(begin <= k < end for k in chosen.kept.tolist())
    assert len(made.embeds) == inputs["input_ids"].shape[1] - 70 + len(chosen.tokens)


def test_hired_spends_its_budget_by_tiles(subjects: dict[str, VisionLanguage]) -> None:
    """Upstream's rule, which fixtures hold, on the tower's own rows; no marks of row ends go on."""
    subject = subjects["llava-next"]
    inputs = subject.inputs(picture(), item())
    chosen, _ = row(subject, inputs, method("hired", alpha=0.5), 20)
    with torch.inference_mode():
        views = subject.attached.look(inputs, Needs(rows=(0, -2)), 0)
        tiles = [subject.attached.project(v.features) for v in views]
        _, sources = subject.attached.pack(inputs, tiles)
    rows = {f"{n}_attn_cls": torch.stack([v.rows[j] for v in views]).float() for n, j in (("first", 0), ("last", -2))}
    config = subject.attached.model.config
    params = {
        "image_sizes": inputs["image_sizes"].tolist(),
        "tiles_per_image": [5],
        "image_grid_pinpoints": config.image_grid_pinpoints,
        "tile": 16,
        "rate": 0.25,
        "alpha": 0.5,
    }
    out = registry.reducers().get("hired").rules["hired"](rows, params, {})
    wanted = set(out["mask_0"].flatten().nonzero().flatten().tolist())
    kept = sources[chosen.kept]
    assert int(kept.min()) >= 0
    # What lies in the padding of the tiles has no place in the sequence.
    assert set(kept.tolist()) == wanted & set(sources.tolist())
    assert chosen.fallbacks == (
        f"5 tiles were reduced one by one, with {', '.join(map(str, out['budgets'][0]))} tokens left",
    )
    every, _ = row(subject, inputs, method("hired"), 70)
    assert every.kept.tolist() == list(range(70))


def test_shares_of_a_budget() -> None:
    views = [TowerView(torch.zeros(n, 1)) for n in (16, 16, 16, 4)]
    assert shares(views, 52) == [16, 16, 16, 4]
    assert shares(views, 21) == [7, 7, 6, 1]
    assert shares(views, 2) == [1, 1, 1, 1]
    chosen = torch.tensor([False, True, False, False, False])
    assert with_row_ends(torch.tensor([0, 1, -1, 2, -1]), chosen, 0).tolist() == [1, 2]
    assert with_row_ends(torch.tensor([0, 1, -1, 2, -1]), chosen, 1).tolist() == [1, 2]
    # A token of the whole picture is in no row.
    assert with_row_ends(torch.tensor([0, 1, -1, 2, -1]), chosen, 2).tolist() == [1]


# -- methods inside the language model ---------------------------------------------------------------------------------


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


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_its_parts_and_all_tokens_are_the_model_itself(subjects: dict[str, VisionLanguage]) -> None:
    subject = subjects["llava"]
    images = torch.stack([picture(k) for k in range(3)])
    items = [item("what ?", "a"), item(name="b"), item("red ?", "c")]
    together = subject.read(images, Point(method("fastv"), 12, "llm"), [0, 1, 2], items)
    for k in range(3):
        alone = subject.read(images[k : k + 1], Point(method("fastv"), 12, "llm"), [k], items[k : k + 1])
        one, other = alone.answers[0], together.answers[k]
        assert (one.text, one.full, one.by_layer, one.prompt) == (other.text, other.full, other.by_layer, other.prompt)
        assert one.kl == pytest.approx(other.kl, abs=1e-9)
        assert alone.rates[0] == together.rates[k]
    assert any(a.kl > 1e-3 for a in together.answers)
    assert together.rates[0].by_layer == (36, 36, 12, 12)
    # Half of the layers hold 24 tokens fewer: 2 key heads of 8, keys and values, 8 bytes each.
    assert alone.answers[0].full_cache - alone.answers[0].cache == 2 * 24 * 2 * 8 * 2 * 8
    whole_model = subject.read(images, Point(method("fastv"), None, "llm"), [0, 1, 2], items)
    assert [(a.text, a.kl) for a in whole_model.answers] == [(a.full, 0.0) for a in together.answers]


@pytest.mark.parametrize("kind", ["llava", "qwen2", "qwen2.5"])
def test_a_smaller_picture_is_a_baseline(folders: dict[str, Path], kind: str) -> None:
    """Qwen reads it as any other picture, LLaVA with interpolated positions; at full size it is the model itself."""
    subject = opened(folders[kind])
    count, small = (36, 9) if kind == "llava" else (20, 4)
    less = subject.read(picture()[None], Point(method("resize"), small, "input"), [0], [item()])
    assert (less.rates[0].tokens, less.rates[0].of) == (small, count)
    assert less.answers[0].by_layer == (small,) * 4
    # Nine words around it, and two marks of Qwen's.
    assert less.answers[0].prompt == 9 + small + 2 * (kind != "llava")
    assert less.answers[0].kl > 1e-3
    same = subject.read(picture()[None], Point(method("resize"), None, "input"), [0], [item()])
    assert same.answers[0].kl == pytest.approx(0.0, abs=1e-12)
    assert same.answers[0].text == same.answers[0].full


def test_llava_next_is_not_resized(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava-next"])
    with pytest.raises(VtbenchError, match="resize acts at input"):
        subject.check(Point(method("resize"), 9, "input"), [item()])


def test_divergence_is_scipys() -> None:
    from scipy.special import rel_entr, softmax

    one, two = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)) * 4
    wanted = rel_entr(softmax(one.double().numpy(), -1), softmax(two.double().numpy(), -1)).sum(-1)
    assert divergence(one, two) == pytest.approx(wanted.tolist(), abs=1e-12)


def test_positions_are_an_option_that_is_recorded(folders: dict[str, Path]) -> None:
    kl = {}
    for way in ("original", "renumbered"):
        subject = opened(folders["qwen2"], positions=way)
        assert (subject.facts["positions"], subject.identity["options"]["positions"]) == (way, way)
        point = Point(Fixed(positions="original"), 10, "tower")
        kl[way] = subject.read(picture()[None], point, [0], [item()]).answers[0].kl
    assert abs(kl["original"] - kl["renumbered"]) > 1e-4
    # A method that numbers anew slices positions of three numbers; what it merges has none.
    subject = opened(folders["qwen2"])
    point = Point(Fixed(positions="renumbered"), 10, "tower")
    assert subject.read(picture()[None], point, [0], [item()]).answers[0].kl == pytest.approx(kl["original"], abs=1e-9)
    assert "positions of three numbers" in subject.facts["notes"][0]


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_questions_and_prompts_that_cannot_be_asked(folders: dict[str, Path], tmp_path: Path) -> None:
    subject = opened(folders["llava"])
    with pytest.raises(VtbenchError, match="question q holds <image>"):
        subject.inputs(picture(), item("what is <image> ?"))
    with pytest.raises(VtbenchError, match=r"take 5.. tokens, and llava reads 512"):
        subject.inputs(picture(), item("cat " * 490))
    with pytest.raises(VtbenchError, match=r"has none: give --images QUESTIONS.jsonl"):
        subject.check(Point(Fixed(), 3), [Item("a", "a.png")])
    for prompt, says in (
        ("USER : {question}", "holds the mark of a picture, <image>, 0 times"),
        ("<image> <image> {question}", "holds the mark of a picture, <image>, 2 times"),
        ("<image> what ?", r"holds \{question\} 0 times"),
    ):
        with pytest.raises(VtbenchError, match=says):
            opened(folders["llava"], prompt=prompt)
    asked = opened(folders["llava"], prompt="<image>\\n{question}")
    assert asked.template == "<image>\n{question}"
    assert asked.identity != subject.identity


def test_models_and_options_that_cannot_be_read(folders: dict[str, Path]) -> None:
    subject = opened(folders["llava"], attention="sdpa")
    with pytest.raises(VtbenchError, match="attention map, which sdpa does not give: give --option attention=eager"):
        subject.check(Point(Fixed(needs=Needs(received=(-2,))), 3), [item()])
    with pytest.raises(VtbenchError, match="acts at vit"):
        subject.check(Point(Fixed(), 3, "vit"), [item()])
    with pytest.raises(VtbenchError, match="reads layer 8, and the tower has 3"):
        subject.check(Point(Fixed(needs=Needs(rows=(8,))), 3), [item()])
    with pytest.raises(VtbenchError, match="--keep 0: give 1 or more"):
        subject.check(Point(Fixed(), 0), [item()])
    for stage in ("tower", "llm"):
        with pytest.raises(VtbenchError, match="--keep 37: the picture has 36 tokens"):
            subject.read(picture()[None], Point(Fixed(), 37, stage), [0], [item()])
    qwen = opened(folders["qwen2"])
    for needs, says in ((Needs(cls=True), "a CLS token"), (Needs(keys=(-1,)), "keys")):
        with pytest.raises(VtbenchError, match=f"reads {says} of the tower, and Qwen's"):
            qwen.read(picture()[None], Point(Fixed(needs=needs), 3), [0], [item()])
    for option, says in (
        ({"attention": "flash_attention_2"}, "give eager or sdpa"),
        ({"positions": "none"}, "give method, original or renumbered"),
        ({"answer_tokens": 0}, "give 1 to 4096"),
        ({"pool": "mean"}, "no option 'pool'"),
    ):
        with pytest.raises(VtbenchError, match=says):
            opened(folders["llava"], **option)
    with pytest.raises(VtbenchError, match="cuts before layer 16, counted from 0, and the language model has 4"):
        subject.read(picture()[None], Point(Fixed(layer=16), 3, "llm"), [0], [item()])
    with pytest.raises(VtbenchError, match=r"positions from 0 to 99 for 36 tokens|gave positions from 99"):
        subject.read(picture()[None], Point(Fixed(torch.tensor([0, 99])), 3), [0], [item()])


def test_a_processor_that_does_not_fit_its_model(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """More placeholders than features, and none at all."""
    subject = opened(folders["llava"])
    monkeypatch.setattr(subject.processor, "num_additional_image_tokens", 3)
    with pytest.raises(VtbenchError, match="holds 38 places for the picture's tokens and the tower gives 36"):
        subject.read(picture()[None], Point(Fixed(), 3), [0], [item()])
    inputs = dict(subject.inputs(picture(), item()))
    inputs["input_ids"] = inputs["input_ids"].clone().fill_(5)
    with pytest.raises(VtbenchError, match="holds 0 places"):
        row_of(subject.attached, inputs, whole(subject.attached, inputs, 0), 0)


def test_a_folder_without_a_processor_or_template(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    bare = Path(shutil.copytree(folders["llava"], tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    stated = bare / "tokenizer_config.json"
    stated.write_text(stated.read_text().replace("chat_template", "x"))
    with pytest.raises(VtbenchError, match="no chat template: give --option 'prompt=USER: <image>"):
        opened(bare)
    (bare / "processor_config.json").unlink()
    (bare / "tokenizer.json").unlink()
    with pytest.raises(VtbenchError, match="holds no processor that can be read"):
        opened(bare)


def test_reduced_refuses_more_than_there_is(subjects: dict[str, VisionLanguage]) -> None:
    subject = subjects["qwen2"]
    inputs = subject.inputs(picture(), item())
    with torch.inference_mode(), pytest.raises(VtbenchError, match="--keep 21: the picture has 20 tokens"):
        reduced(subject.attached, inputs, Fixed(), keep=21, projected=False, policy=None, seed=0)
