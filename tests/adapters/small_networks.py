"""What the tests of native networks share: fixtures' small configurations, filled by names, and seeded tensors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vtbench import registry
from vtbench.models.made_weights import fill_
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network
from vtbench.types.cards import Card, Family, Weights
from vtbench.types.tokens import Codes, unpack

TESTS = Path(__file__).resolve().parents[1]
FIXTURES, GENERATOR_FIXTURES = TESTS / "parity", TESTS / "parity_gen"


def random_tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal, float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_images(count: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    """float32 (count, 3, height, width), uniform in [0, 1]."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def arch_of(fixture: str) -> dict[str, Any]:
    arch: dict[str, Any] = json.loads((FIXTURES / f"{fixture}.json").read_text())["arch"]
    return arch


def filled(family: Family, card: Card) -> NetworkTokenizer:
    """The card's tokenizer, its weights made from their names."""
    tokenizer: NetworkTokenizer = family.build(card, {})
    tokenizer.place(fill_(build_network(family, card.arch or {})), "cpu", "float32")
    return tokenizer


def of_fixture(fixture: str) -> NetworkTokenizer:
    """The small tokenizer of a parity fixture, its weights made from their names."""
    facts: dict[str, Any] = json.loads((FIXTURES / f"{fixture}.json").read_text())
    family = registry.family(facts["family"])
    return filled(family, Card(name=fixture, family=family.name, kind="discrete", title="small", arch=facts["arch"]))


def state_of(fixture: str) -> dict[str, torch.Tensor]:
    """A copy of the weights of `of_fixture`."""
    return {name: tensor.clone() for name, tensor in of_fixture(fixture).network.state_dict().items()}


def assert_loads(fixture: str, files: dict[str, Any], weights: tuple[Weights, ...], folder: Path) -> None:
    """From `files` ({role: object}) on disk the family's tokenizer does what the one in memory does."""
    tokenizer = of_fixture(fixture)
    paths = {}
    for role, content in files.items():
        paths[role] = folder / f"{fixture}-{role}.pt"
        torch.save(content, paths[role])
    card = replace(tokenizer.card, weights=weights)
    loaded = registry.family(card.family).build(card, {})
    loaded.load(paths)
    side = tokenizer.network.fixed_size or 32
    images = random_images(1, side, side, seed=2)
    wanted, tokens = tokenizer.encode(images, [0]), loaded.encode(images, [0])
    assert torch.equal(tokens.indices, wanted.indices)
    assert torch.equal(loaded.decode(tokens, [0]), tokenizer.decode(wanted, [0]))


def four_times_one(tokenizer: Any, images: torch.Tensor, seeds: list[int]) -> Codes:
    """A batch's codes; each image alone has the same ones, and its packed bytes are decoded to the same picture."""
    codes = tokenizer.encode(images, seeds)
    assert isinstance(codes, Codes)
    together = tokenizer.decode(codes, seeds)
    assert together.shape == images.shape
    for i in (0, len(images) - 1):
        alone = tokenizer.encode(images[i : i + 1], seeds[i : i + 1])
        assert isinstance(alone, Codes)
        assert torch.equal(alone.indices, codes.indices[i : i + 1])
        # Another batch size may run another kernel: rounding only.
        from_bytes = tokenizer.decode(unpack(alone.pack()[0]), seeds[i : i + 1])
        assert torch.allclose(from_bytes, together[i : i + 1], atol=2e-5)
    return codes
