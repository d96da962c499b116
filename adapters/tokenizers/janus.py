"""The VQ tokenizer inside DeepSeek's Janus models: LlamaGen's VQ-16 under `gen_vision_model.`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "deepseek-ai/Janus@1daa72f",
    licence="README.md:715, LICENSE-MODEL",
    trained_on="README.md names none",
    arch="janus/models/vq_model.py",
    weights="README.md:113-116",
)

_LICENCE = "DeepSeek Model License"


def _card(model: str, paper: str) -> Card:
    return Card(
        name=f"{model.lower()}-vq16",
        family="janus",
        kind="discrete",
        title=f"{model}'s VQ-16",
        sizes=Multiple(of=16, at_least=16),
        licence=_LICENCE,
        paper=paper,
        code="https://github.com/deepseek-ai/Janus",
        sources=_SOURCES,
        weights=(
            Weights(
                file="pytorch_model.bin",
                hub=f"deepseek-ai/{model}",
                prefix="gen_vision_model.",
                licence=_LICENCE,
            ),
        ),
        tokens_at_256=256,
        alphabets=(16384,),
        latent_channels=8,
        downsample=16,
        value_range=(-1.0, 1.0),
        arch=archs.llamagen(),
        aliases=(f"deepseek-{model}-vq16",),
        note=(
            "Inside the whole model's checkpoint, one shard or several: a folder with all of them, or a file of the "
            "keys under gen_vision_model., goes to --checkpoint. "
            "Janus itself runs it in bfloat16 at 384 x 384: 576 tokens."
        ),
    )


CARDS = (
    _card("Janus-Pro-1B", "https://arxiv.org/abs/2501.17811"),
    _card("Janus-Pro-7B", "https://arxiv.org/abs/2501.17811"),
    _card("Janus-1.3B", "https://arxiv.org/abs/2410.13848"),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="janus",
    title="Janus VQ-16",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.llamagen:LlamaGen",
    fixtures=("janus",),
)
