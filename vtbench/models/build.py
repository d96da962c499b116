"""A model with its weights in it, from a spec: registry, options, files, wrappers. `load` serves and identifies it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models import weights
from vtbench.models.arch import base_card, own_card, with_options
from vtbench.models.choosing import ASKED
from vtbench.models.devices import check_device
from vtbench.models.fill import read_from
from vtbench.models.identify import guess, own_sizes
from vtbench.models.made_weights import fill_
from vtbench.models.names import WrongNames
from vtbench.models.native import NetworkTokenizer
from vtbench.models.network import build_network, load_class
from vtbench.models.weights import WeightFiles
from vtbench.types.adapter import Generator
from vtbench.types.cards import Wrapping, with_weights_of
from vtbench.types.errors import VtbenchError
from vtbench.types.opened import Opened, noting
from vtbench.types.settings import check_settings


@dataclass(frozen=True)
class Built:
    """A model with its weights in it, before it is served."""

    entry: registry.Entry
    options: Mapping[str, Any]
    """Every option of the card with its value."""
    files: WeightFiles
    model: Any
    tokenizer: Built | None = None
    """Of a generator: what it is attached to."""
    opened: Opened | None = None
    """What it opens; None where all of it is vtbench's."""

    @property
    def weight_files(self) -> tuple[Path, ...]:
        return tuple(self.files.files.values())


def build(
    spec: str,
    options: Mapping[str, str],
    checkpoint: Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    tokenizer_checkpoint: Path | None = None,
    prefix: str | None = None,
) -> Built:
    """The loaded model of a spec, for those who ask it without serving; `load` is what measuring takes.

    prefix: which copy of the weights is read, where a file holds several. It is refused by a model that reads its own.
    """

    def from_files(built: Built) -> Built:
        model = built.model
        if isinstance(model, Generator):
            built = replace(built, tokenizer=_attach(built, tokenizer_checkpoint, device, dtype))
        if prefix is not None:
            asked = tuple(replace(weight, copy=prefix) for weight in model.card.weights)
            model.card = replace(model.card, weights=asked)
        card = built.entry.card
        files = weights.find(card, checkpoint)
        every = next((one for one in built.entry.family.cards if one.name == card.name), card)
        weights.refuse_of_other_options(files, card, every)
        try:
            with noting(built.opened):
                model.load(files.files, device, dtype)
        except WrongNames as wrong:
            raise VtbenchError(f"{wrong.problem}{guess(wrong)}") from wrong
        if prefix is not None and not any(copy["by"] == ASKED for copy in read_from(model)):
            raise VtbenchError(
                f"{built.entry.card.name} reads its weights by code of its own, or has no copy {prefix!r}: leave out "
                "--prefix"
            )
        return replace(built, files=files)

    check_device(device, dtype)
    return _build(spec, options, from_files)


def load_random(spec: str, options: Mapping[str, str], device: str, dtype: str) -> Any:
    """A native tokenizer filled with numbers made from its parameters' names; None for anything else."""

    def from_names(built: Built) -> Built:
        model = built.model
        if not isinstance(model, NetworkTokenizer):
            raise _NotNative
        model.place(fill_(build_network(model.family, model.arch, random=False)), device, dtype)
        return built

    try:
        return _build(spec, options, from_names).model
    except _NotNative:
        return None


Fill = Callable[[Built], Built]
"""Gets a model without weights, and returns it with them."""


class _NotNative(Exception):
    """The model has no network of ours to fill."""


def _build(spec: str, options: Mapping[str, str], fill: Fill) -> Built:
    entry = registry.model(spec)
    wrapping = registry.wrapper(spec)
    if wrapping is not None:
        return _wrapper(*wrapping, entry, options, fill)
    if spec.startswith("family:"):
        entry, options = _own_configuration(entry, options)
    resolved = {**entry.card.options, **registry.parse_options(entry.card, options)}
    check_settings(entry.card, resolved)
    entry = replace(entry, card=with_weights_of(entry.card, resolved))
    opened = None if entry.builtin else Opened()
    with noting(opened):
        model = registry.build(entry, resolved)
    return fill(Built(entry, resolved, WeightFiles({}, "none"), model, opened=opened))


def _own_configuration(entry: registry.Entry, options: Mapping[str, str]) -> tuple[registry.Entry, dict[str, str]]:
    """`family:NAME`: options that are no option of the card change its arch, and stand in its name."""
    base = base_card(entry.family, options)
    entry = replace(entry, card=registry.unreleased(entry.family, base, entry.card.name))
    changed = {k: v for k, v in options.items() if k not in entry.card.options}
    rest = {k: v for k, v in options.items() if k in entry.card.options}
    network = load_class(entry.family.network) if entry.family.network else None
    left_out: Mapping[str, Any] = getattr(network, "arch_defaults", {})
    arch = with_options({**left_out, **(entry.card.arch or {})}, changed)
    name = entry.card.name + "".join(f",{k}={v}" for k, v in sorted(changed.items()))
    return replace(entry, card=replace(own_card(entry.card, entry.family, arch), name=name)), rest


def arch_options(name: str) -> dict[str, str]:
    """The arch options in the name of an own configuration, `family:NAME,key=value,key=value`."""
    first, *pairs = re.split(r",(?=[\w.]+=)", name)
    return dict(pair.split("=", 1) for pair in pairs) if first.startswith("family:") else {}


def _attach(built: Built, checkpoint: Path | None, device: str, dtype: str) -> Built | None:
    """The tokenizer that a generator's card names, loaded and attached; None where the generator takes none. Of a
    generator in sizes of its own it may have its own too, which its checkpoint shows."""
    card, generator = built.entry.card, built.model
    if card.tokenizer is None or not hasattr(generator, "attach"):
        if checkpoint is not None:
            raise VtbenchError(f"{card.name} uses no tokenizer of vtbench: leave out --tokenizer-checkpoint")
        return None
    try:
        tokenizer = build(card.tokenizer, {}, checkpoint, device, dtype)
    except VtbenchError as bad:
        own = own_sizes(card.tokenizer, checkpoint) if card.name.startswith("family:") and checkpoint else None
        if own is not None:
            tokenizer = build(*own, checkpoint, device, dtype)
            generator.attach(tokenizer.model)
            return tokenizer
        raise VtbenchError(
            f"{card.name} draws tokens of {card.tokenizer}, which cannot be loaded: {bad}; "
            "its own file is given with --tokenizer-checkpoint"
        ) from bad
    generator.attach(tokenizer.model)
    return tokenizer


def _wrapper(
    wrapping: Wrapping, inner_spec: str, entry: registry.Entry, options: Mapping[str, str], fill: Fill
) -> Built:
    """`PREFIX:NAME`: a family's model over the model NAME, which is loaded first."""
    own, rest = registry.split_options(entry, options)
    inner = _build(inner_spec, rest, fill)
    opened = inner.opened if entry.builtin or inner.opened is not None else Opened()
    with noting(opened):
        model = wrapping.wrap(inner.model, own)
    entry = replace(entry, card=model.card, inner=inner.entry)
    return Built(entry, {**inner.options, **own}, inner.files, model, opened=opened)
