"""TAESD: tiny distilled autoencoders with the latents of Stable Diffusion 1, XL and 3, FLUX.1, FLUX.2 and Sana."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "madebyollin/taesd@5cccb12",
    licence="LICENSE",
    trained_on="README.md names none",
    arch="taesd.py",
    weights='README.md ("weights are in this repo")',
)

_CODE = "https://github.com/madebyollin/taesd"
# taesd.py and the weights beside it, at this commit; the sha256 are those of the files in it.
_COMMIT = "5cccb12dc72074a4be35680c3b108548a7c69978"
_RAW = f"https://github.com/madebyollin/taesd/raw/{_COMMIT}"


def _card(
    name: str,
    of: str,
    latent_channels: int,
    *,
    downsample: int = 8,
    pooled_middle: bool = False,
    sha256: Mapping[str, str] | None = None,
) -> Card:
    """`of`: the autoencoder whose latents it speaks; sha256 by role, where we have seen the file."""
    return Card(
        name=name,
        family="taesd",
        kind="continuous",
        title=f"{name.upper()}: tiny autoencoder for the latents of {of}",
        sizes=Multiple(of=downsample, at_least=downsample),
        licence="MIT",
        code=_CODE,
        sources=_SOURCES,
        weights=tuple(
            Weights(
                file=f"{name}_{role}.pth",
                role=role,
                url=f"{_RAW}/{name}_{role}.pth",
                revision=_COMMIT,
                sha256=(sha256 or {}).get(role),
                licence="MIT",
            )
            for role in ("encoder", "decoder")
        ),
        tokens_at_256=(256 // downsample) ** 2,
        latent_channels=latent_channels,
        downsample=downsample,
        value_range=(0.0, 1.0),
        options={"latent_dtype": "float16"},
        arch={
            "image_channels": 3,
            "latent_channels": latent_channels,
            "width": 64,
            "downsample": downsample,
            "pooled_middle": pooled_middle,
        },
        note="Latents are counted at the card's scale factor 1, roughly in [-3, 3].",
    )


CARDS = (
    _card("taesd", "Stable Diffusion 1 and 2", 4),
    _card("taesdxl", "SDXL", 4),
    _card("taesd3", "Stable Diffusion 3", 16),
    _card("taef1", "FLUX.1", 16),
    _card(
        "taef2",
        "FLUX.2",
        32,
        pooled_middle=True,
        sha256={
            "encoder": "10a4e1021e89d7551eaf161352da8dbd0b1aa83872ae28b150c1df1ce2f147b6",
            "decoder": "0a44a31e1ae59eb9dbf9359d24942fd3ef5928162c1800d97a28c61d51be0ab5",
        },
    ),
    _card(
        "taesana",
        "Sana (DC-AE f32c32)",
        32,
        downsample=32,
        sha256={"encoder": "858f4e4cc293f88efaf58107f4154b960b9ced0cb5d9c050dad11f926b618c1f"},
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="taesd",
    title="TAESD (tiny autoencoders)",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.taesd:TAESD",
    fixtures=("taesd",),
)
