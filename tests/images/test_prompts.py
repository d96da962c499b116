"""Prompt suites: formats, refusals, seeds; our own prompts in GenEval's categories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtbench.images.prompts import builtin_prompts, open_prompts
from vtbench.images.seeds import sample_seed
from vtbench.tasks.geneval.prompts import make
from vtbench.tasks.geneval.verdicts import Detection, verdict
from vtbench.tasks.geneval.vocabulary import CATEGORIES, COCO, COMPLETE
from vtbench.types.errors import VtbenchError


def test_the_reference_file_is_read_as_it_is(shared: Path) -> None:
    path = shared / "data" / "geneval" / "evaluation_metadata.jsonl"
    suite = open_prompts(str(path))
    counts = {t: sum(p.metadata["tag"] == t for p in suite.prompts) for t in CATEGORIES}
    assert counts == COMPLETE
    assert suite.prompts[0].id == "00000"
    assert dict(suite.prompts[17].metadata) == json.loads(path.read_text().splitlines()[17])
    names = {c["class"] for p in suite.prompts for c in p.metadata["include"]}
    assert names == set(COCO)


def test_classes() -> None:
    assert [p.label for p in open_prompts("classes:3").prompts] == [0, 1, 2]
    assert [p.label for p in open_prompts("classes:7-9").prompts] == [7, 8, 9]
    for wrong in ("classes:0", "classes:9-7", "classes:x"):
        with pytest.raises(VtbenchError, match="class"):
            open_prompts(wrong)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "holds no prompt"),
        ([{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "twice"),
        ([{"id": "a", "text": " "}], "empty"),
        ([{"id": "a"}], "either a text or a label"),
        ([{"id": "../a", "text": "x"}], "the id is"),
        ([{"id": "a", "text": "x"}, {"id": "b", "label": 1}], "mixes"),
        ([{"id": "a", "label": -1}], "whole number"),
        ([["a"]], "is a list"),
    ],
)
def test_refused(tmp_path: Path, lines: list, says: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    with pytest.raises(VtbenchError, match=says):
        open_prompts(str(path))


def test_a_manifest_of_ones_own_is_a_suite(tmp_path: Path) -> None:
    """One file, wherever it lies: a header, then one prompt a line; U+2028 in a text ends no line."""
    path = tmp_path / "mine.jsonl"
    lines = [
        {"prompts": "mine", "version": "2", "title": "Mine", "licence": "CC0-1.0"},
        {"id": "a", "text": "a red\u2028cube", "metadata": {"count": 1}},
        {"id": "b", "text": "two cubes", "rewritten": True},
    ]
    path.write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines), encoding="utf-8")
    suite = open_prompts(str(path))
    assert (suite.name, suite.version, suite.licence, suite.conditioning) == ("mine", "2", "CC0-1.0", "text")
    assert [(p.id, p.text, p.rewritten) for p in suite.prompts] == [
        ("a", "a red\u2028cube", False),
        ("b", "two cubes", True),
    ]
    assert suite.prompts[0].metadata == {"count": 1}


def test_offline_geneval_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("VTBENCH_OFFLINE", "1")
    with pytest.raises(VtbenchError, match=r"VTBENCH_OFFLINE.*evaluation_metadata\.jsonl"):
        open_prompts("geneval")
    with pytest.raises(VtbenchError, match="did you mean starter-quotes"):
        open_prompts("starter-quote")


def test_seeds_differ_in_all_three() -> None:
    seeds = {sample_seed(s, p, k) for s in (0, 1) for p in ("a", "b") for k in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= s < 2**63 for s in seeds)


def test_builtin_suites_and_the_rewritten_flag() -> None:
    assert set(builtin_prompts()) == {"starter-classes", "starter-objects", "starter-quotes"}
    for p in open_prompts("starter-quotes").prompts:
        low, high = map(int, p.metadata["bucket"].split("-"))
        assert low <= len(p.metadata["quote"]) <= high
        assert f'"{p.metadata["quote"]}"' in str(p.text)
    plain, marked = open_prompts("starter-objects"), open_prompts("starter-objects", rewritten=True)
    assert all(p.rewritten for p in marked.prompts)
    assert plain.hash != marked.hash


def test_our_geneval_prompts_can_be_met_and_missed() -> None:
    prompts = make(20, 3)
    assert prompts == make(20, 3) != make(20, 4)
    assert [sum(m["tag"] == t for m in prompts) for t in CATEGORIES] == [20] * 6
    places = {"left of": (0, 100), "right of": (400, 100), "above": (200, 0), "below": (200, 400), None: (200, 200)}
    for m in prompts:
        drawn = []
        for clause in m["include"]:
            x, y = places[clause.get("position", [None])[0]]
            drawn += [Detection(clause["class"], (x, y, x + 40, y + 40), 0.95, clause.get("color"))] * clause["count"]
            assert clause["class"] in m["prompt"] or m["tag"] == "counting"
        assert verdict(drawn, m).correct, m
        assert not verdict(drawn[1:], m).correct
