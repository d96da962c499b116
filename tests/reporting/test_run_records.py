"""What a record says of a run, records from elsewhere included."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import made_runs
import pytest
from made_runs import run_of, score

from vtbench.reporting import runs as facts
from vtbench.reporting.measured import metric_card, metric_cards, scores
from vtbench.reporting.ranking import ranking
from vtbench.reporting.reading import read_runs
from vtbench.reporting.runs import is_ranked, question, record, status, why_not_ranked
from vtbench.types.errors import VtbenchError


def test_questions_keep_views_versions_and_suites_apart(tmp_path: Path) -> None:
    a = run_of(tmp_path, "a", [30.0] * 6)
    assert question(a) == question(run_of(tmp_path, "b", [31.0] * 6, kind="discrete"))
    assert question(a) != question(run_of(tmp_path, "c", [30.0] * 6, view="512"))
    assert question(a) != question(run_of(tmp_path, "d", [30.0] * 6, suite="kodak"))
    newer = run_of(tmp_path, "e", [30.0] * 6, extra={"task": {"name": "reconstruction", "version": 2}})
    assert question(a) != question(newer)


@pytest.mark.parametrize("state", ["running", "failed", "incomplete", "interrupted"])
def test_only_complete_runs_are_ranked(tmp_path: Path, state: str) -> None:
    run = run_of(tmp_path, "a", [30.0] * 6, status=state, ranked=True)
    assert not is_ranked(run)
    assert state in (why_not_ranked(run) or "")
    assert ranking([run], "psnr").places == {}


def test_order_and_choice_of_copies_do_not_depend_on_paths(tmp_path: Path) -> None:
    for root, order in (("one", "abc"), ("two", "cab")):
        for place, name in enumerate(order):
            made_runs.write(tmp_path / root / str(place), name=name, scores=[score("psnr", 30.0)])
    first, second = (read_runs([tmp_path / r]) for r in ("one", "two"))
    assert [record(r) for r in first] == [record(r) for r in second]
    made_runs.write(tmp_path / "one" / "copy", name="a", status="running", ranked=False)
    again = read_runs([tmp_path])
    assert [(r.name, status(r)) for r in again] == [(n, "complete") for n in "abc"]


def test_a_newer_schema_and_half_a_record_are_refused_by_name(tmp_path: Path) -> None:
    made_runs.write(tmp_path / "new", schema=99)
    with pytest.raises(VtbenchError, match="schema 99"):
        read_runs([tmp_path / "new"])
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_text(json.dumps({"schema": 1, "id": "x", "model": {"name": "a"}}))
    with pytest.raises(VtbenchError, match=r"states no task\.name"):
        read_runs([tmp_path / "half"])


WHOLE: dict[str, Any] = {
    "schema": 1,
    "id": "x",
    "model": {"name": "a"},
    "task": {"name": "t"},
    "suite": {"name": "s"},
    "view": {"name": "v"},
}


def test_what_a_record_does_not_state_reads_as_empty(tmp_path: Path) -> None:
    """A record of an older version: missing is None, never a failure of the page."""
    (tmp_path / "run.json").write_text(json.dumps({**WHOLE, "metrics": {"ssim": {"better": "higher", "later": 1}}}))
    (run,) = read_runs([tmp_path])
    assert (facts.options(run), facts.model_card(run), facts.knob(run)) == ({}, {}, (None, None))
    assert facts.weights(run) == facts.WeightFacts()
    assert (facts.suite_images(run), facts.limit(run), facts.device(run)) == (None, None, facts.Device())
    assert (facts.provenance(run).release, facts.vtbench_version(run)) == (None, None)
    assert facts.question(run) == ("t", 0, "s", "v", "", "", "")
    assert why_not_ranked(run) == "the run is without a status"
    (card,) = metric_cards(run).values()
    assert (card.name, card.title, card.better, card.version) == ("ssim", "ssim", "higher", 0)
    assert metric_card(run, "psnr") is None


@pytest.mark.parametrize(
    ("place", "section"),
    [
        ("model.options", {"model": {"name": "a", "options": []}}),
        ("model.weights.files", {"model": {"name": "a", "weights": {"files": ["a.bin"]}}}),
        ("suite.n", {"suite": {"name": "s", "n": "many"}}),
        ("device", {"device": "cpu"}),
        ("metrics.psnr", {"metrics": {"psnr": "a metric"}}),
        ("limit", {"limit": "all"}),
    ],
)
def test_what_somebody_edited_is_refused_by_its_place(tmp_path: Path, place: str, section: dict[str, Any]) -> None:
    (tmp_path / "run.json").write_text(json.dumps({**WHOLE, **section}))
    with pytest.raises(VtbenchError, match=rf"run\.json: {re.escape(place)}(\.0)? is .*damaged"):
        read_runs([tmp_path])


def test_a_score_without_a_value_always_has_a_reason(tmp_path: Path) -> None:
    folder = made_runs.write(tmp_path / "a")
    lines = [{"metric": "psnr", "value": None, "low": None}, {"metric": "ssim", "value": 0.5, "n": 6}]
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run,) = read_runs([folder])
    psnr, ssim = scores(run)
    assert (psnr.value, psnr.low, psnr.why, psnr.n) == (None, None, "the run states no reason", 0)
    assert (ssim.value, ssim.why, ssim.n) == (0.5, None, 6)
