"""Names and shapes of parameters: what a network needs, what a file holds, and how the two differ, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vtbench import registry
from vtbench.models.network import on_meta
from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError

Shape = Sequence[int]
T = TypeVar("T")
TRAINING_ONLY = ("loss.", "model_ema.", "discriminator.", "ema.", "lpips.", "perceptual_loss.")
"""Rule for what is left out without asking: losses, discriminators and averaged copies, by prefix."""
SHOWN = 3
"""Names that a sentence lists before it counts the rest."""


def is_optional(name: str, optional: Iterable[str]) -> bool:
    """True if `optional` holds the name, or a prefix of it that ends in a dot."""
    return any(name.startswith(o) if o.endswith(".") else name == o for o in optional)


@dataclass(frozen=True)
class Words:
    """How `Differences.sentences` calls what differs, from the side that is looked at."""

    missing: str
    unexpected: str
    wanted: str


FILE = Words("missing", "unexpected", "wanted")
"""A file's entries against those that our network wants."""
UPSTREAM = Words("not in our network", "not upstream", "upstream has")
"""Our network's entries against upstream's."""


@dataclass(frozen=True)
class Differences:
    """Entries that are missing, that nobody wants, and {name: (its shape, the wanted one)} of misshapen ones."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: Mapping[str, tuple[Shape, Shape]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshapen)

    def sentences(self, words: Words = FILE) -> list[str]:
        """One for every kind, with the first few names."""
        shapes = [f"{n} is {list(has)}, {words.wanted} {list(wants)}" for n, (has, wants) in self.misshapen.items()]
        out = []
        for what, names in (
            (words.missing, self.missing),
            (words.unexpected, self.unexpected),
            ("of another shape", shapes),
        ):
            if names:
                rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                out.append(f"{len(names)} {what}: {', '.join(names[:SHOWN])}{rest}")
        return out


def differences(
    present: Mapping[str, Shape],
    wanted: Mapping[str, Shape],
    optional: Iterable[str] = (),
    may_lack: Iterable[str] = (),
) -> Differences:
    """How the entries that are present differ from the wanted ones, `optional` names and prefixes aside.

    may_lack: names in `wanted` that need not be present, but must have the right shape where they are.
    """
    optional, may_lack = tuple(optional), set(may_lack)
    return Differences(
        tuple(n for n in wanted if n not in present and n not in may_lack and not is_optional(n, optional)),
        tuple(n for n in present if n not in wanted and not is_optional(n, optional)),
        {
            n: (present[n], shape)
            for n, shape in wanted.items()
            if n in present and tuple(present[n]) != tuple(shape) and not is_optional(n, optional)
        },
    )


def compare_names(ours: Mapping[str, Shape], theirs: Mapping[str, Shape], optional: Iterable[str]) -> list[str]:
    """Sentences on how our network's entries differ from upstream's, `optional` ones aside; empty if equal."""
    return differences(ours, theirs, optional).sentences(UPSTREAM)


# -- what a network needs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """{name: shape} that a file must hold for a network, and names or prefixes that it may hold beside them.

    rename: of a network whose entries come under other names too, the name that an entry has here. parameters: names of
    those entries that training changes; the others are buffers.
    """

    shapes: Mapping[str, tuple[int, ...]]
    optional: tuple[str, ...]
    rename: Callable[[str], str] | None = None
    parameters: frozenset[str] = frozenset()


def needed(network: Any) -> Needed:
    """What a network needs of a file: its floating entries that are not optional."""
    state = network.state_dict()
    optional = (*_optional_of(network), *getattr(network, "int_buffers", ()))
    integer = tuple(n for n, t in state.items() if not t.is_floating_point())
    shapes = {n: tuple(t.shape) for n, t in state.items() if n not in integer and not is_optional(n, optional)}
    parameters = frozenset(name for name, _ in network.named_parameters())
    return Needed(shapes, (*optional, *integer), getattr(network, "rename", None), parameters)


def places_of(network: Any) -> Mapping[str, str]:
    """{role of a file: submodule that it fills} of a network, or of its class, that keeps a part deep inside."""
    places: Mapping[str, str] = getattr(network, "places", {})
    return places


def part_of(names: Mapping[str, T], role: str, places: Mapping[str, str]) -> dict[str, T]:
    """The entries that the file of a role holds, under the file's own names.

    Those of the submodule of the role's place or name; the rest if there is none and only other roles have places.
    """
    inside = f"{places.get(role, role)}."
    part = {n.removeprefix(inside): what for n, what in names.items() if n.startswith(inside)}
    elsewhere = tuple(f"{place}." for place in places.values())
    return part if part or not places else {n: what for n, what in names.items() if not n.startswith(elsewhere)}


def _optional_of(network: Any) -> tuple[str, ...]:
    return (*getattr(network, "optional", ()), *TRAINING_ONLY)


def names_of(network: Any) -> dict[str, list[int]]:
    """{name: shape} of the floating entries of a network's state dict."""
    return {name: list(t.shape) for name, t in network.state_dict().items() if t.is_floating_point()}


def manifest(family: Family, arch: Mapping[str, Any] | Card) -> dict[str, list[int]]:
    """{name: shape} of every floating entry that the network expects, without allocating its memory."""
    if isinstance(arch, Card):
        if arch.arch is None:
            raise VtbenchError(f"{arch.name} has no native network, so it has no manifest: its library loads it")
        arch = arch.arch
    return names_of(on_meta(family, arch))


def manifest_of(model: str) -> dict[str, list[int]]:
    """`manifest` of a registered model, by name or alias."""
    entry = registry.model(model)
    return manifest(entry.family, entry.card)


# -- a file against its network --------------------------------------------------------------------------------------


class WrongNames(VtbenchError):
    """The tensors of a file are not those of the network.

    problem: the sentence without advice. shapes: of the file's tensors. card: the model that was asked for. lacking:
    share of the wanted names that the file has not. `load` adds what the file rather is, by these.
    """

    def __init__(self, problem: str, shapes: Mapping[str, Shape], card: Card | None, lacking: float) -> None:
        self.problem, self.shapes, self.card, self.lacking = problem, shapes, card, lacking
        super().__init__(f"{problem}: `vtbench identify FILE` says which model a file is")


def check_names(
    network: Any,
    tensors: Mapping[str, Any],
    what: str,
    card: Card | None = None,
    whole: Mapping[str, Shape] | None = None,
) -> None:
    """Strict: raises WrongNames with the first few missing, unexpected and misshapen names of `what`.

    whole: shapes of all that the file holds, by which it may be recognised; None: of `tensors`.
    """
    state = network.state_dict()
    wanted = {n: tuple(t.shape) for n, t in state.items()}
    integer = [n for n, t in state.items() if not t.is_floating_point()]
    beside = set(getattr(network, "int_buffers", ()))
    # Integer entries of a file that the network does not know (counters of steps, positions) are no weights.
    present = {
        n: tuple(t.shape) for n, t in tensors.items() if n in wanted or (t.is_floating_point() and n not in beside)
    }
    differ = differences(present, wanted, _optional_of(network), integer)
    if differ:
        shapes = whole or {n: tuple(t.shape) for n, t in tensors.items()}
        problem = f"{what} does not fit ({'; '.join(differ.sentences())})"
        raise WrongNames(problem, shapes, card, len(differ.missing) / max(1, len(wanted)))
