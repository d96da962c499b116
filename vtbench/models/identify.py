"""Which model a checkpoint is, from the names and shapes of its tensors.

A file fits a model when, under one prefix (none, `module.`, `gen_vision_model.`, …), it holds every entry that the
model's network needs in the same shape, and nothing more but what training leaves behind. Models that share a network
share names and shapes, so that a file may fit several. Where no released model fits, each network reads the sizes off
the shapes, and the family with those sizes is the answer.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vtbench import registry
from vtbench.models import checkpoint
from vtbench.models.arch import changes, option_text
from vtbench.models.names import Differences, Needed, WrongNames, differences, needed
from vtbench.models.network import load_class, on_meta
from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError

Shapes = Mapping[str, tuple[int, ...]]
NEAR = 0.8
"""Share of a model's names that a file must hold to be called near to it."""
OTHER_VERSION = 0.2
"""Where a file lacks less than this share of a model's names, it is that model in another version, or damaged."""


@dataclass(frozen=True)
class Match:
    """One answer.

    how: "exact" (a released model's names and shapes), "own" (a family in a configuration of its own: `name` is
    family:NAME and `options` are the arch entries that differ from the family's first model), or "near" (most names are
    there; `differences` says what is not).
    """

    name: str
    family: str
    how: Literal["exact", "own", "near"]
    prefix: str = ""
    """What the names in the file begin with."""
    options: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """What to type: the name, its options, and what does not fit."""
        options = "".join(f" --option {key}={option_text(value)}" for key, value in self.options.items())
        return f"{'nearest is ' if self.how == 'near' else ''}{self.name}{options}" + (
            f" ({'; '.join(self.differences)})" if self.differences else ""
        )


def identify_file(path: Path) -> list[Match]:
    """The models that a checkpoint file may be, best first; empty if none is near."""
    return identify({name: list(t.shape) for name, t in checkpoint.read(Path(path)).items()})


def identify(shapes: Mapping[str, Sequence[int]]) -> list[Match]:
    """The same from {name: shape}."""
    file = {name: tuple(int(n) for n in shape) for name, shape in shapes.items()}
    exact: list[tuple[bool, Match]] = []
    close: list[tuple[float, float, bool, Match]] = []
    for entry, wanted in _released():
        for prefix in _prefixes(file, wanted.shapes, entry.card):
            inner = _under(file, prefix)
            differ = _differences(inner, wanted, whole=not prefix)
            usual = prefix in _usual_prefixes(entry.card)
            if not differ:
                exact.append((usual, Match(entry.card.name, entry.family.name, "exact", prefix)))
                continue
            count = max(1, len(wanted.shapes))
            names = sum(n in inner for n in wanted.shapes) / count
            same = sum(inner.get(n) == s for n, s in wanted.shapes.items()) / count
            sentences = tuple(differ.sentences())
            match = Match(entry.card.name, entry.family.name, "near", prefix, differences=sentences)
            close.append((names, same, usual, match))
    if exact:
        return [match for _, match in sorted(exact, key=lambda pair: not pair[0])]
    own = sorted(_own(file), key=lambda pair: (not pair[0], len(pair[1].options)))
    if own:
        return [match for _, match in own]
    close = [rival for rival in close if rival[0] >= NEAR]
    return [max(close, key=lambda rival: rival[:3])[3]] if close else []


def guess(wrong: WrongNames) -> str:
    """What a file that does not fit rather is, as the end of a sentence."""
    matches = identify(wrong.shapes)
    if not matches:
        if wrong.lacking < OTHER_VERSION:
            return ": most names are right, so it is this model in another version, or a damaged file"
        return ": no model of vtbench has these names"
    # Models that share a network share names: of those that fit, the one that was asked for tells more.
    asked = [m for m in matches if wrong.card is not None and m.family == wrong.card.family]
    match = (asked or matches)[0]
    if match.how == "near":
        return f": this looks like {match.name}, incomplete or in another version"
    under = f", with names that begin with {match.prefix!r}" if match.prefix else ""
    return f": this looks like {match.text()}{under}"


