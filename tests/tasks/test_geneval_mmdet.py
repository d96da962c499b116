"""mmdet's own GenEval detector in transformers' Mask2Former: names and shapes one to one, layouts by numbers.

The names and shapes below follow from mmdet's public configuration and modules (mmdetection,
configs/mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py); layers are compared with the operations that
mmdet composes, built here from torch's own modules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from vtbench.cli import app
from vtbench.tasks.geneval import mmdet
from vtbench.tasks.geneval.detect import why_not
from vtbench.types.errors import VtbenchError

pytest.importorskip("transformers", reason="NOT TESTED: transformers is not installed (extra hub)")

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into), **({f"{name}.bias": (out,)} if bias else {})}


def norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def conv(name: str, out: int, into: int, side: int, bias: bool) -> Shapes:
    return {f"{name}.weight": (out, into, side, side), **({f"{name}.bias": (out,)} if bias else {})}


def swin(dim: int, depths: Sequence[int], heads: Sequence[int], window: int) -> Shapes:
    out = {**conv("backbone.patch_embed.projection", dim, 3, 4, True), **norm("backbone.patch_embed.norm", dim)}
    for stage, depth in enumerate(depths):
        width = dim * 2**stage
        for block in range(depth):
            own = f"backbone.stages.{stage}.blocks.{block}"
            attention = f"{own}.attn.w_msa"
            out |= {**norm(f"{own}.norm1", width), **norm(f"{own}.norm2", width)}
            out[f"{attention}.relative_position_bias_table"] = ((2 * window - 1) ** 2, heads[stage])
            out[f"{attention}.relative_position_index"] = (window**2, window**2)
            out |= {**linear(f"{attention}.qkv", 3 * width, width), **linear(f"{attention}.proj", width, width)}
            out |= linear(f"{own}.ffn.layers.0.0", 4 * width, width) | linear(f"{own}.ffn.layers.1", width, 4 * width)
        if stage + 1 < len(depths):
            merging = f"backbone.stages.{stage}.downsample"
            out |= norm(f"{merging}.norm", 4 * width) | linear(f"{merging}.reduction", 2 * width, 4 * width, bias=False)
        out |= norm(f"backbone.norm{stage}", width)
    return out


def head(dim: int, width: int, version: int, *, encoder: int, decoder: int, hidden: tuple[int, int]) -> Shapes:
    """dim: of the backbone's first stage; hidden: of the encoder's and the decoder's feed-forward layers."""
    pixels, layers = "panoptic_head.pixel_decoder", "panoptic_head.transformer_decoder.layers"
    deformed, crossed, own, forward = (
        ("self_attn", "cross_attn", "self_attn", "ffn")
        if version == 3
        else ("attentions.0", "attentions.0", "attentions.1", "ffns.0")
    )
    out: Shapes = {f"{pixels}.level_encoding.weight": (3, width)}
    for level, channels in enumerate((8 * dim, 4 * dim, 2 * dim)):
        out |= conv(f"{pixels}.input_convs.{level}.conv", width, channels, 1, True)
        out |= norm(f"{pixels}.input_convs.{level}.gn", width)
    for i in range(encoder):
        place = f"{pixels}.encoder.layers.{i}"
        # 8 heads, 3 levels, 4 points
        for name, size in (
            ("sampling_offsets", 192),
            ("attention_weights", 96),
            ("value_proj", width),
            ("output_proj", width),
        ):
            out |= linear(f"{place}.{deformed}.{name}", size, width)
        out |= norm(f"{place}.norms.0", width) | norm(f"{place}.norms.1", width)
        out |= linear(f"{place}.{forward}.layers.0.0", hidden[0], width)
        out |= linear(f"{place}.{forward}.layers.1", width, hidden[0])
    out |= conv(f"{pixels}.lateral_convs.0.conv", width, dim, 1, False) | norm(f"{pixels}.lateral_convs.0.gn", width)
    out |= conv(f"{pixels}.output_convs.0.conv", width, width, 3, False) | norm(f"{pixels}.output_convs.0.gn", width)
    out |= conv(f"{pixels}.mask_feature", width, width, 1, True)
    for i in range(decoder):
        for name in (crossed, own):
            place = f"{layers}.{i}.{name}.attn"
            out |= {f"{place}.in_proj_weight": (3 * width, width), f"{place}.in_proj_bias": (3 * width,)}
            out |= linear(f"{place}.out_proj", width, width)
        for n in range(3):
            out |= norm(f"{layers}.{i}.norms.{n}", width)
        out |= linear(f"{layers}.{i}.{forward}.layers.0.0", hidden[1], width)
        out |= linear(f"{layers}.{i}.{forward}.layers.1", width, hidden[1])
    out |= norm("panoptic_head.transformer_decoder.post_norm", width)
    out |= {f"panoptic_head.{n}.weight": (100, width) for n in ("query_embed", "query_feat")}
    out |= {"panoptic_head.level_embed.weight": (3, width)} | linear("panoptic_head.cls_embed", 81, width)
    for layer in (0, 2, 4):
        out |= linear(f"panoptic_head.mask_embed.{layer}", width, width)
    return out


