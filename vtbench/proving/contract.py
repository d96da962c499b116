"""The contract that every adapter must keep; `vtbench check` and the tests both call it.

Each failure names the mistake that it usually means. What cannot be checked here says so: it is never a pass.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.build import build, load_random
from vtbench.models.devices import dtype_of
from vtbench.models.isolation import isolated
from vtbench.models.load import load
from vtbench.models.objects import measuring
from vtbench.models.system import ModelSystem
from vtbench.proving import checks, honesty
from vtbench.proving.checks import Verdict
from vtbench.proving.fresh_process import Origin
from vtbench.proving.pictures import side_near_256
from vtbench.proving.reducer_contract import check_reducer, refuse_without_tower
from vtbench.proving.sheet import Check, Sheet
from vtbench.types.adapter import ClosedSystem, Generator, Tokenizer
from vtbench.types.errors import RAISED, Unavailable, VtbenchError


@dataclass(frozen=True)
class _Subject:
    """What is checked: the loaded model, how to build it again (None of an object), whether its weights are trained."""

    model: Any
    origin: Origin | None
    trained: bool


@isolated()
def check(
    model: Any,
    *,
    options: Mapping[str, str] | None = None,
    checkpoint: Path | None = None,
    prefix: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    tower: str | None = None,
    keep: int | None = None,
    say: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Runs the contract on a model's name, `file.py@name`, or a loaded tokenizer object; returns every check.

    tower: the folder or hub id of a model that reads pictures, where `model` is a reducer of its tokens, of which
    `keep` go on. `say` gets each check as it ends. A wrong name or option raises VtbenchError: it is no failure of an
    adapter.
    """
    if tower is not None:
        if checkpoint is not None or prefix is not None or not isinstance(model, str):
            raise VtbenchError("--tower is for reducers, given by name, without --checkpoint and --prefix")
        return check_reducer(model, tower, keep=keep, options=options, device=device, dtype=dtype, say=say)
    if keep is not None:
        raise VtbenchError(f"--keep {keep} is how many tokens a reducer keeps: give --tower FOLDER as well")
    if isinstance(model, str):
        refuse_without_tower(model)
    sheet = Sheet(say)
    with measuring(model):
        return _checks(model, options, checkpoint, prefix, device, dtype, sheet)


def _checks(
    model: Any,
    options: Mapping[str, str] | None,
    checkpoint: Path | None,
    prefix: str | None,
    device: str | None,
    dtype: str | None,
    sheet: Sheet,
) -> list[Check]:
    if isinstance(model, str):
        path = str(checkpoint.resolve()) if checkpoint else None
        origin = Origin(
            model,
            dict(options or {}),
            path,
            device or "cpu",
            dtype_of(dtype or "float32"),
            False,
            dict(os.environ),
            time.time(),
            prefix,
        )
        subject = _by_name(origin, checkpoint, sheet)
    else:
        loaded = load(model, options, checkpoint=checkpoint, prefix=prefix, device=device, dtype=dtype)
        subject = _Subject(loaded.model, None, True)
        sheet.note("loads", "passed", "an object that is loaded already")
    if subject is None:
        return sheet.checks
    if isinstance(subject.model, Generator):
        name = subject.model.card.name
        sheet.note("interface", "failed", f"{name} is a generator: this contract is for tokenizers")
        return sheet.checks
    _check_images(subject, sheet)
    if isinstance(subject.model, ClosedSystem):
        sheet.note("tokens", "not checked", "a closed system sends no tokens, so there is nothing to pack or count")
    else:
        _check_tokens(subject.model, subject.origin, sheet)
    return sheet.checks


def _by_name(origin: Origin, checkpoint: Path | None, sheet: Sheet) -> _Subject | None:
    """The model of a spec, loaded; without its weights, filled by name where it can be; None where it cannot."""
    model, options = origin.model, dict(origin.options)
    entry = registry.model(model)
    if entry.inner is not None:
        registry.split_options(entry, options)
    elif not model.startswith("family:"):
        registry.parse_options(entry.card, options)
    try:
        built = build(model, options, checkpoint, origin.device, origin.dtype, prefix=origin.prefix)
    except Unavailable as bad:
        filled = load_random(model, options, origin.device, origin.dtype)
        if filled is None:
            sheet.note("loads", "not checked", f"{bad}")
            return None
        sheet.note("loads", "not checked", f"{bad}; the other checks use numbers made from the parameter names")
        return _Subject(filled, replace(origin, random=True), False)
    except VtbenchError as bad:
        sheet.note("loads", "failed", str(bad))
        return None
    except RAISED as bad:
        # An adapter may raise anything; the newcomer gets the sentence.
        said = f"load raised {type(bad).__name__}: {bad}; this usually means a wrong file or option"
        sheet.note("loads", "failed", said)
        return None
    sheet.note("loads", "passed", f"weights: {built.files.status}")
    return _Subject(built.model, origin, built.files.status != "unverified")


def _check_images(subject: _Subject, sheet: Sheet) -> None:
    """The checks that a closed system can keep too."""
    system = ModelSystem(subject.model, "resize")
    side = side_near_256(subject.model.card)
    sheet.run("output", "a shape or dtype that encode or decode did not expect", lambda: checks.output(system, side))
    sheet.run(
        "range and channels",
        "a wrong value range or channel order",
        lambda: checks.conventions(system, side, subject.trained),
    )
    sheet.run("sizes", "a size that is fixed in the code but not on the card", lambda: checks.sizes(system))


def _check_tokens(tokenizer: Tokenizer, origin: Origin | None, sheet: Sheet) -> None:
    side = side_near_256(tokenizer.card)
    rows: list[tuple[str, str, Callable[[], Verdict]]] = [
        (
            "batch",
            "an average over the batch, or noise that is drawn once a batch",
            lambda: checks.batch(tokenizer, side),
        ),
        ("seeds", "noise that does not come from the seeds", lambda: checks.repeatable(tokenizer, side)),
        (
            "state",
            "something that encode leaves on the adapter and decode reads",
            lambda: honesty.state(tokenizer, side),
        ),
        (
            "fresh process",
            "features that pass the decoder by another way than the tokens",
            lambda: honesty.fresh(tokenizer, origin, side),
        ),
        ("facts", "a card copied from another model", lambda: checks.facts(tokenizer, side)),
        (
            "alphabet",
            "an alphabet on the card that is not the codebook's size",
            lambda: checks.alphabet(tokenizer, side),
        ),
        ("hidden bits", "information beside the indices", lambda: honesty.hidden(tokenizer, side)),
    ]
    if tokenizer.takes_budget:
        mistake = "an encoder that takes the budget and does not look at it"
        rows.append(("budget", mistake, lambda: honesty.budget(tokenizer, side)))
    for name, mistake, of in rows:
        sheet.run(name, mistake, of)
