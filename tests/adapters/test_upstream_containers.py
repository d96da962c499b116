"""Checkpoints in the containers in which upstream keeps them: averaged copies, prefixes, statistics, whole modules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import assert_loads, of_fixture, state_of

from vtbench import registry
from vtbench.types.cards import Weights
from vtbench.types.errors import VtbenchError


def _files(name: str) -> tuple[Weights, ...]:
    return registry.model(name).card.weights


def test_ibq_counts_its_averaged_copies(tmp_path: Path) -> None:
    state = state_of("ibq__f4-v128")
    averaged = {f"model_ema.{n.replace('.', '')}": t for n, t in state.items()}
    raw = {n: t + 1 for n, t in state.items()}
    extra = {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(7)}
    content = {"state_dict": {**raw, **averaged, **extra, "loss.logvar": torch.ones(1)}, "epoch": 3}
    assert_loads("ibq__f4-v128", {"model": content}, _files("ibq-16384"), tmp_path)


def test_janus_lies_under_a_prefix_in_a_larger_model(tmp_path: Path) -> None:
    inner = {f"gen_vision_model.{n}": t for n, t in state_of("janus__vq-ds4-tiny").items()}
    used = {"gen_vision_model.quantize.codebook_used": torch.zeros(65536)}
    content = {**inner, **used, "lm.w": torch.ones(2)}
    assert_loads("janus__vq-ds4-tiny", {"model": content}, _files("janus-pro-1b-vq16"), tmp_path)


def test_llamagen_takes_the_averaged_model_and_leaves_usage_and_discriminator(tmp_path: Path) -> None:
    state = state_of("llamagen__vq-ds4-tiny")
    used = {"quantize.codebook_used": torch.zeros(65536)}
    raw = {n: t + 1 for n, t in state.items()}
    content = {"model": raw, "ema": {**state, **used}, "discriminator": {"x": torch.ones(1)}}
    assert_loads("llamagen__vq-ds4-tiny", {"model": content}, _files("llamagen-vq-ds16-c2i"), tmp_path)


def test_maskbit_leaves_its_tables_of_bits(tmp_path: Path) -> None:
    state = state_of("maskbit__lfq-f4-10bit")
    table = {"quantize.codebook": torch.ones(1024, 10), "quantize.bits_to_indices": 2 ** torch.arange(10).int()}
    assert_loads("maskbit__lfq-f4-10bit", {"model": {**state, **table}}, _files("maskbit-10bit"), tmp_path)


def test_rqvae_leaves_the_statistics_of_its_codebooks(tmp_path: Path) -> None:
    state = state_of("rq-vae__f4-d4-v128-shared")
    statistics = {f"quantizer.codebooks.{i}.cluster_size_ema": torch.zeros(128) for i in range(4)}
    content = {"state_dict": {**state, **statistics}}
    assert_loads("rq-vae__f4-d4-v128-shared", {"model": content}, _files("rqvae-imagenet-8x8x4"), tmp_path)


@pytest.mark.parametrize(
    ("fixture", "model"),
    [("magvit2__lfq-f4-10bit", "open-magvit2-256-262144"), ("wetok__gq-f4-g4x4", "wetok-imagenet-ds16")],
)
def test_averaged_copies_are_what_counts(fixture: str, model: str, tmp_path: Path) -> None:
    state = state_of(fixture)
    averaged = {f"model_ema.{n.replace('.', '')}": t for n, t in state.items()}
    extra = {"model_ema.decay": torch.tensor(0.999), "loss.discriminator.weight": torch.ones(3)}
    raw = {n: t + 1 for n, t in state.items()}
    assert_loads(fixture, {"model": {"state_dict": {**raw, **averaged, **extra}}}, _files(model), tmp_path)


def test_infinity_loads_with_and_without_wrapped_names(tmp_path: Path) -> None:
    fixture = "infinity__bsq-d10-ps8"
    state = state_of(fixture)
    masks = {f"{name}.lfq.mask": 2 ** torch.arange(9, -1, -1) for name in ("quantizer", "quantize")}
    bare = {}
    for name, tensor in state.items():
        stem, leaf = name.rsplit(".", 1)
        bare[f"{stem.removesuffix('.conv').removesuffix('.norm')}.{leaf}"] = tensor
    assert "encoder.conv_in.weight" in bare
    assert "decoder.up.1.upsample.conv.weight" in bare
    files = _files("infinity-vae-d32")
    assert_loads(fixture, {"model": {"vae": {**state, **masks}}}, files, tmp_path)
    assert_loads(fixture, {"model": {"vae": {**bare, **masks}, "opt": {"x": torch.ones(1)}}}, files, tmp_path)


def test_dalle_loads_from_two_pickled_modules(tmp_path: Path) -> None:
    fixture = "dalle-dvae__f8-v512"
    network = of_fixture(fixture).network
    content = {"encoder": network.encoder, "decoder": network.decoder}
    assert_loads(fixture, content, _files("openai-dalle-dvae"), tmp_path)


def test_unitok_lies_two_keys_deep_beside_a_text_tower(tmp_path: Path) -> None:
    fixture = "unitok__attn-pooled-heads"
    others = {
        "text_encoder.x": torch.ones(2),
        "logit_scale": torch.ones(()),
        "quantizer.codebooks.1.vocab_usage": torch.ones(64),
    }
    content = {"trainer": {"unitok": {**state_of(fixture), **others}, "step": 3}, "args": {"lr": 1.0}}
    assert_loads(fixture, {"model": content}, _files("unitok-large"), tmp_path)


def test_imagefolder_takes_the_averaged_model_and_leaves_the_teachers(tmp_path: Path) -> None:
    fixture = "imagefolder__msbr4p2"
    state = state_of(fixture)
    others = {
        "semantic_model.blocks.0.x": torch.ones(2),
        "quantizes.1.scaler": torch.ones(4),
        "quantizes.0.ema_vocab_hit_SV": torch.ones(4, 64),
        "encoder.lvl1LC": torch.zeros(1, 97, dtype=torch.long),
    }
    raw = {n: t + 1 for n, t in state.items()}
    assert_loads(
        fixture, {"model": {"model": raw, "ema": {**state, **others}}}, _files("xqgan-msbr10p2-4096"), tmp_path
    )


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    tokenizer = of_fixture("magvit2__lfq-f4-10bit")
    torch.save({"state_dict": state_of("wetok__gq-f4-g4x4")}, tmp_path / "file.ckpt")
    card = replace(tokenizer.card, weights=_files("open-magvit2-256-262144"))
    loaded = registry.family(card.family).build(card, {})
    with pytest.raises(VtbenchError, match="does not fit"):
        loaded.load({"model": tmp_path / "file.ckpt"})
