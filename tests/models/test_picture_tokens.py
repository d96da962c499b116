"""Vision-language models and reducers: what these see of the tower, and what goes on into the language model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from seen_by_reducers import Fixed, item, method, opened, picture, row
from torch import Tensor

from vtbench import registry
from vtbench.models.answering import VisionLanguage
from vtbench.models.picture_tokens import row_of, shares, whole, with_row_ends
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Needs, Reduction, TowerView

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
