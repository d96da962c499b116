"""Facts of a card with their sources, and numbers that contradict each other."""

from __future__ import annotations

import pytest

from vtbench.reporting.facts import codebook, disagreements, facts_of
from vtbench.types.cards import Card, Published, Weights, stated
from vtbench.types.conditions import validation

_256 = validation("ImageNet", 256, 50_000)


def card(*published: Published, **more: object) -> Card:
    return Card("a-model", "a", "discrete", "A model", published=published, **more)  # type: ignore[arg-type]


def test_a_fact_without_a_source_is_told_from_one_that_nobody_states() -> None:
    made = card(
        alphabets=(16384,),
        weights=(Weights("a.pt", hub="some/where"),),
        sources=stated("some/where@abc", arch="config.yaml", trained_on="README.md names none"),
    )
    facts = {fact.name: (fact.value, fact.source) for fact in facts_of(made)}
    assert facts["tokens"] == (None, "some/where@abc config.yaml")
    assert facts["codebook"] == ("16,384", "some/where@abc config.yaml")
    assert facts["licence"] == (None, None)
    assert facts["weights"] == ("some/where", None)
    assert facts["training data"] == (None, "some/where@abc README.md names none")


def test_a_codec_is_not_asked_for_a_codebook() -> None:
    names = [fact.name for fact in facts_of(Card("c", "c", "codec", "C"))]
    assert names == ["licence"]


@pytest.mark.parametrize(
    ("alphabets", "words"),
    [
        ((), None),
        ((1024,), "1,024"),
        ((2,) * 18, "18 bits"),
        ((4096,) * 8, "4,096 x 8"),
        ((1024, 65536, 65536), "1,024 x 1 + 65,536 x 2"),
        ((2,), "2"),
    ],
)
def test_codebooks_in_words(alphabets: tuple[int, ...], words: str | None) -> None:
    assert codebook(alphabets) == words


@pytest.mark.parametrize(
    ("first", "second", "contradict"),
    [
        (Published("rfid", 0.98, "a", _256), Published("rfid", 0.69, "b", validation("ImageNet", 256)), True),
        (Published("rfid", 0.98, "a", _256), Published("rfid", 0.98, "b", _256), False),
        (Published("psnr", 20.79, "a", _256), Published("psnr", 20.8, "b", _256), False),
        (Published("lpips", 0.0666, "a", _256), Published("lpips", 0.066, "b", _256), False),
        (Published("rfid", 0.98, "a", _256), Published("rfid", 0.69, "b", validation("ImageNet", 512)), False),
        (Published("rfid", 0.98, "a", _256), Published("psnr", 0.69, "b", _256), False),
        (Published("rfid", 0.98, "a"), Published("rfid", 0.69, "b"), False),
        (Published("rfid", 2.0, "a", _256), Published("rfid", 3.0, "b", _256), True),
    ],
)
def test_numbers_that_contradict_each_other(first: Published, second: Published, contradict: bool) -> None:
    assert bool(disagreements(card(first, second))) == contradict
