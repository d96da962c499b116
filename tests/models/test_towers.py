"""Image towers of transformers, and reducers between their stages, on tiny random models that were saved to disk.

The truth is the model's own forward, the same model with the dropped columns masked, and upstream's functions as the
parity fixtures prove them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from read_towers import CARD, SEEDS, Chosen, Opened, opener, pictures, read
from tiny_towers import MAKERS

from vtbench import registry
from vtbench.models.reduced import point_of
from vtbench.models.tower_files import model_files
from vtbench.models.tower_pixels import Preparation, preparation
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import Tower
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Point


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return opener(tmp_path_factory.mktemp("towers"))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", MAKERS)
def test_block_by_block_is_the_models_own_forward_to_the_bit(opened: Opened, kind: str, attention: str) -> None:
    tower = opened(kind, attention=attention).tower
    pixels = tower.pixels(tower.pictures(pictures()))
    with torch.inference_mode():
        own = (
            tower.vision(pixels, interpolate_pos_encoding=True) if kind in ("clip", "siglip") else tower.vision(pixels)
        )
        whole = tower.whole(pixels)
        features, logits = tower.head(whole.output)
        answer = tower.network(pixels)
    assert torch.equal(whole.output, own.last_hidden_state)
    if logits is not None:
        assert torch.equal(logits, answer.logits)
    else:
        assert torch.equal(features, answer.image_embeds if kind == "clip" else answer.pooler_output)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("stage", ["input", "tower", "vit"])
def test_keeping_all_changes_no_bit(opened: Opened, kind: str, stage: Any) -> None:
    subject = opened(kind)
    for reducer in (Chosen(CARD), registry.reducers().get("tome").build(registry.reducers().get("tome"), {})):  # type: ignore[misc]
        out = read(subject, Point(reducer, 36, stage))
        assert torch.equal(out.features, out.reduced_features)
        assert [rate.tokens for rate in out.rates] == [36, 36, 36]
        assert list(out.coverage) == pytest.approx([1.0] * 3)
        assert all(torch.equal(one.full, one.filled) for one in out.dense)


def masked(tower: Tower, pixels: torch.Tensor, block: int, kept: torch.Tensor) -> torch.Tensor:
    """The full model's pooled features, all dropped places masked as keys from a block on."""
    x = tower.embedded(pixels)
    bias = x.new_full((1, 1, 1, x.shape[1]), -math.inf)
    bias[..., : tower.prefix] = 0
    bias[..., kept + tower.prefix] = 0
    for number in range(len(tower.blocks)):
        x = tower.blocks.blocks[number](x, bias if number >= block else None)
    x = tower.blocks.finished(x)
    return tower.head(torch.cat([x[:, : tower.prefix], x[:, kept + tower.prefix]], dim=1))[0]


@pytest.mark.parametrize("kind", MAKERS)
def test_choosing_inside_is_the_masked_full_model(opened: Opened, kind: str) -> None:
    """In float64. The library takes its softmax in float32 there too, whose sums have another order on another
    processor: what is left is within twice what the whole network in float32 is away."""
    subject = opened(kind)
    tower = subject.tower
    kept = torch.arange(1, 21, 2)
    with torch.inference_mode():
        coarse = masked(tower, tower.pixels(tower.pictures(pictures())), 2, kept)
    tower.network.double()
    tower.dtype = "float64"
    seen = read(subject, Point(Chosen(CARD), 10, "vit", 2))
    with torch.inference_mode():
        expected = masked(tower, tower.pixels(tower.pictures(pictures())), 2, kept)
    assert [rate.by_layer for rate in seen.rates] == [(36, 36, 10, 10)] * 3
    room = 2 * float((coarse.double() - expected).abs().max())
    assert 0 < room < 1e-4 * float(expected.abs().max())
    assert float((seen.reduced_features.double() - expected).abs().max()) <= room
    assert not torch.allclose(seen.reduced_features, seen.features, atol=1e-3)


