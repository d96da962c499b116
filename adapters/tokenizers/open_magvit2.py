"""Open-MAGVIT2 (SEED-Voken): convolutions around 14 or 18 sign bits a position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import Conditions, validation

_SOURCES = stated(
    "TencentARC/SEED-Voken@b9a17ea",
    licence="LICENSE",
    trained_on='docs/Open-MAGVIT2.md ("Train Data" of the tables; "Data Preparation")',
    arch="configs/Open-MAGVIT2",
    weights="docs/Open-MAGVIT2.md (the tables' links)",
)

_DOCS = "SEED-Voken docs/Open-MAGVIT2.md (arXiv:2409.04410)"
_FLOWMO = "FlowMo table 1 (arXiv:2503.11056)"
_256 = validation("ImageNet", 256, 50_000)
_128 = validation("ImageNet", 128, 50_000)
_NATIVE = validation("ImageNet", "original", 50_000)
_COCO = validation("COCO 2017", 256, 5_000)
_COCO_NATIVE = validation("COCO 2017", "original", 5_000)
_IMAGENET = ("ImageNet-1k",)
_PRETRAIN = (
    "LAION-COCO",
    "CC12M",
    "CC3M",
    "LAION-HD",
    "LAION-Aesthetic-umap",
    "LAION-Aesthetic-v2",
    "JourneyDB",
)


def _card(
    variant: str,
    title: str,
    bits: int,
    *,
    hub: str,
    file: str,
    trained_on: tuple[str, ...],
    published: tuple[Published, ...],
    ch_mult: Sequence[int] = archs.F16,
) -> Card:
    factor = 2 ** (len(ch_mult) - 1)
    return Card(
        name=f"open-magvit2-{variant}",
        family="open-magvit2",
        kind="discrete",
        title=title,
        # The decoder takes the deviation over the latent's cells, so there must be more than one.
        sizes=Multiple(of=factor, at_least=2 * factor),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2409.04410",
        code="https://github.com/TencentARC/SEED-Voken",
        sources=_SOURCES,
        # Upstream evaluates the averaged copies, model_ema.* (evaluation_image.py:202).
        weights=(
            Weights(
                file=file,
                hub=f"TencentARC/Open-MAGVIT2-Tokenizer-{hub}",
                key=("state_dict",),
                licence="Apache-2.0",
                ema=True,
            ),
        ),
        tokens_at_256=(256 // factor) ** 2,
        alphabets=(2,) * bits,
        latent_channels=bits,
        downsample=factor,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        published=published,
        arch=archs.magvit2(bits, ch=128, ch_mult=ch_mult),
    )


def _pretrained(protocol: Conditions, rfid: float, psnr: float, ssim: float) -> tuple[Published, ...]:
    values = {"rfid": rfid, "psnr": psnr, "ssim": ssim}
    return tuple(Published(metric, value, _DOCS, protocol) for metric, value in values.items())


CARDS = (
    _card(
        "256-262144",
        "Open-MAGVIT2, 18 bits, ImageNet 256",
        18,
        hub="256-resolution",
        file="imagenet_256_L.ckpt",
        trained_on=_IMAGENET,
        published=(
            Published("rfid", 1.17, _DOCS, _256),
            Published("psnr", 21.90, _DOCS, _256),
            Published("psnr", 21.63, _FLOWMO, _256),
            Published("ssim", 0.640, _FLOWMO, _256),
            Published("lpips", 0.111, _FLOWMO, _256),
        ),
    ),
    _card(
        "128-262144",
        "Open-MAGVIT2, 18 bits, factor 8, ImageNet 128",
        18,
        hub="128-resolution",
        file="imagenet_128_L.ckpt",
        trained_on=_IMAGENET,
        ch_mult=(1, 2, 2, 4),
        published=(
            Published("rfid", 1.18, _DOCS, _128),
            Published("psnr", 25.08, _DOCS, _128),
            Published("rfid", 0.34, _DOCS, _256),
            Published("psnr", 26.19, _DOCS, _256),
        ),
    ),
    _card(
        "pretrain-256-16384",
        "Open-MAGVIT2, 14 bits, pre-trained for text to image",
        14,
        hub="16384-Pretrain",
        file="pretrain256_16384.ckpt",
        trained_on=_PRETRAIN,
        published=(
            *_pretrained(_256, 2.55, 22.21, 0.62),
            *_pretrained(_COCO, 7.93, 22.21, 0.62),
            *_pretrained(_NATIVE, 1.39, 21.74, 0.56),
            *_pretrained(_COCO_NATIVE, 6.65, 21.61, 0.57),
        ),
    ),
    _card(
        "pretrain-256-262144",
        "Open-MAGVIT2, 18 bits, pre-trained for text to image",
        18,
        hub="262144-Pretrain",
        file="pretrain256_262144.ckpt",
        trained_on=_PRETRAIN,
        published=(
            *_pretrained(_256, 1.67, 22.70, 0.64),
            *_pretrained(_COCO, 6.76, 22.31, 0.65),
            *_pretrained(_NATIVE, 0.78, 22.24, 0.59),
            *_pretrained(_COCO_NATIVE, 5.10, 22.18, 0.60),
        ),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="open-magvit2",
    title="Open-MAGVIT2",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.magvit2:Magvit2",
    fixtures=("magvit2",),
)
