"""HART's autoencoder in its two modes: the codes alone, and codes with the continuous rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtbench.adapters.networks.parts import archs
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Card, Family, Fixed, Published, Weights, stated
from vtbench.types.conditions import Conditions

_SOURCES = stated(
    "mit-han-lab/hart@e28a41f",
    licence="LICENSE",
    trained_on="README.md names none",
    arch="hart/modules/models/autoencoder; scales: arXiv:2410.10812",
    weights='README.md ("Download HART tokenizer and models")',
)

_MJHQ = Conditions("MJHQ-30K, 1024 x 1024", dataset="MJHQ-30K", size=1024)
_SCALES = (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64)
"""The paper's; the hub's tokenizer/config.json, which decides, is not in the repository."""
_ARCH: Mapping[str, Any] = {
    **archs.VAR_AUTOENCODER,
    "quantizer": {
        "type": "multi-scale residual vq with continuous rest",
        "codebook_size": 4096,
        "embed_dim": 32,
        "znorm": False,
        "quant_resi": 0.5,
        "share_quant_resi": 4,
        "v_patch_nums": list(_SCALES),
        "phi_index": [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3],
    },
}
_DISCRETE = Card(
    name="hart-1024",
    family="hart",
    kind="discrete",
    title="HART's autoencoder, codes of 14 scales alone, 1024 x 1024",
    sizes=Fixed(1024),
    licence="MIT",
    paper="https://arxiv.org/abs/2410.10812",
    code="https://github.com/mit-han-lab/hart",
    sources=_SOURCES,
    # transformers' safetensors, a flat state dict.
    weights=(Weights(file="tokenizer/model.safetensors", hub="mit-han-lab/hart-0.7b-1024px", licence="MIT"),),
    tokens_at_256=sum(side**2 for side in _SCALES),
    alphabets=(4096,),
    latent_channels=32,
    downsample=16,
    value_range=(-1.0, 1.0),
    arch=_ARCH,
    aliases=("hart-0.7b-1024px-tokenizer",),
    note="The codes alone; upstream's own forward adds the continuous rest, which is hart-1024-hybrid here.",
)
CARDS = (
    _DISCRETE,
    replace(
        _DISCRETE,
        name="hart-1024-hybrid",
        kind="continuous",
        title="HART's autoencoder, codes and continuous rest, 1024 x 1024",
        tokens_at_256=_SCALES[-1] ** 2,
        alphabets=(),
        published=(Published("rfid", 0.30, "HART, abstract (arXiv:2410.10812)", _MJHQ),),
        arch={**_ARCH, "mode": "hybrid"},
        aliases=(),
        note="Codes and the whole rest add up to the encoder's latent, which is what is sent and counted.",
    ),
)


def _build(card: Card, options: Mapping[str, Any]) -> NetworkTokenizer:
    return NetworkTokenizer(card, options, family=FAMILY)


FAMILY = Family(
    name="hart",
    title="HART",
    cards=CARDS,
    build=_build,
    network="vtbench.adapters.networks.hart:Hart",
    fixtures=("hart",),
)
