"""Columns that say what a system is and costs: tokens, speed, parameters, licence, training data, date."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vtbench.leaderboard.cells import COSTS, FACTS, RATES, Cell, Column
from vtbench.leaderboard.context import Context
from vtbench.leaderboard.words import compact, number, short
from vtbench.reporting import runs as records
from vtbench.reporting.measured import value
from vtbench.reporting.runs import question, system
from vtbench.reporting.training_data import data_set, run_has_seen
from vtbench.reporting.values import finite, listed
from vtbench.results.record import Run

Fact = tuple[Column, Callable[[Run, Context], Cell]]
SPEED, TOKENS = "images-per-second", "tokens"


def _tokens(run: Run, context: Context) -> Cell:
    """As measured on these images, in this task or another; else what the card states for 256 × 256."""
    images = question(run).images
    for other in (run, *context.by_system[system(run)]):
        count = value(other, TOKENS)
        if count is not None and question(other).images == images:
            return Cell(number(count), sort=count)
    stated = finite(records.model_card(run).get("tokens_at_256"))
    return Cell() if stated is None else Cell(number(stated, 0), sort=stated, title="as the card states for 256 × 256")


def _speed(run: Run, context: Context) -> Cell:
    rate, device = value(run, SPEED), records.device(run)
    if rate is None:
        return Cell()
    named = ", ".join(str(part) for part in (device.name or device.cpu, device.kind) if part)
    title = f"on {short(named, 80) or 'a device that the run does not name'}; compare it on one device only"
    return Cell(f"{number(rate)} {short(device.kind, 8) if device.kind else ''}".strip(), sort=rate, title=title)


def _parameters(run: Run, context: Context) -> Cell:
    count = records.parameters(run)
    return Cell() if count is None else Cell(compact(count), sort=count, title=number(count, 0))


def _licence(run: Run, context: Context) -> Cell:
    licence = records.model_card(run).get("licence")
    return Cell(short(licence, 24), title=short(licence, 200)) if licence else Cell()


def _trained(run: Run, context: Context) -> Cell:
    sets = [short(name, 60) for name in listed(records.model_card(run).get("trained_on"))]
    if not sets:
        return Cell()
    answer, dataset = run_has_seen(run), str(records.section(run, "suite").get("dataset"))
    if answer in ("trained on these", "same data set"):
        name = next((name for name in sets if data_set(name) == data_set(dataset)), short(dataset, 60))
        what = "the very images" if answer == "trained on these" else "the data set that these images are of"
        return Cell(f"⚠ {name}", title=f"trained on {what}: {', '.join(sets)}")
    more = f" +{len(sets) - 1}" if len(sets) > 1 else ""
    return Cell(short(sets[0], 18) + more, title=f"trained on {', '.join(sets)}")


def _date(run: Run, context: Context) -> Cell:
    day = re.match(r"\d{4}-\d{2}-\d{2}", records.provenance(run).finished or "")
    return Cell(day[0], sort=float(day[0].replace("-", ""))) if day else Cell()


ALL: Sequence[Fact] = (
    (Column(TOKENS, "Tokens", group=RATES, better="lower"), _tokens),
    (Column("speed", "Images/s", "on its device", group=COSTS, better="higher"), _speed),
    (Column("size", "Params", group=COSTS, better="lower"), _parameters),
    (Column("licence", "Licence", group=FACTS, words=True), _licence),
    (Column("trained", "Trained on", group=FACTS, words=True), _trained),
    (Column("date", "Date", group=FACTS, better="higher"), _date),
)
"""In the order of the columns, all but the first behind the metrics."""
