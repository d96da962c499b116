"""The copies of a network's weights in a checkpoint: where each begins, whether it is averaged, which one is read.

Trainers put weights into containers (`state_dict`, `model`, `ema`), models into prefixes (`first_stage_model.`), and
wrappers put segments of their own before names and into them (`module.`, `_orig_mod.`). Here all of these are one path
with dots. A *copy* is what lies under one such path, its root, by the network's names.

The rule of `choose`, the same for evaluate and identify: a copy must hold every name that the network needs, in its
shape, and nothing beside but what training leaves. Of several, the one that the caller names (`--prefix`); else the
card's containers in their order, then averaged or raw as the card has it (raw where it says nothing), then the usual
containers in the order of `USUAL`, then the outermost. Two that this does not tell apart, with other numbers, are
refused.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vtbench.models.names import Differences, Needed, differences

Path = tuple[str, ...]
"""Segments of a dotted path."""
WRAPPERS = frozenset(
    {
        "module",
        "_orig_mod",
        "_fsdp_wrapped_module",
        "_fpw_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
    }
)
"""What wrappers put into names, at any depth: (Distributed)DataParallel and AveragedModel, torch.compile, FSDP (and
before torch 1.12), activation checkpointing, Lightning Fabric."""
USUAL = (
    "state_dict",
    "model",
    "model_state_dict",
    "params",
    "net",
    "generator",
    "vqmodel",
    "vq_model",
    "vae",
    "autoencoder",
    "tokenizer",
    "first_stage_model",
    "online_model",
)
"""Containers and prefixes that trainers use for the weights themselves, in the order in which they are preferred."""
AVERAGES = frozenset({"ema", "emas", "swa", "avg", "average", "averaged", "averaging", "shadow", "polyak"})
"""Words of a container's or prefix's name that say: averaged over training."""
LITEMA = "model_ema"
"""Where latent-diffusion's LitEma keeps its copy, under names without their dots (ldm/modules/ema.py:13-24)."""
MARKS = 8
"""Names of a network that are looked for to find where copies begin."""
MOST_ROOTS = 64
"""Places where copies may begin; a file with more is no checkpoint of one network."""
SHOWN = 8
"""What stood beside the weights, that a record lists."""


def plain(segments: Iterable[str]) -> Path:
    """Without what wrappers put in."""
    return tuple(s for s in segments if s not in WRAPPERS)


@functools.lru_cache(maxsize=2**17)
def _plain_name(name: str) -> Path:
    """The segments of a network's own name; `identify` asks for those of every model, for every file."""
    return plain(name.split("."))


