"""Systems in words: a title, the setting that tells a run from the others of its model, and the page of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtbench.leaderboard.words import short
from vtbench.reporting.readers import spread_over
from vtbench.reporting.runs import (
    device,
    dtype,
    identity,
    knob,
    limit,
    model_card,
    model_title,
    options,
    question,
    seed,
    weights,
)
from vtbench.reporting.values import mapping
from vtbench.results.record import Run


@dataclass(frozen=True)
class Label:
    """`setting` tells the system from others with its title; `href` is the page of the run."""

    title: str
    setting: str
    href: str

    @property
    def full(self) -> str:
        return f"{self.title} · {self.setting}" if self.setting else self.title


def setting(run: Run) -> str:
    """The options that tell a run from others of its model: the knob, then whatever is not the card's default, and
    which throw of the dice it is."""
    (name, at), drawn = knob(run), spread_over(run)
    defaults = mapping(model_card(run).get("options"))
    parts = [f"{name} {_plain(at)}"] if name and at is not None else []
    parts += [f"{k} {_plain(v)}" for k, v in options(run).items() if k != name and (v != defaults.get(k) or k == drawn)]
    return short(", ".join(parts), 80)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def labels(runs: Sequence[Run], hrefs: Mapping[str, str]) -> dict[str, Label]:
    """A label for every run by its id; where runs of one question would read alike, what tells them apart is added."""
    plain = {identity(run): (short(model_title(run), 80), setting(run)) for run in runs}
    same: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        same.setdefault((plain[identity(run)], question(run)), []).append(run)
    out: dict[str, Label] = {}
    for run in runs:
        own = identity(run)
        title, text = plain[own]
        alike = same[plain[own], question(run)]
        if len(alike) > 1:
            text = ", ".join(filter(None, [text, *_differences(run, alike)]))
        out[own] = Label(title, text, hrefs.get(own, ""))
    return out


def _differences(run: Run, alike: Sequence[Run]) -> list[str]:
    """The first fact of `run` that not all runs of `alike` share, in words."""
    facts = [_facts(r) for r in alike]
    return [text for i, text in enumerate(_facts(run)) if text and len({f[i] for f in facts}) > 1][:1]


def _facts(run: Run) -> list[str]:
    """What may tell two runs of one system apart, the most telling first; empty where the record does not say."""
    digest = "".join(file.sha256[:8] for file in weights(run).files)
    named = (
        ("", run.name),
        ("", dtype(run)),
        ("", device(run).kind),
        ("seed ", seed(run)),
        ("weights ", digest),
        ("limit ", limit(run)),
        ("run ", identity(run)[:8]),
    )
    return [f"{word}{fact}" if fact else "" for word, fact in named]
