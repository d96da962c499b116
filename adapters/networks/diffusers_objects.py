"""Autoencoders that somebody's own code built with diffusers, handed over as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtbench.adapters.networks.diffusers_vae import CLASSES, DiffusersVAE
from vtbench.types.cards import Card
from vtbench.types.errors import VtbenchError

LIBRARY = "diffusers."


def card_of(model: Any, generic: Card) -> Card | None:
    """The card of a model that the library built: `generic`, under the name of its class. None for anything else, also
    where a class of somebody's own says what encode returns."""
    classes = [base for base in type(model).__mro__ if base.__module__.startswith(LIBRARY)]
    encode, decode = (getattr(type(model), name, None) for name in ("encode", "decode"))
    if not classes or encode is None or decode is None or not str(encode.__module__).startswith(LIBRARY):
        return None
    if not any(base.__name__ in CLASSES for base in classes):
        known = ", ".join(sorted(CLASSES))
        raise VtbenchError(f"{classes[0].__name__} of diffusers cannot be measured on images; known are {known}")
    return replace(generic, name=type(model).__name__.lower(), title=type(model).__name__, weights=(), note=None)


def adopt(model: Any, card: Card, options: Mapping[str, Any]) -> DiffusersVAE:
    """The library's model as a tokenizer; nothing of it is moved, converted or set."""
    tokenizer = DiffusersVAE(card, options)
    name = next(base.__name__ for base in type(model).__mro__ if base.__name__ in CLASSES)
    tokenizer.take(model, name, f"this {name}")
    return tokenizer
