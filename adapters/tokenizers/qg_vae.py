"""QG-VAE: codes that each describe the whole picture, with a codebook each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "DaiDaiLoh/QG-VAE@f285b2c",
    licence="has no licence file",
    trained_on="QG-VAE.ipynb",
    arch="QG-VAE.ipynb, code cell 3",
    weights="has none",
)

_LICENCE = "none stated (the repository has no licence file)"

CARDS = (
    Card(
        name="qg-vae-cifar",
        family="qg-vae",
        kind="discrete",
        title="QG-VAE, 64 codes of 512, CIFAR-10",
        sizes=Fixed(32),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2407.11913",
        code="https://github.com/DaiDaiLoh/QG-VAE",
        sources=_SOURCES,
        # Nobody has published weights: a state dict that the notebook trained comes with --checkpoint.
        weights=(Weights(file="qg-vae.pt"),),
        tokens_at_256=64,
        alphabets=(512,),
        latent_channels=64,
        value_range=(0.0, 1.0),
        trained_on=("CIFAR-10",),
        # The notebook's Settings, code cell 3.
        arch={
            "in_channels": 3,
            "image_size": 32,
            "codes": 64,
            "heads": 8,
            "down_factor": 0,
            "unet": {
                "min_channels": 16,
                "max_channels": 128,
                "res_blocks": 1,
                "position_octaves": 16,
                "norm_eps": 1e-5,
            },
            "quantizer": {
                "type": "vq, one book per position",
                "codebook_size": 512,
                "embed_dim": 64,
                "offset": True,
            },
        },
        aliases=("qg_vae_cifar",),
        note="No weights are published: train upstream's notebook and give its state dict with --checkpoint. Other "
        "settings of it (DS_SPEED_FACTOR, NUM_HEADS, …) are read off the file by `vtbench identify`.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="qg-vae",
    title="QG-VAE",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.qg_vae:QgVae",
    fixtures=("qg-vae",),
)
