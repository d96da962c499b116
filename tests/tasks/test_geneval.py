"""GenEval's scorer against the reference implementation's own verdicts, and against arithmetic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from vtbench.cli import app
from vtbench.tasks.geneval.scores import score_file, summarise
from vtbench.tasks.geneval.verdicts import Detection, Verdict, kept, relations, verdict
from vtbench.tasks.geneval.vocabulary import COMPLETE
from vtbench.types.errors import VtbenchError


def test_every_case_agrees_with_the_reference(shared: Path) -> None:
    path = shared / "data" / "geneval" / "cases.jsonl"
    expected = [json.loads(line)["expected"] for line in path.read_text().splitlines()]
    scores = score_file(path)
    assert len(scores.cases) == len(expected) == 120
    for ours, theirs in zip(scores.cases, expected, strict=True):
        assert ours.correct == theirs["correct"]
        assert set(ours.reasons) == set(theirs["reasons"])


def results(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases as the reference's evaluate_images.py writes them: JSON texts inside, the boxes that it kept, its
    verdicts (which the cases state)."""
    out = []
    for number, case in enumerate(cases):
        metadata, expected = case["metadata"], case["expected"]
        seen = [Detection(d["cls"], tuple(d["box"]), d["score"]) for d in case["detections"]]
        details = {n: [[*d.box, d.score] for d in boxes] for n, boxes in kept(seen, metadata["tag"]).items()}
        line = {"filename": f"{number // 4:05d}/samples/{number % 4:05d}.png", "tag": metadata["tag"]}
        line |= {"prompt": metadata["prompt"], "correct": expected["correct"], "reason": "\n".join(expected["reasons"])}
        out.append(line | {"metadata": json.dumps(metadata), "details": json.dumps(details)})
    return out


def test_the_references_own_results_have_the_same_verdicts(shared: Path, tmp_path: Path) -> None:
    text = (shared / "data" / "geneval" / "cases.jsonl").read_text()
    cases = [json.loads(line) for line in text.splitlines()]
    path = tmp_path / "results.jsonl"
    # As pandas writes JSON: no spaces, slashes escaped.
    lines = [json.dumps(line, separators=(",", ":")).replace("/", "\\/") for line in results(cases)]
    path.write_text("\n".join(lines))
    theirs, ours = score_file(path), score_file(shared / "data" / "geneval" / "cases.jsonl")
    assert [c.correct for c in theirs.cases] == [c["expected"]["correct"] for c in cases]
    assert [set(c.reasons) for c in theirs.cases] == [set(c["expected"]["reasons"]) for c in cases]
    assert (theirs.overall, theirs.tasks, theirs.counts) == (ours.overall, ours.tasks, ours.counts)
    assert theirs.warnings == ours.warnings
    # A verdict that was turned over by hand does not follow from the boxes beside it.
    turned = results([c for c in cases if c["metadata"]["tag"] == "two_object"])
    turned[3] |= {"correct": not turned[3]["correct"], "reason": "" if turned[3]["reason"] else "expected a cat>=1"}
    path.write_text("\n".join(map(json.dumps, turned)))
    assert "1 verdicts of the file do not follow from its boxes" in score_file(path).warnings[-1]
    assert "line 4 is" in score_file(path).warnings[-1]


