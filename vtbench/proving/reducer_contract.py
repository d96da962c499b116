"""The contract of a reducer of tokens, on a model that reads pictures: `vtbench check NAME --tower FOLDER`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from vtbench import registry
from vtbench.models.reduced import options_known, point_of, refuse_unknown, subject_of
from vtbench.proving.checks import Verdict
from vtbench.proving.pictures import photo
from vtbench.proving.reducer_checks import CHECKS
from vtbench.proving.reducer_language import examined
from vtbench.proving.reducer_process import ask, compared, write_question
from vtbench.proving.reducer_trial import Trial
from vtbench.proving.sheet import Check, Sheet
from vtbench.types.errors import RAISED, VtbenchError

IMAGES, SIDE = 3, 224
KEPT = {"image tower": 4, "language model": 3}
"""Without --keep, one token of so many: 192 of 576 is the count that every method inside a language model has."""


def check_reducer(
    name: str,
    tower: str,
    *,
    keep: int | None = None,
    options: Mapping[str, str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    say: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Runs the checks of a registered reducer, or of `file.py@name`, on the model of a folder or hub id.

    keep: how many tokens of a picture go on. A wrong name or option raises VtbenchError: it is no failure of a reducer.
    """
    import torch

    card, texts = registry.reducers().get(name), dict(options or {})
    refuse_unknown(texts, sorted(options_known(tower, card)), name)
    # What is pooled must read the tokens that go on, or nothing that becomes of them shows.
    subject = subject_of(tower, {**_pooling(tower, name), **texts}, device or "cpu", dtype or "float32")
    images, model = torch.cat([photo(SIDE, SIDE, at=37 * i) for i in range(IMAGES)]), examined(subject)
    point = point_of(card, texts, keep, subject)
    trial = Trial(model, replace(point, keep=None), images)
    whole = trial.read([0]).rates[0].of
    count = keep if keep is not None else max(1, whole // KEPT[subject.kind])
    if count > whole:
        raise VtbenchError(f"--keep {count}: a picture is {whole} tokens to {subject.name}; give 1 to that")
    trial = Trial(model, replace(point, keep=count), images)
    _refuse(trial)
    sheet = Sheet(say)
    sheet.note("attached", "passed", f"at the stage {point.stage} of {subject.name}, {count} tokens asked for")
    for check, mistake, of in CHECKS:
        sheet.run(check, mistake, lambda of=of: of(trial))  # type: ignore[misc]
    sheet.run("fresh process", "rows that are not all that goes on", lambda: _fresh(trial, name))
    return sheet.checks


def _refuse(trial: Trial) -> None:
    """Raises what is wrong with the question, such as a count that a method has no schedule for."""
    try:
        trial.each()
    except VtbenchError as bad:
        if bad.code != 1:
            raise
    except RAISED:
        # That is a fault of the reducer, which the checks state.
        pass


def _pooling(tower: str, name: str) -> dict[str, str]:
    known = options_known(tower, registry.reducers().get(name))
    return {"pool": "mean"} if "pool" in known else {}


def _fresh(trial: Trial, name: str) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="vtbench-") as place:
        folder = Path(place) / "question"
        why = write_question(trial, name, folder)
        if why is not None:
            return "not checked", why
        failed = ask([folder])
        return ("failed", f"a fresh process could not answer: {failed}") if failed else compared(trial, folder)


def refuse_without_tower(name: str) -> None:
    """Says of a reducer what it takes to check it; a tokenizer of the same name (`resize`) is checked as ever."""
    tokenizers = {word for entry in registry.entries() for word in (entry.card.name, *entry.card.aliases)}
    if name in dict(registry.reducers().items()) and name not in tokenizers:
        raise VtbenchError(f"{name} is a reducer of tokens: give --tower FOLDER, the model that reads the pictures")
