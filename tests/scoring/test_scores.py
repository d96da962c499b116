"""Rows -> scores: weighted means, reasons, the order asked for, metrics of sets, tokens and rows, by arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from vtbench import registry
from vtbench.images.views import View
from vtbench.metrics import moments
from vtbench.scoring.fingerprint import fingerprint
from vtbench.scoring.loading import Metrics
from vtbench.scoring.scores import Asked, Sides, of_set, scores_of, tally, with_values
from vtbench.types.metric import (
    Batch,
    Extractor,
    ImageMetric,
    MetricCard,
    RowMetric,
    SetMetric,
    SetValue,
    TokenMetric,
    Value,
)
from vtbench.types.tokens import Codes

VIEW = View.parse("native", "native")


def card(name: str, kind: Any = "image", **more: Any) -> MetricCard:
    return MetricCard(name, name.upper(), 3, "unit", "higher", "test", kind=kind, **more)


class Shown(ImageMetric):
    card = card("shown", bounds=(0.0, None))

    def measure(self, batch: Batch) -> Sequence[Value]:
        raise AssertionError("scores hold no pixels")


class Counted(TokenMetric):
    card = card("counted", "tokens")

    def finish(self, tokens: Sequence[Any], sizes: Sequence[tuple[int, int]]) -> SetValue:
        each = [float(t.indices.sum()) for t in tokens]
        return SetValue(math.fsum(each), details={"sizes": list(sizes)}, per_image=each)


class Joined(RowMetric):
    card = card("joined", "run")

    def finish(self, rows: Sequence[Mapping[str, Any]], items: Sequence[Any]) -> SetValue:
        return SetValue(float(len(rows)), details={"items": [str(i) for i in items]})


class Features(Extractor):
    id, dim = "features", 2

    def load(self, device: str = "cpu") -> None: ...

    def extract(self, images: torch.Tensor) -> Any:
        raise AssertionError("features were made before")


class Apart(SetMetric):
    """The distance of the means."""

    card = card("apart", "set")

    def extractor(self) -> Extractor:
        return Features()

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        return SetValue(float(np.abs(np.mean(reference, 0) - np.mean(candidate, 0)).sum()), warning="small")


class Alone(Apart):
    card = card("alone", "set")
    needs_reference = False

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        return SetValue(float(np.sum(candidate)))


KNOWN = {c.card.name: c for c in (Shown, Counted, Joined, Apart, Alone)}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, metric in KNOWN.items():
        monkeypatch.setitem(registry.metrics()._entries, name, metric)


def row(item: str, value: float | None, why: str = "", **more: Any) -> dict[str, Any]:
    values = {} if value is None else {"shown": value}
    reasons = {"shown": why} if why else {}
    return {"item": item, "values": values, "why": reasons, "size": [4, 5], "seconds": {}, **more}


def asked(*names: str, unavailable: Mapping[str, str] | None = None, **more: Any) -> Asked:
    reasons = dict(unavailable or {})
    metrics = Metrics(names, {n: KNOWN[n]() for n in names if n not in reasons}, reasons)
    return Asked("a-task", metrics, "native", VIEW.fingerprint(), **more)


def scored(question: Asked, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    seen = tally(rows, question.metrics.per_image())
    return {s.metric: s for s in scores_of(question, lambda: iter(rows), seen, **more).scores}


def test_a_weighted_mean_with_its_interval_and_reasons() -> None:
    rows = [
        row("a", 1.0, weights={"shown": 3.0}),
        row("b", 5.0),
        row("c", None, "lossless: the same"),
        {"item": "d", "values": {}, "why": {"*": "cannot be read"}},
        row("e", None),
    ]
    score = scored(asked("shown"), rows)["shown"]
    assert score.value == (3 * 1.0 + 5.0) / 4
    assert (score.n, score.missing, score.task, score.unit, score.better, score.version) == (
        2,
        3,
        "a-task",
        "unit",
        "higher",
        3,
    )
    assert score.details["missing"] == {"lossless: the same": 1, "cannot be read": 1, "not measured": 1}
    assert score.details["n_lossless"] == 1
    # Student's t at one degree of freedom, 12.7062, times the linearised error; the bound of the metric clips it at 0.
    half = 12.706204736 * math.sqrt(((3 * (1 - 2) / 2) ** 2 + ((5 - 2) / 2) ** 2) / 2)
    assert score.high == pytest.approx(2 + half, rel=1e-9)
    assert score.low == 0.0


def test_every_score_says_its_protocol_and_fingerprint() -> None:
    names = ("shown", "counted", "joined", "apart", "alone")
    everything = scored(asked(*names), [row("a", 1.0)])
    assert list(everything) == list(names)
    for name, score in everything.items():
        assert score.protocol == "native"
        assert score.fingerprint == fingerprint(VIEW.fingerprint(), name, 3)
    other = scored(asked("apart", reference="the set of somebody"), [row("a", 1.0)])["apart"]
    assert other.fingerprint != everything["apart"].fingerprint
    missing = scored(asked("shown", unavailable={"shown": "no network"}), [row("a", None)])["shown"]
    assert (missing.value, missing.why, missing.missing) == (None, "no network", 1)
    assert (missing.protocol, missing.fingerprint) == ("native", everything["shown"].fingerprint)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "no image was scored"),
        ([row("a", None, "too small"), row("b", None, "too small"), row("c", None, "other")], "too small"),
        ([row("a", 1.0, weights={"shown": 0.0})], "no image was scored"),
    ],
)
def test_no_value_has_its_commonest_reason(rows: list[dict[str, Any]], why: str) -> None:
    score = scored(asked("shown"), rows)["shown"]
    assert (score.value, score.why, score.n, score.low, score.high) == (None, why, 0, None, None)


@pytest.mark.parametrize(("scored_ones", "failed_ones"), [(1, 1), (3, 1), (1, 3)])
def test_a_null_says_what_the_metric_said_and_not_only_what_broke(scored_ones: int, failed_ones: int) -> None:
    """An image that could not be read at all is no reason why the others have no value."""
    failed = [{"item": f"b{k}", "values": {}, "why": {"*": f"broken file {k // 2}"}} for k in range(failed_ones)]
    rows = [*failed, *(row(f"a{k}", None, "no tokens") for k in range(scored_ones))]
    score = scored(asked("shown"), rows)["shown"]
    n = scored_ones + failed_ones
    assert score.why == f"no tokens ({scored_ones} of {n} images; {failed_ones} could not be scored)"
    assert score.details["missing"]["no tokens"] == scored_ones
    assert sum(score.details["missing"].values()) == n


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_sum_that_is_no_number_any_more_is_null_with_a_reason() -> None:
    score = scored(asked("shown"), [row("a", 1.7e308), row("b", 1.7e308)])["shown"]
    assert (score.value, score.why) == (None, "shown came out as inf")


def test_the_ceiling_of_resized_images_stands_beside() -> None:
    rows = [row("a", 1.0, resize_only={"shown": 3.0}), row("b", 1.0, resize_only={"shown": 4.0}), row("c", 1.0)]
    assert scored(asked("shown"), rows)["shown"].details["resize_only"] == 3.5


def test_metrics_of_sets_see_both_sides_and_say_why_not() -> None:
    rows = [row(n, 1.0) for n in "abc"]
    sides = Sides(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[4.0, 1.0], [4.0, 1.0], [4.0, 1.0]]), note="untold")
    both = scored(asked("apart", "alone"), rows, sides=lambda *_: sides)
    assert (both["apart"].value, both["apart"].n, both["apart"].warning) == (4.0, 3, "small; untold")
    assert both["alone"].value == 15.0
    why = scored(asked("apart"), rows, sides=lambda *_: Sides(None, None, why="statistics only"))["apart"]
    assert (why.value, why.why, why.warning) == (None, "statistics only", None)
    one = scored(asked("apart"), rows[:1], sides=lambda *_: sides)["apart"]
    assert (one.value, one.why) == (None, "1 images were scored; a set needs two")
    few = {n: s.why for n, s in scored(asked("apart", "alone"), rows, sides=lambda *_: few_references(sides)).items()}
    assert few == {"apart": "1 reference images could be read; a set needs two", "alone": None}
    saved = Sides(moments.Statistics(np.zeros(1), np.zeros((1, 1))), sides.candidate)
    kept = scored(asked("alone"), rows, sides=lambda *_: saved)["alone"]
    assert kept.value == 15.0
    assert "features of two sets" in scored(asked("apart"), rows)["apart"].why


def few_references(sides: Sides) -> Sides:
    return Sides(sides.reference[:1], sides.candidate)


def test_metrics_of_tokens_read_those_of_the_images_that_were_scored() -> None:
    tokens = [Codes(torch.full((1, 2, 1), k), (9,), (8, 8)) for k in (1, 2, 3)]
    rows = [row("a", 1.0), {"item": "b", "values": {}, "why": {"*": "cannot be read"}}, row("c", None)]
    question = asked("counted", "shown")
    seen = tally(rows, question.metrics.per_image())
    result = scores_of(question, lambda: iter(rows), seen, tokens=tokens)
    assert (result.scores[0].value, result.scores[0].n, result.scores[0].missing) == (8.0, 2, 1)
    assert result.scores[0].details["sizes"] == [[4, 5], [4, 5]]
    joined = list(with_values(lambda: iter(rows), result.per_image, seen.good))
    assert [r["values"].get("counted") for r in joined] == [2.0, None, 6.0]
    assert joined[0]["values"]["shown"] == 1.0
    none = scored(asked("counted"), rows)["counted"]
    assert (none.value, none.n, none.why) == (None, 0, "this system sends no discrete tokens")
    tiled = [row("a", 1.0, flags={"served": "4 tiles of 8 x 8"})]
    assert "in tiles" in scored(asked("counted"), tiled, tokens=tokens[:1])["counted"].why


def test_metrics_of_rows_read_all_rows_and_items() -> None:
    joined = scored(asked("joined"), [row("a", 1.0), row("b", None)], items=["a", "b"])["joined"]
    assert (joined.value, joined.details) == (2.0, {"items": ["a", "b"]})


def test_the_warm_up_is_not_timed_and_costs_are_gathered() -> None:
    rows = [
        row("a", 1.0, seconds={"encode": 9.0, "decode": 9.0, "warm_up": True}, cost={"nfe": 4}),
        row("b", 1.0, seconds={"encode": 1.0, "decode": None}, cost={"nfe": 6}),
        {"item": "c", "values": {}, "why": {"*": "cannot be read"}, "seconds": {}},
    ]
    seen = tally(rows, ())
    assert (seen.n, seen.missing, [*seen.good]) == (3, 1, [0, 1])
    assert {name: [*times] for name, times in seen.times.items()} == {"encode": [1.0], "decode": []}
    assert {name: [*counts] for name, counts in seen.counts.items()} == {"nfe": [4.0, 6.0]}


def test_rows_hold_what_a_metric_over_all_tokens_says_now() -> None:
    """A value of an earlier run that does not exist any more is taken out, and rows that were not scored have none."""
    rows = [{**row(f"{k}.png", 1.0), "values": {"one": 1.0, "of-tokens": 9.0}} for k in range(3)]
    fresh = list(with_values(lambda: iter(rows), {"of-tokens": [None, 2.0]}, [0, 2]))
    assert [r["values"] for r in fresh] == [{"one": 1.0}, {"one": 1.0}, {"one": 1.0, "of-tokens": 2.0}]
    assert rows[0]["values"]["of-tokens"] == 9.0


@pytest.mark.parametrize(
    ("value", "n"),
    [(SetValue(2.0, n=5), 5), (SetValue(2.0), 3), (SetValue(None, n=5, why="x"), 5), (SetValue(None, why="x"), 0)],
)
def test_a_number_may_say_of_how_many_it_is(value: SetValue, n: int) -> None:
    assert of_set(asked("shown"), card("shown"), value, 3, 1).n == n