def released(version: int) -> Shapes:
    """mask2former_swin-s-p4-w7-224: 96 channels, (2, 2, 18, 2) blocks, windows of 7; 6 and 9 layers of 256."""
    backbone = swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 7)
    return {**backbone, **head(96, 256, version, encoder=6, decoder=9, hidden=(1024, 2048))}


SMALL: dict[str, Any] = {
    "swin": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4},
    **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 32),
    **dict.fromkeys(("encoder_feedforward_dim", "dim_feedforward"), 16),
    "encoder_layers": 1,
    "decoder_layers": 3,
    "num_attention_heads": 8,
}


def small(seed: int = 0, version: int = 3) -> dict[str, torch.Tensor]:
    """Random numbers under mmdet's names, of a detector of a few thousand weights."""
    shapes = {
        **swin(8, (1, 1, 1, 1), (1, 1, 2, 2), 4),
        **head(8, 32, version, encoder=1, decoder=2, hidden=(16, 16)),
    }
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("version", [2, 3])
def test_every_name_of_the_released_file_has_its_place(version: int) -> None:
    with torch.device("meta"):
        network = mmdet.build()
        state = {name: torch.empty(shape) for name, shape in released(version).items()}
        tensors = mmdet.in_version(mmdet.to_transformers(state), network.state_dict())
    needed = {name: tuple(tensor.shape) for name, tensor in mmdet.needed(network).items()}
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == needed
    # One to one: a fused matrix is three, and nothing is left on either side but constants and what nothing depends on.
    computed = [n for n in state if n.endswith("relative_position_index")]
    fused = [
        n for n in state if ".qkv." in n or (".in_proj_" in n and "cross_attn" not in n and "attentions.0" not in n)
    ]
    assert len(needed) == len(state) - len(computed) + 2 * len(fused)
    left = set(network.state_dict()) - set(needed)
    assert left == set(mmdet.in_version(dict.fromkeys(mmdet.UNUSED), network.state_dict()))


@pytest.fixture(scope="module")
def network() -> Any:
    """The small detector with mmdet's numbers in it."""
    return mmdet.fill(mmdet.build(**SMALL), mmdet.Checkpoint(small(), "small.pth", "0" * 64)).eval()


def test_nothing_depends_on_what_the_file_lacks(network: Any) -> None:
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(pixel_values=pixels)
        kept = {n: p.clone() for n, p in network.state_dict().items() if n in mmdet.UNUSED}
        assert len(kept) == len(mmdet.UNUSED)
        for name in kept:
            network.state_dict()[name].fill_(float("nan"))
        after = network(pixel_values=pixels)
        network.load_state_dict(kept, strict=False)
    assert torch.equal(before.masks_queries_logits, after.masks_queries_logits)
    assert torch.equal(before.class_queries_logits, after.class_queries_logits)
    assert before.masks_queries_logits.isfinite().all()


