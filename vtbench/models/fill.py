"""A network gets the tensors of its files, strictly by name and shape, from the copy of them that one rule takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models import checkpoint
from vtbench.models.choosing import Choice, choose
from vtbench.models.containers import Inventory
from vtbench.models.names import Needed, check_names, is_optional, needed, places_of
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch

WIDENED = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
)
"""Dtypes in which a file may keep weights, one number an element; others are packed or scaled by other entries."""


def fill(network: Any, card: Card, files: Mapping[str, Path]) -> Any:
    """`network` with the files' tensors, strictly by name and shape; half precision and float8 are widened to float32.

    `network.stored_as` says in which half precision the file keeps them, if so, and `network.read_from` which copy of
    each file was read, for the record. Raises WrongNames if names or shapes differ, VtbenchError if a tensor holds NaN
    or infinity or no floating numbers, or if the rule of `containers` leaves several copies.
    """
    import torch

    what = f"{', '.join(p.name for p in files.values())} as {card.name}"
    tensors, read_from, whole = _gather(network, card, files)
    check_names(network, tensors, what, card, whole)
    optional = needed(network).optional
    kept = {}
    for name, target in network.state_dict().items():
        if name not in tensors or tuple(tensors[name].shape) != tuple(target.shape):
            continue
        value = tensors[name]
        if target.is_floating_point() and not is_optional(name, optional):
            _check_dtype(value, name, what)
        if value.is_floating_point():
            value = value.float()
            # A stored mask is infinite where the network's own is: those of VAR and TokenBridge are.
            if not bool((torch.isfinite(value) | (value == target)).all()):
                raise VtbenchError(f"{what}: the weights {name} hold NaN or infinity: the checkpoint is damaged")
        kept[name] = value
    network.load_state_dict(kept, strict=False)
    network.stored_as = stored_as({n: tensors[n] for n in kept})
    network.read_from = read_from
    return network


def _gather(
    network: Any, card: Card, files: Mapping[str, Path]
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], dict[str, tuple[int, ...]]]:
    """(tensors under the network's names, the record of each file's copy, {path: shape} of all that the files hold).

    A file whose role is the name of a submodule (encoder, decoder), or one of the network's `places`, fills that
    submodule; all others fill the rest.
    """
    weights = {w.role: w for w in card.weights}
    places = {**{name: name for name, _ in network.named_children()}, **places_of(network)}
    whole = needed(network)
    parts = [(role, [path], _of_part(whole, places[role])) for role, path in files.items() if role in places]
    rest = {role: path for role, path in files.items() if role not in places}
    if rest:
        elsewhere = tuple(f"{places[role]}." for role, _, _ in parts)
        shapes_here = {n: s for n, s in whole.shapes.items() if not n.startswith(elsewhere)}
        parts.append((next(iter(rest)), list(rest.values()), replace(whole, shapes=shapes_here)))
    tensors: dict[str, torch.Tensor] = {}
    records: list[dict[str, Any]] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for role, paths, wanted in parts:
        inventories = _opened(paths)
        weight = weights.get(role, Weights(file=paths[0].name, role=role))
        choice = choose(inventories, wanted, weight, paths[0], alone=len(card.weights) < 2)
        inside = f"{places[role]}." if role in places else ""
        shapes |= {name: shape for one in inventories for name, shape in one.shapes().items()}
        lists = {name: count for one in inventories for name, count in one.lists().items() if count > 1}
        if choice is None and lists:
            said = ", ".join(f"{name or 'the file itself'} of {count}" for name, count in list(lists.items())[:3])
            raise VtbenchError(
                f"{paths[0].name} holds tensors without names, in lists ({said}), which an average kept: give the file "
                "that holds the model too, or the averaged model as its state dict"
            )
        if choice is None:
            shape_only = inventories[-1].under(())
            tensors |= {f"{inside}{name}": leaves[0].tensor for name, leaves in shape_only.items()}
            continue
        tensors |= {f"{inside}{name}": leaf.tensor for name, leaf in choice.copy.names.items()}
        records.append(_record(choice, role))
    return tensors, records, shapes


def _opened(paths: Sequence[Path]) -> list[Inventory]:
    """The tensors of a file or folder; of several files, which fill one network together, of all of them."""
    opened = [one for path in paths for one in checkpoint.inventories(path)]
    if len(paths) == 1:
        return opened
    return [Inventory([leaf for one in opened for leaf in one.every], " + ".join(path.name for path in paths))]


def _of_part(whole: Needed, place: str) -> Needed:
    """What the submodule `place` needs, under its own names."""
    inside = f"{place}."
    shapes = {n.removeprefix(inside): s for n, s in whole.shapes.items() if n.startswith(inside)}
    optional = tuple(n.removeprefix(inside) for n in whole.optional)
    parameters = frozenset(n.removeprefix(inside) for n in whole.parameters if n.startswith(inside))
    rename = whole.rename
    if rename is None:
        return Needed(shapes, optional, parameters=parameters)
    return Needed(shapes, optional, lambda name: rename(f"{inside}{name}").removeprefix(inside), parameters)


def _record(choice: Choice, role: str) -> dict[str, Any]:
    record = choice.record(role)
    words = choice.words()
    return {**record, "note": words} if words else record


def read_from(model: Any) -> list[dict[str, Any]]:
    """Which copies of the weights a loaded model was filled from, for the record; none of one that reads by itself."""
    networks = (model, getattr(model, "network", None), getattr(model, "model", None))
    return [dict(copy) for network in networks for copy in getattr(network, "read_from", ())]


def _check_dtype(value: torch.Tensor, name: str, what: str) -> None:
    """Refuses what only looks like weights: integers, and packed or scaled numbers."""
    dtype = str(value.dtype).removeprefix("torch.")
    if dtype not in WIDENED:
        raise VtbenchError(
            f"{what}: the weights {name} are {dtype}, quantized or packed, and the network takes floating numbers: "
            "give the checkpoint as it was before"
        )


def stored_as(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The half-precision and float8 dtypes in which a file keeps weights, in words; None if it keeps none so."""
    dtypes = {t.dtype for t in tensors.values() if t.dtype.is_floating_point and t.dtype.itemsize < 4}
    return " and ".join(sorted(str(d).removeprefix("torch.") for d in dtypes)) or None
