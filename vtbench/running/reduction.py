"""Reducers of a request: which points are measured, one run each, and the baselines that stand beside every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtbench import registry
from vtbench.images.questions import holds_questions
from vtbench.models.load import Loaded
from vtbench.models.named_code import note_choice
from vtbench.models.reduced import (
    NO_BUILD,
    ReducedSystem,
    answers_questions,
    check_options,
    loaded_reducer,
    options_known,
    refuse_unknown,
    subject_of,
)
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Subject

TASKS = ("understanding", "answers")
"""What is asked of an image tower, and of a language model that sees."""
BASELINES = ("random", "uniform", "adaptive-pooling", "resize")
"""What every table of reducers holds beside them, at the same counts; and the full model, once."""
DRAWS = 5
"""So many throws of the tokens that are drawn without looking."""
WHERE = ("stage", "block")
"""Options that say where tokens are cut."""
EVERY = "all-baselines"
"""In the place of a reducer's name: the baselines alone."""


@dataclass(frozen=True)
class ReducerAsk:
    """One run: a reducer by its name, how many tokens are kept (None: all), its options' texts."""

    name: str
    keep: int | None
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name if self.keep is None else f"{self.name} keep={self.keep}"

    def texts(self) -> dict[str, str]:
        return dict(self.options)


def task_of(tower: str, images: str | None) -> str:
    """The task of a model: the one that its kind can be asked. images: where it shall come from."""
    if not answers_questions(tower):
        return TASKS[0]
    if images is None or not holds_questions(Path(images).expanduser()):
        raise VtbenchError(
            f"{tower} is a language model that sees, and is asked questions: give --images QUESTIONS.jsonl, one "
            '{"id", "image", "question", "answers"} a line'
        )
    return TASKS[1]


def check_reducers(
    reducers: Sequence[str], tower: str | None, keep: Sequence[int], options: Sequence[Mapping[str, str]]
) -> None:
    """Refuses a wrong question before anything is loaded."""
    if tower is None:
        raise VtbenchError("--reducer drops tokens of a model that reads pictures: give --tower FOLDER or a hub id")
    if not tower.strip():
        raise VtbenchError("--tower is empty: give a folder as save_pretrained writes it, or a hub id")
    wrong = [count for count in keep if count < 1]
    if wrong:
        raise VtbenchError(f"--keep {wrong[0]}: give numbers of tokens, 1 or more, such as 192,128,64")
    names = [name for name in reducers if name != EVERY]
    for name in names:
        note_choice(name)
        card = registry.reducers().get(name)
        if card.build is None:
            why = card.no_code or NO_BUILD
            raise VtbenchError(f"{name} cannot be run here: {why}; `vtbench list reducers` shows those that can")
    if not keep and any(name != "full" for name in reducers):
        raise VtbenchError("--reducer needs --keep, how many tokens of a picture go on, such as --keep 192,128,64")
    cards = [registry.reducers().get(name) for name in dict.fromkeys([*names, "full", *BASELINES])]
    known = sorted({option for card in cards for option in options_known(tower, card)})
    for texts in options:
        refuse_unknown(texts, known, names[0] if names else EVERY)
        check_options(tower, texts)


def asks(
    reducers: Sequence[str], keep: Sequence[int], options: Sequence[Mapping[str, str]], *, baselines: bool
) -> list[ReducerAsk]:
    """Every run of a request, each once: the full model, then every method at every count, then the baselines."""
    wanted: list[ReducerAsk] = []
    every = baselines or EVERY in reducers
    for texts in options:
        pairs = tuple(texts.items())
        if every:
            wanted.append(ReducerAsk("full", None, _without(pairs, WHERE)))
        wanted += [
            ReducerAsk(name, count, pairs)
            for name in reducers
            if name != EVERY
            for count in ((None,) if name == "full" else keep)
        ]
        if every:
            wanted += [
                ReducerAsk(name, count, (*_of_baseline(name, pairs, reducers), *draw))
                for name in BASELINES
                for count in keep
                for draw in _draws(name, texts)
            ]
    return list(dict.fromkeys(wanted))


def _without(pairs: tuple[tuple[str, str], ...], names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple(pair for pair in pairs if pair[0] not in names)


def _of_baseline(name: str, pairs: tuple[tuple[str, str], ...], reducers: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Options of a baseline: it acts where the methods beside it do, but for the smaller picture."""
    if name == "resize":
        return _without(pairs, WHERE)
    cards = [registry.reducers().get(other) for other in reducers if other not in (EVERY, "full")]
    inside = bool(cards) and all("vit" in card.stages and "tower" not in card.stages for card in cards)
    asked = any(key in WHERE for key, _ in pairs)
    return (*pairs, ("stage", "vit")) if inside and not asked else pairs


def _draws(name: str, texts: Mapping[str, str]) -> list[tuple[tuple[str, str], ...]]:
    if name != "random" or "draw" in texts:
        return [()]
    return [(("draw", str(number)),) for number in range(DRAWS)]


class Subjects:
    """Loaded models of one request: the last one is kept for the next run."""

    def __init__(self, spec: str, device: str, dtype: str) -> None:
        self._spec, self._device, self._dtype = spec, device, dtype
        self._kept: tuple[tuple[tuple[str, str], ...], Subject] | None = None

    def check(self, wanted: Sequence[ReducerAsk], items: Sequence[Sequence[Item]]) -> None:
        """Refuses every ask that makes no sense for the model, before any run begins. items: of every question."""
        for ask in wanted:
            system = self.loaded(ask).system
            for one in items:
                if isinstance(system, ReducedSystem):
                    system.subject.check(system.point, one)

    def loaded(self, ask: ReducerAsk) -> Loaded:
        """The reducer of an ask on the model."""
        texts = ask.texts()
        return loaded_reducer(ask.name, ask.keep, texts, self.of(texts))

    def of(self, texts: Mapping[str, str]) -> Subject:
        """The model with these options."""
        key = tuple(sorted((k, v) for k, v in texts.items() if k != "draw"))
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, subject_of(self._spec, texts, self._device, self._dtype))
        return self._kept[1]
