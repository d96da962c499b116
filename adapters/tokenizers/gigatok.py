"""GigaTok: tokenizers of one dimension from 136 million to 3 billion parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import validation

_SOURCES = stated(
    "SilentView/GigaTok@182920c",
    licence="README.md:224",
    arch="configs/vq/*.yaml",
    weights="README.md:74-80",
)
_SOURCES["trained_on"] = "arXiv:2504.08736; the README names none"

_README = "GigaTok README (arXiv:2504.08736)"
_256 = validation("ImageNet", 256, 50_000)
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
"""The form in which Google Drive gives the file that the README links to as file/d/ID/view."""
_SIZES = {
    "small": {"width": 512, "layers": 6, "heads": 8},
    "base": {"width": 768, "layers": 12, "heads": 12},
    "large": {"width": 1024, "layers": 24, "heads": 16},
    "xl": {"width": 1280, "layers": 36, "heads": 20},
    "xxl": {"width": 1536, "layers": 48, "heads": 24},
}
"""blocks.py:1043-1071."""


def _card(config: str, title: str, sizes: tuple[str, str], *, file: str, drive: str, rfid: float, lpips: float) -> Card:
    """`config` is upstream's configs/vq/NAME.yaml; `sizes` of the encoder and the decoder."""
    encoder, decoder = sizes
    return Card(
        name=f"gigatok-{config.lower().replace('_', '-')}",
        family="gigatok",
        kind="discrete",
        title=title,
        sizes=Fixed(256),
        licence="MIT",
        paper="https://arxiv.org/abs/2504.08736",
        code="https://github.com/SilentView/GigaTok",
        sources=_SOURCES,
        # reconstruction_ddp.py:157-163 looks for "ema" first.
        weights=(Weights(file=file, url=_DRIVE + drive, key=("ema", "model", "state_dict"), licence="MIT"),),
        tokens_at_256=256,
        alphabets=(16384,),
        latent_channels=8,
        value_range=(-1.0, 1.0),
        trained_on=("ImageNet-1k",),
        published=(Published("rfid", rfid, _README, _256), Published("lpips", lpips, _README, _256)),
        arch={
            "image_size": 256,
            "in_channels": 3,
            "cnn": {
                "ch": 128,
                "num_res_blocks": 2,
                "encoder_ch_mult": list(archs.F16),
                "decoder_ch_mult": list(archs.F16),
                "z_channels": 256,
                "adaptive_norm": True,
                "depth_to_space": True,
                "attention": False,
                "norm_groups": 32,
                "norm_eps": 1e-6,
            },
            "encoder": dict(_SIZES[encoder]),
            "decoder": dict(_SIZES[decoder]),
            "num_latent_tokens": 256,
            "multi_level_query_init": True,
            "last_level_2d_query_init": False,
            "multi_level_2d_query_init": False,
            "quantizer": archs.vq(16384, 8, l2_norm=True),
        },
        aliases=(f"gigatok_{config}",),
    )


CARDS = (
    _card(
        "VQ_SS256",
        "GigaTok S-S, 136 M",
        ("small", "small"),
        file="VQ_SS256_e100.pt",
        drive="1Q_WHCT6mdNnu0GkHCm0CbXaP6kFeTe5h",
        rfid=1.01,
        lpips=0.2226,
    ),
    _card(
        "VQ_SB256",
        "GigaTok S-B, 232 M",
        ("small", "base"),
        file="VQ_SB256_e200.pt",
        drive="17K-h2Jwep53RUEf6CEOV3ro7Cz_DaIWC",
        rfid=0.89,
        lpips=0.2121,
    ),
    _card(
        "VQ_BL256",
        "GigaTok B-L, 622 M",
        ("base", "large"),
        file="VQ_BL256_e200.pt",
        drive="1VnBu4aj0N7lFa1_wKBdTgLNZmaNgFvwi",
        rfid=0.81,
        lpips=0.2059,
    ),
    _card(
        "VQ_BL256_dino_disc",
        "GigaTok B-L, DINO discriminator, 622 M",
        ("base", "large"),
        file="VQ_BL256_dino_disc.pt",
        drive="11bXyg6y15hIWYnIsl7YbwDtRAJMK7jjn",
        rfid=0.51,
        lpips=0.2056,
    ),
    _card(
        "VQ_XLXXL256",
        "GigaTok XL-XXL, 2.9 B",
        ("xl", "xxl"),
        file="VQ_XLXXL256_e300.pt",
        drive="1HK_bV_zklLfGmIHGE4gMwjfhLLKi6Z3G",
        rfid=0.79,
        lpips=0.1947,
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="gigatok",
    title="GigaTok",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.gigatok:GigaTok",
    fixtures=("gigatok",),
)
