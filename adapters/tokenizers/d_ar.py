"""D-AR's tokenizer, whose token groups are the steps of a diffusion decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "showlab/D-AR@3fb0f2d",
    licence="README.md:34-35",
    trained_on="README.md:19",
    arch="configs/tokenizer_v1.yaml",
    weights="README.md:22",
)

CARDS = (
    Card(
        name="d-ar-tokenizer-v1",
        family="d-ar",
        kind="discrete",
        title="D-AR tokenizer v1, 8 groups of 32 tokens",
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2505.23660",
        code="https://github.com/showlab/D-AR",
        sources=_SOURCES,
        weights=(Weights(file="D-AR-tokenizer_v1.pt", hub="showlab/D-AR", key=("ema", "model"), licence="MIT"),),
        tokens_at_256=256,
        alphabets=(16384,),
        latent_channels=8,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        stochastic=True,
        options={"steps": 8},
        published=(Published("rfid", 1.52, "D-AR README (arXiv:2505.23660)", validation("ImageNet", 256, 50_000)),),
        # configs/tokenizer_v1.yaml, with the sizes that the classes hard-code.
        arch={
            "image_size": 256,
            "in_channels": 3,
            "patch_size": 16,
            "encoder": {"width": 768, "layers": 8, "head_dim": 64},
            "decoder": {"width": 768, "layers": 8, "head_dim": 64},
            "rope_axes": [32, 32],
            "query_low_rank": True,
            "num_queries": 256,
            "queries_per_step": 32,
            "num_query_groups": 8,
            "num_denoising_steps": 8,
            "quantizer": {"type": "vq", "codebook_size": 16384, "embed_dim": 8, "l2_norm": True},
            "diffusion": {
                "width": 768,
                "cond_width": 768,
                "patch_size": 8,
                "depth": 12,
                "data_std": 0.6,
                "time_shift": 2.0,
                "mlp_head": False,
                "share_time_encoding": False,
                "sampler": "adams2",
            },
            "norm_eps": 1e-6,
        },
        aliases=("D-AR-tokenizer_v1", "d-ar"),
        note="Fewer steps than 8 stop early: the tokens of the later groups are not looked at, and are counted all the "
        "same.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="d-ar",
    title="D-AR sequential diffusion tokenizer",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.d_ar:DAr",
    fixtures=("d-ar",),
)
