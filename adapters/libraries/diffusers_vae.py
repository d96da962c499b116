"""Autoencoders of the diffusers library: their cards; `networks.diffusers_vae` wraps all of the library's classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vtbench.adapters.networks.diffusers_objects import adopt, card_of
from vtbench.adapters.networks.diffusers_vae import DiffusersVAE
from vtbench.adapters.networks.parts.diffusers_releases import (
    DEEP_COMPRESSION,
    DIFFUSERS,
    GIVEN_FOLDER,
    GPS,
    PLAIN,
    REPRESENTATION,
    SAMPLED,
    WEIGHTS,
    published_in,
    released,
    validation_at,
)
from vtbench.types.cards import Adopting, Card, Family, Weights, stated
from vtbench.types.conditions import Conditions

_ANALYSIS = "Vision-Tokenizer-Analysis README"
_FT_HUB = "stabilityai/sd-vae-ft-mse"
_TUNED = ("OpenImages", "LAION-Aesthetics", "LAION-Humans")
_FT = "https://huggingface.co/stabilityai/sd-vae-ft-mse (COCO 2017 val, 5000 images)"
_COCO_2017 = Conditions("COCO 2017 val, 5000 images", dataset="COCO 2017", split="validation", images=5_000)
_COCO = Conditions("COCO, 1000 images, 256 px", dataset="COCO", images=1_000, size=256)
_COCO_CLEAN = replace(_COCO, evaluator="clean-fid")

_TAESD = stated("madebyollin/taesd@5cccb12", licence="LICENSE", trained_on="README.md names none")


def _vq(name: str, title: str, hub: str, channels: int, factor: int, book: int, licence: str, **more: Any) -> Card:
    return replace(
        released(name, title, hub, channels, factor, licence, options=PLAIN, **more), kind="discrete", alphabets=(book,)
    )


_OPENRAIL, _STABILITY = "CreativeML OpenRAIL-M", "Stability AI Community License (gated)"

CARDS = (
    released(
        "sd15-vae",
        "Stable Diffusion 1.5 VAE (kl-f8)",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        4,
        8,
        _OPENRAIL,
        sub="vae",
        paper="https://arxiv.org/abs/2112.10752",
        trained_on=("OpenImages",),
        sources={"trained_on": f"{_FT_HUB}, model card"},
        published=published_in(_FT, _COCO_2017, "row 'original'", rfid=4.99, psnr=23.4, ssim=0.69),
    ),
    released(
        "sd-vae-ft-mse",
        "Stable Diffusion VAE, decoder tuned for MSE",
        "stabilityai/sd-vae-ft-mse",
        4,
        8,
        "MIT",
        trained_on=_TUNED,
        sources={"trained_on": f"{_FT_HUB}, model card"},
        published=(
            *published_in(_FT, _COCO_2017, rfid=4.70, psnr=24.5, ssim=0.71),
            *published_in(_ANALYSIS, _COCO_CLEAN, "rFID by clean-fid", rfid=12.45),
            *published_in(_ANALYSIS, _COCO, "rFID by clean-fid", psnr=24.92, ssim=0.6953, lpips=0.083),
        ),
    ),
    released(
        "sd-vae-ft-ema",
        "Stable Diffusion VAE, decoder tuned (EMA)",
        "stabilityai/sd-vae-ft-ema",
        4,
        8,
        "MIT",
        trained_on=_TUNED,
        sources={"trained_on": f"{_FT_HUB}, model card"},
        published=published_in(_FT, _COCO_2017, rfid=4.42, psnr=23.8, ssim=0.69),
    ),
    released(
        "sdxl-vae",
        "SDXL VAE",
        "stabilityai/sdxl-vae",
        4,
        8,
        "MIT",
        sources={"trained_on": "stabilityai/sdxl-vae, model card names none"},
        paper="https://arxiv.org/abs/2307.01952",
        published=(
            *published_in(
                "README of zhaoyue-zephyrus/bsq-vit",
                validation_at(256),
                rfid=0.72,
                psnr=25.38,
                ssim=0.7276,
                lpips=0.0666,
            ),
            *published_in("https://huggingface.co/stabilityai/sdxl-vae", _COCO_2017, rfid=4.42, psnr=24.7, ssim=0.73),
            *published_in(GPS, validation_at(256), rfid=0.73, psnr=25.55, ssim=0.727, lpips=0.066),
            *published_in(GPS, validation_at(512), rfid=0.271, psnr=28.42, ssim=0.817, lpips=0.059),
            *published_in(GPS, validation_at(1024), rfid=0.113, psnr=33.27, ssim=0.909, lpips=0.057),
        ),
    ),
    released("sdxl-vae-fp16-fix", "SDXL VAE that stands float16", "madebyollin/sdxl-vae-fp16-fix", 4, 8, "MIT"),
    released(
        "sd35-vae", "Stable Diffusion 3.5 VAE", "stabilityai/stable-diffusion-3.5-medium", 16, 8, _STABILITY, sub="vae"
    ),
    released("flux1-vae", "FLUX.1 VAE", "black-forest-labs/FLUX.1-schnell", 16, 8, "Apache-2.0", sub="vae"),
    released(
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
    released(
        "qwen-image-vae",
        "Qwen-Image VAE (one frame)",
        "Qwen/Qwen-Image",
        16,
        8,
        "Apache-2.0",
        sub="vae",
        paper="https://arxiv.org/abs/2508.02324",
    ),
    released(
        "wan21-vae",
        "Wan 2.1 VAE (one frame)",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        16,
        8,
        "Apache-2.0",
        sub="vae",
        paper="https://arxiv.org/abs/2503.20314",
    ),
    released(
        "hunyuanimage21-vae",
        "HunyuanImage 2.1 VAE",
        "hunyuanvideo-community/HunyuanImage-2.1-Diffusers",
        64,
        32,
        "Tencent Hunyuan Community License",
        sub="vae",
    ),
    released(
        "cosmos-cv8x8x8-vae",
        "Cosmos 1.0 CV8x8x8 (one frame)",
        "nvidia/Cosmos-1.0-Diffusion-7B-Text2World",
        16,
        8,
        "NVIDIA Open Model License",
        sub="vae",
        options=PLAIN,
        paper="https://arxiv.org/abs/2501.03575",
    ),
    released(
        "mar-kl16-vae-diffusers",
        "KL-16 of MAR, converted to diffusers",
        "xwen99/mar-vae-kl16",
        16,
        16,
        "MIT",
        trained_on=("ImageNet-1k",),
        sources={"trained_on": "arXiv:2406.11838"},
        code="https://github.com/LTH14/mar",
        paper="https://arxiv.org/abs/2406.11838",
    ),
    *DEEP_COMPRESSION,
    *REPRESENTATION,
    released(
        "consistency-decoder",
        "Consistency decoder for Stable Diffusion 1 latents",
        "openai/consistency-decoder",
        4,
        8,
        "MIT",
        code="https://github.com/openai/consistencydecoder",
        sources=stated("openai/consistencydecoder@22a0449", licence="LICENSE", trained_on="README.md names none"),
        stochastic=True,
    ),
    released(
        "taesd-diffusers",
        "TAESD in diffusers' format",
        "madebyollin/taesd",
        4,
        8,
        "MIT",
        options=PLAIN,
        sources=_TAESD,
    ),
    released(
        "taesdxl-diffusers",
        "TAESDXL in diffusers' format",
        "madebyollin/taesdxl",
        4,
        8,
        "MIT",
        options=PLAIN,
        sources=_TAESD,
    ),
    released(
        "taesd3-diffusers",
        "TAESD3 in diffusers' format",
        "madebyollin/taesd3",
        16,
        8,
        "MIT",
        options=PLAIN,
        sources=_TAESD,
    ),
    released(
        "taef1-diffusers",
        "TAEF1 in diffusers' format",
        "madebyollin/taef1",
        16,
        8,
        "MIT",
        options=PLAIN,
        sources=_TAESD,
    ),
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
        code=DIFFUSERS,
        sources=GIVEN_FOLDER,
        weights=(Weights(file=WEIGHTS, role="folder"),),
        value_range=(-1.0, 1.0),
        options=SAMPLED,
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
