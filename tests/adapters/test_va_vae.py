"""VA-VAE through the KL network: upstream's names and shapes, and what training leaves in a file."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import torch
from small_networks import filled, random_images

from vtbench import registry
from vtbench.models.names import manifest_of
from vtbench.types.tokens import Latents


def test_names_and_shapes_are_upstreams(shared: Path) -> None:
    """state_keys were printed by upstream's own class (LightningDiT tokenizer/autoencoder.py)."""
    lines = (shared / "state_keys" / "vavae_f16d32.txt").read_text().splitlines()
    pairs = [line.split("\t") for line in lines if not line.startswith("#")]
    wanted = {name: list(ast.literal_eval(shape)) for name, shape in pairs}
    assert len(wanted) == 342
    for name in ("va-vae-f16d32", "e2e-va-vae-f16d32", "e2e-in-vae-f16d32"):
        assert manifest_of(name) == wanted
    eighth = manifest_of("e2e-sd-vae-f8d4")
    # Four levels from 256 end at 32, so that attention stands in the middle alone.
    assert {n.split(".attn_1")[0] for n in eighth if "attn" in n} == {"encoder.mid", "decoder.mid"}
    assert eighth["post_quant_conv.weight"] == [4, 4, 1, 1]


def test_a_file_may_hold_what_training_left(tmp_path: Path) -> None:
    entry = registry.model("va-vae-f16d32")
    arch = {
        **(entry.card.arch or {}),
        "vae": {**(entry.card.arch or {})["vae"], "ch": 32, "ch_mult": [1, 1, 1, 1, 2], "z_channels": 4},
    }
    card = replace(entry.card, arch=arch)
    tokenizer = filled(entry.family, card)
    state = dict(tokenizer.network.state_dict())
    extra = {"foundation_model.model.cls_token": torch.zeros(1), "linear_proj.weight": torch.zeros(2, 2)}
    losses = {"loss.logvar": torch.zeros(())}
    torch.save({"state_dict": {**state, **extra, **losses}}, tmp_path / "vavae.pt")
    loaded = entry.family.build(card, dict(card.options))
    loaded.load({"model": tmp_path / "vavae.pt"})
    images = random_images(1, 32, 48)
    wanted, latents = tokenizer.encode(images, [0]), loaded.encode(images, [0])
    assert isinstance(latents, Latents)
    assert isinstance(wanted, Latents)
    assert latents.values.shape == (1, 4, 2, 3)
    assert torch.equal(latents.values, wanted.values)
    assert torch.equal(loaded.decode(latents, [0]), tokenizer.decode(wanted, [0]))
