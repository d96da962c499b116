"""Facts about models as frozen data. Standard library only: `vtbench list` reads nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from vtbench.types.conditions import Conditions, conditions_of
from vtbench.types.errors import VtbenchError

NAMED = 6
"""So many models of a family are named in a sentence."""
Kind = Literal["codec", "continuous", "discrete", "closed", "generator", "reducer"]


@dataclass(frozen=True)
class Fixed:
    """The model takes square images of one size (pixels)."""

    size: int


@dataclass(frozen=True)
class Multiple:
    """The model takes images whose sides are multiples of `of`, at least `at_least` pixels each."""

    of: int = 1
    at_least: int = 1


Sizes = Fixed | Multiple


@dataclass(frozen=True)
class Weights:
    """One file of a released checkpoint.

    `file` is its name in the repository and in a local folder; `role` tells several files of one model apart
    ("model", "encoder", …). `key` names the containers to look into, first found first (None: flat state dict).
    `sha256` is None where upstream states none: a downloaded file is then recorded, not verified.
    """

    file: str
    role: str = "model"
    hub: str | None = None
    url: str | None = None
    revision: str | None = None
    key: tuple[str, ...] | None = None
    prefix: str | None = None
    sha256: str | None = None
    licence: str | None = None
    ema: bool | None = None
    package: str | None = None
    """`package:path` of a file that an installed package carries (ours included)."""
    sha256_begins: str | None = None
    """The first digits of its sha256, where upstream states no more (in the file's name). What is downloaded must begin
    so; a file of the user's stays unverified, since so few digits can be met on purpose."""
    when: Mapping[str, Any] = field(default_factory=dict)
    """The options under which this is the file, where it depends on them (a network a quality); empty: always."""
    copy: str | None = None
    """The copy of the weights that the caller asks for (`--prefix`), where a file holds several; not the release's."""


@dataclass(frozen=True)
class Published:
    """A number that somebody printed: metric, value, where, and under which protocol, field by field (None: nothing is
    stated). A text instead of `Conditions`, as adapters from elsewhere have it, states its own words and nothing else
    (a single word: the protocol of vtbench's of that name)."""

    metric: str
    value: float
    source: str
    protocol: Conditions | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "protocol", conditions_of(self.protocol))


@dataclass(frozen=True)
class PublishedCurve:
    """Rate and distortion that somebody printed for one suite of whole images, a point a setting of the codec.

    `suite`: vtbench's hash of those images, by which a page knows the same pictures. `metrics`: what a point holds, by
    vtbench's names; the first is the rate, bits per pixel.
    """

    title: str
    suite: str
    metrics: tuple[str, ...]
    points: tuple[tuple[float, ...], ...]
    source: str


