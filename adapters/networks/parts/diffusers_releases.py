"""Cards of autoencoders in diffusers' format: how one is written, and the two series, DC-AE and RAE."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vtbench.types.cards import Card, Fixed, Multiple, Published, Weights, stated
from vtbench.types.conditions import Conditions

DIFFUSERS = "https://github.com/huggingface/diffusers"
SAMPLED = {"posterior": "mode", "latent_dtype": "float16"}
PLAIN = {"latent_dtype": "float16"}
WEIGHTS = "diffusion_pytorch_model.safetensors"
GIVEN_FOLDER = dict.fromkeys(("licence", "arch", "weights", "trained_on"), "the folder that is given")
"""Sources of a card that stands for whatever a user has."""
GPS = "README of xtudbxk/GPSToken"
_DC_AE = "VGT README, after the paper (arXiv:2410.10733)"
_DC = stated("mit-han-lab/efficientvit@de7d773", trained_on='applications/dc_ae/README.md ("Training Dataset")')
_DC["licence"] = "LICENSE.txt on the hub; mit-han-lab/efficientvit@de7d773 LICENSE"
_RAE = stated("bytetriper/RAE@a4d18c4", licence="LICENSE")
_DINOV2, _SIGLIP2, _MAE = "arXiv:2304.07193", "arXiv:2502.14786", "arXiv:2111.06377"
_SEEN = {_DINOV2: "LVD-142M", _SIGLIP2: "WebLI", _MAE: "ImageNet-1k"}


def validation_at(size: int) -> Conditions:
    return Conditions(f"ImageNet val, {size} px", dataset="ImageNet", split="validation", size=size)


def published_in(
    source: str, protocol: Conditions | None = None, note: str | None = None, **values: float
) -> tuple[Published, ...]:
    return tuple(Published(m, v, source, protocol, note) for m, v in values.items())


def released(
    name: str,
    title: str,
    hub: str,
    channels: int,
    factor: int,
    licence: str,
    *,
    sub: str = "",
    packed: bool = False,
    options: Mapping[str, Any] = SAMPLED,
    published: tuple[Published, ...] = (),
    code: str = DIFFUSERS,
    **more: Any,
) -> Card:
    """A released model: `sub` is its folder inside the repository `hub`."""
    of = factor * 2 if packed else factor
    sources = {
        "licence": f"{hub}, model card",
        "arch": f"{hub}, config.json",
        "weights": hub,
        **more.pop("sources", {}),
    }
    return Card(
        name=name,
        family="diffusers",
        kind="continuous",
        title=title,
        sizes=more.pop("sizes", Multiple(of=of, at_least=of)),
        licence=licence,
        code=code,
        weights=(Weights(file=f"{sub}/{WEIGHTS}" if sub else WEIGHTS, role="folder", hub=hub, licence=licence),),
        tokens_at_256=None if factor > 256 else math.ceil(256 / factor) ** 2,
        latent_channels=channels,
        downsample=factor,
        value_range=more.pop("value_range", (-1.0, 1.0)),
        options=options,
        extra="hub",
        published=published,
        sources=sources,
        **more,
    )


def _dc(kind: str, of: int, channels: int, published: tuple[Published, ...] = ()) -> Card:
    name = f"dc-ae-f{of}c{channels}-{kind}"
    return released(
        name,
        f"DC-AE f{of}c{channels} ({kind})",
        f"mit-han-lab/{name}-diffusers",
        channels,
        of,
        "Apache-2.0",
        options=PLAIN,
        code="https://github.com/mit-han-lab/efficientvit",
        paper="https://arxiv.org/abs/2410.10733",
        published=published,
        # Of the others it says "A Mixture of Datasets".
        trained_on=("ImageNet-1k",) if kind == "in-1.0" else (),
        sources=_DC,
    )


def _rae(
    name: str, repository: str, encoder: str, channels: int, seen: str, published: tuple[Published, ...] = ()
) -> Card:
    """seen: what the frozen encoder was trained on, and where that is stated."""
    side = 256
    return released(
        name,
        f"RAE on {encoder}, {side} px",
        f"nyu-visionx/{repository}",
        channels,
        16,
        "MIT",
        options=PLAIN,
        code="https://github.com/bytetriper/RAE",
        paper="https://arxiv.org/abs/2510.11690",
        trained_on=tuple(dict.fromkeys(("ImageNet-1k", _SEEN[seen]))),
        sources={
            **_RAE,
            "trained_on": f'bytetriper/RAE@a4d18c4 README.md, "Train the decoder"; the encoder\'s: {seen}',
        },
        sizes=Fixed(side),
        value_range=(0.0, 1.0),
        published=published,
        note=f"256 positions of {channels} numbers for an image of 196608: its rate says so.",
    )


DEEP_COMPRESSION = (
    _dc(
        "in-1.0",
        32,
        32,
        (
            *published_in(
                GPS, validation_at(256), "variant not stated", rfid=0.98, psnr=23.62, ssim=0.644, lpips=0.092
            ),
            *published_in(
                _DC_AE, validation_at(256), "its DC-AE-f32, trained on ImageNet", rfid=0.69, psnr=23.85, ssim=0.66
            ),
        ),
    ),
    _dc(
        "in-1.0",
        64,
        128,
        published_in(
            "efficientvit applications/dc_ae/README.md",
            validation_at(512),
            rfid=0.2168,
            psnr=26.149,
            ssim=0.7105,
            lpips=0.0802,
        ),
    ),
    _dc("in-1.0", 128, 512),
    _dc("mix-1.0", 32, 32),
    _dc("mix-1.0", 64, 128),
    _dc("mix-1.0", 128, 512),
    _dc("sana-1.0", 32, 32),
    _dc("sana-1.1", 32, 32),
)
REPRESENTATION = (
    _rae(
        "rae-dinov2-b",
        "RAE-dinov2-wReg-base-ViTXL-n08",
        "DINOv2-B",
        768,
        _DINOV2,
        published_in("RAE README.md:353, as reported", validation_at(256), rfid=0.57),
    ),
    _rae("rae-dinov2-s", "RAE-dinov2-wReg-small-ViTXL-n08", "DINOv2-S", 384, _DINOV2),
    _rae("rae-dinov2-l", "RAE-dinov2-wReg-large-ViTXL-n08", "DINOv2-L", 1024, _DINOV2),
    _rae("rae-siglip2-b", "RAE-siglip2-base-p16-i256-ViTXL-n08", "SigLIP2-B", 768, _SIGLIP2),
    _rae("rae-mae-b", "RAE-mae-base-p16-ViTXL-n08", "MAE-B", 768, _MAE),
)
