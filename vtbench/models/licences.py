"""Licences of weights that are downloaded: said at the first use; those that restrict the use want a word first."""

from __future__ import annotations

import os
import re
import sys

from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError
from vtbench.types.readable import readable

VARIABLE = "VTBENCH_ACCEPT_LICENCE"
"""Names of models, with commas: whoever set it keeps to these models' licences. `--accept-licence` adds to it."""
RESTRICTED = re.compile(
    r"non-?commercial|\bNC\b|BY-NC|research[- ]only|\(research only|research licen[cs]e|research model licen[cs]e", re.I
)


def licence_of(card: Card, weight: Weights) -> str | None:
    """The file's licence: its own, else the card's."""
    return weight.licence or card.licence


def restricts(licence: str | None) -> bool:
    """True where a licence allows research or non-commercial use alone."""
    return licence is not None and RESTRICTED.search(licence) is not None


def accepted() -> set[str]:
    return {name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()}


def agree(card: Card, weight: Weights) -> None:
    """Says the licence of a file that is about to be downloaded. Raises VtbenchError where it restricts the use and
    nobody said that it is kept."""
    licence = licence_of(card, weight)
    if restricts(licence) and not accepted() & {card.name, *card.aliases}:
        raise VtbenchError(
            f"the weights of {card.name} are under {licence}, which restricts what they may be used for: read it, and "
            f"give --accept-licence {card.name} (or {VARIABLE}={card.name}) to have them downloaded"
        )
    words = licence or "a licence that is not known here: see its repository"
    print(readable(f"{card.name}: {weight.file} is under {words}"), file=sys.stderr)
