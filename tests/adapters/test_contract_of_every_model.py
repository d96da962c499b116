"""Every registered model: its card is complete, agrees with its network, builds what it says, keeps the contract."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections import defaultdict
from typing import Any, get_args

import numpy as np
import pytest
import torch
from builtin_models import cat, load, there_and_back

from vtbench import registry
from vtbench.cli import catalogue
from vtbench.images.serving import serve
from vtbench.models.network import on_meta
from vtbench.proving import contract, fresh_process
from vtbench.types.adapter import ClosedSystem, Generator, Tokenizer
from vtbench.types.cards import Card, Fixed, Kind, Multiple

ENTRIES = registry.entries()
TOKENIZERS = [e for e in ENTRIES if e.card.kind not in ("generator", "closed")]
NATIVE = [e for e in TOKENIZERS if e.card.arch is not None and e.family.network is not None]
HERE = [e.card.name for e in TOKENIZERS if all(w.package for w in e.card.weights) and e.card.extra is None]
"""Tokenizers that need no download, no key and no extra."""
every_model = pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.card.name)


# -- cards -----------------------------------------------------------------------------------------------------------


@every_model
def test_the_card_is_complete(entry: registry.Entry) -> None:
    card = entry.card
    assert card.family == entry.family.name
    assert card.title
    assert card.title != card.name
    assert re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", card.name), "names are lower case with hyphens"
    assert card.kind in get_args(Kind)
    assert card.value_range[0] < card.value_range[1]
    if isinstance(card.sizes, Fixed):
        assert card.sizes.size > 0
    else:
        assert isinstance(card.sizes, Multiple)
        assert card.sizes.of > 0
        assert card.sizes.at_least > 0
    assert card.downsample is None or card.downsample > 0
    assert all(a > 1 for a in card.alphabets)
    assert (card.kind == "generator") == (card.conditioning is not None) or card.name == "diffusers-pipeline"
    if card.tokenizer is not None:
        assert card.kind == "generator"
        assert registry.model(card.tokenizer).card.kind in ("discrete", "continuous")
    for number in card.published:
        assert number.source
        assert number.metric == number.metric.lower()
        assert number.value == number.value, "NaN is no published value"


@every_model
def test_a_released_model_states_where_it_comes_from(entry: registry.Entry) -> None:
    card = entry.card
    if not any(w.hub or w.url or w.package for w in card.weights):
        # No weights, or the user's own of any size, which say themselves what they are.
        return
    assert card.licence, "released weights have a licence, or one says that it is not stated"
    assert card.code or card.paper or all(w.package for w in card.weights), "only our own fits need no source"
    # Where an option sets the codebook (the knob of a rate-distortion curve), the card cannot state one.
    if card.kind == "discrete" and card.knob is None:
        assert card.alphabets
        assert card.tokens_at_256
    if card.kind == "continuous":
        assert card.latent_channels or card.note, "a card that leaves it to the user's files says so"


@every_model
def test_every_file_of_weights_has_a_role_and_a_place(entry: registry.Entry) -> None:
    weights = entry.card.weights
    for weight in weights:
        assert weight.file
        assert not weight.file.startswith("/")
        own = not any(w.hub or w.url or w.package for w in weights)
        assert own or weight.hub or weight.url or weight.package or weight.role == "folder", "where is it to be had?"
        assert weight.sha256 is None or re.fullmatch("[0-9a-f]{64}", weight.sha256)
        assert weight.sha256_begins is None or re.fullmatch("[0-9a-f]{8,63}", weight.sha256_begins)
        assert weight.package is None or weight.sha256, "what we ship is verified"
        assert weight.url is None or weight.url.startswith("https://")
        assert weight.hub is None or re.fullmatch(r"[\w.-]+/[\w.-]+", weight.hub)
    # Under the options of one run; several files may be for one role where an option chooses among them.
    told_apart = [(w.role, sorted(w.when.items())) for w in weights]
    assert all(told_apart.count(one) == 1 for one in told_apart), "each file has a role of its own"
    assert all(set(w.when) <= set(entry.card.options) for w in weights)


@every_model
def test_every_option_has_a_type_and_its_text_is_read(entry: registry.Entry) -> None:
    card = entry.card
    assert {type(v) for v in card.options.values()} <= {bool, int, float, str}
    texts = {name: str(value) for name, value in card.options.items()}
    assert registry.parse_options(card, texts) == dict(card.options)
    assert (card.knob is None) == (card.knob_values == ())
    if card.knob is not None:
        assert card.knob in card.options
        for value in card.knob_values:
            read = registry.parse_options(card, {card.knob: str(value)})[card.knob]
            assert read == value
            assert type(read) is type(card.options[card.knob])


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


def test_the_list_shows_every_card() -> None:
    """One line a model, with the facts of its card; it can be written as JSON."""
    lines = {line["name"]: line for line in json.loads(json.dumps(catalogue.models()))}
    assert set(lines) == {e.card.name for e in ENTRIES} | set(registry.broken_plugins())
    for entry in ENTRIES:
        line, card = lines[entry.card.name], entry.card
        assert (line["family"], line["kind"], line["title"]) == (card.family, card.kind, card.title)
        assert line["options"] == dict(card.options)
        assert line["state"] == "ready" or line["needs"]
        assert line["alphabets"] == list(card.alphabets)
        assert [w["file"] for w in line["weights"]] == [w.file for w in card.weights]


def test_listing_says_what_each_model_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready here, needs a download, needs an extra, needs the user's own file; every model is in one of the states."""
    card = {e.card.name: e.card for e in ENTRIES}
    monkeypatch.setattr(catalogue, "extra_missing", lambda extra: [])
    monkeypatch.setattr(catalogue, "weight_here", lambda weight: weight.package is not None)
    assert catalogue.state(card["jpeg"]) == ("ready", "")
    assert catalogue.state(card["llamagen-vq-ds16-c2i"]) == (
        "needs download",
        "vq_ds16_c2i.pt from FoundationVision/LlamaGen, or --checkpoint",
    )
    assert catalogue.state(card["diffusers-vae"])[0] == "needs checkpoint"
    assert catalogue.state(card["sdxl-vae"])[0] == "needs download"
    monkeypatch.setattr(catalogue, "extra_missing", lambda extra: ["diffusers"])
    assert catalogue.state(card["sdxl-vae"]) == (
        "needs extra",
        "pip install '.[hub]' in the checkout of vtbench (diffusers missing)",
    )
    known = {"ready", "needs key", "needs extra", "needs download", "needs checkpoint"}
    assert {catalogue.state(c)[0] for c in card.values()} <= known


