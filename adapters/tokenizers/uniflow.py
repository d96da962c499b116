"""UniFlow: features of InternViT in 64 channels a patch, and a flow that paints every patch from noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "ZhengrongYue/UniFlow@e6322d0",
    licence="has no licence file",
    trained_on="README.MD names none",
    arch="uniflow/configuration_uniflow.py",
    weights="README.MD:6",
)

_LICENCE = "none stated (the repository has no licence file)"
CARDS = (
    Card(
        name="uniflow-448",
        family="uniflow",
        kind="continuous",
        title="UniFlow, InternViT-300M, 64 channels, 448 x 448",
        sizes=Fixed(448),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2510.10575",
        code="https://github.com/ZhengrongYue/UniFlow",
        sources=_SOURCES,
        weights=(Weights(file="model.safetensors", hub="yuezhengrong/UniFlow", licence=_LICENCE),),
        tokens_at_256=1024,
        latent_channels=64,
        downsample=14,
        stochastic=True,
        # config.json: num_sampling_steps "1", use_cfg false.
        options={"steps": 1, "guidance": 1.0, "schedule": "linear"},
        arch={
            "in_channels": 3,
            "out_channels": 3,
            "image_size": 448,
            "pixel_mean": [0.485, 0.456, 0.406],
            "pixel_std": [0.229, 0.224, 0.225],
            "patch_size": 14,
            "latent_dim": 64,
            "encoder": {
                "width": 1024,
                "layers": 24,
                "heads": 16,
                "mlp": 4096,
                "norm": "layer_norm",
                "norm_eps": 1e-6,
                "qkv_bias": True,
                "qk_norm": False,
            },
            "bottleneck": {"hidden": 1024, "activation": "gelu"},
            "global_blocks": {"layers": 6, "heads": 16, "mlp_ratio": 4, "norm_eps": 1e-5},
            "flow_head": {
                "width": 1024,
                "layers": 12,
                "channels": 588,
                "steps": 1,
                "norm_eps": 1e-6,
                "time_dim": 256,
            },
        },
        aliases=("uniflow",),
        note=(
            "The noise comes from the image's seed; upstream draws it unseeded, and runs in bfloat16 instead of the "
            "run's dtype."
        ),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="uniflow",
    title="UniFlow",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.uniflow:UniFlow",
    fixtures=("uniflow",),
)
