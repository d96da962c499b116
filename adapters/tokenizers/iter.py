"""ITER's Swin-VQGAN, the tokenizer of a super-resolution model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "chaofengc/ITER@826bcaa",
    licence="README.md:90-92, LICENCE-S-Lab",
    trained_on="README.md:58 links a data set and does not name its photographs",
    arch="options/train_ITER_HQ_stage.yml:44-60",
    weights="inference_iter.py:20",
)

_LICENCE = "CC BY-NC-SA 4.0, with the S-Lab licence"

CARDS = (
    Card(
        name="iter-swinvqgan",
        family="iter",
        kind="discrete",
        title="ITER Swin-VQGAN, 512 codes, factor 8",
        # Windows of 8 cells of 8 pixels; upstream mirrors its pictures to the next multiple (vqgan_swin.py:444-455).
        sizes=Multiple(of=64, at_least=64),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2312.05616",
        code="https://github.com/chaofengc/ITER",
        sources=_SOURCES,
        # inference_iter.py:20,46-56.
        weights=(
            Weights(
                file="ITER_swinvqgan.pth",
                url="https://github.com/chaofengc/ITER/releases/download/v0.1.0/ITER_swinvqgan.pth",
                key=("params_ema", "params"),
                licence=_LICENCE,
            ),
        ),
        tokens_at_256=1024,
        alphabets=(512,),
        latent_channels=128,
        downsample=8,
        value_range=(0.0, 1.0),
        # options/train_ITER_HQ_stage.yml:44-60.
        arch={
            "in_channels": 3,
            "out_channels": 3,
            "ch": 128,
            "ch_mult": [1, 2, 2, 4],
            "num_res_blocks": 2,
            "decoder_res_blocks": 2,
            "z_channels": 128,
            "nominal_resolution": [256, 256],
            "norm_groups": "32, or width / 4 below 32",
            "norm_eps": 1e-6,
            "swin": {
                "width": 256,
                "blocks": 1,
                "depth": 6,
                "heads": 8,
                "window": 8,
                "mlp_ratio": 4,
                "mlp_squeeze": 16,
                "norm_eps": 1e-5,
            },
            "quantizer": {"type": "vq", "codebook_size": 512, "embed_dim": 128, "l2_norm": False},
        },
        aliases=("iter_swinvqgan",),
        note="The repository states neither which photographs it was trained on nor how well it reconstructs; a gate "
        "in its attention looks at the whole picture, so that tiles are other pictures.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="iter",
    title="ITER (Swin-VQGAN)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.iter:Iter",
    fixtures=("iter",),
)
