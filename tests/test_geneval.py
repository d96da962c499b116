"""GenEval's scorer against the reference implementation's own verdicts, and against arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtbench.errors import VtbenchError
from vtbench.tasks import geneval


def test_every_case_agrees_with_the_reference(shared: Path) -> None:
    path = shared / "data" / "geneval" / "cases.jsonl"
    expected = [json.loads(line)["expected"] for line in path.read_text().splitlines()]
    made = geneval.score_file(path)
    assert len(made.cases) == len(expected) == 120
    for ours, theirs in zip(made.cases, expected, strict=True):
        assert ours.correct == theirs["correct"]
        assert set(ours.reasons) == set(theirs["reasons"])


def found(
    cls: str, box: tuple[float, float, float, float], score: float = 0.95, color: str | None = None
) -> geneval.Detection:
    return geneval.Detection(cls, box, score, color)


def test_counting_wants_more_confidence() -> None:
    cats = [found("cat", (0, 0, 9, 9), s) for s in (0.95, 0.91, 0.9, 0.5)]
    clause = [{"class": "cat", "count": 3}]
    assert geneval.verdict(cats, {"tag": "counting", "include": clause}).reasons == ("expected cat>=3, found 2",)
    assert geneval.verdict(cats, {"tag": "single_object", "include": clause}).correct
    extra = {"tag": "counting", "include": [{"class": "cat", "count": 1}], "exclude": [{"class": "cat", "count": 2}]}
    assert geneval.verdict(cats, extra).reasons == ("expected cat<2, found 2",)


def test_at_most_sixteen_objects_a_class() -> None:
    many = [found("cat", (i, i, i + 5, i + 5)) for i in range(20)]
    assert len(geneval.kept(many, "counting")["cat"]) == 16


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((0, 100, 10, 110), {"left of"}),
        ((200, 100, 210, 110), {"right of"}),
        ((100, 0, 110, 10), {"above"}),
        ((100, 200, 110, 210), {"below"}),
        ((200, 200, 210, 210), {"right of", "below"}),
        ((101, 101, 111, 111), set()),
    ],
)
def test_relations(box: tuple[float, float, float, float], wanted: set[str]) -> None:
    assert geneval.relations(box, (100, 100, 110, 110)) == wanted


def test_overall_is_the_mean_of_task_means() -> None:
    right, wrong = geneval.Verdict(True, ()), geneval.Verdict(False, ("no",))
    made = geneval.summarise(["colors", "colors", "colors", "counting"], [right, right, wrong, wrong])
    assert made.overall == pytest.approx((2 / 3 + 0) / 2)
    assert made.warnings


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(
        '{"metadata": {"tag": "colors", "include": []}, "detections": [{"cls": "cat", "box": [1, 2], "score": 1}]}\n'
    )
    with pytest.raises(VtbenchError, match="line 1 is no case"):
        geneval.score_file(path)
