"""Every card of the registry: none half-filled, no two that disagree, and none that contradicts its network."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
import torch

from vtbench import registry
from vtbench.network import build_network
from vtbench.types.cards import Card, Fixed

ENTRIES = registry.entries()
NATIVE = [e for e in ENTRIES if e.card.arch is not None and e.family.network is not None and e.card.kind != "generator"]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.card.name)
def test_no_card_is_half_filled(entry: registry.Entry) -> None:
    card = entry.card
    assert card.family == entry.family.name
    assert card.title
    assert card.title != card.name
    assert re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", card.name), "names are lower case with hyphens"
    if not any(w.hub or w.url or w.package for w in card.weights):
        # No weights, or the user's own of any size, which say themselves what they are.
        return
    assert card.licence, "released weights have a licence, or one says that it is not stated"
    assert card.code or card.paper or all(w.package for w in card.weights), "only our own fits need no source"
    assert card.downsample is None or card.downsample > 0
    # Where an option sets the codebook (the knob of a rate-distortion curve), the card cannot state one.
    if card.kind == "discrete" and card.knob is None:
        assert card.alphabets
        assert card.tokens_at_256
    assert all(a > 1 for a in card.alphabets)
    if card.kind == "continuous":
        assert card.latent_channels or card.note, "a card that leaves it to the user's files says so"
    for weight in card.weights:
        assert weight.file
        assert not weight.file.startswith("/")
        assert weight.hub or weight.url or weight.package or weight.role == "folder", "where is it to be had?"
        assert weight.sha256 is None or re.fullmatch("[0-9a-f]{64}", weight.sha256)
        assert weight.url is None or weight.url.startswith("https://")
        assert weight.hub is None or re.fullmatch(r"[\w.-]+/[\w.-]+", weight.hub)
    assert len({w.role for w in card.weights}) == len(card.weights), "each file has a role of its own"
    for number in card.published:
        assert number.source
        assert number.metric == number.metric.lower()
        assert number.value == number.value, "NaN is no published value"


def test_no_two_cards_disagree() -> None:
    """What several cards say of one file or one repository must be the same."""
    said: dict[tuple[Any, ...], set[tuple[Any, ...]]] = defaultdict(set)
    for entry in ENTRIES:
        for w in entry.card.weights:
            said["file", w.hub, w.url, w.file].add((w.key, w.prefix, w.sha256, w.licence, w.ema, w.revision))
    assert not {what: facts for what, facts in said.items() if len(facts) > 1}
    numbers: dict[tuple[Any, ...], set[float]] = defaultdict(set)
    for entry in ENTRIES:
        for p in entry.card.published:
            numbers[entry.card.name, p.metric, p.source, p.protocol, p.note].add(p.value)
    assert not {what: values for what, values in numbers.items() if len(values) > 1}


def _size(card: Card) -> tuple[int, int]:
    side = card.sizes.size if isinstance(card.sizes, Fixed) else 256
    return side, side


@pytest.mark.parametrize("entry", NATIVE, ids=lambda e: e.card.name)
def test_the_card_and_its_network_agree(entry: registry.Entry) -> None:
    card = entry.card
    assert card.arch is not None
    with torch.device("meta"):
        network = build_network(entry.family, card.arch)
    assert tuple(network.alphabets) == card.alphabets
    assert tuple(network.value_range) == card.value_range
    assert network.downsample == card.downsample
    assert network.fixed_size == (card.sizes.size if isinstance(card.sizes, Fixed) else None)
    assert (card.kind == "discrete") == bool(card.alphabets)
    if not isinstance(card.sizes, Fixed):
        assert card.sizes.of % (card.downsample or 1) == 0
    grids = getattr(network, "grids", lambda size: ())(_size(card))
    if grids and card.tokens_at_256 is not None:
        assert sum(h * w for h, w in grids) == card.tokens_at_256
    names = network.state_dict()
    assert names
    assert all(t.device.type == "meta" for t in names.values() if t.is_floating_point())


def test_listing_says_what_each_model_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready here, needs a download, needs an extra, needs the user's own file; every model is in one of the states."""
    from vtbench import listing

    card = {e.card.name: e.card for e in ENTRIES}
    monkeypatch.setattr(listing, "extra_missing", lambda extra: [])
    monkeypatch.setattr(listing, "weight_here", lambda weight: weight.package is not None)
    assert listing.state(card["jpeg"]) == ("ready", "")
    assert listing.state(card["llamagen-vq-ds16-c2i"]) == (
        "needs download", "vq_ds16_c2i.pt from FoundationVision/LlamaGen, or --checkpoint"
    )  # fmt: skip
    assert listing.state(card["diffusers-vae"])[0] == "needs checkpoint"
    assert listing.state(card["sdxl-vae"])[0] == "needs download"
    monkeypatch.setattr(listing, "extra_missing", lambda extra: ["diffusers"])
    assert listing.state(card["sdxl-vae"]) == ("needs extra", "pip install 'vtbench[hub]' (diffusers missing)")
    known = {"ready", "needs key", "needs extra", "needs download", "needs checkpoint"}
    assert {listing.state(c)[0] for c in card.values()} <= known
