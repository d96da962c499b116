"""Which model a checkpoint is, from the names and shapes of its tensors.

A file fits a model when a copy in it (`containers` says what that is) holds every entry that the model's network needs
in the same shape, and nothing more but what training leaves behind: by the same reader and rule that loads it. Models
that share a network share names and shapes, so that a file may fit several. Where no released model fits, each network
reads the sizes off the shapes, and the family with those sizes is the answer.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vtbench import registry
from vtbench.models import checkpoint, kept_names
from vtbench.models.arch import option_text, own_options
from vtbench.models.choosing import choose
from vtbench.models.containers import Copy, Inventory, Leaf, plain, segments_of
from vtbench.models.names import Needed, WrongNames, needed, part_of, places_of
from vtbench.models.network import load_class, on_meta
from vtbench.types.cards import Card, Family, Weights
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
    family:NAME and `options` are the arch entries that differ from the family's first model of that kind), or "near"
    (most names are there; `differences` says what is not). The copy that fits lies in the containers `key` (with
    slashes) of `file`, under the prefix `prefix`; `beside` are the paths of others that fit, and `undecided` says that
    no rule chooses.
    parts: the files that the model is loaded from where these are several, so that --checkpoint takes their folder.
    """

    name: str
    family: str
    how: Literal["exact", "own", "near"]
    prefix: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[str, ...] = ()
    key: str | None = None
    file: str = ""
    beside: tuple[str, ...] = ()
    undecided: bool = False
    parts: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """What to type: the name and its options, quoted for a shell; of a near one, what does not fit."""
        options = "".join(f" --option {shlex.quote(f'{k}={option_text(v)}')}" for k, v in self.options.items())
        name = shlex.quote(self.name) + options
        return f"nearest is {name} ({'; '.join(self.differences)})" if self.how == "near" else name

    def command(self, path: Path) -> str | None:
        """The whole command that evaluates the checkpoint at `path` as this model; None of a near one, and of one part
        without the others."""
        folder = path if path.is_dir() else path.parent
        if self.how == "near" or not all((folder / Path(part).name).is_file() for part in self.parts):
            return None
        place = path / self.file if self.undecided and path.is_dir() else folder if self.parts else path
        prefix = f" --prefix {shlex.quote(self.path)}" if self.undecided and not path.is_dir() else ""
        return f"vtbench evaluate {self.text()} --checkpoint {shlex.quote(str(place))}{prefix}"

    @property
    def path(self) -> str:
        """Containers and prefix of the copy, as --prefix takes them."""
        return (f"{self.key.replace('/', '.')}." if self.key else "") + self.prefix


def identify_file(path: Path) -> list[Match]:
    """The models that a checkpoint (a file, or a folder) may be, best first; empty if none is near."""
    return _identify(checkpoint.inventories(Path(path)), Path(path))


def identify(shapes: Mapping[str, Sequence[int]]) -> list[Match]:
    """The same from {name: shape}, names with all that they begin with."""
    leaves = [Leaf((), name, tuple(int(n) for n in shape)) for name, shape in shapes.items()]
    return _identify([Inventory(leaves)], Path("the file"))


def _identify(inventories: Sequence[Inventory], path: Path) -> list[Match]:
    exact: list[tuple[bool, Match]] = []
    close: list[tuple[float, float, bool, Match]] = []
    for entry, wanted, weight in _released():
        holders = [inventory for inventory in inventories if inventory.at_most(wanted) >= NEAR]
        copies = [copy for inventory in holders for copy in inventory.copies(wanted)]
        fitting = [copy for copy in copies if copy.fits and copy.integer is None]
        parts = tuple(w.file for w in entry.card.weights) if len(entry.card.weights) > 1 else ()
        if fitting:
            match = _match(entry.card.name, entry.family.name, "exact", fitting, inventories, wanted, weight, path)
            exact.append((_usual(match.prefix, entry.card), replace(match, parts=parts)))
            continue
        for copy in (copy for copy in copies if copy.share >= NEAR):
            same = sum(copy.names[n].shape == s for n, s in wanted.shapes.items() if n in copy.names)
            match = _of_copy(
                entry.card.name, entry.family.name, "near", copy, differences=_sentences(copy), parts=parts
            )
            usual = _usual(copy.prefix, entry.card)
            close.append((copy.share, same / max(1, len(wanted.shapes)), usual, match))
    if exact:
        return [match for _, match in sorted(exact, key=lambda pair: not pair[0])]
    own = sorted(_own(inventories, path), key=lambda pair: (not pair[0], len(pair[1].options)))
    if own:
        return [match for _, match in own]
    return [max(close, key=lambda rival: rival[:3])[3]] if close else []


def _match(
    name: str,
    family: str,
    how: Literal["exact", "own"],
    fitting: Sequence[Copy],
    inventories: Sequence[Inventory],
    wanted: Needed,
    weight: Weights,
    path: Path,
) -> Match:
    """The copy that the rule of loading takes, and those beside it."""
    try:
        choice = choose(inventories, wanted, weight, path)
        copy, undecided = (choice.copy if choice is not None else fitting[0]), False
    except VtbenchError:
        # Evaluate refuses this file until it is told which copy; here the first stands for all.
        copy, undecided = fitting[0], True
    others = [c for c in fitting if (c.file, c.root) != (copy.file, copy.root)]
    beside = tuple(c.path or "the file itself" if c.file == copy.file else c.file for c in others)
    return _of_copy(name, family, how, copy, beside=beside, undecided=undecided)


