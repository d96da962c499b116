"""UniTok: eight codebooks a position, trained for reconstruction and understanding at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "FoundationVision/UniTok@bb8012e",
    licence="README.md:293",
    trained_on="README.md:176",
    arch="models/unitok.py, README.md:146-148",
    weights="README.md:148",
)

CARDS = (
    Card(
        name="unitok-large",
        family="unitok",
        kind="discrete",
        title="UniTok-Large, 8 codebooks of 4096",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2502.20321",
        code="https://github.com/FoundationVision/UniTok",
        sources=_SOURCES,
        # inference.py:24-29: the state dict lies under two keys.
        weights=(
            Weights(
                file="unitok_tokenizer.pth",
                hub="FoundationVision/unitok_tokenizer",
                key=("trainer/unitok",),
                licence="MIT",
            ),
        ),
        tokens_at_256=256,
        alphabets=(4096,) * 8,
        latent_channels=64,
        downsample=16,
        value_range=(-1.0, 1.0),
        trained_on=("DataComp-1B",),
        published=(Published("rfid", 0.41, "UniTok README (arXiv:2502.20321)", validation("ImageNet", 256, 50_000)),),
        arch={
            "img_size": 256,
            "in_channels": 3,
            "encoder": {
                "stem_width": 160,
                "stage_widths": [160, 320],
                "conv_depths": [2, 4],
                "vit_width": 1024,
                "vit_depth": 31,
                "num_heads": 16,
                "mlp_ratio": 2.0,
            },
            "decoder": {
                "vit_width": 1024,
                "vit_depth": 31,
                "num_heads": 16,
                "up_widths": [320, 160],
                "depths": [4, 2],
                "mlp_ratio": 2.0,
            },
            "norm_eps": 1e-6,
            "quant_proj": "attn",
            "quant_proj_heads": 16,
            "quantizer": {
                "type": "multi-codebook vq",
                "num_codebooks": 8,
                "codebook_size": 4096,
                "width": 64,
                "l2_norm": True,
            },
        },
        aliases=("unitok",),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="unitok",
    title="UniTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.unitok:UniTok",
    fixtures=("unitok",),
)
