"""The `arch` of a native network changed by options, and the card of what comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vtbench.models.network import on_meta
from vtbench.types.cards import Card, Family, Fixed, Multiple
from vtbench.types.errors import VtbenchError, near

EMPTY = "empty"
"""A list without elements, as a command line can state it: an option without a value is refused."""


def flatten(arch: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value} of the leaves."""
    out: dict[str, Any] = {}
    for key, value in arch.items():
        if isinstance(value, Mapping):
            out.update(flatten(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def changes(base: Mapping[str, Any], arch: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of `arch` that differ from `base`, under the shortest key that `with_options` takes."""
    old, new = flatten(base), flatten(arch)
    leaves = [key.rsplit(".", 1)[-1] for key in old]
    out = {}
    for key, value in new.items():
        if key not in old or old[key] != value:
            leaf = key.rsplit(".", 1)[-1]
            out[leaf if leaves.count(leaf) == 1 else key] = value
    return out


def base_card(family: Family, options: Mapping[str, str]) -> Card:
    """The card whose arch an own configuration changes: the family's first. Of generators the first that has the words
    of `options` (c2i or t2i, ViT or UViT), since these decide what it is asked with and the settings of its sampler."""
    cards = [card for card in family.cards if card.arch is not None] or list(family.cards)

    def words(card: Card) -> dict[str, Any]:
        table = flatten(card.arch or {})
        return {**{name.rsplit(".", 1)[-1]: value for name, value in table.items()}, **table}

    generates = cards[0].kind == "generator"
    chosen = {k: v for k, v in options.items() if generates and isinstance(words(cards[0]).get(k), str)}
    return next((card for card in cards if all(words(card).get(k) == v for k, v in chosen.items())), cards[0])


def own_options(family: Family, arch: Mapping[str, Any]) -> dict[str, Any]:
    """What an own configuration's options have to say so that `arch` comes out: words first, then what differs."""
    first = base_card(family, {}).arch or {}
    chosen = {k: v for k, v in changes(first, arch).items() if isinstance(v, str)}
    return {**chosen, **changes(base_card(family, chosen).arch or {}, arch)}


def with_options(arch: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """`arch` with leaves changed: {"codebook_size": "4096"} or {"quantizer.codebook_size": "4096"}.

    A value takes the type of the one it replaces; lists are separated by colons or commas (the command line takes
    commas for several runs, so there it is ch_mult=1:1:2), lists in a list are scales=1x1:2x2, and "empty" is a list of
    none; "null" is null, and so is "none" except where the value is a word anyway.
    """
    out = json.loads(json.dumps(arch))
    table = flatten(out)
    for key, text in options.items():
        places = [key] if key in table else [k for k in table if k.rsplit(".", 1)[-1] == key]
        if not places:
            known = sorted({*table, *(k.rsplit(".", 1)[-1] for k in table)})
            raise VtbenchError(f"the architecture has no entry {key!r}{near(key, known)}: it has {', '.join(table)}")
        if len(places) > 1:
            raise VtbenchError(f"{key!r} stands in several places: say {' or '.join(places)}")
        *folders, leaf = places[0].split(".")
        level = out
        for folder in folders:
            level = level[folder]
        level[leaf] = _typed(places[0], text, level[leaf])
    return dict(out)


def _typed(key: str, text: str, like: Any) -> Any:
    """`text` in the type of `like`."""
    word = text.strip()
    if word.lower() == "null" or (word.lower() == "none" and not isinstance(like, str)):
        return None
    if isinstance(like, list) and word.lower() == EMPTY:
        return []
    if isinstance(like, list):
        element = like[0] if like else 0
        return [_element(key, part, element) for part in re.split(r"[,:\s]", word.strip("[]")) if part]
    if isinstance(like, bool):
        if word.lower() in ("true", "false", "1", "0"):
            return word.lower() in ("true", "1")
        raise VtbenchError(f"{key}={text} is no truth value: give true or false")
    try:
        if isinstance(like, int):
            return int(word)
        if isinstance(like, float):
            return float(word)
    except ValueError:
        kind = "an integer" if isinstance(like, int) else "a number"
        raise VtbenchError(f"{key}={text} is not {kind}, as {like!r} is: give another value") from None
    if like is None and re.fullmatch(r"[\d.e+x-]+(:[\d.e+x-]+)+", word):
        return [_element(key, part, None) for part in word.split(":")]
    if like is None:
        try:
            return json.loads(word)
        except ValueError:
            return word
    return word


def _element(key: str, text: str, like: Any) -> Any:
    """One element of a list: a list of its own where it is written 16x16."""
    if isinstance(like, list) or re.fullmatch(r"\d+(x\d+)+", text):
        return [_typed(key, part, like[0] if isinstance(like, list) and like else 0) for part in text.split("x")]
    return _typed(key, text, like)


def option_text(value: Any) -> str:
    """A value as `with_options` reads it."""
    if isinstance(value, list | tuple):
        inner = ["x".join(map(option_text, v)) if isinstance(v, list | tuple) else option_text(v) for v in value]
        return ":".join(inner) or EMPTY
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    # A comma would part two values on the command line.
    return f'"{value}"' if "," in str(value) else str(value)


def own_card(card: Card, family: Family, arch: Mapping[str, Any]) -> Card:
    """`card` with `arch` and the facts that follow: kind, alphabets, ranges, sizes, tokens, and how many may be kept.

    What the network does not say of itself (latent channels) becomes None rather than the other configuration's.
    """
    try:
        network = on_meta(family, arch)
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as bad:
        said = " ".join(str(bad).split())[:160]
        raise VtbenchError(f"these options make no network of {family.name} ({said}): give others") from bad
    if card.kind == "generator":
        pixels = getattr(network, "pixels", None)
        return replace(card, arch=arch, sizes=card.sizes if pixels is None else Fixed(pixels))
    side = network.fixed_size or 256
    # Sides may have to be multiples of more than a token's cell: of a window, or of patches where tokens have no grid.
    cell = getattr(network, "multiple", network.downsample or 1)
    grids = getattr(network, "grids", lambda size: ())((side, side)) if side % cell == 0 else ()
    least = card.sizes.at_least // card.sizes.of if isinstance(card.sizes, Multiple) else 1
    multiple = Multiple(of=cell, at_least=cell * max(1, least))
    tokens = sum(h * w for h, w in grids) or getattr(network, "positions", None)
    return replace(
        card,
        **_knob(card, tokens),
        arch=arch,
        kind="discrete" if network.alphabets else "continuous",
        alphabets=tuple(network.alphabets),
        value_range=tuple(network.value_range),
        downsample=network.downsample,
        sizes=Fixed(side) if network.fixed_size else multiple,
        tokens_at_256=tokens,
        no_pixels=getattr(network, "no_pixels", None),
        latent_channels=card.latent_channels if arch == card.arch else None,
    )


def _knob(card: Card, tokens: int | None) -> dict[str, Any]:
    """Where the knob is a number of tokens, of which the default is all: as many as there are now."""
    if card.knob is None or tokens is None or card.options[card.knob] != card.tokens_at_256:
        return {}
    fewer = tuple(value for value in card.knob_values if value < tokens)
    return {"options": {**card.options, card.knob: tokens}, "knob_values": (*fewer, tokens)}
