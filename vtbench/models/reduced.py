"""A model that reads pictures, with a reducer between its stages: a system like any other, that gives no pictures.

What a run is of: the subject (files, options), the reducer (its file, options), how many tokens are kept, and where.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models.adapter_files import code_of
from vtbench.models.answering import VisionLanguage
from vtbench.models.attach_language import FAMILIES
from vtbench.models.clocks import Clock
from vtbench.models.devices import turn
from vtbench.models.language_files import OPTIONS as LANGUAGE_OPTIONS
from vtbench.models.language_files import options_of
from vtbench.models.language_operations import language_costs
from vtbench.models.language_seconds import language_seconds
from vtbench.models.load import Loaded
from vtbench.models.operations import costs
from vtbench.models.outputs import Output
from vtbench.models.system import System, marked
from vtbench.models.tower_files import ModelFiles, model_files
from vtbench.models.tower_reading import TowerSubject
from vtbench.models.towers import OPTIONS as TOWER_OPTIONS
from vtbench.models.towers import Tower, checked_options
from vtbench.results import sources
from vtbench.types.cards import Card
from vtbench.types.errors import RAISED, VtbenchError, near
from vtbench.types.item import Item
from vtbench.types.reading import Point, Subject
from vtbench.types.reduction import Reducer, ReducerCard, Stage

if TYPE_CHECKING:
    import torch

    from vtbench.images.suite import Suite
    from vtbench.images.views import View

NO_PIXELS = "a reducer drops tokens of a model that reads pictures, and makes none"
NO_BUILD = "only its rule is here, for parity fixtures"
POINT_OPTIONS: Mapping[str, Any] = {"stage": "", "block": -1}
"""Where tokens are cut: one of the stages that both the reducer and the model have, by default the reducer's first; and
before which block of a tower, by default behind a third of them, or layer of a language model, by default before 2."""
Opener = Callable[[ModelFiles, str, str, Mapping[str, Any]], Subject]
"""(files, device, dtype, options) -> the loaded model."""
Check = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def _tower(files: ModelFiles, device: str, dtype: str, options: Mapping[str, Any]) -> Subject:
    return TowerSubject(Tower(files, device, dtype, options))


def _kind(files: ModelFiles) -> tuple[Opener, Mapping[str, Any], Check]:
    """How a model of that configuration is opened, its options with their defaults, and what refuses a wrong one."""
    if _answers(files):
        return VisionLanguage, LANGUAGE_OPTIONS, options_of
    return _tower, TOWER_OPTIONS, checked_options


def _answers(files: ModelFiles) -> bool:
    return files.config.get("model_type") in FAMILIES


def answers_questions(spec: str) -> bool:
    """Whether the model of a folder or hub id is a language model that sees; raises as `subject_of` does."""
    return _answers(model_files(spec))


def parsed(texts: Mapping[str, str], defaults: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Texts in the types of their defaults."""
    return {k: registry.convert(f"{what}: option {k}", v, defaults[k]) for k, v in texts.items() if k in defaults}


def subject_of(spec: str, texts: Mapping[str, str], device: str, dtype: str) -> Subject:
    """The loaded model of a folder or hub id. texts: options; those that are the model's are taken.

    Raises VtbenchError with what is wrong; Unavailable where it is not here and the network is refused.
    """
    files = model_files(spec)
    opener, defaults, _ = _kind(files)
    return opener(files, device, dtype, parsed(texts, defaults, files.name))


def opened(spec: str, device: str, dtype: str, options: Mapping[str, Any]) -> Subject:
    """The same with options that are read already."""
    files = model_files(spec)
    opener, _, _ = _kind(files)
    return opener(files, device, dtype, options)


def model_options(spec: str) -> set[str]:
    """Names of the options of how a folder's or hub id's model is read, whatever is done with its tokens."""
    return {*_kind(model_files(spec))[1]}


def options_known(spec: str, card: ReducerCard) -> set[str]:
    """Names of all options that a run of the reducer on that model takes."""
    return {*card.options, *POINT_OPTIONS, *model_options(spec)}


def check_options(spec: str, texts: Mapping[str, str]) -> None:
    """Refuses a value that the model's options cannot have, before it is loaded."""
    files = model_files(spec)
    _, defaults, check = _kind(files)
    check({**defaults, **parsed(texts, defaults, files.name)})


def refuse_unknown(texts: Mapping[str, str], known: Sequence[str], names: str) -> None:
    unknown = [key for key in texts if key not in known]
    if unknown:
        listed = ", ".join(sorted(known))
        raise VtbenchError(f"{names} has no option {unknown[0]!r}{near(unknown[0], known)}; options are: {listed}")