def _differences(inner: Shapes, wanted: Needed, *, whole: bool) -> Differences:
    """Of a file's entries under a prefix; what a larger file holds beside it is not looked at."""
    present = inner if whole else {n: s for n, s in inner.items() if n in wanted.shapes}
    return differences(present, wanted.shapes, wanted.optional)


def _under(file: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {n.removeprefix(prefix): s for n, s in file.items() if n.startswith(prefix)}


def _usual_prefixes(card: Card) -> set[str]:
    """The prefixes that the card's files have."""
    return {w.prefix or "" for w in card.weights}


def _prefixes(file: Shapes, wanted: Shapes, card: Card) -> list[str]:
    """Prefixes under which the file may hold the network, by where one of its names stands; the card's own first."""
    if not wanted:
        return []
    longest = max(wanted, key=lambda n: (n.count("."), len(n)))
    prefixes = {n.removesuffix(longest) for n in file if n == longest or n.endswith(f".{longest}")}
    prefixes |= {""} if any(n in file for n in wanted) else set()
    usual = _usual_prefixes(card)
    return sorted(prefixes, key=lambda p: (p not in usual, len(p), p))


# -- released models -------------------------------------------------------------------------------------------------


@functools.cache
def _released() -> tuple[tuple[registry.Entry, Needed], ...]:
    """Every model with a native network, with what its network needs of a file."""
    by_network: dict[tuple[str | None, str], Needed] = {}
    out = []
    for entry in registry.entries():
        if entry.card.arch is None or entry.family.network is None:
            continue
        key = (entry.family.network, json.dumps(entry.card.arch, sort_keys=True))
        if key not in by_network:
            by_network[key] = needed(on_meta(entry.family, entry.card.arch))
        whole = by_network[key]
        out.append((entry, whole))
        if len(entry.card.weights) > 1:
            # Each of several files holds one half of the network, under the half's own names.
            halves = [_under(whole.shapes, f"{weight.role}.") for weight in entry.card.weights]
            out += [(entry, Needed(half, whole.optional)) for half in halves if half]
    return tuple(out)


# -- configurations of one's own -------------------------------------------------------------------------------------


def _own(file: Shapes) -> Iterator[tuple[bool, Match]]:
    """Families whose network, in sizes read off the shapes, has exactly these names and shapes.

    With each whether its prefix is one that the family's files have.
    """
    for family in registry.families().values():
        infer = getattr(load_class(family.network), "infer_arch", None) if family.network else None
        match = None if infer is None else _own_of(family, infer, file)
        if match is not None:
            yield match.prefix in _usual_prefixes(_first_with_arch(family)), match


def _own_of(family: Family, infer: Any, file: Shapes) -> Match | None:
    """The family's own configuration that the file is, by the first of its archs and prefixes that fits."""
    mark = "encoder.conv_in.weight"
    prefixes = sorted({""} | {n.removesuffix(mark) for n in file if n.endswith(mark)}, key=len)
    tried = set()
    for like in (card.arch for card in family.cards if card.arch is not None):
        for prefix in prefixes:
            inner = _under(file, prefix)
            try:
                arch = infer(inner, like)
                key = (prefix, json.dumps(arch, sort_keys=True))
                if arch is None or key in tried:
                    continue
                tried.add(key)
                wanted = needed(on_meta(family, arch))
            except (VtbenchError, LookupError, ValueError, ZeroDivisionError):
                # The shapes only looked like this network's; the next one may be it.
                continue
            if not _differences(inner, wanted, whole=not prefix):
                options = changes(_first_with_arch(family).arch or {}, arch)
                return Match(f"family:{family.name}", family.name, "own", prefix, options)
    return None


def _first_with_arch(family: Family) -> Card:
    return next(card for card in family.cards if card.arch is not None)
