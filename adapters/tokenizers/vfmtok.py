"""VFMTok: 256 tokens of adaptive regions, read from a frozen DINOv2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "CVMI-Lab/VFMTok@828c780",
    licence="README.md:176",
    trained_on="README.md:20; DINOv2's: arXiv:2304.07193",
    arch="configs/vit_transformer.yaml",
    weights="README.md:73",
)

_README = "VFMTok README (arXiv:2507.08441)"
_256 = validation("ImageNet", 256, 50_000, model_size=336)
_SIZES = {"width": 512, "depth": 6, "heads": 8, "mlp_width": 2048, "head_dim": 64, "n_carrier": 256}
_PLACE = {"image_size": 336, "patch_size": 16}

CARDS = (
    Card(
        name="vfmtok-tokenizer",
        family="vfmtok",
        kind="discrete",
        title="VFMTok on DINOv2",
        sizes=Fixed(336),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2507.08441",
        code="https://github.com/CVMI-Lab/VFMTok",
        sources=_SOURCES,
        # test_net.py:72-73: "ema", with DINOv2 missing, which upstream reads from Meta's own file.
        weights=(
            Weights(
                file="DINOv2/tokenizer/vfmtok-tokenizer.pt",
                hub="yexiguafu/VFMTok",
                key=("ema",),
                licence="Apache-2.0",
            ),
            archs.dinov2_weights(),
        ),
        tokens_at_256=256,
        alphabets=(16384,),
        latent_channels=12,
        downsample=16,
        value_range=(-1.0, 1.0),
        # The frozen DINOv2 has seen LVD-142M (arXiv:2304.07193).
        trained_on=("ImageNet-1k", "LVD-142M"),
        published=(Published("rfid", 0.89, _README, _256), Published("ris", 215.4, _README, _256)),
        arch={
            "in_channels": 3,
            "cnn": {
                "ch": 128,
                "encoder_ch_mult": None,
                "decoder_ch_mult": list(archs.F16),
                "num_res_blocks_encoder": None,
                "num_res_blocks_decoder": 1,
                "z_channels": 512,
                "norm_groups": 32,
                "norm_eps": 1e-6,
            },
            "encoder": {**_PLACE, **_SIZES, "feature_width": 1024, "points": 4},
            "decoder": {**_PLACE, **_SIZES, "shift_k": None, "vfm_recon": None},
            "dinov2": archs.dinov2_large(336, levels=(5, 11, 17, 23)),
            "quantizer": {
                "type": "vq",
                "codebook_size": 16384,
                "embed_dim": None,
                "slot_embed_dim": 12,
                "l2_norm": True,
            },
        },
        aliases=("vfmtok",),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="vfmtok",
    title="VFMTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.vfmtok:VfmTok",
    fixtures=("vfmtok",),
)