def is_average(segment: str) -> bool:
    """Whether a container's name says that its weights are averaged: params_ema, ModelEMA, netG_avg."""
    return any(word.lower() in AVERAGES for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", segment))


@dataclass(frozen=True)
class Leaf:
    """One tensor of a checkpoint: the keys of the containers in which it lies, its name with dots, its shape.

    listed: it has no name but its place in a list. tensor: None where only names and shapes are known.
    """

    key: Path
    name: str
    shape: tuple[int, ...]
    floating: bool = True
    tensor: Any = field(default=None, compare=False, repr=False)
    listed: bool = False

    @functools.cached_property
    def segments(self) -> Path:
        return tuple(".".join((*self.key, self.name)).split("."))

    @functools.cached_property
    def plain(self) -> Path:
        return plain(self.segments)

    def before(self, count: int) -> Path:
        """The segments before the last `count` of those that no wrapper put in."""
        own = [i for i, s in enumerate(self.segments) if s not in WRAPPERS]
        return self.segments[: own[len(own) - count]]


@dataclass(frozen=True)
class Copy:
    """What lies under one root, by the network's names, and how that differs from what the network needs.

    share: of the needed names that are there. twice: two paths that are one name, if there are any.
    """

    file: str
    root: Path
    names: Mapping[str, Leaf]
    needed: Needed
    share: float
    averaged: bool = False
    twice: tuple[str, str] | None = None

    @property
    def fits(self) -> bool:
        return self.share == 1 and not self.differences

    @functools.cached_property
    def differences(self) -> Differences:
        # Integer entries that the network does not know (counters of steps, positions) are no weights.
        wanted = self.needed.shapes
        present = {n: leaf.shape for n, leaf in self.names.items() if n in wanted or leaf.floating}
        return differences(present, wanted, self.needed.optional)

    @property
    def integer(self) -> Leaf | None:
        """A tensor of needed numbers that are integers or packed; None if all are floating."""
        return next((leaf for n, leaf in self.names.items() if n in self.needed.shapes and not leaf.floating), None)

    @functools.cached_property
    def plain_root(self) -> Path:
        return plain(self.root)

    @property
    def key(self) -> str | None:
        """The containers that the root begins with, with slashes; None if it has none."""
        return "/".join(self._containers()) or None

    @property
    def prefix(self) -> str:
        """What the names in those containers begin with, wrappers included."""
        rest = self.root[len(".".join(self._containers()).split(".")) if self._containers() else 0 :]
        return "".join(f"{s}." for s in rest)

    def _containers(self) -> Path:
        leaf = next(iter(self.names.values()), None)
        out: list[str] = []
        length = 0
        for key in leaf.key if leaf is not None else ():
            length += len(key.split("."))
            if length > len(self.root):
                break
            out.append(key)
        return tuple(out)

    @property
    def path(self) -> str:
        """The whole root, as `--prefix` takes it."""
        return "".join(f"{s}." for s in self.root)

    @property
    def wrappers(self) -> list[str]:
        """What wrappers put into the names behind the root."""
        return sorted({s for leaf in self.names.values() for s in leaf.segments[len(self.root) :]} & WRAPPERS)

    def answers(self, prefix: str) -> bool:
        """Whether a caller's --prefix names this copy: its whole path, its end, or its prefix within the containers;
        with and without wrappers."""
        asked = segments_of(prefix)
        if not asked:
            return not plain(segments_of(self.prefix))
        return self.root[-len(asked) :] == asked or self.plain_root[-len(asked) :] == plain(asked) != ()


def segments_of(prefix: str) -> Path:
    """A caller's prefix in segments: `state_dict/vqmodel.` and `state_dict.vqmodel` are one."""
    return tuple(s for s in re.split(r"[./]", prefix.strip()) if s)


class Inventory:
    """The tensors of one file, or of the shards of one, and the copies of a network among them.

    beside: files that hold the same in another format or precision, and were not taken. joined: of several files that
    may be shards of one, though no index says so.
    """

    def __init__(
        self, leaves: Iterable[Leaf], file: str = "", beside: Sequence[str] = (), joined: bool = False
    ) -> None:
        self.file, self.beside, self.joined = file, tuple(beside), joined
        self.every = list(leaves)
        # An entry without elements (an empty buffer of a wrapper) holds nothing that could differ.
        self.leaves = [leaf for leaf in self.every if not leaf.listed and 0 not in leaf.shape]
        self._ends: dict[Path, list[Leaf]] = {}
        for leaf in self.leaves:
            for end in (leaf.plain[-2:], leaf.plain[-1:]):
                self._ends.setdefault(end, []).append(leaf)
        self._under: dict[Path, dict[str, list[Leaf]]] = {}
        self._dotless = any(LITEMA in leaf.segments[-2:-1] for leaf in self.leaves)
        self._counted = {leaf.segments[:-1] for leaf in self.leaves if leaf.segments[-1] == "n_averaged"}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{path: shape} of every named tensor."""
        return {".".join(leaf.segments): leaf.shape for leaf in self.leaves}

    def lists(self) -> dict[str, int]:
        """{path: tensors} of lists of tensors, which have no names."""
        return dict(Counter(".".join(leaf.segments[:-1]) for leaf in self.every if leaf.listed))

    def roots(self, names: Iterable[str]) -> list[Path]:
        """Where copies of a network with these names may begin: before the names themselves, and in containers."""
        marks = sorted(map(_plain_name, names), key=lambda m: (-len(m), m))
        votes: Counter[Path] = Counter()
        for mark in marks[:: max(1, len(marks) // MARKS)]:
            for leaf in self._ends.get(mark[-2:], ()):
                if leaf.plain[-len(mark) :] == mark:
                    votes[leaf.before(len(mark))] += 1
        containers = {()} | {leaf.key[:n] for leaf in self.leaves for n in range(1, len(leaf.key) + 1)}
        usual = [
            tuple(".".join(key).split(".")) if key else () for key in sorted(containers, key=lambda k: (len(k), k))
        ]
        return list(dict.fromkeys([root for root, _ in votes.most_common(MOST_ROOTS)] + usual[:MOST_ROOTS]))

    def at_most(self, needed: Needed) -> float:
        """No copy holds a greater share of the needed names than this: that of those whose ends are in the file.

        Cheap, so that a file need not be searched for the copies of every network that there is.
        """
        if needed.rename is not None or self._dotless or not needed.shapes:
            return 1.0
        return sum(_plain_name(name)[-2:] in self._ends for name in needed.shapes) / len(needed.shapes)

    def under(self, root: Path) -> dict[str, list[Leaf]]:
        """{name without wrappers: tensors} of what lies under a root; of one name there may be several."""
        if root not in self._under:
            table: dict[str, list[Leaf]] = {}
            for leaf in self.leaves:
                if leaf.segments[: len(root)] == root and (name := plain(leaf.segments[len(root) :])):
                    table.setdefault(".".join(name), []).append(leaf)
            self._under[root] = table
        return self._under[root]

    def copies(self, needed: Needed) -> list[Copy]:
        """The copies that hold any of the needed names, those first that hold most of them."""
        tables = {root: self._named(root, needed) for root in self.roots(needed.shapes)}
        whole = [
            root
            for root, table in tables.items()
            if needed.shapes and all(n in table and table[n][0].shape == s for n, s in needed.shapes.items())
        ]
        out: dict[frozenset[int], Copy] = {}
        for root in sorted(tables, key=len, reverse=True):
            inner = [r for r in whole if len(r) > len(root) and r[: len(root)] == root]
            copy = self._copy(root, tables[root], inner, needed)
            if copy.share:
                # The same tensors under two roots: the longer root says more.
                out.setdefault(frozenset(map(id, copy.names.values())), copy)
        every = [*out.values(), *self._without_dots(list(out.values()), needed)]
        return sorted(every, key=lambda c: (-c.share, len(c.root)))

    def _named(self, root: Path, needed: Needed) -> dict[str, list[Leaf]]:
        """What lies under a root, by the network's names."""
        wanted = {".".join(_plain_name(n)): n for n in needed.shapes}
        table: dict[str, list[Leaf]] = {}
        for text, leaves in self.under(root).items():
            name = wanted.get(text) or (needed.rename(text) if needed.rename is not None else text)
            table.setdefault(name, []).extend(leaves)
        return table

    def _copy(self, root: Path, table: Mapping[str, list[Leaf]], inner: Sequence[Path], needed: Needed) -> Copy:
        """inner: roots of other copies that lie deeper; what is theirs, or in a container of its own, is not here."""
        held: dict[str, Leaf] = {}
        twice = None
        for name, leaves in table.items():
            own = [leaf for leaf in leaves if not any(leaf.segments[: len(r)] == r for r in inner)] if inner else leaves
            if len(own) > 1:
                own = sorted(own, key=lambda leaf: len(leaf.segments))
            if own:
                held[name] = own[0]
            if len(own) > 1 and name in needed.shapes:
                twice = (".".join(own[0].segments), ".".join(own[1].segments))
        keys = {held[n].key for n in needed.shapes if n in held}
        held = {n: leaf for n, leaf in held.items() if leaf.key in keys}
        share = sum(n in held for n in needed.shapes) / max(1, len(needed.shapes))
        averaged = any(map(is_average, root)) or any(root[: len(s) + 1] == (*s, "module") for s in self._counted)
        return Copy(self.file, root, held, needed, share, averaged, twice)

    def _without_dots(self, copies: Sequence[Copy], needed: Needed) -> list[Copy]:
        """The copies that LitEma keeps: of parameters only, so that buffers are those of the raw copy beside them."""
        out = []
        places: dict[Path, dict[str, Leaf]] = {}
        for leaf in self.leaves:
            if len(leaf.segments) > 1 and leaf.segments[-2] == LITEMA:
                places.setdefault(leaf.segments[:-2], {})[leaf.segments[-1]] = leaf
        for place, table in places.items():
            root = (*place, LITEMA)
            for raw in (copy for copy in copies if copy.fits and copy.root[: len(place)] == place):
                # Of the whole training module, or of the model in it alone: names begin at its place, or at the model.
                for start in dict.fromkeys((len(place), len(raw.root))):
                    short = {n: "".join(plain(leaf.segments[start:])) for n, leaf in raw.names.items()}
                    values = {
                        name: table[short[name]]
                        for name, leaf in raw.names.items()
                        if short[name] in table and table[short[name]].shape == leaf.shape
                    }
                    if values:
                        out.append(replace(raw, root=root, names={**raw.names, **values}, averaged=True))
                        break
            if not any(c.root == root for c in out):
                dotless = {n: n.replace(".", "") for n in needed.shapes}
                alone = {n: table[short] for n, short in dotless.items() if short in table}
                if alone:
                    share = len(alone) / len(needed.shapes)
                    out.append(Copy(self.file, root, alone, needed, share, True))
        return out

    def listed(self, place: Path, like: Copy) -> Copy | None:
        """The list of tensors at a place as a copy: the parameters of the raw copy `like`, in its order, as averages
        without names keep them. None where their number or shapes differ."""
        tensors = [leaf for leaf in self.every if leaf.listed and leaf.segments[:-1] == place]
        names = [name for name in like.names if name in like.needed.parameters]
        if len(names) != len(tensors):
            return None
        if any(leaf.shape != like.names[name].shape for name, leaf in zip(names, tensors, strict=True)):
            return None
        values = dict(zip(names, tensors, strict=True))
        return replace(like, root=place, names={**like.names, **values}, averaged=True)
