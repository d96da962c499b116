"""Autoencoders of the diffusers library: their cards; `networks.diffusers_vae` wraps all of the library's classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtbench.adapters.networks.diffusers_objects import adopt, card_of
from vtbench.adapters.networks.diffusers_vae import DiffusersVAE
from vtbench.types.cards import Adopting, Card, Family, Fixed, Multiple, Published, Weights
from vtbench.types.conditions import Conditions

_DIFFUSERS = "https://github.com/huggingface/diffusers"
_OPTIONS = {"posterior": "mode", "latent_dtype": "float16"}
_PLAIN = {"latent_dtype": "float16"}
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_GPS = "README of xtudbxk/GPSToken"
_VGT = "VGT README (secondary)"
_ANALYSIS = "Vision-Tokenizer-Analysis README"
_FT = "https://huggingface.co/stabilityai/sd-vae-ft-mse (COCO 2017 val, 5000 images)"
_COCO_2017 = Conditions("COCO 2017 val, 5000 images", dataset="COCO 2017", split="validation", images=5_000)
_COCO = Conditions("COCO, 1000 images, 256 px", dataset="COCO", images=1_000, size=256)
_COCO_CLEAN = replace(_COCO, evaluator="clean-fid")


def _val(size: int) -> Conditions:
    return Conditions(f"ImageNet val, {size} px", dataset="ImageNet", split="validation", size=size)


def _published(
    source: str, protocol: Conditions | None = None, note: str | None = None, **values: float
) -> tuple[Published, ...]:
    return tuple(Published(m, v, source, protocol, note) for m, v in values.items())


def _card(
    name: str,
    title: str,
    hub: str,
    channels: int,
    factor: int,
    licence: str,
    *,
    sub: str = "",
    packed: bool = False,
    options: Mapping[str, Any] = _OPTIONS,
    published: tuple[Published, ...] = (),
    code: str = _DIFFUSERS,
    **more: Any,
) -> Card:
    """A released model: `sub` is its folder inside the repository `hub`."""
    of = factor * 2 if packed else factor
    return Card(
        name=name,
        family="diffusers",
        kind="continuous",
        title=title,
        sizes=more.pop("sizes", Multiple(of=of, at_least=of)),
        licence=licence,
        code=code,
        weights=(Weights(file=f"{sub}/{_WEIGHTS}" if sub else _WEIGHTS, role="folder", hub=hub, licence=licence),),
        tokens_at_256=None if factor > 256 else math.ceil(256 / factor) ** 2,
        latent_channels=channels,
        downsample=factor,
        value_range=more.pop("value_range", (-1.0, 1.0)),
        options=options,
        extra="hub",
        published=published,
        **more,
    )


def _vq(name: str, title: str, hub: str, channels: int, factor: int, book: int, licence: str, **more: Any) -> Card:
    return replace(
        _card(name, title, hub, channels, factor, licence, options=_PLAIN, **more), kind="discrete", alphabets=(book,)
    )


def _dc(kind: str, of: int, channels: int, published: tuple[Published, ...] = ()) -> Card:
    name = f"dc-ae-f{of}c{channels}-{kind}"
    return _card(
        name,
        f"DC-AE f{of}c{channels} ({kind})",
        f"mit-han-lab/{name}-diffusers",
        channels,
        of,
        "not stated beside the weights; code Apache-2.0",
        options=_PLAIN,
        code="https://github.com/mit-han-lab/efficientvit",
        paper="https://arxiv.org/abs/2410.10733",
        published=published,
    )


def _rae(name: str, repository: str, encoder: str, channels: int, published: tuple[Published, ...] = ()) -> Card:
    side = 256
    return _card(
        name,
        f"RAE on {encoder}, {side} px",
        f"nyu-visionx/{repository}",
        channels,
        16,
        "MIT",
        options=_PLAIN,
        code="https://github.com/bytetriper/RAE",
        paper="https://arxiv.org/abs/2510.11690",
        sizes=Fixed(side),
        value_range=(0.0, 1.0),
        published=published,
        note=f"256 positions of {channels} numbers for an image of 196608: its rate says so.",
    )


_OPENRAIL, _STABILITY = "CreativeML OpenRAIL-M", "Stability AI Community License (gated)"

CARDS = (
    _card(
        "sd15-vae",
        "Stable Diffusion 1.5 VAE (kl-f8)",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        4,
        8,
        _OPENRAIL,
        sub="vae",
        paper="https://arxiv.org/abs/2112.10752",
        published=_published(_FT, _COCO_2017, "row 'original'", rfid=4.99, psnr=23.4, ssim=0.69),
    ),
    _card(
        "sd-vae-ft-mse",
        "Stable Diffusion VAE, decoder tuned for MSE",
        "stabilityai/sd-vae-ft-mse",
        4,
        8,
        "MIT",
        published=(
            *_published(_FT, _COCO_2017, rfid=4.70, psnr=24.5, ssim=0.71),
            *_published(_ANALYSIS, _COCO_CLEAN, "rFID by clean-fid", rfid=12.45),
            *_published(_ANALYSIS, _COCO, "rFID by clean-fid", psnr=24.92, ssim=0.6953, lpips=0.083),
        ),
    ),
    _card(
        "sd-vae-ft-ema",
        "Stable Diffusion VAE, decoder tuned (EMA)",
        "stabilityai/sd-vae-ft-ema",
        4,
        8,
        "MIT",
        published=_published(_FT, _COCO_2017, rfid=4.42, psnr=23.8, ssim=0.69),
    ),
    _card(
        "sdxl-vae",
        "SDXL VAE",
        "stabilityai/sdxl-vae",
        4,
        8,
        "OpenRAIL++-M",
        paper="https://arxiv.org/abs/2307.01952",
        published=(
            *_published(
                "README of zhaoyue-zephyrus/bsq-vit",
                _val(256),
                rfid=0.72,
                psnr=25.38,
                ssim=0.7276,
                lpips=0.0666,
            ),
            *_published(_GPS, _val(256), rfid=0.73, psnr=25.55, ssim=0.727, lpips=0.066),
            *_published(_GPS, _val(512), rfid=0.271, psnr=28.42, ssim=0.817, lpips=0.059),
            *_published(_GPS, _val(1024), rfid=0.113, psnr=33.27, ssim=0.909, lpips=0.057),
        ),
    ),
    _card("sdxl-vae-fp16-fix", "SDXL VAE that stands float16", "madebyollin/sdxl-vae-fp16-fix", 4, 8, "MIT"),
    _card(
        "sd35-vae", "Stable Diffusion 3.5 VAE", "stabilityai/stable-diffusion-3.5-medium", 16, 8, _STABILITY, sub="vae"
    ),
    _card("flux1-vae", "FLUX.1 VAE", "black-forest-labs/FLUX.1-schnell", 16, 8, "Apache-2.0", sub="vae"),
    _card(
        "flux2-vae",
        "FLUX.2 VAE",
        "black-forest-labs/FLUX.2-dev",
        32,
        8,
        "Apache-2.0",
        sub="vae",
        packed=True,
        note="Latents normalised by the running statistics of its bn on 2 x 2 packed channels, counted unpacked.",
    ),
    _card(
        "qwen-image-vae",
        "Qwen-Image VAE (one frame)",
        "Qwen/Qwen-Image",
        16,
        8,
        "Apache-2.0",
        sub="vae",
        paper="https://arxiv.org/abs/2508.02324",
    ),
    _card(
        "wan21-vae",
        "Wan 2.1 VAE (one frame)",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        16,
        8,
        "Apache-2.0",
        sub="vae",
        paper="https://arxiv.org/abs/2503.20314",
    ),
    _card(
        "hunyuanimage21-vae",
        "HunyuanImage 2.1 VAE",
        "hunyuanvideo-community/HunyuanImage-2.1-Diffusers",
        64,
        32,
        "Tencent Hunyuan Community License",
        sub="vae",
    ),
    _card(
        "cosmos-cv8x8x8-vae",
        "Cosmos 1.0 CV8x8x8 (one frame)",
        "nvidia/Cosmos-1.0-Diffusion-7B-Text2World",
        16,
        8,
        "NVIDIA Open Model License",
        sub="vae",
        options=_PLAIN,
        paper="https://arxiv.org/abs/2501.03575",
    ),
    _card(
        "mar-kl16-vae-diffusers",
        "KL-16 of MAR, converted to diffusers",
        "xwen99/mar-vae-kl16",
        16,
        16,
        "MIT",
        code="https://github.com/LTH14/mar",
        paper="https://arxiv.org/abs/2406.11838",
    ),
    _dc(
        "in-1.0",
        32,
        32,
        (
            *_published(_GPS, _val(256), "variant not stated", rfid=0.98, psnr=23.62, ssim=0.644, lpips=0.092),
            *_published(_VGT, _val(256), "variant not stated", rfid=0.69, psnr=23.85, ssim=0.66),
        ),
    ),
    _dc("in-1.0", 64, 128),
    _dc("in-1.0", 128, 512),
    _dc("mix-1.0", 32, 32),
    _dc("mix-1.0", 64, 128),
    _dc("mix-1.0", 128, 512),
    _dc("sana-1.0", 32, 32),
    _dc("sana-1.1", 32, 32),
    _rae(
        "rae-dinov2-b",
        "RAE-dinov2-wReg-base-ViTXL-n08",
        "DINOv2-B",
        768,
        _published(_VGT, _val(256), rfid=0.49, psnr=19.23, ssim=0.62),
    ),
    _rae("rae-dinov2-s", "RAE-dinov2-wReg-small-ViTXL-n08", "DINOv2-S", 384),
    _rae("rae-dinov2-l", "RAE-dinov2-wReg-large-ViTXL-n08", "DINOv2-L", 1024),
    _rae("rae-siglip2-b", "RAE-siglip2-base-p16-i256-ViTXL-n08", "SigLIP2-B", 768),
    _rae("rae-mae-b", "RAE-mae-base-p16-ViTXL-n08", "MAE-B", 768),
    _card(
        "consistency-decoder",
        "Consistency decoder for Stable Diffusion 1 latents",
        "openai/consistency-decoder",
        4,
        8,
        "MIT",
        code="https://github.com/openai/consistencydecoder",
        stochastic=True,
    ),
    _card("taesd-diffusers", "TAESD in diffusers' format", "madebyollin/taesd", 4, 8, "MIT", options=_PLAIN),
    _card("taesdxl-diffusers", "TAESDXL in diffusers' format", "madebyollin/taesdxl", 4, 8, "MIT", options=_PLAIN),
    _card("taesd3-diffusers", "TAESD3 in diffusers' format", "madebyollin/taesd3", 16, 8, "MIT", options=_PLAIN),
    _card("taef1-diffusers", "TAEF1 in diffusers' format", "madebyollin/taef1", 16, 8, "MIT", options=_PLAIN),
    _vq(
        "amused-vq",
        "aMUSEd VQ-GAN",
        "amused/amused-256",
        64,
        16,
        8192,
        "OpenRAIL++-M",
        sub="vqvae",
        paper="https://arxiv.org/abs/2401.01808",
    ),
    _vq(
        "kandinsky22-movq",
        "MoVQ of Kandinsky 2.2",
        "kandinsky-community/kandinsky-2-2-decoder",
        4,
        8,
        16384,
        "Apache-2.0",
        sub="movq",
        paper="https://arxiv.org/abs/2209.09002",
    ),
    Card(
        name="diffusers-vae",
        family="diffusers",
        kind="continuous",
        title="Any autoencoder in diffusers' format (--checkpoint FOLDER)",
        licence="as stated beside the given weights",
        code=_DIFFUSERS,
        weights=(Weights(file=_WEIGHTS, role="folder"),),
        value_range=(-1.0, 1.0),
        options=_OPTIONS,
        extra="hub",
        note="Sizes, channels and codebook come from the folder's config.json.",
    ),
)


def _card_for(model: Any) -> Card | None:
    return card_of(model, next(card for card in CARDS if card.name == "diffusers-vae"))


FAMILY = Family(
    "diffusers",
    "Autoencoders of the diffusers library",
    CARDS,
    DiffusersVAE,
    adopts=Adopting(_card_for, adopt),
)
