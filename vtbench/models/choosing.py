"""Which copy of the weights is read where a checkpoint holds several: one rule, and what it chose, for the record.

The rule stands in `containers`; between files, a folder's whole set of shards counts only where no file alone fits, and
two files that both fit, with other numbers, are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.models.containers import SHOWN, USUAL, Copy, Inventory, Leaf, is_average, plain, segments_of
from vtbench.models.names import Needed
from vtbench.types.cards import Weights
from vtbench.types.errors import VtbenchError

ONLY = "the only copy that fits"
SAME = "the first of several copies with the same numbers"
ASKED = "--prefix"
RULE = "the first by the rule for several copies"


@dataclass(frozen=True)
class Choice:
    """The copy that is read, why it was this one, and what stood beside it, in words."""

    copy: Copy
    by: str
    beside: tuple[str, ...] = ()

    def record(self, role: str) -> dict[str, Any]:
        """For the record: the file, the containers and the prefix that the tensors came from, and the rest."""
        copy = self.copy
        return {
            "role": role,
            "file": copy.file,
            "key": copy.key,
            "prefix": copy.prefix,
            "averaged": copy.averaged,
            "wrappers": copy.wrappers,
            "by": self.by,
            "beside": list(self.beside),
        }

    def words(self) -> str | None:
        """What a reader of the scores must know: None where nothing stood beside the weights."""
        if not self.beside:
            return None
        kind = "averaged" if self.copy.averaged else "raw"
        return f"read from {self.copy.path or 'the file itself'} ({kind}; {self.by}); beside: {', '.join(self.beside)}"


def choose(
    inventories: Sequence[Inventory], needed: Needed, weight: Weights, path: Path, *, alone: bool = True
) -> Choice | None:
    """The copy of what is needed that the rule takes, fitting or nearest; None where nothing has any of the names.

    alone: this is the model's only file; of several, the caller's prefix may be meant for another. Raises VtbenchError
    where the rule leaves several copies with other numbers, or where no copy lies under the caller's prefix.
    """
    copies = _copies(inventories, needed)
    copies += _listed(inventories, copies, weight)
    asked = weight.copy is not None and (alone or any(copy.answers(weight.copy) for _, copy in copies))
    if asked:
        copies = _asked(copies, str(weight.copy), path)
    fitting = [pair for pair in copies if pair[1].fits]
    if not fitting:
        if not copies:
            return None
        nearest = max(copies, key=lambda pair: (pair[1].share, _negative(pair[1], weight)))[1]
        return Choice(nearest, "the nearest")
    ranked = sorted(fitting, key=lambda pair: _rank(pair[1], weight))
    place, first = ranked[0]
    if first.twice is not None and not _equal_leaves(inventories[place], first.twice):
        raise VtbenchError(
            f"{path} holds {first.twice[0]} and {first.twice[1]}, which are one name: say which is which"
        )
    rivals = [copy for other, copy in ranked[1:] if other != place or _rank(copy, weight) == _rank(first, weight)]
    others = [copy for copy in rivals if not same_numbers(first, copy, needed)]
    if others:
        raise VtbenchError(_several(path, first, others[0]))
    by = ASKED if asked else ONLY if len(fitting) == 1 else SAME if len(rivals) == len(fitting) - 1 else RULE
    return Choice(first, by, _beside(inventories, first, needed))


def _copies(inventories: Sequence[Inventory], needed: Needed) -> list[tuple[int, Copy]]:
    """With the place of their file; of files that may be shards together only where no file alone fits."""
    every = [(place, copy) for place, one in enumerate(inventories) for copy in one.copies(needed)]
    alone = [(place, copy) for place, copy in every if not inventories[place].joined]
    return alone if any(copy.fits for _, copy in alone) else every


def _listed(
    inventories: Sequence[Inventory], copies: Sequence[tuple[int, Copy]], weight: Weights
) -> list[tuple[int, Copy]]:
    """An average that is a list without names, where the caller asks for it and a raw copy beside it has its order."""
    out = []
    for place, inventory in enumerate(inventories if weight.copy else ()):
        for name in inventory.lists():
            path = segments_of(name)
            if path[-len(segments_of(str(weight.copy))) :] != segments_of(str(weight.copy)):
                continue
            raw = [copy for other, copy in copies if other == place and copy.fits and not copy.averaged]
            averages = [copy for one in raw if (copy := inventory.listed(path, one)) is not None]
            if len(averages) != 1:
                raise VtbenchError(
                    f"{inventory.file} holds {name} as a list of tensors without names, and beside it {len(averages)} "
                    "copies with names that say its order: one is needed"
                )
            out.append((place, averages[0]))
    return out


def _asked(copies: Sequence[tuple[int, Copy]], prefix: str, path: Path) -> list[tuple[int, Copy]]:
    """The copies that a caller's prefix names: by its whole path if there is one, else by its end."""
    asked = segments_of(prefix)
    answers = [pair for pair in copies if pair[1].answers(prefix)]
    exact = [pair for pair in answers if pair[1].root == asked or pair[1].plain_root == plain(asked)]
    if not answers:
        known = ", ".join(dict.fromkeys(repr(copy.path) for _, copy in copies if copy.share)) or "none"
        raise VtbenchError(
            f"{path} holds no weights of this model under --prefix {prefix!r}; it has them under {known}"
        )
    return exact or answers


