"""A card's facts, each with where it is stated: what the catalogue lists and counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vtbench.types.cards import Card, Published, Weights
from vtbench.types.conditions import Conditions

TOLERANCE = 0.005
"""Two printed numbers of one thing agree within this share of the larger, or one unit of the last decimal that both
have: rounding, not another result."""


@dataclass(frozen=True)
class Fact:
    """One statement of a card: `value` None where nothing is stated, `source` None where nobody said where."""

    name: str
    value: str | None
    source: str | None


def facts_of(card: Card) -> tuple[Fact, ...]:
    """Tokens, codebook or channels, nominal rate, licence, weights, training data; for a generator its tokenizer too.

    What cannot be asked of a kind is left out: a codec has no codebook, a closed system no weights.
    """
    return tuple(_facts(card))


def _facts(card: Card) -> Iterator[Fact]:
    at, by_option = card.sources.get, f"by the option {card.knob}" if card.knob else None
    if card.kind in ("discrete", "continuous"):
        tokens = by_option if card.tokens_at_256 is None else f"{card.tokens_at_256:,}"
        yield Fact("tokens", tokens, at("tokens_at_256") or at("arch"))
        if card.kind == "discrete":
            yield Fact("codebook", codebook(card.alphabets) or by_option, at("alphabets") or at("arch"))
        else:
            channels = by_option if card.latent_channels is None else f"{card.latent_channels:,}"
            yield Fact("channels", channels, at("latent_channels") or at("arch"))
    if card.kind == "generator":
        yield Fact("tokenizer", card.tokenizer, at("tokenizer"))
    yield Fact("licence", card.licence, at("licence"))
    if card.weights:
        yield Fact("weights", "; ".join(dict.fromkeys(map(place, card.weights))), at("weights"))
    if card.weights or card.trained_on:
        yield Fact("training data", ", ".join(card.trained_on) or None, at("trained_on"))


def codebook(alphabets: tuple[int, ...]) -> str | None:
    """16,384; 2 x 18 bits of binary codes as `18 bits`; several books of one size as `4,096 x 8`."""
    if not alphabets:
        return None
    if set(alphabets) == {2} and len(alphabets) > 1:
        return f"{len(alphabets)} bits"
    if len(set(alphabets)) == 1:
        return f"{alphabets[0]:,}" + (f" x {len(alphabets)}" if len(alphabets) > 1 else "")
    return " + ".join(f"{size:,} x {alphabets.count(size)}" for size in dict.fromkeys(alphabets))


def place(weights: Weights) -> str:
    """Where a file of weights comes from, in a few words."""
    if weights.package:
        return "in this package"
    return weights.hub or (weights.url or "").split("//")[-1].split("/")[0] or "your own file"


@dataclass(frozen=True)
class Disagreement:
    """Numbers of one metric that were printed of one model under what their sources state alike, and differ."""

    metric: str
    numbers: tuple[Published, ...]


def disagreements(card: Card) -> list[Disagreement]:
    """By metric and stated conditions, in the card's order: a second source that agrees, rounding apart, is none."""
    groups: dict[tuple[str, Conditions], list[Published]] = {}
    for number in card.published:
        if (conditions := _compared(number)) is not None:
            groups.setdefault((number.metric, conditions), []).append(number)
    return [
        Disagreement(metric, tuple(numbers))
        for (metric, _), numbers in groups.items()
        if not _agree([number.value for number in numbers])
    ]


def _agree(values: list[float]) -> bool:
    unit = 10.0 ** -min(len(repr(value).partition(".")[2]) for value in values)
    return max(values) - min(values) <= max(TOLERANCE * max(map(abs, values)), unit * (1 + 1e-6))


def _compared(number: Published) -> Conditions | None:
    """Its conditions without the words and the number of images, which a second source often leaves out."""
    stated = number.protocol
    if stated is None or not stated.stated():
        return None
    fields = {name: fact for name, fact in stated.stated().items() if name != "images"}
    return Conditions(**fields)
