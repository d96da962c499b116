"""MaskGIT's VQGAN in the PyTorch port that TiTok, RAR and MaskGen use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "bytedance/1d-tokenizer@942a96f",
    licence="LICENSE",
    trained_on="README_RAR.md:61 (the file's name)",
    arch="modeling/modules/maskgit_vqgan.py",
    weights="README_RAR.md:61",
)

CARDS = (
    Card(
        name="maskgit-vqgan-imagenet-f16-256",
        family="maskgit-vqgan",
        kind="discrete",
        title="MaskGIT VQGAN f16, 1024 codes, ImageNet",
        sizes=Multiple(of=16, at_least=16),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2202.04200",
        code="https://github.com/bytedance/1d-tokenizer",
        sources=_SOURCES,
        # A flat state dict.
        weights=(Weights(file="maskgit-vqgan-imagenet-f16-256.bin", hub="fun-research/TiTok", licence="Apache-2.0"),),
        tokens_at_256=256,
        alphabets=(1024,),
        latent_channels=256,
        downsample=16,
        value_range=(0.0, 1.0),
        trained_on=("ImageNet-1k",),
        published=(
            Published(
                "rfid",
                1.96,
                "maskbit README (arXiv:2409.16211)",
                validation("ImageNet", 256, 50_000),
                "the same weights in MaskBit's key layout",
            ),
        ),
        arch={
            "in_channels": 3,
            "hidden_channels": 128,
            "channel_mult": list(archs.F16),
            "num_res_blocks": 2,
            "resolution": 256,
            "z_channels": 256,
            "shortcut_on_output": True,
            "norm_groups": 32,
            "norm_eps": 1e-6,
            "quantizer": archs.vq(1024, 256),
        },
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="maskgit-vqgan",
    title="MaskGIT VQGAN (1d-tokenizer)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.maskgit:MaskGit",
    fixtures=("maskgit-vqgan",),
)
