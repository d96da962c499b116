"""VA-VAE, the autoencoder of LightningDiT, and those that REPA-E tunes together with a generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import validation

_256 = validation("ImageNet", 256, 50_000)
_LIGHTNING, _REPA_E = "https://github.com/hustvl/LightningDiT", "https://github.com/End2End-Diffusion/REPA-E"
_PAPERS = {_LIGHTNING: "https://arxiv.org/abs/2501.01423", _REPA_E: "https://arxiv.org/abs/2504.10483"}
_SOURCES = {
    _LIGHTNING: stated(
        "hustvl/LightningDiT@2725fed",
        licence="LICENSE",
        trained_on="vavae/README.md, tokenizer/configs/vavae_f16d32.yaml (the file's name)",
        arch="tokenizer/configs/vavae_f16d32.yaml",
        weights="README.md:90",
    ),
    _REPA_E: stated(
        "End2End-Diffusion/REPA-E@3ad8046",
        licence="LICENSE",
        trained_on="README.md:49, 60-62",
        arch="README.md:60-62, models/autoencoder.py",
        weights="README.md:122-126",
    ),
}


def _card(
    name: str,
    title: str,
    hub: str,
    file: str,
    *,
    code: str,
    ch_mult: Sequence[int] = archs.F16,
    channels: int = 32,
    trained_on: tuple[str, ...] = ("ImageNet-1k",),
    published: tuple[Published, ...] = (),
) -> Card:
    factor = 2 ** (len(ch_mult) - 1)
    return Card(
        name=name,
        family="va-vae",
        kind="continuous",
        title=title,
        sizes=Multiple(of=factor, at_least=factor),
        licence="MIT",
        paper=_PAPERS[code],
        code=code,
        sources=_SOURCES[code],
        weights=(Weights(file=file, hub=hub, key=("state_dict",), licence="MIT"),),
        tokens_at_256=(256 // factor) ** 2,
        latent_channels=channels,
        downsample=factor,
        value_range=(-1.0, 1.0),
        trained_on=trained_on,
        options={"posterior": "mode", "latent_dtype": "float16"},
        published=published,
        # tokenizer/autoencoder.py of LightningDiT, models/autoencoder.py of REPA-E: attention at a nominal 16, on both
        # sides; with four levels from 256 there is no such level.
        arch={
            "vae": {
                **archs.mar_kl16()["vae"],
                "ch_mult": list(ch_mult),
                "z_channels": channels,
                "encoder_attn_resolutions": [16],
                "decoder_attn_resolutions": [16],
            },
            "latent_scale": 1.0,
            "quantizer": None,
        },
        note="Latents are counted unscaled: their statistics are files of the generators. Upstream draws from the "
        "posterior.",
    )


CARDS = (
    _card(
        "va-vae-f16d32",
        "VA-VAE f16d32, aligned with DINOv2",
        "hustvl/vavae-imagenet256-f16d32-dinov2",
        "vavae-imagenet256-f16d32-dinov2.pt",
        code=_LIGHTNING,
        published=(
            Published("rfid", 0.28, "LightningDiT README (arXiv:2501.01423)", _256),
            Published("rfid", 0.344, "LightningDiT issues 26 and 45, a user's test", _256),
            Published("rfid", 0.27, "GPSToken README", _256),
            Published("psnr", 25.76, "GPSToken README", _256),
            Published("ssim", 0.742, "GPSToken README", _256),
            Published("lpips", 0.05, "GPSToken README", _256),
        ),
    ),
    # README section 4 names e2e-vavae-400k.pt; the other files' names are by analogy.
    _card("e2e-va-vae-f16d32", "E2E-VAVAE f16d32", "REPA-E/e2e-vavae", "e2e-vavae-400k.pt", code=_REPA_E),
    _card("e2e-in-vae-f16d32", "E2E-INVAE f16d32", "REPA-E/e2e-invae", "e2e-invae-400k.pt", code=_REPA_E),
    _card(
        "e2e-sd-vae-f8d4",
        "E2E-SDVAE f8d4",
        "REPA-E/e2e-sdvae",
        "e2e-sdvae-400k.pt",
        code=_REPA_E,
        ch_mult=(1, 2, 4, 4),
        channels=4,
        trained_on=("OpenImages", "LAION-2B subset", "ImageNet-1k"),
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="va-vae",
    title="VA-VAE and REPA-E's autoencoders",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.kl:KlAutoencoder",
)
"""Fixtures of this network are TokenBridge's, which has a quantizer behind it."""