def _rank(copy: Copy, weight: Weights) -> tuple[Any, ...]:
    """The smaller, the more preferred."""
    keys = [plain(key.split("/")) for key in weight.key or ()]
    by_card = next((i for i, key in enumerate(keys) if copy.plain_root[: len(key)] == key), len(keys))
    wanted = segments_of(weight.prefix or "")
    off_prefix = bool(wanted) and segments_of(copy.prefix) != wanted
    order = tuple(USUAL.index(s) if s in USUAL else len(USUAL) for s in copy.plain_root)
    return (by_card, off_prefix, copy.averaged != prefers_averaged(weight), order)


def _negative(copy: Copy, weight: Weights) -> tuple[Any, ...]:
    """`_rank` for a maximum: among copies that do not fit, only the nearest is told of."""
    by_card, off_prefix, other_kind, order = _rank(copy, weight)
    return (-by_card, not off_prefix, not other_kind, tuple(-n for n in order))


def prefers_averaged(weight: Weights) -> bool:
    """Whether a card wants averaged weights where a file holds both: as it says, or as the first of its containers."""
    if weight.ema is not None:
        return weight.ema
    return bool(weight.key) and any(map(is_average, weight.key[0].split("/")))  # type: ignore[index]


def same_numbers(one: Copy, other: Copy, needed: Needed) -> bool:
    """Whether two copies that fit are equal bit for bit in all that is needed; unknown numbers are not."""
    import torch

    for name in needed.shapes:
        a, b = one.names[name].tensor, other.names[name].tensor
        if a is None or b is None or a.dtype != b.dtype or not torch.equal(a, b):
            return False
    return True


def _equal_leaves(inventory: Inventory, paths: tuple[str, str]) -> bool:
    import torch

    leaves: list[Leaf] = [leaf for leaf in inventory.leaves if ".".join(leaf.segments) in paths]
    tensors = [leaf.tensor for leaf in leaves]
    return None not in tensors and all(t.dtype == tensors[0].dtype and torch.equal(t, tensors[0]) for t in tensors[1:])


def _several(path: Path, one: Copy, other: Copy) -> str:
    if one.file != other.file:
        return (
            f"{path} holds these weights twice, with other numbers: in {one.file} and in {other.file}: give one of the "
            "files itself"
        )
    return (
        f"{path} holds these weights twice, with other numbers: under {one.path!r} and under {other.path!r}: say which "
        f"with --prefix {other.path}"
    )


def _beside(inventories: Sequence[Inventory], taken: Copy, needed: Needed) -> tuple[str, ...]:
    """In words: other copies that fit, averaged ones that do not, lists without names, files of the same weights."""
    out = []
    several = len(inventories) > 1
    for inventory in (one for one in inventories if not one.joined or one.file == taken.file):
        copies = [c for c in inventory.copies(needed) if c.fits]
        where = f" in {inventory.file}" if several else ""
        for copy in copies:
            if (copy.file, copy.root) != (taken.file, taken.root):
                kind = "averaged" if copy.averaged else "raw"
                out.append(f"{copy.path or 'the file itself'}{where} ({kind})")
        own = {id(leaf) for c in copies for leaf in c.names.values()}
        for place in _averages(inventory, own, [c.root for c in copies]):
            out.append(f"{'.'.join(place)}.{where} (averaged, of other names or sizes)")
        for name, count in inventory.lists().items():
            if count > 1 and segments_of(name) != taken.root:
                out.append(f"{name}{where} (a list of {count} tensors without names)")
        out += [f"the file {name}" for name in inventory.beside]
    return tuple(out[:SHOWN]) + ((f"{len(out) - SHOWN} more",) if len(out) > SHOWN else ())


def _averages(inventory: Inventory, own: set[int], roots: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Containers and prefixes whose name says that what they hold is averaged, but for `own` tensors and `roots`."""
    out: dict[tuple[str, ...], None] = {}
    for leaf in (leaf for leaf in inventory.leaves if leaf.floating):
        for i, segment in enumerate(leaf.segments[:-1]):
            place = leaf.segments[: i + 1]
            if is_average(segment) and not any(r[: i + 1] == place for r in roots) and id(leaf) not in own:
                out.setdefault(place)
                break
    return list(out)
