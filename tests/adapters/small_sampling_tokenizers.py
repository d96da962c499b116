"""Tokenizers whose decoder is a sampler, at the fixtures' small sizes, and pictures for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from small_networks import FIXTURES, filled, random_images

from vtbench import registry
from vtbench.models.native import NetworkTokenizer
from vtbench.types.cards import Fixed

SMALL: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "flowmo": ("flowmo-lo", "flowmo__main", {"steps": 3}),
    "flextok": ("flextok-d12-d12-in1k", "flextok__main", {"steps": 2, "tokens": 32, "scaling_factor": 0.5}),
    "semanticist": ("semanticist-tok-l", "semanticist__main", {"steps": "2", "tokens": 16}),
    "d-ar": ("d-ar-tokenizer-v1", "d-ar__main", {}),
}
"""{family: (a released model, the fixture whose small network stands in for its own, options)}."""
SIDE = {"flowmo": 32}
"""Of the fixtures' pictures; 64 where it is not here."""


def small(family: str, shared: Path, **options: Any) -> NetworkTokenizer:
    """The released card with the fixture's small network, whose weights are made from their names."""
    name, fixture, fixed = SMALL[family]
    entry = registry.model(name)
    place = FIXTURES if (FIXTURES / f"{fixture}.json").is_file() else shared / "parity"
    arch = json.loads((place / f"{fixture}.json").read_text())["arch"]
    if "num_denoising_steps" in arch:
        fixed = {"steps": arch["num_denoising_steps"]}
    sizes = Fixed(SIDE.get(family, 64))
    card = replace(entry.card, arch=arch, sizes=sizes, options={**entry.card.options, **fixed, **options})
    return filled(entry.family, card)


def pictures(family: str, count: int) -> torch.Tensor:
    side = SIDE.get(family, 64)
    return random_images(count, side, side)
