"""IBQ (SEED-Voken): taming's network with four blocks a level and codes chosen by dot product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "TencentARC/SEED-Voken@b9a17ea",
    licence="LICENSE",
    trained_on="docs/IBQ.md:26, 93",
    arch="configs/IBQ/gpu/*.yaml",
    weights="docs/IBQ.md:55-58, 114-115",
)

_SOURCE = "SEED-Voken docs/IBQ.md (arXiv:2412.02692)"
_IMAGENET = validation("ImageNet", 256, 50_000)
_COCO = validation("COCO 2017", 256, 5_000)
_PRETRAIN = (
    "CapFusion",
    "LAION-COCO",
    "CC12M",
    "CC3M",
    "LAION-HD",
    "LAION-Aesthetic-umap",
    "LAION-Aesthetic-v2",
    "JourneyDB",
)


def _card(
    codes: int,
    *,
    hub: str,
    file: str,
    published: tuple[Published, ...],
    pretrained: bool = False,
    note: str | None = None,
) -> Card:
    return Card(
        name=f"ibq-{'pretrain-' if pretrained else ''}{codes}",
        family="ibq",
        kind="discrete",
        title=f"IBQ, {codes} codes{', pre-trained for text to image' if pretrained else ', ImageNet'}",
        sizes=Multiple(of=16, at_least=16),
        licence="Apache-2.0",
        paper="https://arxiv.org/abs/2412.02692",
        code="https://github.com/TencentARC/SEED-Voken",
        sources=_SOURCES,
        weights=(Weights(file=file, hub=hub, key=("state_dict",), licence="Apache-2.0", ema=True),),
        tokens_at_256=256,
        alphabets=(codes,),
        latent_channels=256,
        downsample=16,
        value_range=(-1.0, 1.0),
        trained_on=_PRETRAIN if pretrained else ("ImageNet-1k",),
        published=published,
        arch=archs.taming(archs.vq(codes, 256, kind="dot-product argmax"), num_res_blocks=4),
        note=note,
    )


def _imagenet(codes: int, rfid: float, lpips: float, usage: float) -> Card:
    values = {"rfid": rfid, "lpips": lpips, "codebook-usage": usage}
    return _card(
        codes,
        hub=f"TencentARC/IBQ-Tokenizer-{codes}",
        file=f"imagenet256_{codes}.ckpt",
        published=tuple(Published(m, v, _SOURCE, _IMAGENET) for m, v in values.items()),
    )


def _pretrained(codes: int, coco: tuple[float, float, float], imagenet: tuple[float, float, float]) -> Card:
    """rFID, PSNR, SSIM on COCO and ImageNet."""
    return _card(
        codes,
        hub=f"TencentARC/IBQ-Tokenizer-{codes}-Pretrain",
        file=f"IBQ_pretrain_{codes}.ckpt",
        published=tuple(
            Published(metric, value, _SOURCE, protocol)
            for protocol, row in ((_COCO, coco), (_IMAGENET, imagenet))
            for metric, value in zip(("rfid", "psnr", "ssim"), row, strict=True)
        ),
        pretrained=True,
    )


CARDS = (
    _imagenet(16384, 1.37, 0.2235, 0.96),
    _imagenet(1024, 2.24, 0.258, 0.99),
    _imagenet(8192, 1.87, 0.2437, 0.98),
    _imagenet(262144, 1.00, 0.2030, 0.84),
    _pretrained(16384, (7.67, 21.58, 0.62), (2.06, 22.01, 0.61)),
    _pretrained(262144, (6.79, 22.28, 0.65), (1.53, 22.69, 0.64)),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="ibq",
    title="IBQ (SEED-Voken)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.taming:Taming",
    fixtures=("ibq",),
)
