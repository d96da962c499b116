"""DALL-E's discrete VAE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Published, Weights, stated
from vtbench.types.conditions import against

_SOURCES = stated(
    "openai/DALL-E@5be4b23",
    licence="LICENSE",
    trained_on="model_card.md:28-31",
    arch="dall_e/encoder.py, dall_e/decoder.py",
    weights="notebooks/usage.ipynb:52-53",
)

_CDN = "https://cdn.openai.com/dall-e"
_TAMING = "taming-transformers README"
_LICENCE = "Modified MIT"

CARDS = (
    Card(
        name="openai-dalle-dvae",
        family="dalle-dvae",
        kind="discrete",
        title="DALL-E dVAE, 8192 codes, factor 8",
        sizes=Multiple(of=8, at_least=8),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2102.12092",
        code="https://github.com/openai/DALL-E",
        sources=_SOURCES,
        # Whole pickled modules, each with the names of its own half.
        weights=tuple(
            Weights(file=f"{role}.pkl", role=role, url=f"{_CDN}/{role}.pkl", licence=_LICENCE, ema=None)
            for role in ("encoder", "decoder")
        ),
        tokens_at_256=1024,
        alphabets=(8192,),
        latent_channels=8192,
        downsample=8,
        value_range=(0.0, 1.0),
        trained_on=("Conceptual Captions", "YFCC100M, filtered", "text-image pairs from the internet"),
        published=(
            Published("rfid", 32.01, _TAMING, against("ImageNet", "validation", 256)),
            Published("rfid", 33.88, _TAMING, against("ImageNet", "training", 256)),
        ),
        arch={
            "group_count": 4,
            "encoder": {"in_channels": 3, "n_hid": 256, "n_blk_per_group": 2, "vocab_size": 8192},
            "decoder": {"out_channels": 3, "n_init": 128, "n_hid": 256, "n_blk_per_group": 2, "vocab_size": 8192},
            "pixel_map_eps": 0.1,
        },
        aliases=("dalle-dvae",),
        note="On CUDA upstream runs most convolutions in float16; here the run's dtype holds throughout.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="dalle-dvae",
    title="DALL-E dVAE",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.dalle:DalleDvae",
    fixtures=("dalle-dvae",),
)