METHODS = ("random", "uniform", "adaptive-pooling", "resize", "visionzip", "hired", "hiprune", "vscan", "fastervlm")
METHODS += ("vispruner", "prumerge", "divprune", "m3", "fourier-vlm", "tome", "evit")
OPTIONS = {"hiprune": {"object_layer": "2"}, "vscan": {"shallow_layer": "1"}}
COUNTS = {"vscan": {12}, "m3": {9}, "hiprune": {11, 12}}
"""Where upstream's rule gives another number than the 12 asked for, the numbers it may give: VScan's 6 windows-wide
share of a 6 x 6 grid is none of 36, M3's window is int(sqrt(36 / 12)) = 1 of 6."""


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_the_same_alone_and_in_a_batch(opened: Opened, name: str) -> None:
    subject = opened("dinov2")
    card = registry.reducers().get(name)
    point = point_of(card, OPTIONS.get(name, {}), 12, subject)
    subject.check(point, [])
    together = read(subject, point)
    alone = [read(subject, point, pictures()[k : k + 1], [SEEDS[k]]) for k in range(3)]
    assert [rate.tokens for rate in together.rates] == [one.rates[0].tokens for one in alone]
    assert all(1 <= rate.tokens <= 36 for rate in together.rates)
    if name not in ("vscan", "m3", "hiprune"):
        assert {rate.tokens for rate in together.rates} == {12}
    for k, one in enumerate(alone):
        if together.reduced_features is not None:
            assert torch.allclose(together.reduced_features[k], one.reduced_features[0], atol=1e-5)
        if together.coverage[k] is not None:
            assert together.coverage[k] == pytest.approx(one.coverage[0], abs=1e-5)
        if together.dense[k] is not None:
            assert torch.allclose(together.dense[k].filled, one.dense[0].filled, atol=1e-5)


def _timm(tower: Tower) -> dict[str, torch.Tensor]:
    """The weights of transformers' ViT under timm's names, as the rule of ToMe's fixture wants them."""
    out = {}
    for number in range(len(tower.blocks)):
        block = tower.blocks.blocks[number]
        own = f"blocks.{number}"
        for part in ("weight", "bias"):
            projections = (block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)
            out[f"{own}.attn.qkv.{part}"] = torch.cat([getattr(one, part) for one in projections])
            for name, module in {
                "attn.proj": block.attention.o_proj,
                "norm1": block.layernorm_before,
                "norm2": block.layernorm_after,
                "mlp.fc1": block.mlp.fc1,
                "mlp.fc2": block.mlp.fc2,
            }.items():
                out[f"{own}.{name}.{part}"] = getattr(module, part)
    for part in ("weight", "bias"):
        out[f"norm.{part}"] = getattr(tower.vision.layernorm, part)
        out[f"head.{part}"] = getattr(tower.network.classifier, part)
    return out


def test_tome_is_upstreams_whole_vit(opened: Opened) -> None:
    """adapters/reducers/tome.py runs a whole ViT for its fixture; transformers' epsilon is 1e-12, timm's 1e-6."""
    from vtbench.adapters.reducers.tome import _classify

    subject = opened("vit")
    tower = subject.tower
    for module in tower.network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    tome = registry.reducers().get("tome")
    point = point_of(tome, {"r": "4"}, 20, subject)
    with torch.inference_mode():
        x = tower.embedded(tower.pixels(tower.pictures(pictures())))
        logits, sizes, _ = _classify(x, [4] * 4, {"prop_attn": True, "heads": 2}, _timm(tower))
    seen = read(subject, point)
    assert seen.rates[0].by_layer == (32, 28, 24, 20)
    assert sizes.shape[1] == 21
    assert torch.allclose(seen.reduced_logits, logits, atol=2e-5)


