"""What the pages' scripts read of single images: one file a model, its numbers as they are stored.

Keys are ours and whatever somebody else chose is a value, so that no name becomes a property of an object. A file is
read when a reader chooses its model, and not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vtbench.leaderboard.addresses import gallery_key, model_key, system_key, values_name
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.gallery import Original, Reconstruction, SampleSet
from vtbench.leaderboard.groups import Group
from vtbench.leaderboard.words import KIND_TITLES, short
from vtbench.reporting.image_values import Column, ImageValues
from vtbench.reporting.measured import TextLine, metric_card
from vtbench.reporting.runs import identity, is_complete, is_ranked, kind, kind_order, model_name, question, suite_name
from vtbench.reporting.values import finite
from vtbench.results.record import Run
from vtbench.types.metric import MetricCard

MOST_VALUES = 60_000
"""Numbers of one run in its file, about a megabyte: of a run of more, as many metrics as fit, in the task's order."""
LOSSLESS = "lossless"
"""In place of the PSNR of an image that came back identical."""
DIGITS = 16
"""Of a picture's sha256: those that tell whether two runs scored the same pixels."""


def chosen_runs(runs: Sequence[Run]) -> list[Run]:
    """One run for each system and question: where there are more (limited ones, other seeds), the ranked one, else the
    one that is complete."""
    best: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        key = (system_key(run), question(run))
        if key not in best or _standing(run) > _standing(best[key]):
            best[key] = run
    return list(best.values())


def _standing(run: Run) -> tuple[bool, bool, int, str]:
    return is_ranked(run), is_complete(run), int(finite(run.info.n) or 0), identity(run)


def directory(context: Context, groups: Sequence[Group], samples: Sequence[SampleSet]) -> dict[str, Any]:
    """Every system with the file that holds its values, and every question and set of pictures by its key."""
    systems: dict[str, dict[str, Any]] = {}
    for run in sorted(chosen_runs(context.runs), key=lambda run: kind_order(kind(run))):
        label = context.labels[identity(run)]
        systems.setdefault(
            system_key(run),
            {
                "key": system_key(run),
                "title": label.title,
                "setting": label.setting,
                "kind": short(KIND_TITLES.get(kind(run), kind(run)), 40),
                "model": model_key(model_name(run)),
                "file": values_name(model_name(run)),
            },
        )
    return {
        "systems": list(systems.values()),
        "questions": [{"key": g.ident, "task": g.task_title, "where": g.where} for g in groups],
        "galleries": [{"key": s.key, "suite": short(s.suite, 80), "view": short(s.view, 40)} for s in samples],
    }


def values_of(
    runs: Sequence[Run],
    context: Context,
    questions: Mapping[Any, str],
    older: Mapping[str, set[str]],
    samples: Sequence[tuple[SampleSet, Original, Reconstruction]],
    cards: Mapping[str, MetricCard],
) -> dict[str, Any]:
    """What the file of one model holds. runs: of the model, one a system and question; questions: their keys; older:
    metrics by run id that are of an older version than others'; samples: the model's; cards: of every metric."""
    return {
        "runs": [_run(run, context, questions[question(run)], older.get(identity(run), set())) for run in runs],
        "pictures": [_pictures(*sample, cards) for sample in samples],
    }


def _run(run: Run, context: Context, asked: str, older: set[str]) -> dict[str, Any]:
    values = context.rows.read(run)
    names = [name for name in _in_order(run, values) if name not in older]
    room = MOST_VALUES // max(1, len(values))
    return {
        "system": system_key(run),
        "question": asked,
        "gallery": gallery_key(question(run).images, suite_name(run)),
        "items": list(values.items) if room else [],
        "pictures": list(values.pictures) if room else [],
        "pixels": values.pixels.tolist() if room else [],
        "metrics": [_metric(run, name, values) for name in names[:room]],
        "left_out": names[room:],
    }


def _in_order(run: Run, values: ImageValues) -> list[str]:
    """Metrics with a card that have a value of some image: in the task's order, then whatever else the rows hold."""
    stated = [stated.metric for stated in run.scores]
    names = dict.fromkeys([*stated, *sorted(values.metrics)])
    return [name for name in names if name in values.metrics and metric_card(run, name) is not None]


def _metric(run: Run, name: str, values: ImageValues) -> dict[str, Any]:
    card, column = metric_card(run, name), values.column(name)
    assert card is not None
    bounds = card.bounds if isinstance(card.bounds, list | tuple) and len(card.bounds) == 2 else (None, None)
    return {
        "name": name,
        "title": short(card.title or name.replace("-", " "), 60),
        "unit": short(card.unit or "", 20),
        "better": card.better if card.better in ("higher", "lower") else None,
        "version": finite(card.version),
        "bounds": [finite(end) for end in bounds],
        "values": _values(column),
        "weights": None if (column.weights == 1).all() else column.weights.tolist(),
    }


def _values(column: Column) -> list[float | str | None]:
    shown: list[float | str | None] = column.values.tolist()
    for place in np.flatnonzero(~column.valued):
        shown[place] = LOSSLESS if column.lossless[place] else None
    return shown


def _pictures(
    samples: SampleSet, original: Original, shot: Reconstruction, cards: Mapping[str, MetricCard]
) -> dict[str, Any]:
    return {
        "system": system_key(shot.run),
        "gallery": samples.key,
        "item": original.item,
        "reference": original.picture.href,
        "candidate": shot.picture.href,
        "size": [shot.picture.width, shot.picture.height],
        "original": [original.picture.width, original.picture.height],
        "box": original.box,
        "values": _numbers(shot, cards),
        "lines": lines(shot.measured.lines),
    }


def _numbers(shot: Reconstruction, cards: Mapping[str, MetricCard]) -> list[list[Any]]:
    """[title, unit, value, better end] of all that was measured of a picture; costs have no card."""
    out = []
    for name in dict.fromkeys([*sorted(shot.measured.lossless), *shot.values]):
        card = cards.get(name)
        number = LOSSLESS if name in shot.measured.lossless else shot.values.get(name)
        if card is not None and number is not None:
            better = card.better if card.better in ("higher", "lower") else None
            out.append([short(card.title or name, 60), short(card.unit or "", 20), number, better])
    return out


def lines(of: Iterable[TextLine]) -> list[list[Any]]:
    """[reading of the original, reading of what came back, characters right, characters] of every line."""
    return [
        [short(line.original or "", 200), short(line.reading or "", 200), line.right, line.characters] for line in of
    ]
