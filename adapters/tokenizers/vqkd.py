"""VQ-KD: codes from which a teacher's features, not pixels, come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Weights, stated

_SOURCES = stated(
    "magic-research/vector_quantization@3650302",
    licence="LICENSE",
    trained_on="docs/data.md:3",
    arch="configs/vqkd/clip_8192_imagenet_ddp.py, configs/vqkd/model.py",
    weights='docs/model_card.md:3 ("TBD")',
)

_VIT = {"width": 768, "heads": 12, "mlp_ratio": 4, "norm_eps": 1e-6}
CARDS = (
    Card(
        name="vqkd-clip-8192",
        family="vqkd",
        kind="discrete",
        title="VQ-KD, 8192 codes, CLIP as teacher",
        sizes=Fixed(224),
        licence="Apache-2.0 (code)",
        paper="https://arxiv.org/abs/2411.04406",
        code="https://github.com/magic-research/vector_quantization",
        sources=_SOURCES,
        # docs/model_card.md says of every model that it is to be determined: there are no weights but the user's own.
        weights=(Weights(file="vqkd_clip_8192.pth"),),
        tokens_at_256=196,
        alphabets=(8192,),
        latent_channels=32,
        downsample=16,
        value_range=(-1.0, 1.0),
        no_pixels=archs.TO_FEATURES,
        trained_on=("ImageNet-1k",),
        # configs/vqkd/clip_8192_imagenet_ddp.py over configs/vqkd/model.py.
        arch={
            "in_channels": 3,
            "image_size": 224,
            "encoder": {**_VIT, "patch_size": 16, "layers": 12, "out_channels": 32, "head": "linear-tanh-linear"},
            "post_encode": "identity",
            "pre_decode": "identity",
            "decoder": {
                **_VIT,
                "layers": 1,
                "in_channels": 32,
                "out_channels": 512,
                "out_patch": 1,
                "output": "teacher features",
            },
            "quantizer": {
                "type": "vq",
                "codebook_size": 8192,
                "embed_dim": 32,
                "distance": "cosine",
                "codes": "rows normalised in place before encoding",
            },
        },
        note="No weights are published.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="vqkd",
    title="VQ-KD",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.vqkd:VqKd",
    fixtures=("vqkd",),
)
