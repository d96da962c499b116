"""A network gets the tensors of its files, strictly by name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models import checkpoint
from vtbench.models.names import check_names
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import torch


def state_dict(network: Any, card: Card, files: Mapping[str, Path]) -> dict[str, torch.Tensor]:
    """The tensors of all files under the network's names, before the strict comparison.

    A file whose role is the name of a submodule (encoder, decoder) fills that submodule. `prefix` of the card keeps
    only the names under it; the exponential-average copies of `model_ema.` replace the raw ones where the card says so.
    """
    weights = {w.role: w for w in card.weights} or {role: Weights(file=p.name, role=role) for role, p in files.items()}
    children = {name for name, _ in network.named_children()}
    out: dict[str, torch.Tensor] = {}
    for role, path in files.items():
        weight = weights.get(role, Weights(file=path.name, role=role))
        tensors = checkpoint.read(path, weight.key)
        if weight.ema and any(n.startswith("model_ema.") for n in tensors):
            tensors = _averaged(tensors)
        if weight.prefix and any(n.startswith(weight.prefix) for n in tensors):
            tensors = {n.removeprefix(weight.prefix): t for n, t in tensors.items() if n.startswith(weight.prefix)}
        if role in children and not any(n.startswith(f"{role}.") for n in tensors):
            tensors = {f"{role}.{n}": t for n, t in tensors.items()}
        out.update(tensors)
    # A network may know other names under which its entries come (Infinity's, with and without wrappers).
    rename = getattr(network, "rename", None)
    return out if rename is None else {rename(n): t for n, t in out.items()}


def _averaged(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LitEma stores `model_ema.<name without dots>`: those values under the proper names."""
    plain = {n: t for n, t in tensors.items() if not n.startswith("model_ema.")}
    averaged = {n.removeprefix("model_ema."): t for n, t in tensors.items() if n.startswith("model_ema.")}
    return {n: averaged.get(n.replace(".", ""), t) for n, t in plain.items()}


def stored_as(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The half-precision dtypes in which a file keeps weights, in words; None if it keeps none so."""
    dtypes = {t.dtype for t in tensors.values() if t.dtype.is_floating_point and t.dtype.itemsize < 4}
    return " and ".join(sorted(str(d).removeprefix("torch.") for d in dtypes)) or None


def fill(network: Any, card: Card, files: Mapping[str, Path]) -> Any:
    """`network` with the files' tensors, strictly by name and shape; half precision is widened, NaN is refused.

    `network.stored_as` says in which half precision the file keeps them, if so. Raises WrongNames if names or shapes
    differ, VtbenchError if a tensor holds NaN or infinity.
    """
    import torch

    what = f"{', '.join(p.name for p in files.values())} as {card.name}"
    tensors = state_dict(network, card, files)
    check_names(network, tensors, what, card)
    kept = {}
    for name, target in network.state_dict().items():
        if name not in tensors or tuple(tensors[name].shape) != tuple(target.shape):
            continue
        value = tensors[name]
        if value.is_floating_point():
            if not bool(torch.isfinite(value).all()):
                raise VtbenchError(f"{what}: the weights {name} hold NaN or infinity: the checkpoint is damaged")
            value = value.float()
        kept[name] = value
    network.load_state_dict(kept, strict=False)
    network.stored_as = stored_as({n: tensors[n] for n in kept})
    return network
