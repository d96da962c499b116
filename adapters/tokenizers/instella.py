"""Instella-T2I's binary autoencoder: 128 tokens of 64 bits, whatever the image's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Multiple, Weights, stated

_SOURCES = stated(
    "AMD-AIG-AIMA/Instella-T2I@9a1a753",
    licence="LICENSE",
    trained_on="README.md names the generators' data, not the autoencoder's",
    arch="configs/bae_config.py, bae/ae_model.py",
    weights="README.md",
)

_LICENCE = "Instella_T2I_1B, research-only RAIL-MS"

CARDS = (
    Card(
        name="instella-t2i-bae",
        family="instella",
        kind="discrete",
        title="Instella-T2I's binary autoencoder, 128 tokens of 64 bits",
        # Patches of 16, one halving; a single cell has no place to be stretched to.
        sizes=Multiple(of=32, at_least=64),
        licence=_LICENCE,
        paper="https://arxiv.org/abs/2506.21022",
        code="https://github.com/AMD-AIG-AIMA/Instella-T2I",
        sources=_SOURCES,
        weights=(Weights(file="bae/model.safetensors", hub="amd/Instella-T2I", licence=_LICENCE),),
        tokens_at_256=128,
        alphabets=(2,) * 64,
        latent_channels=64,
        value_range=(-1.0, 1.0),
        # configs/diff_config.py:56 and ar_config.py:56 set bae_scale, for pictures of 512, 768 and 1024 pixels alike.
        options={"scale": 1024},
        arch={
            "in_channels": 3,
            "patch_size": 16,
            "encoder": {"layers": 12, "head_dim": 64, "heads": 12, "downsample_after": [7]},
            "decoder": {"layers": 16, "head_dim": 64, "heads": 16, "upsample_after": [7]},
            "num_latent_tokens": 128,
            "rope_axes": [8, 28, 28],
            "norm_eps": 1e-6,
            "scale": None,
            "quantizer": {"type": "binary", "bits": 64},
        },
        aliases=("instella_t2i_bae",),
        note="scale: side in pixels over which the cells' positions are stretched, 0 for none. The repository states "
        "neither its training data nor reconstruction results, and the range [-1, 1] only through its samplers.",
    ),
)


class InstellaTokenizer(NetworkTokenizer):
    """The network with the option `scale`, which encoder and decoder must agree on."""

    def encode_settings(self, size: tuple[int, int], seeds: Sequence[int]) -> dict[str, Any]:
        scale = int(self.options.get("scale", 0))
        return {**super().encode_settings(size, seeds), **({"scale": scale} if scale else {})}

    def decode_settings(self, size: tuple[int, int], seeds: Sequence[int]) -> dict[str, Any]:
        scale = int(self.options.get("scale", 0))
        return {**super().decode_settings(size, seeds), **({"scale": scale} if scale else {})}


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return InstellaTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="instella",
    title="Instella's binary autoencoder",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.instella:Instella",
    fixtures=("instella",),
)