def test_evit_is_upstreams_block(opened: Opened) -> None:
    from vtbench.adapters.reducers.evit import _block

    subject = opened("vit")
    tower = subject.tower
    weights = {n.removeprefix("blocks.1."): w for n, w in _timm(tower).items() if n.startswith("blocks.1.")}
    evit = registry.reducers().get("evit")
    assert evit.build is not None
    reducer = evit.build(evit, {"fuse": True})

    class Once(type(reducer)):  # type: ignore[misc]
        def schedule(self, depth: int, n: int, budget: int) -> Any:
            return [one for one in super().schedule(depth, n, budget) if one[0] == 1][:1]

    seen = read(subject, Point(Once(evit, {"fuse": True}), 9, "vit"))
    count = seen.rates[0].tokens
    params = {"heads": 2, "norm_eps": tower.blocks.blocks[0].layernorm_before.eps, "keep_rate": 0.5}
    with torch.inference_mode():
        x = tower.blocks.blocks[0](tower.embedded(tower.pixels(tower.pictures(pictures()))))
        y = _block({"x": x}, {**params, "tokens": count - 1, "fuse_token": True}, weights)["y"]
        for block in tower.blocks.blocks[2:]:
            y = block(y)
        expected = tower.head(tower.blocks.finished(y))[1]
    assert expected is not None
    assert torch.allclose(seen.reduced_logits, expected, atol=2e-5)


def test_classes_by_their_names_are_clips_own_logits(opened: Opened) -> None:
    from transformers import AutoTokenizer

    subject = opened("worded")
    tower = subject.tower
    items = [Item(f"{name}/{k}.png", None) for k, name in enumerate(("red", "blue", "green"))]
    point = Point(Chosen(CARD), 9, "vit")
    subject.check(point, items)
    seen = subject.read(pictures(), point, SEEDS, items)
    tokens = AutoTokenizer.from_pretrained(tower.files.folder)(
        [f"a photo of a {name}." for name in ("blue", "green", "red")], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        pixels = tower.pixels(tower.pictures(pictures()))
        own = tower.network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels)
    assert torch.allclose(seen.logits, own.logits_per_image, atol=1e-5)
    assert seen.logits.std(dim=1).min() > 1e-4
    assert not torch.allclose(seen.logits, seen.reduced_logits, atol=1e-4)
    assert list(seen.labels) == [2, 0, 1]
    assert list(seen.classes) == ["red", "blue", "green"]
    subject.check(point, [Item("flat.png", None)] * 3)
    flat = subject.read(pictures(), point, SEEDS, [Item("flat.png", None)] * 3)
    assert flat.logits is None
    assert "these lie in none" in flat.why["logits"]


def test_words_without_a_tokenizer_are_refused(opened: Opened, tmp_path: Path) -> None:
    files = opened("worded").tower.files
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((files.folder / name).read_bytes())
    subject = TowerSubject(Tower(model_files(str(tmp_path)), "cpu", "float32", {}))
    with pytest.raises(VtbenchError, match=r"copy tokenizer\.json there, or give --option labels=none"):
        subject.check(Point(Chosen(CARD), 9, "vit"), [Item("red/a.png", None), Item("blue/a.png", None)])


def test_a_hub_id_is_taken_from_the_hubs_cache_without_a_network(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    own = opened("dinov2").tower.files.folder
    repository = tmp_path / "hub" / "models--somebody--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes((own / name).read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    files = model_files("somebody/tiny")
    assert files.folder == snapshot
    assert files.name == "tiny"
    assert files.record()["status"] == "own"
    assert Tower(files, "cpu", "float32", {}).tokens == 36


# -- what a tower is shown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 31), (24, 24), (17, 50), (9, 11)])
def test_pictures_are_prepared_as_transformers_does(tmp_path: Path, size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    stated = {
        "size": {"shortest_edge": 26},
        "crop_size": {"height": 24, "width": 24},
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.25],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    default = Preparation(224, None, (224, 224), 3, (0, 0, 0), (1, 1, 1))
    ours, note = preparation(tmp_path, default, 24)
    picture = (torch.rand((3, *size), generator=torch.Generator().manual_seed(1)) * 255).byte()
    theirs = CLIPImageProcessorPil(**stated)(Image.fromarray(picture.permute(1, 2, 0).numpy()), return_tensors="pt")
    mine = ours.normalised(ours.pictures(picture[None].float() / 255), torch.float32, "cpu")
    assert note is None
    assert torch.allclose(mine, theirs["pixel_values"], atol=1e-5)
