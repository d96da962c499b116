"""TokenFlow: one index for a row of meaning and a row of pixels, with CLIP or SigLIP in the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "ByteVisionLab/TokenFlow@9812da0",
    licence="LICENSE",
    trained_on="README.md and GETTING_STARTED.md name none",
    arch="tokenflow/scripts/train_vq*.sh",
    weights='README.md, "Checkpoints"',
)

_PAPER = "TokenFlow (arXiv:2412.03069)"


def _pixels(width: int, blocks: int) -> dict[str, Any]:
    return {
        "ch": width,
        "ch_mult": list(archs.F16),
        "num_res_blocks": blocks,
        "z_channels": 256,
        "attention": "last level and middle",
        "norm_groups": 32,
        "norm_eps": 1e-6,
    }


def _published(size: int, rfid: float, psnr: float, ssim: float) -> tuple[Published, ...]:
    protocol, range2 = (validation("ImageNet", size, 50_000, data_range=peak) for peak in (None, 2.0))
    return (
        Published("rfid", rfid, _PAPER, protocol),
        Published("psnr", psnr, _PAPER, protocol),
        Published("ssim-range2", ssim, _PAPER, range2, "LlamaGen's data range of 2"),
    )


def _arch(
    teacher: str,
    tower: Mapping[str, Any],
    features: int,
    pixel_encoder: Mapping[str, Any],
    pixel_decoder: Mapping[str, Any],
    scales: Sequence[int],
) -> dict[str, Any]:
    """features: channels of the teacher's features, which training alone gives back."""
    return {
        "in_channels": 3,
        "out_channels": 3,
        "teacher": teacher,
        "semantic_encoder": dict(tower),
        "pixel_encoder": dict(pixel_encoder),
        "pixel_decoder": dict(pixel_decoder),
        "semantic_decoder": {
            "grid": [tower["image_size"] // tower["patch_size"]] * 2,
            "width": tower["width"],
            "layers": 3,
            "heads": 12,
            "output_dim": features,
            "norm_eps": 1e-6,
        },
        "quantizer": {
            "type": "multi-scale residual vq, two books with shared indices",
            "codebook_size": 32768,
            "semantic_dim": 32,
            "pixel_dim": 8,
            "l2_norm": True,
            "scales": list(scales),
            "phi": None,
        },
    }


def _card(variant: str, title: str, size: int, arch: Mapping[str, Any], **card: Any) -> Card:
    """`variant` is that of the file; sizes as in t2i/llava_t2i/model/multimodal_encoder/tokenflow.py:20-30."""
    return Card(
        name=f"tokenflow-{variant.replace('_', '-')}",
        family="tokenflow",
        kind="discrete",
        title=title,
        sizes=Fixed(size),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2412.03069",
        code="https://github.com/ByteVisionLab/TokenFlow",
        sources=_SOURCES,
        weights=(
            Weights(
                file=f"tokenflow_{variant}.pt",
                hub="ByteFlow-AI/TokenFlow",
                key=("ema", "model", "state_dict"),
                licence="Apache-2.0",
            ),
        ),
        tokens_at_256=sum(side**2 for side in arch["quantizer"]["scales"]),
        alphabets=(32768,),
        latent_channels=40,
        value_range=(-1.0, 1.0),
        arch=arch,
        aliases=(f"tokenflow-{variant}",),
        **card,
    )


_CLIP = {
    "type": "clip vit",
    "image_size": 224,
    "patch_size": 16,
    "width": 768,
    "layers": 12,
    "layers_used": 12,
    "heads": 12,
    "mlp": 3072,
    "norm_eps": 1e-5,
    "input_scaling": "none ([-1,1] as given)",
}
_SIGLIP = {
    "type": "siglip vit",
    "image_size": 384,
    "patch_size": 14,
    "width": 1152,
    "layers": 27,
    "layers_used": 26,
    "heads": 16,
    "mlp": 4304,
    "norm_eps": 1e-6,
    "input_scaling": "clamp to [0,1], then (x-0.5)/0.5",
}
CARDS = (
    _card(
        "clipb_32k_enhanced",
        "TokenFlow with CLIP-B/16, wide decoder, 256 x 256",
        256,
        _arch(
            "clipb_224",
            _CLIP,
            512,
            {**_pixels(128, 2), "input": "as given"},
            {**_pixels(256, 4), "output": "as given"},
            (1, 2, 4, 6, 8, 10, 12, 14, 16),
        ),
        published=_published(256, 1.37, 21.41, 0.687),
        downsample=16,
        note="CLIP gets pixels in [-1, 1] without its own statistics, as upstream trained it.",
    ),
    _card(
        "siglip_32k",
        "TokenFlow with SigLIP-so400m/14, 384 x 384",
        384,
        _arch(
            "siglip_384",
            _SIGLIP,
            1152,
            {**_pixels(128, 2), "input": "bicubic to 16 x grid"},
            {**_pixels(128, 2), "output": "bicubic to 384"},
            (*range(1, 11), 12, 14, 17, 22, 27),
        ),
        published=_published(384, 0.63, 22.77, 0.731),
        note="Pixels go through the convolutions at 432 x 432 and come back at 384 x 384.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="tokenflow",
    title="TokenFlow",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.tokenflow:TokenFlow",
    fixtures=("tokenflow",),
)
