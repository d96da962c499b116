"""Every fact of a card has a source; every published number stands where its source says."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest
from support import ROOT

from vtbench import registry
from vtbench.reporting.facts import disagreements, facts_of
from vtbench.types.cards import Card

CARDS = {entry.card.name: entry.card for entry in registry.entries()}
LINES = json.loads((ROOT / "tests" / "data" / "source_lines.json").read_text())
"""By source: which file that is, and per card the lines of it that hold its numbers, read off upstream's own text by a
program that knows no card (line 0: a text without lines, read by eye)."""
SPDX = {"MIT", "Apache-2.0", "BSD-3-Clause-Clear", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"}
CSV = {"rfid": "rFID", "psnr": "PSNR", "ssim": "SSIM", "ssim-range2": "SSIM", "lpips": "LPIPS", "fid": "rFID"}
LIBRARIES = {"diffusers", "diffusers-pipeline", "image-api"}
UNSUPPORTED = 14
"""Facts without a source: the training data of library models, of whose cards nobody has read what they say of it, and
the terms of closed systems. To be made fewer."""


def test_sources_are_of_fields_and_say_something() -> None:
    fields = {field.name for field in dataclasses.fields(Card)}
    for card in CARDS.values():
        assert card.sources.keys() <= fields, card.name
        for field, source in card.sources.items():
            assert source.strip() == source != "", (card.name, field)
            assert not re.search(r"(^|\s)/(work|tmp|home)/", source), (card.name, field)


def test_few_facts_have_no_source_and_no_more_than_before() -> None:
    bare = [(card.name, fact.name) for card in CARDS.values() for fact in facts_of(card) if fact.source is None]
    strangers = [(name, fact) for name, fact in bare if CARDS[name].family not in LIBRARIES]
    assert not strangers, "say in `sources` of the card where each is stated: repository, commit, file and line"
    assert len(bare) <= UNSUPPORTED, bare


def test_a_licence_is_an_identifier_or_words() -> None:
    for card in CARDS.values():
        for licence in filter(None, (card.licence, *(file.licence for file in card.weights))):
            # One word without a space is an identifier of SPDX, or the authors' own name of a licence.
            assert licence in SPDX or " " in licence or licence.startswith("OpenRAIL++"), (card.name, licence)


def test_a_generator_names_a_tokenizer_that_exists_or_says_why_not() -> None:
    for card in CARDS.values():
        if card.kind != "generator":
            continue
        if card.tokenizer is None:
            assert card.sources.get("tokenizer"), card.name
        else:
            tokenizer = registry.model(card.tokenizer).card
            assert tokenizer.kind in ("discrete", "continuous"), card.name
            assert tokenizer.no_pixels is None, card.name


def rows_of(shared: Path) -> list[dict[str, str]]:
    with (shared / "published_reconstruction.csv").open() as source:
        return list(csv.DictReader(source))


def held_by_a_line(card: Card, source: str, value: float) -> bool:
    lines = LINES.get(source, {}).get("cards", {}).get(card.name, {})
    return any(value in values for values in lines.values())


def test_every_published_number_stands_in_its_source(shared: Path) -> None:
    rows, astray, by_line = rows_of(shared), [], 0
    for card in CARDS.values():
        for number in card.published:
            if held_by_a_line(card, number.source, number.value):
                by_line += 1
            elif not any(_says(row, CSV.get(number.metric, ""), number.value) for row in rows):
                astray.append((card.name, number.metric, number.value, number.source))
    assert not astray
    assert by_line > 400


def _says(row: dict[str, str], column: str, value: float) -> bool:
    """Whether a cell, or a remark beside it, has the number."""
    text = f"{row.get(column, '')} {row['note']} {row['source']}"
    return value in {float(digits) for digits in re.findall(r"\d*\.\d+|\d+", text)}


def test_numbers_of_one_thing_that_differ_are_found() -> None:
    known = {(card.name, dispute.metric) for card in CARDS.values() for dispute in disagreements(card)}
    assert {("dc-ae-f32c32-in-1.0", "rfid"), ("flextok-d18-d28-in1k", "rfid"), ("titok-s128", "rfid")} <= known
    assert ("gpstoken-s64", "rfid") not in known


MENDED = [
    ("rqvae-imagenet-8x8x4", "licence", "CC-BY-NC-SA-4.0"),
    ("rqvae-lsun-cat-8x8x4", "trained_on", ("ImageNet-1k", "LSUN cat")),
    ("sdxl-vae", "licence", "MIT"),
    ("var-vae-256", "trained_on", ("OpenImages",)),
    ("var-gen-d16", "trained_on", ("ImageNet-1k",)),
    ("nar-c2i-b-256", "licence", "MIT"),
]
"""Facts that were wrong or missing, as upstream states them."""


@pytest.mark.parametrize(("name", "field", "value"), MENDED, ids=lambda x: str(x)[:30])
def test_facts_that_were_wrong(name: str, field: str, value: object) -> None:
    assert getattr(CARDS[name], field) == value


def test_numbers_that_were_filed_wrongly() -> None:
    rae = [(n.metric, n.value) for n in CARDS["rae-dinov2-b"].published]
    assert rae == [("rfid", 0.57)], "of the decoder that is released, not of another"
    assert "ssim-range2" not in {n.metric for n in CARDS["vqgan-imagenet-f16-16384"].published}
    for name in ("ldm-vq-f4", "ldm-vq-f16"):
        assert {n.protocol.dataset for n in CARDS[name].published if n.protocol} == {"ImageNet"}


@pytest.mark.parametrize("size", ["b", "l", "xl", "xxl", "3b"])
def test_a_generator_draws_as_the_number_beside_it_was_drawn(size: str) -> None:
    card = CARDS[f"llamagen-c2i-{size}-384"]
    (number,) = card.published
    assert number.protocol is not None
    assert dict(number.protocol.options) == {name: card.options[name] for name in ("cfg_scale", "top_k")}