# -- families and networks -------------------------------------------------------------------------------------------


@every_model
def test_it_builds_what_its_card_says(entry: registry.Entry) -> None:
    """Unloaded, with every option at its default, in a class of the card's kind."""
    model = registry.build(entry, dict(entry.card.options))
    wanted = {"generator": Generator, "closed": ClosedSystem}.get(entry.card.kind, Tokenizer)
    assert isinstance(model, wanted)
    assert model.card == entry.card
    assert model.options == dict(entry.card.options)
    assert (entry.family.name, entry.builtin) == (registry.family(entry.card.family).name, True)
    assert "FAMILY" in entry.file.read_text(), "the file of a model is that of its family"


def _size(card: Card) -> tuple[int, int]:
    side = card.sizes.size if isinstance(card.sizes, Fixed) else 256
    return side, side


@pytest.mark.parametrize("entry", NATIVE, ids=lambda e: e.card.name)
def test_the_card_and_its_network_agree(entry: registry.Entry) -> None:
    card = entry.card
    assert card.arch is not None
    network = on_meta(entry.family, card.arch)
    # Floats that the decoder needs beside a code are books of 16 bits.
    assert (*network.alphabets, *[2**16] * getattr(network, "numbers_beside", 0)) == card.alphabets
    assert tuple(network.value_range) == card.value_range
    assert network.downsample == card.downsample
    assert getattr(network, "no_pixels", None) == card.no_pixels
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


# -- behaviour of what needs no download -----------------------------------------------------------------------------


def test_the_built_in_ones_need_no_download() -> None:
    codecs = {"jpeg", "webp", "jpeg2000", "avif", "png"}
    fits = {"pca", "kmeans-vq", "residual-vq", "product-quant", "pca-fsq", "pca-signs", "bpe-vq", "quadtree"}
    fits |= {"being-vl-bpe-1d", "being-vl-bpe-2d"}
    assert set(HERE) == {*codecs, *fits, "dct", "identity", "resize"}


@pytest.mark.parametrize("name", HERE)
def test_any_size(name: str) -> None:
    """From one pixel to a ribbon, served as the runner serves them."""
    model = load(name)
    for height, width in ((1, 1), (3, 5), (8, 24), (2, 700), (33, 17)):
        image = cat(40, 40)[:, :, :height, :width] if width <= 40 else cat(height, 192).repeat(1, 1, 1, 4)[..., :width]
        service = serve(model.card.sizes, height, width, "resize")
        tokens, back = there_and_back(model, service.to_model(image))
        assert service.from_model(back).shape == image.shape
        assert bool(torch.isfinite(back).all())
        assert float(tokens.bits()[0]) > 0


def test_a_fresh_process_decodes_the_same() -> None:
    """One process for all: it gets names and packed bytes, and gives back the same pictures."""
    image = cat(64, 96)
    asked, here = {}, {}
    for name in HERE:
        tokens, back = there_and_back(load(name), image)
        asked[name] = base64.b64encode(tokens.pack()[0]).decode()
        here[name] = (back.clamp(0, 1) * 255).round().byte()[0].numpy()
    code = (
        "import base64, json, sys; from vtbench.proving.fresh_process import decode_here\n"
        "for name, blob in json.load(sys.stdin).items():\n"
        "    asked = dict(model=name, options={}, blobs=[blob], seeds=[0], device='cpu', dtype='float32')\n"
        "    print(name, base64.b64encode(decode_here(asked)).decode())"
    )
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    there = dict(line.split() for line in done.stdout.splitlines())
    assert set(there) == set(HERE)
    for name in HERE:
        assert np.array_equal(np.frombuffer(base64.b64decode(there[name]), np.uint8), here[name].ravel()), name


@pytest.mark.parametrize("name", [*HERE, "tokenbridge:pca"])
def test_contract(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check of `vtbench check` but the fresh process, which the test above has for all of them at once."""

    def same_process(command: Any, input: bytes, **_: Any) -> Any:
        return subprocess.CompletedProcess(command, 0, fresh_process.decode_here(json.loads(input)), b"")

    monkeypatch.setattr(fresh_process.subprocess, "run", same_process)
    checks = contract.check(name)
    assert [c for c in checks if c.status != "passed"] == []
    assert len(checks) >= 9
