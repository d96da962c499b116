"""A tokenizer whose reconstructions a tower or a language model reads: what is still understood of what came back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.images.rounding import to_float, to_uint8
from vtbench.models.devices import turn
from vtbench.models.load import Loaded
from vtbench.models.outputs import Output
from vtbench.models.system import System
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Subject

if TYPE_CHECKING:
    import torch

    from vtbench.images.suite import Suite
    from vtbench.images.views import View


class UnderstoodSystem(System):
    """Another system's outputs, each with what the subject makes of it and of the original."""

    def __init__(self, inner: System, subject: Subject) -> None:
        self.inner, self.subject = inner, subject
        self.card, self.options, self.device = inner.card, inner.options, inner.device
        self.states_kind, self.opened = inner.states_kind, inner.opened
        self.notes = (*inner.notes, *subject.facts.get("notes", ()))

    @property
    def dim(self) -> int | None:  # type: ignore[override]
        return self.subject.dim

    def served(self, fit: str) -> UnderstoodSystem:
        return UnderstoodSystem(self.inner.served(fit), self.subject)

    def parameter_count(self) -> int | None:
        return self.inner.parameter_count()

    def check(self, items: Sequence[Item], suite: Suite, view: View) -> None:
        self.inner.check(items, suite, view)
        if self.card.no_pixels is not None:
            raise VtbenchError(
                f"{self.card.name} gives no picture that {self.subject.name} could read: {self.card.no_pixels}"
            )
        # Of the whole suite: which folders are classes must not hang on a shard or the limit.
        self.subject.check_items(suite.items)

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        output = self.inner.produce(images, seeds, items, count_macs=count_macs)
        # As every metric reads them: in whole grey levels.
        originals, others = (to_float(to_uint8(x)).cpu() for x in (images, output.images))
        with turn(self.subject.device):
            return replace(output, reading=self.subject.compare(originals, others, items))


def split(texts: Mapping[str, str], own: Sequence[str], known: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """(a model's options, those of what reads its pictures, `known`) of one list; a name of both is the model's."""
    towers = {k: v for k, v in texts.items() if k in known and k not in own}
    return {k: v for k, v in texts.items() if k not in towers}, towers


def understood(loaded: Loaded, subject: Subject) -> Loaded:
    """The same model, its pictures read by a subject, which is part of what its numbers depend on."""
    facts: dict[str, Any] = {**loaded.facts, "tower": {"kind": subject.kind, "dim": subject.dim, **subject.facts}}
    identity = {**loaded.identity, "tower": dict(subject.identity)}
    return replace(loaded, system=UnderstoodSystem(loaded.system, subject), identity=identity, facts=facts)
