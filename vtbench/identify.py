"""Which model a checkpoint is, from the names and shapes of its tensors; and an arch changed by options.

A file fits a model when, under one prefix (none, `module.`, `gen_vision_model.`, …), it holds every entry that the
model's network needs in the same shape, and nothing more but what training leaves behind. Models that share a network
share names and shapes, so that a file may fit several. Where no released model fits, each network reads the sizes off
the shapes, and the family with those sizes is the answer.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vtbench import registry
from vtbench.network import build_network, load_class
from vtbench.parity import optional_name
from vtbench.types.cards import Card, Family, Fixed, Multiple
from vtbench.types.errors import VtbenchError, near

Shape = tuple[int, ...]
NEAR = 0.8
"""Share of a model's names that a file must hold to be called near to it."""


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
        given = "".join(f" --option {key}={_text(value)}" for key, value in self.options.items())
        return f"{'nearest is ' if self.how == 'near' else ''}{self.name}{given}" + (
            f" ({'; '.join(self.differences)})" if self.differences else ""
        )


def identify_file(path: Path) -> list[Match]:
    """The models that a checkpoint file may be, best first; empty if none is near."""
    from vtbench import checkpoint

    return identify({name: list(t.shape) for name, t in checkpoint.read(Path(path)).items()})


def identify(shapes: Mapping[str, Sequence[int]]) -> list[Match]:
    """The same from {name: shape}."""
    given = {name: tuple(int(n) for n in shape) for name, shape in shapes.items()}
    exact, close = [], []
    for entry, wanted, optional in _released():
        for prefix in _prefixes(given, wanted, entry.card):
            inner = _under(given, prefix)
            problems = _problems(inner, wanted, optional, whole=not prefix)
            odd = prefix not in _expected(entry.card)
            if not problems:
                exact.append((odd, Match(entry.card.name, entry.family.name, "exact", prefix)))
            else:
                share = sum(n in inner for n in wanted) / max(1, len(wanted))
                same = sum(inner.get(n) == s for n, s in wanted.items()) / max(1, len(wanted))
                match = Match(entry.card.name, entry.family.name, "near", prefix, differences=tuple(problems))
                close.append((share, same, not odd, match))
    if exact:
        return [match for _, match in sorted(exact, key=lambda found: found[0])]
    own = sorted(_own(given), key=lambda found: (found[0], len(found[1].options)))
    if own:
        return [match for _, match in own]
    close = [found for found in close if found[0] >= NEAR]
    return [max(close, key=lambda found: found[:3])[3]] if close else []