def test_four_patches_are_merged_as_unfold_orders_them(network: Any) -> None:
    """mmdet: torch's Unfold of 2 x 2, LayerNorm, Linear without bias."""
    state, x = small(), torch.randn(2, 6, 4, 8, generator=torch.Generator().manual_seed(2))
    prefix = "backbone.stages.0.downsample"
    columns = nn.Unfold(2, stride=2)(x.permute(0, 3, 1, 2)).transpose(1, 2)
    normal = nn.functional.layer_norm(columns, (32,), state[f"{prefix}.norm.weight"], state[f"{prefix}.norm.bias"])
    theirs = normal @ state[f"{prefix}.reduction.weight"].T
    merging = next(m for n, m in network.named_modules() if n.endswith("layers.0.downsample"))
    ours = merging(x.flatten(1, 2), (6, 4))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_window_attends_as_mmdets_fused_matrix_says(network: Any) -> None:
    """mmdet: one matrix for q, k and v, heads inside; the bias of a pair by its offset, counted from the far corner."""
    state, prefix = small(), "backbone.stages.2.blocks.0.attn.w_msa"
    window, heads, dim = 4, 2, 32
    x = torch.randn(3, window**2, dim, generator=torch.Generator().manual_seed(3))
    fused = x @ state[f"{prefix}.qkv.weight"].T + state[f"{prefix}.qkv.bias"]
    q, k, v = fused.unflatten(-1, (3, heads, dim // heads)).permute(2, 0, 3, 1, 4)
    line = (torch.arange(window)[:, None] * (2 * window - 1) + torch.arange(window)).flatten()
    index = (line[:, None] + line).flip(1)
    bias = state[f"{prefix}.relative_position_bias_table"][index].permute(2, 0, 1)
    weights = ((q * (dim // heads) ** -0.5) @ k.mT + bias).softmax(dim=-1)
    theirs = (weights @ v).transpose(1, 2).flatten(2) @ state[f"{prefix}.proj.weight"].T + state[f"{prefix}.proj.bias"]
    attention = next(m for n, m in network.named_modules() if n.endswith("layers.2.blocks.0.attention"))
    ours = attention(x)
    torch.testing.assert_close(ours[0] if isinstance(ours, tuple) else ours, theirs, rtol=1e-4, atol=1e-5)


def test_queries_attend_to_each_other_as_torchs_own_layer_does(network: Any) -> None:
    """mmdet: nn.MultiheadAttention with positions added to queries and keys."""
    state, prefix = small(), "panoptic_head.transformer_decoder.layers.1.self_attn.attn"
    theirs_layer = nn.MultiheadAttention(32, 8, batch_first=True).eval()
    theirs_layer.load_state_dict({n.removeprefix(f"{prefix}."): t for n, t in state.items() if n.startswith(prefix)})
    x, positions = torch.randn(2, 1, 7, 32, generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        theirs, _ = theirs_layer(x + positions, x + positions, x)
        layer = next(
            m for n, m in network.named_modules() if n.endswith("transformer_module.decoder.layers.1.self_attn")
        )
        # transformers counts queries first.
        ours = layer(hidden_states=x.transpose(0, 1), position_embeddings=positions.transpose(0, 1))[0].transpose(0, 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_versions_2_and_3_are_the_same_network() -> None:
    second, third = (mmdet.to_transformers(small(version=v)) for v in (2, 3))
    assert {n: t.shape for n, t in second.items()} == {n: t.shape for n, t in third.items()}


def test_a_picture_is_prepared_as_mmdets_pipeline_does() -> None:
    grey = np.full((100, 300, 3), 128, np.uint8)
    pixels, size = mmdet.prepare(grey)
    # 1333 / 300 is less than 800 / 100; both sides are padded to a multiple of 32.
    assert (size, tuple(pixels.shape)) == ((444, 1333), (1, 3, 448, 1344))
    inside = pixels[0, :, :444, :1333].double()
    wanted = (128 - torch.tensor([123.675, 116.28, 103.53]).double()) / torch.tensor([58.395, 57.12, 57.375]).double()
    assert float((inside - wanted[:, None, None]).abs().max()) < 1e-5
    assert not pixels[0, :, 444:].any()
    assert not pixels[0, :, :, 1333:].any()
    assert mmdet.prepare(np.zeros((800, 800, 3), np.uint8))[1] == (800, 800)


def test_what_is_no_mmdet_file_is_refused() -> None:
    with torch.device("meta"):
        whole = {name: torch.empty(shape) for name, shape in released(3).items()}
        for change, sentence in (
            ({"bbox_head.fc.weight": torch.empty(3)}, "1 names are none of mmdet's Mask2Former"),
            ({"panoptic_head.cls_embed.weight": torch.empty(134, 256)}, "such as class_predictor.weight"),
            ({"panoptic_head.query_feat.weight": None}, "such as model.transformer_module.queries_features.weight"),
        ):
            state = {k: v for k, v in {**whole, **change}.items() if v is not None}
            with pytest.raises(VtbenchError, match=sentence):
                mmdet.fill(mmdet.build(), mmdet.Checkpoint(state, "x.pth", "0" * 64))


def detected(folder: Path, weights: Path, out: Path) -> Any:
    return CliRunner().invoke(app, ["geneval", "detect", str(folder), "--out", str(out), "--weights", str(weights)])


def test_the_score_says_whose_weights_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = mmdet.build
    monkeypatch.setattr(mmdet, "build", lambda: build(**SMALL))
    monkeypatch.setattr(mmdet, "SHORT", 64)
    monkeypatch.setattr(mmdet, "LONG", 96)
    weights, images, out = tmp_path / "mine.pth", tmp_path / "images" / "00000" / "samples", tmp_path / "cases.jsonl"
    # mmcv's file: facts about the training beside the tensors.
    torch.save({"meta": {"CLASSES": ("person",), "epoch": 50}, "state_dict": small(version=2)}, weights)
    images.mkdir(parents=True)
    metadata = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"}
    (images.parent / "metadata.jsonl").write_text(json.dumps(metadata))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)).save(images / "0000.png")
    done = detected(images.parents[1], weights, out)
    assert done.exit_code == 0, done.output
    assert "geneval-hf (mine.pth has the names of mmdet's detector, but the sha256" in " ".join(done.output.split())
    kept = json.loads((tmp_path / "cases.jsonl.record.json").read_text())
    assert (kept["name"], kept["detector"]["released"]) == ("geneval-hf", False)
    boxes = [d["box"] for d in json.loads(out.read_text())["detections"]]
    assert len(boxes) == 100
    assert all(0 <= x1 <= x2 <= 56 and 0 <= y1 <= y2 <= 40 for x1, y1, x2, y2 in boxes)
    # The file that the reference downloads is known by its hash alone, whatever it is called.
    monkeypatch.setattr(mmdet, "RELEASED", (kept["detector"]["sha256_file"][:8],))
    done = detected(images.parents[1], weights, out)
    assert done.output.splitlines()[0] == "geneval"
    assert json.loads((tmp_path / "cases.jsonl.record.json").read_text())["why"] is None


def test_a_colour_classifier_of_the_users_is_no_geneval() -> None:
    class Released:
        checkpoint = mmdet.Checkpoint({}, "x.pth", mmdet.RELEASED[0] + "0" * 56)

    class Mine:
        record = {"unverified": "unverified weights (clip from mine.pt)"}  # noqa: RUF012

    assert why_not(Released(), None) is None  # type: ignore[arg-type]
    assert why_not(Released(), Mine()) == "unverified weights (clip from mine.pt)"  # type: ignore[arg-type]


@pytest.mark.parametrize("digits", ["743b7d99", "c9d0c4f2", "c9d0c4f3"])
def test_the_files_that_the_reference_has_named(digits: str) -> None:
    """evaluation/download_models.sh of GenEval: mmdet 3's file until July 2024, since then mmdet 2's."""
    assert mmdet.Checkpoint({}, "mine.pth", digits + "0" * 56).official == (digits != "c9d0c4f3")


def test_one_detector_at_a_time(tmp_path: Path) -> None:
    for more, sentence in ((["--detector", "x"], "--weights is a detector already"), ([], "is no file")):
        args = [
            "geneval",
            "detect",
            str(tmp_path),
            "--out",
            str(tmp_path / "o.jsonl"),
            "--weights",
            str(tmp_path / "none"),
        ]
        (tmp_path / "00000" / "samples").mkdir(parents=True, exist_ok=True)
        (tmp_path / "00000" / "metadata.jsonl").write_text('{"tag": "colors", "include": []}')
        Image.new("RGB", (8, 8)).save(tmp_path / "00000" / "samples" / "0000.png")
        assert sentence in str(CliRunner().invoke(app, [*args, *more]).exception)
