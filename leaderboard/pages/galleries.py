"""gallery/SUITE.html: originals beside what came back, one page a suite and view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

from vtbench.leaderboard.addresses import gallery_address, system_key, values_name
from vtbench.leaderboard.cells import Column
from vtbench.leaderboard.content import newest_cards
from vtbench.leaderboard.gallery import Original, Reconstruction, SampleSet
from vtbench.leaderboard.groups import is_price
from vtbench.leaderboard.page import Page, Site
from vtbench.leaderboard.words import decimals, number, short
from vtbench.reporting.measured import RATE
from vtbench.reporting.runs import identity, model_name
from vtbench.types.metric import MetricCard

COLUMNS = 5
"""Metrics in the table of an image; the viewer shows all."""
Cards = Mapping[str, MetricCard]


def pages(site: Site) -> list[Page]:
    cards = cache(lambda: newest_cards(site.runs))
    return [
        Page(gallery_address(samples.key), "gallery.html.j2", partial(_facts, samples, site, cards))
        for samples in site.samples
    ]


def _facts(samples: SampleSet, site: Site, cards: Callable[[], Cards]) -> dict[str, Any]:
    """What templates/gallery.html.j2 shows."""
    columns = _columns(samples, cards())
    others = [{"href": gallery_address(s.key), "suite": s.suite, "view": s.view} for s in site.samples]
    return {
        "samples": samples,
        "columns": columns,
        "others": others,
        "pictures": [(original, _shots(original, columns, site)) for original in samples.originals],
    }


def _columns(samples: SampleSet, cards: Cards) -> list[Column]:
    """The rate, then the first metrics of what is got that most of the pictures have."""
    counts: Counter[str] = Counter()
    for original in samples.originals:
        for shot in original.reconstructions:
            # In the order of the rows: a set's order is another one in every process.
            valued = [n for n, v in shot.values.items() if v is not None]
            counts.update(dict.fromkeys([*valued, *sorted(shot.measured.lossless)], 1))
    enough = max(counts.values(), default=0) / 2
    names = [n for n in counts if counts[n] >= enough and (n == RATE or _is_quality(cards.get(n)))]
    names.sort(key=lambda name: name != RATE)
    return [Column(name, short(cards[name].title, 60), short(cards[name].unit or "", 20)) for name in names[:COLUMNS]]


def _is_quality(card: MetricCard | None) -> bool:
    return card is not None and bool(card.better) and not card.convention_of and not is_price(card)


def _shots(original: Original, columns: Sequence[Column], site: Site) -> list[Mapping[str, Any]]:
    """Every system on one image, with what a script needs to show it."""
    digits = [decimals([shot.values.get(c.metric) for shot in original.reconstructions]) for c in columns]
    return [_shot(shot, columns, digits, site) for shot in original.reconstructions]


def _shot(shot: Reconstruction, columns: Sequence[Column], digits: Sequence[int], site: Site) -> Mapping[str, Any]:
    return {
        "label": site.context.labels[identity(shot.run)],
        "system": system_key(shot.run),
        "file": values_name(model_name(shot.run)),
        "href": shot.picture.href,
        "cells": [_cell(shot, c.metric, d) for c, d in zip(columns, digits, strict=True)],
    }


def _cell(shot: Reconstruction, metric: str, digits: int) -> str:
    return "lossless" if metric in shot.measured.lossless else number(shot.values.get(metric), digits)