def test_metadata_in_a_text_beside_detections(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    as_text = {k: json.dumps(v) for k, v in CASE.items()}
    path.write_text(
        f"{json.dumps(CASE)}\n{json.dumps(as_text)}\n{json.dumps({**CASE, 'metadata': as_text['metadata']})}"
    )
    assert len({c.reasons for c in score_file(path).cases}) == 1


STATED = {"tag": "counting", "correct": False, "reason": "expected cat>=1, found 0", "details": "{}"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"metadata": "{"}, "metadata is a text that is not JSON"),
        ({"metadata": '"x"'}, "it lacks metadata"),
        ({"correct": "yes"}, "correct is 'yes'"),
        ({"correct": None}, "correct is None"),
        ({"correct": True}, "wanted true and no reason, or false and one"),
        ({"reason": ""}, "wanted true and no reason, or false and one"),
        ({"tag": "colors"}, "the tag is 'colors', and 'counting' in its metadata"),
        ({"details": "[1]"}, "wanted {class: [[x1, y1, x2, y2, score]]}"),
        ({"details": '{"cat": [[1, 2, 3]]}'}, "a detection is [1, 2, 3]"),
        ({"details": '{"cat": [[1, 2, 3, 4, NaN]]}'}, "the score of a cat is nan"),
    ],
)
def test_a_bad_line_of_results(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "results.jsonl"
    metadata = json.dumps({"tag": "counting", "include": [{"class": "cat", "count": 1}], "prompt": "a cat"})
    path.write_text(json.dumps({"metadata": metadata, **STATED, **change}))
    with pytest.raises(VtbenchError, match=re.escape(sentence)):
        score_file(path)


def cat(box: tuple[float, float, float, float], score: float = 0.95) -> Detection:
    return Detection("cat", box, score)


def test_counting_wants_more_confidence() -> None:
    cats = [cat((0, 0, 9, 9), s) for s in (0.95, 0.91, 0.9, 0.5)]
    clause = [{"class": "cat", "count": 3}]
    assert verdict(cats, {"tag": "counting", "include": clause}).reasons == ("expected cat>=3, found 2",)
    assert verdict(cats, {"tag": "single_object", "include": clause}).correct
    extra = {"tag": "counting", "include": [{"class": "cat", "count": 1}], "exclude": [{"class": "cat", "count": 2}]}
    assert verdict(cats, extra).reasons == ("expected cat<2, found 2",)


def test_at_most_sixteen_objects_a_class() -> None:
    many = [cat((i, i, i + 5, i + 5)) for i in range(20)]
    assert len(kept(many, "counting")["cat"]) == 16


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
    assert relations(box, (100, 100, 110, 110)) == wanted


def test_overall_is_the_mean_of_task_means() -> None:
    right, wrong = Verdict(True, ()), Verdict(False, ("no",))
    scores = summarise(["colors", "colors", "colors", "counting"], [right, right, wrong, wrong])
    assert scores.overall == pytest.approx((2 / 3 + 0) / 2)
    assert scores.warnings


CASE = {
    "metadata": {
        "tag": "position",
        "include": [{"class": "cat", "count": 1}, {"class": "dog", "count": 1, "position": ["above", 0]}],
        "prompt": "a photo",
    },
    "detections": [{"cls": "cat", "box": [0, 0, 9, 9], "score": 0.9, "color": None}],
}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("not json", "line 2 is not JSON"),
        ("[1, 2]", "line 2 is no case, it lacks metadata"),
        ('{"metadata": {"tag": "colors"}}', "line 2 is no case, it lacks detections"),
        ({"metadata": {"tag": "colours"}}, "the tag is 'colours' (did you mean colors"),
        ({"metadata": {"include": []}}, "the tag is None"),
        ({"metadata": {"tag": "colors", "include": {"class": "cat"}}}, "include is {'class': 'cat'}"),
        ({"metadata": {"tag": "colors", "include": [{"count": 1}]}}, "wanted a class and a count"),
        ({"metadata": {"tag": "colors", "include": [{"class": "cat", "count": "1"}]}}, "the count of cat is '1'"),
        ({"metadata": {"tag": "colors", "include": [{"class": "cat", "count": 1, "color": "rde"}]}}, "is no colour"),
        (
            {"metadata": {"tag": "position", "include": [{"class": "cat", "count": 1, "position": ["above", 0]}]}},
            "placed against clause 0, which is not before it",
        ),
        (
            {"metadata": {"tag": "position", "include": [{"class": "cat", "count": 1, "position": ["beside", 0]}]}},
            "the position of cat is ['beside', 0]",
        ),
        ({"detections": [{"cls": "cat", "box": [1, 2], "score": 1}]}, "the box of a cat is [1, 2]"),
        ({"detections": [{"cls": "cat", "box": [1, 2, 3, None], "score": 1}]}, "wanted four finite numbers"),
        ({"detections": [{"cls": "cat", "box": [9, 0, 1, 5], "score": 1}]}, "the box of a cat is [9, 0, 1, 5]"),
        ({"detections": [{"cls": "cat", "box": [0, 0, 1, 5], "score": float("nan")}]}, "the score of a cat is nan"),
        ({"detections": [{"cls": "cat", "box": [0, 0, 1, 5], "score": 95}]}, "the score of a cat is 95"),
        ({"detections": [{"cls": "cat", "box": [0, 0, 1, 5]}]}, "the score of a cat is None"),
        ({"detections": [{"cls": 3, "box": [0, 0, 1, 5], "score": 0.5}]}, "wanted cls, box and score"),
        ({"detections": ["cat"]}, "a detection is cat"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path: Path, line: object, sentence: str) -> None:
    path, out = tmp_path / "cases.jsonl", tmp_path / "out.json"
    bad = line if isinstance(line, str) else json.dumps({**CASE, **line})  # type: ignore[dict-item]
    path.write_text(f"{json.dumps(CASE)}\n{bad}\n")
    done = CliRunner().invoke(app, ["geneval", "score", str(path), "--json-file", str(out)])
    assert isinstance(done.exception, VtbenchError)
    assert done.exception.code == 2
    assert sentence in str(done.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    ("data", "sentence"), [(b"", "holds no case"), (b"\n\n", "holds no case"), (b"\xff\xfe{", "line 1 is not JSON")]
)
def test_no_cases(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_bytes(data)
    with pytest.raises(VtbenchError, match=sentence):
        score_file(path)
    with pytest.raises(VtbenchError, match="cannot be read"):
        score_file(tmp_path / "none.jsonl")


def test_the_json_keeps_the_order(tmp_path: Path) -> None:
    path, out = tmp_path / "cases.jsonl", tmp_path / "out.json"
    first = {"metadata": {"tag": "counting", "include": [{"class": "cat", "count": 1}]}, "detections": []}
    second = {"metadata": {"tag": "single_object", "include": []}, "detections": []}
    path.write_text("".join(json.dumps(c) + "\n" for c in (first, second, first)))
    assert CliRunner().invoke(app, ["geneval", "score", str(path), "--json-file", str(out)]).exit_code == 0
    scores = json.loads(out.read_text())
    assert [c["correct"] for c in scores["cases"]] == [False, True, False]
    assert scores["cases"][0]["reasons"] == ["expected cat>=1, found 0"]
    assert (scores["overall"], scores["tasks"]) == (0.5, {"single_object": 1.0, "counting": 0.0})


def test_a_class_of_another_list_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    mouse = {"cls": "mouse", "box": [0, 0, 1, 1], "score": 0.9}
    path.write_text(json.dumps({"metadata": {"tag": "colors", "include": []}, "detections": [mouse]}) + "\n")
    assert "beside GenEval's 80 (1): mouse (did you mean" in score_file(path).warnings[-1]


def test_the_whole_set_is_553_prompts_of_four() -> None:
    right = Verdict(True, ())
    whole = [(t, f"{t} {k}") for t, n in COMPLETE.items() for k in range(n) for _ in range(4)]
    assert len(whole) == 553 * 4
    assert not summarise([t for t, _ in whole], [right] * len(whole), [p for _, p in whole]).warnings
    # As many images, but one prompt drawn eight times instead of another.
    other = [(t, p if p != "colors 1" else "colors 0") for t, p in whole]
    uneven = summarise([t for t, _ in other], [right] * len(other), [p for _, p in other])
    assert "'colors 0' has 8" in uneven.warnings[0]
    incomplete = summarise([t for t, _ in whole[:-1]], [right] * (len(whole) - 1))
    assert "color_attr 399 of 400" in incomplete.warnings[0]
