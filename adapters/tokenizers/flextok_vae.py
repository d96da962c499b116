"""The VAEs that FlexTok was built on, as tokenizers of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "apple/ml-flextok@87d00cc",
    licence="README.md:148, LICENSE_WEIGHTS",
    trained_on="README.md names none",
    arch="README.md:118-124",
    weights="README.md:122-124",
)

_LICENCE = "Apple Machine Learning Research Model License (research only)"


def _card(channels: int) -> Card:
    name = f"flextok_vae_c{channels}"
    return Card(
        name=name.replace("_", "-"),
        family="flextok-vae",
        kind="continuous",
        title=f"FlexTok's VAE, {channels} channels",
        sizes=Multiple(of=8, at_least=8),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2502.13967",
        code="https://github.com/apple/ml-flextok",
        sources=_SOURCES,
        weights=(Weights(file="diffusion_pytorch_model.safetensors", hub=f"EPFL-VILAB/{name}", licence=_LICENCE),),
        tokens_at_256=1024,
        latent_channels=channels,
        downsample=8,
        value_range=(-1.0, 1.0),
        options={"posterior": "mode", "latent_dtype": "float16"},
        arch={
            "in_channels": 3,
            "vae": {
                "block_out_channels": [128, 256, 512, 512],
                "layers_per_block": 2,
                "norm_groups": 32,
                "latent_channels": channels,
                "scaling_factor": None,
            },
        },
        aliases=(name,),
        note="The factor that scales latents for generators is in the hub's configuration only: latents are counted "
        "unscaled. Upstream draws from the posterior.",
    )


CARDS = tuple(_card(channels) for channels in (4, 8, 16))


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="flextok-vae",
    title="FlexTok's VAE",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.flextok_vae:FlexTokVae",
    fixtures=("flextok-vae",),
)
