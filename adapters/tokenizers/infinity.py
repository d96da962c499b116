"""Infinity's visual tokenizers: multi-scale binary spherical quantization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "FoundationVision/Infinity@4c27bbb",
    licence="README.md:251",
    trained_on="README.md names none",
    arch="infinity/models/bsq_vae",
    weights="README.md:87-93",
)

_README = "Infinity README, visual tokenizer table (arXiv:2412.04431)"
# Latent sides of the 13 scales at 1024 x 1024, in cells of 16 pixels (infinity/models/bsq_vae/dynamic_resolution.py).
_SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)
_OTHER_SIZES = (
    "Scales follow upstream's tables of formats; for sizes that these do not list, the scales of the nearest format "
    "that are smaller than the latent, then the latent's own."
)


def _card(
    variant: str,
    title: str,
    bits: int,
    *,
    file: str,
    scores: tuple[float, float, float, float] | None = None,
    patch: int = 16,
    note: str | None = None,
) -> Card:
    """scores: rFID and PSNR at 256 x 256, rFID and PSNR at 512 x 512."""
    mult = [1, 2, 4, 4, 4] if patch == 16 else [1, 2, 4, 4]
    metrics = (("rfid", 256), ("psnr", 256), ("rfid", 512), ("psnr", 512))
    step = 16 // patch
    return Card(
        name=f"infinity-vae-{variant}",
        family="infinity",
        kind="discrete",
        title=title,
        sizes=Multiple(of=patch, at_least=patch),
        licence="MIT",
        paper="https://arxiv.org/abs/2412.04431",
        code="https://github.com/FoundationVision/Infinity",
        sources=_SOURCES,
        # vae.py:232-236: "vae", the raw weights; "ema" only with an argument that is off.
        weights=(Weights(file=file, hub="FoundationVision/infinity", key=("vae", "ema"), licence="MIT", ema=False),),
        # 7 scales of 256 x 256.
        tokens_at_256=step**2 * sum(side * side for side in _SIDES[:7]),
        alphabets=(2,) * bits,
        latent_channels=bits,
        downsample=patch,
        value_range=(-1.0, 1.0),
        published=tuple(
            Published(metric, value, _README, validation("ImageNet", side))
            for (metric, side), value in zip(metrics, scores or (), strict=scores is not None)
        ),
        arch={
            "in_channels": 3,
            "out_channels": 3,
            "base_ch": 128,
            "num_res_blocks": 2,
            "encoder_ch_mult": mult,
            "decoder_ch_mult": mult,
            "patch_size": patch,
            "attention": "none",
            "norm_eps": 1e-6,
            "norm_groups": "32 if the width is divisible by 32, else 24",
            "quantizer": {
                "type": "multi-scale bsq",
                "bits": bits,
                "scales": [[step * side, step * side] for side in _SIDES],
            },
        },
        note=f"{note} {_OTHER_SIZES}" if note else _OTHER_SIZES,
    )


CARDS = (
    _card("d16", "Infinity VAE, 16 bits", 16, file="infinity_vae_d16.pth", scores=(1.22, 20.9, 0.31, 22.6)),
    _card("d24", "Infinity VAE, 24 bits", 24, file="infinity_vae_d24.pth", scores=(0.75, 22.0, 0.30, 23.5)),
    _card("d32", "Infinity VAE, 32 bits", 32, file="infinity_vae_d32.pth", scores=(0.61, 22.7, 0.23, 24.4)),
    _card(
        "d32reg",
        "Infinity VAE, 32 bits, the 2B generator's",
        32,
        file="infinity_vae_d32reg.pth",
        scores=(0.75, 21.9, 0.32, 23.6),
    ),
    _card("d64", "Infinity VAE, 64 bits", 64, file="infinity_vae_d64.pth", scores=(0.33, 24.9, 0.15, 26.4)),
    _card(
        "d56-f8-14-patchify",
        "Infinity VAE, factor 8, 14 bits, the 8B generator's",
        14,
        file="infinity_vae_d56_f8_14_patchify.pth",
        patch=8,
        note="The generator takes 2 x 2 cells as one token of 56 bits; here every cell is a position of 14.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="infinity",
    title="Infinity VAE (multi-scale BSQ)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.infinity:Infinity",
    fixtures=("infinity",),
)
