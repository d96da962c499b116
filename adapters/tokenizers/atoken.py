"""AToken as a tokenizer of pictures: continuous latents, or eight books of finite scalars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated

_SOURCES = stated(
    "apple/ml-atoken@3f5afdc",
    licence="README.md:121, MODEL-LICENSE",
    trained_on="README.md names none",
    arch="configs/atoken-*.yaml",
    weights="download_checkpoints.sh",
)

_LICENCE = "Apple ML Research Model licence (research only)"
_BOOKS, _LEVELS = 8, [4] * 6


def _half(*, decoder: bool) -> dict[str, Any]:
    """SigLIP So400M's sizes (configs/atoken-*.yaml)."""
    return {
        "width": 1152,
        "layers": 27,
        "heads": 16,
        "mlp": 4304,
        "bias": not decoder,
        "rms_norm": decoder,
        "qk_rms_norm": decoder,
        "position": "learned 16x16 table resized (bilinear, antialias) plus 4-D rotary",
        "norm_eps": 1e-6,
    }


def _card(name: str, title: str, *, channels: int, discrete: bool = False, more: str = "", **card: Any) -> Card:
    quantizer = {
        "type": "fsq",
        "books": _BOOKS,
        "levels": _LEVELS,
        "eps": 1e-3,
        "feature_dim": channels,
        "chunk_size": 1,
    }
    return Card(
        name=name,
        family="atoken",
        kind="discrete" if discrete else "continuous",
        title=title,
        sizes=Multiple(of=16, at_least=16),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2509.14476",
        code="https://github.com/apple/ml-atoken",
        sources=_SOURCES,
        weights=(
            Weights(file=f"{name}.pt", url=f"https://ml-site.cdn-apple.com/models/atoken/{name}.pt", licence=_LICENCE),
        ),
        tokens_at_256=256,
        alphabets=(4**6,) * _BOOKS if discrete else (),
        latent_channels=channels,
        downsample=16,
        value_range=(-1.0, 1.0),
        options={} if discrete else {"posterior": "mode", "latent_dtype": "float16"},
        arch={
            "patch_size": [4, 16, 16],
            "in_channels": 3072,
            "out_channels": 3072,
            "latent_channels": channels,
            "encoder": _half(decoder=False),
            "decoder": _half(decoder=True),
            "posterior": None if discrete else "diagonal gaussian, mean taken",
            "quantizer": quantizer if discrete else None,
        },
        aliases=(name.replace("-", "_"),),
        note=(
            "A picture is one frame before three of mid grey; the first of four comes back. The repository names no "
            "training data."
        )
        + ("" if discrete else " Upstream draws from the posterior; here its mean, unless posterior=sample.")
        + more,
        **card,
    )


CARDS = (
    _card(
        "atoken-soc",
        "AToken-So/C, 48 channels, factor 16",
        channels=48,
        published=(
            Published("rfid", 0.21, "abstract of arXiv:2509.14476", note="it names neither variant nor protocol"),
        ),
    ),
    _card("atoken-sod", "AToken-So/D, eight books of 4096 codes, factor 16", channels=48, discrete=True),
    _card(
        "atoken-soc-s1",
        "AToken-So/C after its first stage, pictures alone, 32 channels, factor 16",
        channels=32,
        more=" An early stage, trained on pictures; the second stage's file (atoken-soc-s2.pt) has no configuration in "
        "the repository: `vtbench identify` reads its sizes.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="atoken",
    title="AToken",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.atoken:AToken",
    fixtures=("atoken",),
)