@dataclass(frozen=True, repr=False)
class Card:
    """Everything stated about one model. A fact stands once, here."""

    name: str
    family: str
    kind: Kind
    title: str
    sizes: Sizes = Multiple()
    licence: str | None = None
    paper: str | None = None
    code: str | None = None
    weights: tuple[Weights, ...] = ()
    tokens_at_256: int | None = None
    """Positions for one 256 x 256 image (at `nominal_size` where the model has one size)."""
    alphabets: tuple[int, ...] = ()
    """Alphabet of every book of a position: (16384,) for VQ, (2,)*18 for 18-bit LFQ; empty if not discrete."""
    latent_channels: int | None = None
    downsample: int | None = None
    trained_on: tuple[str, ...] = ()
    stochastic: bool = False
    value_range: tuple[float, float] = (0.0, 1.0)
    """What the network itself wants and gives; `encode`/`decode` always speak [0, 1]."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Every option with its default; the type of the default is the type of the option."""
    knob: str | None = None
    """The option that trades rate for quality; runs that differ only in it form a curve."""
    knob_values: tuple[Any, ...] = ()
    """Values that a rate–distortion sweep uses."""
    extra: str | None = None
    """The pip extra without which the model cannot run."""
    environment: tuple[str, ...] = ()
    """Environment variables without which the model cannot run (the key of an API)."""
    published: tuple[Published, ...] = ()
    curves: tuple[PublishedCurve, ...] = ()
    """Published rate and distortion of this codec; a page draws them as published beside what was measured."""
    arch: Mapping[str, Any] | None = None
    """Resolved configuration of a native network, in the nesting of the parity fixtures."""
    aliases: tuple[str, ...] = ()
    default_range_checked: bool = True
    no_pixels: str | None = None
    """Why there is no picture, where a tokenizer's `decode` ends at features; None where it gives pictures."""
    tokenizer: str | None = None
    """For a generator: the tokenizer it was trained on, by its name here. None has its reason under `sources`."""
    conditioning: Literal["class", "text", None] = None
    note: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where a fact of this card is stated: {field: source}. `arch` also stands for what follows from it (tokens,
    alphabets, channels, sizes). A field that is empty here and has a source is one of which that source says nothing; a
    field without one is unsupported, and a catalogue says so. Published numbers have theirs with them."""

    @property
    def bits_per_pixel(self) -> float | None:
        """Nominal rate at the size of `tokens_at_256`: what indices of fixed length cost; None where the card does not
        state tokens and alphabets."""
        if self.tokens_at_256 is None or not self.alphabets:
            return None
        side = self.sizes.size if isinstance(self.sizes, Fixed) else 256
        return self.tokens_at_256 * sum(map(math.log2, self.alphabets)) / side**2

    def __repr__(self) -> str:
        return f"<Card {self.name}: {self.kind}, {self.title}>"


OURS: Mapping[str, str] = dict.fromkeys(
    ("licence", "trained_on", "arch", "weights", "tokenizer"), "this package: the adapter's file"
)
"""Sources of what was made here: the adapter itself is where its facts are stated."""


def stated(at: str, **facts: str) -> dict[str, str]:
    """Sources of a card's facts: `at` is a repository and its commit, each fact's a file (and line) in it."""
    return {name: f"{at} {where}" for name, where in facts.items()}


def with_weights_of(card: Card, options: Mapping[str, Any]) -> Card:
    """The card with the files of weights that are read under these options, resolved; raises VtbenchError where some
    were released, and none for them."""
    files = tuple(w for w in card.weights if all(options.get(name) == value for name, value in w.when.items()))
    if card.weights and not files:
        names = list(dict.fromkeys(name for w in card.weights for name in w.when))
        asked = ", ".join(f"{name}={options.get(name)}" for name in names)
        known = "; ".join(
            f"{name}: {', '.join(map(str, dict.fromkeys(w.when[name] for w in card.weights if name in w.when)))}"
            for name in names
        )
        raise VtbenchError(f"{card.name}: no weights were released for {asked}: give one of {known}")
    return card if files == card.weights else replace(card, weights=files)


@dataclass(frozen=True)
class Wrapping:
    """How a family makes models out of other models: `PREFIX:NAME` is its model over the model NAME.

    NAME is whatever names a model (registered, `file.py@NAME`, `family:NAME`), and is loaded first, by its own card.
    """

    prefix: str
    """What stands before the colon; no two families may have the same."""
    card_for: Callable[[Card], Card]
    """The card of `PREFIX:NAME`, with the wrapper's own options, from NAME's card.

    Raises VtbenchError if a model of that card cannot be wrapped.
    """
    wrap: Callable[[Any, Mapping[str, Any]], Any]
    """The wrapped model, ready to use, from the loaded model and the wrapper's resolved options."""


@dataclass(frozen=True)
class Adopting:
    """How a family takes an object of a library as it is, out of somebody's training loop."""

    card_for: Callable[[Any], Card | None]
    """The card of such an object, with the family's options; None for an object of anybody else's.

    It may not import the library. Raises VtbenchError for an object of the library that cannot be measured.
    """
    adopt: Callable[[Any, Card, Mapping[str, Any]], Any]
    """The object as a Tokenizer, ready to use, from its card and resolved options."""


@dataclass(frozen=True, repr=False)
class Family:
    """One adapter file: its cards and how a model is built from one.

    `build(card, options)` gives an unloaded Tokenizer or Generator. `network` ("module:Class") is the native network
    that an `arch` alone builds; it is what `adapter parity`, `adapter manifest`, `identify` and `family:NAME` use.
    `fixtures` are the family names that parity fixtures and manifests use for it. `wraps` is for a family that makes
    models out of any other model, beside those of its cards, `adopts` for one that takes a library's objects. `files`
    are what its models read beside their weights and imports, by path from the adapter's file: a YAML file, a table, a
    folder. They are part of a run's identity, and a model that reads others is not ranked. `replays` is for what is no
    network: by a fixture's schema, the function ("module:function") that makes its outputs, arrays of integers by name,
    of its facts and arrays.
    """

    name: str
    title: str
    cards: tuple[Card, ...]
    build: Callable[[Card, Mapping[str, Any]], Any]
    network: str | None = None
    fixtures: tuple[str, ...] = ()
    wraps: Wrapping | None = None
    adopts: Adopting | None = None
    files: tuple[str, ...] = ()
    replays: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for card in self.cards:
            if not isinstance(card, Card):
                raise VtbenchError(f"the family {self.name} lists {card!r} as a card: give a vtbench.Card")

    def refuse_for_model(self, name: str) -> None:
        """Raises with the family's models where its name, title, or that of its fixtures, in any case, is `name`."""
        if name.lower() not in {n.lower() for n in (self.name, self.title, *self.fixtures)}:
            return
        rest = len(self.cards) - NAMED
        some = ", ".join(card.name for card in self.cards[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
        raise VtbenchError(
            f"{name} is a family, not a model: give one of its models, {some} (`vtbench list models --family "
            f"{self.name}` shows all)"
        )

    def __repr__(self) -> str:
        return f"<Family {self.name}: {self.title}, {len(self.cards)} models>"
