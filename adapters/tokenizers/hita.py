"""Hita: 128 holistic queries and a grid of patches, with a frozen DINOv2 in the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "CVMI-Lab/Hita@e10a95c",
    licence="README.md:223",
    trained_on="README.md:17; DINOv2's: arXiv:2304.07193",
    arch="configs/hita_vqgan*.yaml",
    weights="README.md:72-73",
)

_README = "Hita README (arXiv:2507.02358)"
_256 = validation("ImageNet", 256, 50_000, model_size=336)


def _card(variant: str, title: str, file: str, rfid: float, inception: float, *, vfm_recon: bool) -> Card:
    """vfm_recon: training also reconstructed DINOv2's features; nothing of that is needed to decode."""
    sizes = {"width": 512, "depth": 3, "heads": 8, "mlp_width": 2048, "head_dim": 64}
    place = {"image_size": 336, "patch_size": 16}
    return Card(
        name=f"hita-{variant}",
        family="hita",
        kind="discrete",
        title=title,
        sizes=Fixed(336),
        licence="MIT",
        paper="https://arxiv.org/abs/2507.02358",
        code="https://github.com/CVMI-Lab/Hita",
        sources=_SOURCES,
        # Upstream loads "ema" and lets DINOv2 be missing (autoregressive/sample/sample_c2i.py), which it reads from
        # Meta's own file.
        weights=(
            Weights(file=file, hub="yexiguafu/hita-gen", key=("ema",), licence="MIT"),
            archs.dinov2_weights(),
        ),
        tokens_at_256=569,
        alphabets=(16384,),
        latent_channels=12,
        downsample=16,
        value_range=(-1.0, 1.0),
        # The frozen DINOv2 has seen LVD-142M (arXiv:2304.07193).
        trained_on=("ImageNet-1k", "LVD-142M"),
        published=(Published("rfid", rfid, _README, _256), Published("ris", inception, _README, _256)),
        arch={
            "in_channels": 3,
            "cnn": {
                "ch": 128,
                "encoder_ch_mult": list(archs.F16),
                "decoder_ch_mult": list(archs.F16),
                "num_res_blocks_encoder": 2,
                "num_res_blocks_decoder": 2,
                "z_channels": 512,
                "norm_groups": 32,
                "norm_eps": 1e-6,
            },
            "encoder": {**place, **sizes, "n_carrier": 128, "feature_width": 1024, "points": None},
            "decoder": {**place, **sizes, "n_carrier": 128, "shift_k": 4, "vfm_recon": vfm_recon},
            "dinov2": archs.dinov2_large(224),
            "quantizer": {
                "type": "vq",
                "codebook_size": 16384,
                "embed_dim": 8,
                "slot_embed_dim": 12,
                "l2_norm": True,
            },
        },
        note="128 codes of holistic queries, then 441 of patches, from two codebooks of one size.",
    )


CARDS = (
    _card("vanilla", "Hita-V", "vanilla/tokenizer/hita-tok.pt", 1.03, 198.5, vfm_recon=False),
    _card("ultra", "Hita-U", "ultra/tokenizer/hita-ultra.pt", 0.57, 221.8, vfm_recon=True),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="hita",
    title="Hita",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.hita:Hita",
    fixtures=("hita",),
)
