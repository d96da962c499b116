"""GPSToken: 64 to 256 Gaussians with features, placed by the picture's own detail; every number of them is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "xtudbxk/GPSToken@372231d",
    licence="README.md:4 (a badge; no licence file)",
    trained_on="configs/gpstoken_*.yaml:48",
    arch="configs/gpstoken_*.yaml",
    weights="README.md:167",
)

_README = "GPSToken README (arXiv:2509.01109)"
_256 = validation("ImageNet", 256, 50_000)
_LICENCE = "MIT by the hub's model card; the README's badge says Apache-2.0, the repository has no licence file"


def _card(size: str, count: int, features: int, **published: float) -> Card:
    return Card(
        name=f"gpstoken-{size}{count}",
        family="gpstoken",
        kind="continuous",
        title=f"GPSToken-{size.upper()}{count}, {count} Gaussians",
        sizes=Fixed(256),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2509.01109",
        code="https://github.com/xtudbxk/GPSToken",
        sources=_SOURCES,
        weights=(Weights(file=f"gpstoken_{size}{count}.safetensors", hub="xtudbxk/GPSToken", licence="MIT"),),
        tokens_at_256=count,
        latent_channels=5 + features,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        options={"latent_dtype": "float16"},
        published=tuple(Published(metric, value, _README, _256) for metric, value in published.items()),
        arch={
            "in_channels": 3,
            "out_channels": 3,
            "decoder": {
                "ch": 128,
                "ch_mult": [1, 2, 4],
                "num_res_blocks": 2,
                "attn_resolutions": [],
                "resolution": 256,
                "z_channels": features,
            },
            "gps": {
                "rois": 8,
                "layers": 30,
                "width": 512,
                "feature_channels": features,
                "num": count,
                "dmax": 3,
                "adaptive_weight": 2.5,
                "adaptive_min_size": 8,
                "render_size": [64, 64],
            },
        },
        aliases=(f"gpstoken_{size}{count}",),
        note="A token is two deviations, a correlation, a place (x, y) and the features; all of it is counted.",
    )


CARDS = (
    _card("s", 64, 16, rfid=1.31, psnr=22.18, ssim=0.578, lpips=0.111),
    _card("m", 128, 16, rfid=0.65, psnr=24.06, ssim=0.657, lpips=0.080),
    _card("l", 256, 32, rfid=0.22, psnr=28.81, ssim=0.809, lpips=0.043),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="gpstoken",
    title="GPSToken",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.gpstoken:GpsToken",
    fixtures=("gpstoken",),
)
