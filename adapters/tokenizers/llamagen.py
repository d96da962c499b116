"""LlamaGen's image tokenizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "FoundationVision/LlamaGen@ce98ec4",
    licence="README.md:121",
    trained_on="README.md:43, 85",
    arch="tokenizer/tokenizer_image/vq_model.py",
    weights="README.md:47-50, 85",
)

_README = "LlamaGen README (arXiv:2406.06525)"
_TABLE = "LlamaGen, arXiv:2406.06525, the table of tokenizers"
_RETEST = "LlamaGen issue 34, independent retest"
_256 = validation("ImageNet", 256, 50_000)
_384 = validation("ImageNet", 256, 50_000, model_size=384)
_COCO = validation("COCO 2017", 256, 5_000)
_256_RANGE2 = validation("ImageNet", 256, 50_000, data_range=2.0)
_384_RANGE2 = validation("ImageNet", 256, 50_000, model_size=384, data_range=2.0)
_RANGE2 = "LlamaGen's convention: data range 2 on values in [0, 1]"


def _card(
    variant: str,
    title: str,
    *,
    hub: str,
    trained_on: tuple[str, ...],
    ch_mult: Sequence[int] = archs.F16,
    published: tuple[Published, ...] = (),
) -> Card:
    factor = 2 ** (len(ch_mult) - 1)
    return Card(
        name=f"llamagen-vq-{variant.replace('_', '-')}",
        family="llamagen",
        kind="discrete",
        title=title,
        sizes=Multiple(of=factor, at_least=factor),
        licence="MIT",
        paper="https://arxiv.org/abs/2406.06525",
        code="https://github.com/FoundationVision/LlamaGen",
        sources=_SOURCES,
        # reconstruction_vq_ddp.py:64-69 looks for "ema" first; which of them a file holds is not stated.
        weights=(Weights(file=f"vq_{variant}.pt", hub=hub, key=("ema", "model", "state_dict"), licence="MIT"),),
        tokens_at_256=(256 // factor) ** 2,
        alphabets=(16384,),
        latent_channels=8,
        downsample=factor,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        published=published,
        arch=archs.llamagen(ch_mult),
        aliases=(f"llamagen-vq_{variant}",),
    )


CARDS = (
    _card(
        "ds16_c2i",
        "LlamaGen VQ-16, ImageNet",
        hub="FoundationVision/LlamaGen",
        trained_on=("ImageNet-1k",),
        published=(
            Published("rfid", 2.19, _README, _256),
            Published("rfid", 0.94, _README, _384),
            Published("psnr", 21.94, _TABLE, _384),
            Published("ssim-range2", 0.726, _TABLE, _384_RANGE2, _RANGE2),
            Published("rfid", 0.70, _README, validation("ImageNet", 256, 50_000, model_size=512)),
            Published("psnr", 20.79, _RETEST, _256),
            Published("ssim-range2", 0.675, _RETEST, _256_RANGE2, _RANGE2),
            Published("ssim", 0.558, _RETEST, _256),
            Published("lpips", 0.2281, _RETEST, _256),
        ),
    ),
    _card(
        "ds8_c2i",
        "LlamaGen VQ-8, ImageNet",
        hub="FoundationVision/LlamaGen",
        trained_on=("ImageNet-1k",),
        ch_mult=(1, 2, 2, 4),
        published=(
            Published("rfid", 0.59, _README, _256),
            Published("psnr", 24.45, _TABLE, _256),
            Published("ssim-range2", 0.813, _TABLE, _256_RANGE2, _RANGE2),
            Published("rfid", 0.5905, _RETEST, _256),
            Published("psnr", 24.455, _RETEST, _256),
            Published("ssim", 0.7352, _RETEST, _256),
            Published("lpips", 0.1232, _RETEST, _256),
            Published("psnr", 24.44, "FlowMo table 1 (arXiv:2503.11056)", _256),
            Published("ssim", 0.768, "FlowMo table 1 (arXiv:2503.11056)", _256),
            Published("lpips", 0.064, "FlowMo table 1 (arXiv:2503.11056)", _256),
        ),
    ),
    _card(
        "ds16_t2i",
        "LlamaGen VQ-16, for text to image",
        hub="peizesun/llamagen_t2i",
        trained_on=("LAION-COCO 50M", "internal 10M"),
        published=(
            Published("rfid", 2.47, "SEED-Voken README", _256),
            Published("psnr", 20.65, "SEED-Voken README", _256),
            Published("ssim", 0.54, "SEED-Voken README", _256),
            Published("rfid", 8.40, "SEED-Voken README", _COCO),
            Published("psnr", 20.28, "SEED-Voken README", _COCO),
            Published("ssim", 0.55, "SEED-Voken README", _COCO),
        ),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="llamagen",
    title="LlamaGen VQ",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.llamagen:LlamaGen",
    fixtures=("llamagen",),
)