def point_of(card: ReducerCard, texts: Mapping[str, str], keep: int | None, subject: Subject) -> Point:
    """The reducer, built, at one point. Raises VtbenchError where nobody can run it, or not there."""
    if card.build is None:
        raise VtbenchError(f"{card.name} cannot be run here: {card.no_code or NO_BUILD}")
    where = {**POINT_OPTIONS, **parsed(texts, POINT_OPTIONS, card.name)}
    try:
        reducer = card.build(card, {**card.options, **parsed(texts, card.options, card.name)})
    except VtbenchError:
        raise
    except RAISED as bad:
        raise VtbenchError(f"{card.name} cannot be built: it raised {type(bad).__name__}: {bad}", code=1) from bad
    block = None if where["block"] == POINT_OPTIONS["block"] else int(where["block"])
    stage = _stage(reducer, str(where["stage"]), subject, block)
    if block is not None and stage not in ("vit", "llm"):
        raise VtbenchError(
            f"--option block={block} is for --option stage=vit or stage=llm, and {card.name} acts at {stage} here"
        )
    return Point(reducer, keep, stage, block)


def _stage(reducer: Reducer, asked: str, subject: Subject, block: int | None) -> Stage:
    """Where it acts: where it is told to, or the first of its own stages that the model has. What acts behind a
    projector acts at the output of a tower that has none; what chooses at an output can choose before a block too."""
    own: list[Stage] = list(reducer.stages)
    if "projector" in own and "tower" not in own and "projector" not in subject.stages:
        own.append("tower")
    reduces = type(reducer).reduce is not Reducer.reduce
    if reduces and "vit" not in own:
        own.append("vit")
    fitting = [stage for stage in own if stage in subject.stages]
    if not asked and block is not None and "vit" in fitting:
        return "vit"
    if not asked and fitting and (fitting != ["vit"] or "vit" in reducer.stages):
        return fitting[0]
    if asked in fitting:
        return asked
    if asked:
        there = " or ".join(fitting) or "no stage"
        raise VtbenchError(f"--option stage={asked}: {reducer.card.name} on {subject.name} acts at {there}")
    return own[0]


class ReducedSystem(System):
    """A subject at one point: of every batch what it understands of it, whole and reduced."""

    def __init__(self, subject: Subject, point: Point, options: Mapping[str, Any]) -> None:
        card = point.reducer.card
        self.subject, self.point, self.options = subject, point, options
        self.card = Card(
            card.name,
            card.name,
            "reducer",
            card.title,
            licence=card.licence,
            code=card.code,
            paper=card.paper,
            options=dict(options),
            knob="keep",
            no_pixels=NO_PIXELS,
            note=card.note,
        )
        self.device, self.dim = subject.device, subject.dim
        self.notes = tuple(subject.facts.get("notes", ()))
        self._one_at_a_time = threading.Lock()

    def parameter_count(self) -> int | None:
        return self.subject.parameter_count()

    def check(self, items: Sequence[Item], suite: Suite, view: View) -> None:
        # Of the whole suite: which folders are classes must not hang on the limit.
        self.subject.check(self.point, suite.items)

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        import torch

        clock = Clock(self.device)
        with turn(self.device), self._one_at_a_time, torch.inference_mode():
            start = clock.mark()
            reading = self.subject.read(images.cpu(), self.point, list(seeds), list(items))
            end = clock.mark()
            cost = self._costs(images[:1].cpu(), seeds[:1], items[:1]) if count_macs else {}
        return Output(
            torch.zeros_like(images),
            encode_seconds=clock.between(start, end),
            record=marked({}, NO_PIXELS),
            kind="reducer",
            cost=cost,
            no_pixels=NO_PIXELS,
            reading=reading,
        )

    def _costs(self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item]) -> dict[str, float]:
        """What one image, or one question on it, takes."""
        if isinstance(self.subject, VisionLanguage):
            asked = self.subject, self.point, images, seeds, items
            return {**language_costs(*asked), **language_seconds(*asked)}
        return costs(self.subject, self.point, images, seeds, items)


def loaded_reducer(name: str, keep: int | None, texts: Mapping[str, str], subject: Subject) -> Loaded:
    """A reducer by its name (or `file.py@name`) on a loaded model, ready to be measured."""
    card = registry.reducers().get(name)
    name = registry.reducers().name_of(name)
    point = point_of(card, texts, keep, subject)
    options = {"keep": keep, **point.reducer.options, "stage": point.stage}
    if point.block is not None:
        options["block"] = point.block
    source = registry.reducers().source(name)
    code = code_of([source.file])
    identity = {
        "name": card.name,
        "options": options,
        "weights": list(subject.identity.values()),
        "tower": dict(subject.identity),
        "adapter": sources.digest(code, core=False),
    }
    facts = {
        "spec": None,
        "checkpoint": None,
        "tower": {"kind": subject.kind, "dim": subject.dim, **subject.facts},
        "reducer": {
            **{f.name: getattr(card, f.name) for f in dataclasses.fields(card) if f.name in RECORDED},
            "stage": point.stage,
        },
    }
    outside = () if source.builtin else (f"the reducer {card.name} is not vtbench's own",)
    return Loaded(
        ReducedSystem(subject, point, options),
        identity,
        subject.weights,
        outside,
        facts=facts,
        sources=tuple(map(Path, code)),
        device=subject.device,
        dtype=subject.dtype,
    )


RECORDED = (
    *("title", "output", "training", "query_aware", "positions", "deviates", "code", "commit", "licence"),
    *("baseline", "spread_over"),
)
"""What a run's record says of a reducer."""
