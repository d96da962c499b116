"""RepTok: a picture as one token of DINOv2, from which a flow paints another like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "CompVis/RepTok@85c3519",
    licence="LICENSE",
    trained_on="README.md:89 (the file's name); DINOv2's: arXiv:2304.07193",
    arch="configs/model/reptok.yaml",
    weights="README.md:89",
)

_LICENCE = "LMU, personal and scientific use, non-commercial"

CARDS = (
    Card(
        name="reptok-xl-600k-imagenet",
        family="reptok",
        kind="continuous",
        title="RepTok-XL, one token of 768 channels",
        sizes=Fixed(256),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2510.14630",
        code="https://github.com/CompVis/RepTok",
        sources=_SOURCES,
        # README "Usage"; the file holds the generator too, under names of its own.
        weights=(
            Weights(
                file="reptok-xl-600k-ImageNet.ckpt",
                url="https://ommer-lab.com/files/reptok/reptok-xl-600k-ImageNet.ckpt",
                key=("state_dict",),
                licence=_LICENCE,
            ),
        ),
        tokens_at_256=1,
        latent_channels=768,
        value_range=(-1.0, 1.0),
        # DINOv2 has seen LVD-142M (arXiv:2304.07193).
        trained_on=("ImageNet-1k", "LVD-142M"),
        stochastic=True,
        # encoder_wrapper.py: 50 steps.
        options={"steps": 50, "latent_dtype": "float16"},
        # configs/model/reptok.yaml.
        arch={
            "in_channels": 3,
            "out_channels": 3,
            "scale_factor": 1,
            "encoder": {
                "type": "dinov2 with 4 registers, class token",
                "image_size": 224,
                "patch_size": 14,
                "width": 768,
                "layers": 12,
                "heads": 12,
                "position_table": 37,
                "norm_eps": 1e-6,
            },
            "condition": {
                "new_registers": 2,
                "projection": "residual linear + layer norm (eps 1e-5), zero padded skip",
            },
            "backbone": {
                "width": 1152,
                "layers": 28,
                "head_dim": 72,
                "patch_size": 2,
                "ff_expand": 3,
                "norm_eps": 1e-6,
                "latent_channels": 4,
                "latent_size": 32,
            },
            "mapping": {"layers": 2, "width": 1024, "ff": 3072},
            "vae": {
                "type": "diffusers AutoencoderKL",
                "block_out_channels": [128, 256, 512, 512],
                "layers_per_block": 2,
                "latent_channels": 4,
                "norm_groups": 32,
                "scale": 0.18215,
                "shift": 0,
            },
        },
        aliases=("reptok-xl-600k-ImageNet", "reptok_xl_600k_imagenet"),
        note="768 numbers a picture, counted in latent_dtype. Upstream runs the encoder in bfloat16; here the run's "
        "dtype holds throughout. The VAE is stabilityai/sd-vae-ft-mse, carried in the file.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="reptok",
    title="RepTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.reptok:RepTok",
    fixtures=("reptok",),
)
