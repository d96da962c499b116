"""Settings of samplers: every built-in generator refuses what no sampler means, and one that a user wrote as well."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from vtbench import registry
from vtbench.images.prompts import open_prompts
from vtbench.models.load import load
from vtbench.types.cards import Card
from vtbench.types.errors import VtbenchError
from vtbench.types.settings import RANGES, check_settings

GENERATORS = [entry.card for entry in registry.entries() if entry.card.kind == "generator"]
FIRST = list({card.family: card for card in GENERATORS}.values())


@pytest.mark.parametrize("card", GENERATORS, ids=lambda card: card.name)
def test_every_default_is_allowed(card: Card) -> None:
    check_settings(card, card.options)
    within = dataclasses.replace(card, options={})
    outside = {"diffusers-pipeline": {"steps", "size", "guidance"}}.get(card.family, set())
    for name, value in card.options.items():
        if name not in outside:
            check_settings(within, {name: value})


@pytest.mark.parametrize("card", FIRST, ids=lambda card: card.name)
def test_every_number_is_finite_and_temperatures_and_guidance_are_not_negative(card: Card) -> None:
    numbers = {n: v for n, v in card.options.items() if isinstance(v, float)}
    for name in numbers:
        for text in ("nan", "inf", "-inf"):
            with pytest.raises(VtbenchError, match=f"the option {name} is -?(nan|inf), but must be"):
                load(card.name, {name: text})
    words = ("temperature", "guidance", "cfg", "top_")
    sampled = [n for n, v in card.options.items() if type(v) in (int, float) and any(word in n for word in words)]
    for name in sampled:
        with pytest.raises(VtbenchError, match=f"the option {name} is -7, but must be"):
            load(card.name, {name: "-7"})


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperature", 0, True),
        ("temperature", -0.1, False),
        ("softmax_temperature", 0, False),
        ("randomize_temperature", 0, True),
        ("cfg", -1, False),
        ("cfg_scale", 0, True),
        ("image_guidance_scale", -2, False),
        ("top_k", 0, True),
        ("top_k", -1, False),
        ("topK", -1, False),
        ("top_p", 1, True),
        ("top_p", 1.01, False),
        ("min_p", -0.1, False),
        ("num_inference_steps", 0, False),
        ("steps", 1, True),
        ("cfg_interval", -2, False),
        ("lantern_delta", 1.5, False),
        ("colour", -3, True),
        ("colour", float("nan"), False),
    ],
)
def test_by_name(name: str, value: float, allowed: bool) -> None:
    card = Card("mine", "mine", "generator", "Mine", options={name: 0.5})
    if allowed:
        check_settings(card, {name: value})
        return
    with pytest.raises(VtbenchError, match=f"mine: the option {name} is "):
        check_settings(card, {name: value})


def test_the_default_may_mean_the_librarys_own() -> None:
    card = Card("mine", "mine", "generator", "Mine", options={"guidance": -1.0})
    check_settings(card, {"guidance": -1.0})
    with pytest.raises(VtbenchError, match="guidance is -2"):
        check_settings(card, {"guidance": -2.0})


def test_words() -> None:
    assert {r.words() for r in RANGES if "temperature" in r.pattern} == {
        "a finite number from 0 on",
        "a finite number above 0",
    }


def test_a_generator_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from vtbench import Card, Family\n"
        "from vtbench.types.adapter import Generator\n"
        "CARD = Card('mine', 'mine', 'generator', 'Mine', options={'temperature': 1.0, 'top_k': 5})\n"
        "class Mine(Generator):\n"
        "    def generate(self, prompts, seeds): raise AssertionError\n"
        "FAMILY = Family('mine', 'Mine', (CARD,), Mine)\n"
    )
    spec = f"{tmp_path / 'mine.py'}@mine"
    for name, text in (("temperature", "-1"), ("temperature", "nan"), ("top_k", "-5")):
        with pytest.raises(VtbenchError, match=f"the option {name} is"):
            load(spec, {name: text})
    load(spec, {"temperature": "0.5"})


@pytest.mark.parametrize(
    "spec", ["classes:99999999999999", "classes:0-500000", "classes:-1", "classes:5-3", "classes:"]
)
def test_ranges_of_classes_that_are_none(spec: str) -> None:
    with pytest.raises(VtbenchError, match="give classes:1000"):
        open_prompts(spec)