def own_sizes(spec: str, path: Path) -> tuple[str, dict[str, str]] | None:
    """(family:NAME, its options) of a checkpoint that is the model `spec` in sizes of its own; None of any other."""
    family = registry.model(spec).family
    infer = getattr(load_class(family.network), "infer_arch", None) if family.network else None
    try:
        match = None if infer is None else _own_of(family, infer, checkpoint.inventories(path), path)
    except VtbenchError:
        # What is wrong with the file is said by whoever reads it as the model itself.
        return None
    return None if match is None else (match.name, {k: option_text(v) for k, v in match.options.items()})


def _of_copy(name: str, family: str, how: Literal["exact", "own", "near"], copy: Copy, **more: Any) -> Match:
    return Match(name, family, how, copy.prefix, key=copy.key, file=copy.file, **more)


def _sentences(copy: Copy) -> tuple[str, ...]:
    """How a copy differs from what it is near to."""
    if copy.integer is None:
        return tuple(copy.differences.sentences())
    dtype = str(getattr(copy.integer.tensor, "dtype", "integers")).removeprefix("torch.")
    return (*copy.differences.sentences(), f"weights that are {dtype}, quantized or packed")


def _usual(prefix: str, card: Card) -> bool:
    """Whether the card's files have this prefix, wrappers aside."""
    return plain(segments_of(prefix)) in {plain(segments_of(w.prefix or "")) for w in card.weights}


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
    under = f", with names that begin with {match.path!r}" if match.path else ""
    return f": this looks like {match.text()}{under}"


# -- released models -------------------------------------------------------------------------------------------------


@functools.cache
def _released() -> tuple[tuple[registry.Entry, Needed, Weights], ...]:
    """Every model with a native network, with what its network needs of which of its files."""
    kept = kept_names.read()
    by_network: dict[str, Needed] = {}
    ours, fresh = list[str](), False
    out = []
    for entry in registry.entries():
        if entry.card.arch is None or entry.family.network is None:
            continue
        key = f"{entry.family.network} {json.dumps(entry.card.arch, sort_keys=True)}"
        if key not in by_network:
            # Somebody's own code is no part of what the cache goes by.
            known = kept.get(key) if entry.builtin else None
            by_network[key] = known or needed(on_meta(entry.family, entry.card.arch))
            if entry.builtin:
                ours.append(key)
                fresh = fresh or (known is None and by_network[key].rename is None)
        whole = by_network[key]
        first = entry.card.weights[0] if entry.card.weights else Weights(file="")
        out.append((entry, whole, first))
        if len(entry.card.weights) > 1:
            # Each of several files holds one part of the network, under the part's own names.
            places = places_of(load_class(entry.family.network))
            for weight in entry.card.weights:
                part = _part(whole, weight.role, places)
                if part.shapes:
                    out.append((entry, part, weight))
    if fresh:
        kept_names.write({key: by_network[key] for key in ours})
    return tuple(out)


def _part(whole: Needed, role: str, places: Mapping[str, str]) -> Needed:
    """What the file of a role needs to hold, and may."""
    optional = part_of(dict.fromkeys(whole.optional), role, places)
    return Needed(part_of(whole.shapes, role, places), (*whole.optional, *optional))


# -- configurations of one's own -------------------------------------------------------------------------------------


def _own(inventories: Sequence[Inventory], path: Path) -> Iterator[tuple[bool, Match]]:
    """Families whose network, in sizes read off the shapes, has exactly these names and shapes.

    With each whether its prefix is one that the family's files have.
    """
    for family in registry.families().values():
        infer = getattr(load_class(family.network), "infer_arch", None) if family.network else None
        match = None if infer is None else _own_of(family, infer, inventories, path)
        if match is not None:
            yield _usual(match.prefix, _first_with_arch(family)), match


def _own_of(family: Family, infer: Any, inventories: Sequence[Inventory], path: Path) -> Match | None:
    """The family's own configuration that the file is, by the first of its archs and roots that fits; none where no
    card states an arch to begin with."""
    if all(card.arch is None for card in family.cards):
        return None
    first = _first_with_arch(family)
    tried = set()
    for like in (card.arch for card in family.cards if card.arch is not None):
        for inventory in inventories:
            for root in inventory.roots(["encoder.conv_in.weight"]):
                shapes = {name: leaves[0].shape for name, leaves in inventory.under(root).items()}
                try:
                    arch = infer(shapes, like)
                    key = (inventory.file, json.dumps(arch, sort_keys=True))
                    if arch is None or key in tried:
                        continue
                    tried.add(key)
                    wanted = needed(on_meta(family, arch))
                except Exception:
                    # The shapes only looked like this network's, and may be made to; the next one may be it.
                    continue
                copies = [copy for one in inventories for copy in one.copies(wanted) if copy.fits]
                fitting = [copy for copy in copies if copy.integer is None]
                if fitting:
                    weight = first.weights[0] if first.weights else Weights(file="")
                    match = _match(
                        f"family:{family.name}", family.name, "own", fitting, inventories, wanted, weight, path
                    )
                    return replace(match, options=own_options(family, arch))
    return None


def _first_with_arch(family: Family) -> Card:
    return next(card for card in family.cards if card.arch is not None)