def _problems(
    inner: Mapping[str, Shape], wanted: Mapping[str, Shape], optional: Iterable[str], *, whole: bool
) -> list[str]:
    """What does not fit, in words; what a larger file holds beside the prefix is not looked at."""
    optional = tuple(optional)
    missing = [n for n in wanted if n not in inner]
    extra = [n for n in inner if whole and n not in wanted and not optional_name(n, optional)]
    wrong = [f"{n} is {list(inner[n])}, wanted {list(s)}" for n, s in wanted.items() if inner.get(n, s) != s]
    out = []
    for what, names in (("missing", missing), ("unexpected", extra), ("of another shape", wrong)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            out.append(f"{len(names)} {what}: {', '.join(names[:3])}{more}")
    return out


def _under(given: Mapping[str, Shape], prefix: str) -> dict[str, Shape]:
    return {n.removeprefix(prefix): s for n, s in given.items() if n.startswith(prefix)}


def _prefixes(given: Mapping[str, Shape], wanted: Mapping[str, Shape], card: Card) -> list[str]:
    """Prefixes under which the file may hold the network: found by one of its names, the card's own first."""
    if not wanted:
        return []
    longest = max(wanted, key=lambda n: (n.count("."), len(n)))
    found = {n.removesuffix(longest) for n in given if n == longest or n.endswith(f".{longest}")}
    found |= {""} if any(n in given for n in wanted) else set()
    first = _expected(card)
    return sorted(found, key=lambda p: (p not in first, len(p), p))


@functools.cache
def _released() -> tuple[tuple[registry.Entry, dict[str, Shape], tuple[str, ...]], ...]:
    """Every model with a native network, what its network needs, and what a file may hold beside it."""
    made: dict[tuple[str | None, str], tuple[dict[str, Shape], tuple[str, ...]]] = {}
    out = []
    for entry in registry.entries():
        if entry.card.arch is None or entry.family.network is None:
            continue
        key = (entry.family.network, json.dumps(entry.card.arch, sort_keys=True))
        if key not in made:
            made[key] = _needs(entry.family, entry.card.arch)
        needed, optional = made[key]
        out.append((entry, needed, optional))
        if len(entry.card.weights) > 1:
            # Each of several files holds one half of the network, under the half's own names.
            halves = [_under(needed, f"{weight.role}.") for weight in entry.card.weights]
            out += [(entry, half, optional) for half in halves if half]
    return tuple(out)


def _needs(family: Family, arch: Mapping[str, Any]) -> tuple[dict[str, Shape], tuple[str, ...]]:
    """({name: shape} of what must be in a file, names and prefixes that may be)."""
    import torch

    from vtbench import weights

    with torch.device("meta"):
        network = build_network(family, arch, random=False)
    optional = (*getattr(network, "optional", ()), *getattr(network, "int_buffers", ()), *weights.TRAINING_ONLY)
    state = network.state_dict()
    integer = tuple(n for n, t in state.items() if not t.is_floating_point())
    needed = {n: tuple(t.shape) for n, t in state.items() if n not in integer and not optional_name(n, optional)}
    return needed, (*optional, *integer)


def _expected(card: Card) -> set[str]:
    """The prefixes that the card's files have."""
    return {w.prefix or "" for w in card.weights}


def _own(given: Mapping[str, Shape]) -> Iterable[tuple[bool, Match]]:
    """Families whose network, in sizes read off the shapes, has exactly these names and shapes.

    With each whether its prefix is another than the family's files have.
    """
    for family in registry.families().values():
        infer = getattr(load_class(family.network), "infer_arch", None) if family.network else None
        if infer is None:
            continue
        prefixes = {""} | {
            n.removesuffix("encoder.conv_in.weight") for n in given if n.endswith("encoder.conv_in.weight")
        }
        tried = set()
        for like in (card.arch for card in family.cards if card.arch is not None):
            for prefix in sorted(prefixes, key=len):
                inner = _under(given, prefix)
                try:
                    arch = infer(inner, like)
                    if arch is None or (prefix, json.dumps(arch, sort_keys=True)) in tried:
                        continue
                    tried.add((prefix, json.dumps(arch, sort_keys=True)))
                    wanted, optional = _needs(family, arch)
                except (VtbenchError, LookupError, ValueError, ZeroDivisionError):
                    # The shapes only looked like this network's; the next one may be it.
                    continue
                if not _problems(inner, wanted, optional, whole=not prefix):
                    first = next(card for card in family.cards if card.arch is not None)
                    changes = _changes(first.arch or {}, arch)
                    match = Match(f"family:{family.name}", family.name, "own", prefix, changes)
                    yield prefix not in _expected(first), match
                    break
            else:
                continue
            break


def flatten(arch: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value} of the leaves."""
    out: dict[str, Any] = {}
    for key, value in arch.items():
        if isinstance(value, Mapping):
            out.update(flatten(value, f"{prefix}{key}."))
        else:
            out[f"{prefix}{key}"] = value
    return out


def _changes(base: Mapping[str, Any], arch: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of `arch` that differ from `base`, under the shortest key that `with_options` takes."""
    old, new = flatten(base), flatten(arch)
    leaves = [key.rsplit(".", 1)[-1] for key in old]
    out = {}
    for key, value in new.items():
        if key not in old or old[key] != value:
            leaf = key.rsplit(".", 1)[-1]
            out[leaf if leaves.count(leaf) == 1 else key] = value
    return out


def with_options(arch: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """`arch` with leaves changed: {"codebook_size": "4096"} or {"quantizer.codebook_size": "4096"}.

    A value takes the type of the one it replaces; lists are separated by colons or commas (the command line takes
    commas for several runs, so there it is ch_mult=1:1:2); "null" is null, and so is "none"
    except where the value is a word anyway.
    """
    out = json.loads(json.dumps(arch))
    table = flatten(out)
    for key, text in options.items():
        found = [key] if key in table else [k for k in table if k.rsplit(".", 1)[-1] == key]
        if not found:
            known = sorted({*table, *(k.rsplit(".", 1)[-1] for k in table)})
            raise VtbenchError(f"the architecture has no entry {key!r}{near(key, known)}: it has {', '.join(table)}")
        if len(found) > 1:
            raise VtbenchError(f"{key!r} stands in several places: say {' or '.join(found)}")
        *folders, leaf = found[0].split(".")
        level = out
        for folder in folders:
            level = level[folder]
        level[leaf] = _typed(found[0], text, level[leaf])
    return dict(out)


def _typed(key: str, text: str, like: Any) -> Any:
    word = text.strip()
    if word.lower() == "null" or (word.lower() == "none" and not isinstance(like, str)):
        return None
    if isinstance(like, list):
        element = like[0] if like else 0
        return [_typed(key, part, element) for part in re.split(r"[,:\s]", word.strip("[]")) if part]
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
    if like is None:
        try:
            return json.loads(word)
        except ValueError:
            return word
    return word


def _text(value: Any) -> str:
    """A value as `with_options` reads it."""
    if isinstance(value, list | tuple):
        return ":".join(map(_text, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def own_card(card: Card, family: Family, arch: Mapping[str, Any]) -> Card:
    """`card` with `arch` and the facts that follow from it: alphabets, ranges, sizes, tokens.

    What the network does not say of itself (latent channels) becomes None rather than the other configuration's.
    """
    import torch

    with torch.device("meta"):
        network = build_network(family, arch)
    side = network.fixed_size or 256
    grids = getattr(network, "grids", lambda size: ())((side, side)) if side % network.downsample == 0 else ()
    least = card.sizes.at_least // (card.downsample or 1) if isinstance(card.sizes, Multiple) else 1
    return replace(
        card,
        arch=arch,
        alphabets=tuple(network.alphabets),
        value_range=tuple(network.value_range),
        downsample=network.downsample,
        sizes=Fixed(side)
        if network.fixed_size
        else Multiple(of=network.downsample, at_least=network.downsample * max(1, least)),
        tokens_at_256=sum(h * w for h, w in grids) or None,
        latent_channels=card.latent_channels if arch == card.arch else None,
    )
