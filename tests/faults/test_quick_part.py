"""The quick part of `make faults`: the first cases of every kind, and that a case is made from its number alone.

Run folders have theirs in tests/leaderboard/test_damaged_runs.py, servers in tests/adapters/test_image_api_key.py and
test_image_api_hostile.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import checkpoints
import harness
import kills
import pictures
import pytest
import texts
from harness import SEED, Kind, survey
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT

from vtbench.images.manifests import open_manifest
from vtbench.images.prompts import open_prompts
from vtbench.results.files import loads, read_lines
from vtbench.types.errors import VtbenchError

QUICK: tuple[tuple[Kind, tuple[int, ...]], ...] = (
    # Four kills a case: one of each work but the page.
    (kills.KIND, tuple(range(8))),
    (pictures.KIND, tuple(range(300))),
    (checkpoints.KIND, tuple(range(60))),
    (texts.KIND, tuple(range(100))),
)


@pytest.mark.parametrize(("kind", "numbers"), QUICK, ids=[kind.name for kind, _ in QUICK])
def test_every_case_survives(
    kind: Kind, numbers: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    outcome = survey(kind, numbers, SEED, tmp_path / "cases")
    assert outcome.failed == {}
    assert outcome.tried == len(numbers)
    assert outcome.whole >= 2
    assert len(outcome.outcomes) > 1, "all of one outcome: nothing was tried"


def test_a_case_is_made_from_its_number_alone(tmp_path: Path) -> None:
    assert pictures.damaged_picture(1, 7) == pictures.damaged_picture(1, 7)
    assert len({pictures.damaged_picture(seed, number)[1] for seed in (1, 2) for number in (7, 8)}) == 4


def test_what_ends_hangs_or_fails_has_not_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def case(seed: int, number: int, folder: Path) -> str:
        if number == 1:
            os._exit(0)
        if number == 2:
            time.sleep(30)
        if number == 3:
            sys.exit(0)
        if number == 4:
            bytearray(8 << 30)
        assert number != 5, "no"
        return "read"

    kind = Kind("k", "", "", lambda _: 1, case, together=4, seconds=0.3)
    outcome = survey(kind, range(7), 0, tmp_path / "x")
    assert sorted(outcome.failed) == [1, 2, 3, 4, 5]
    assert dict(outcome.outcomes) == {"read": 2}
    for number, said in {1: "ended or hung", 2: "too long", 3: "SystemExit", 4: "MemoryError", 5: "no"}.items():
        assert said in outcome.failed[number]
    assert not harness.ended(os.posix_spawn("/bin/true", ["true"], os.environ), 5)


def test_the_page_states_every_kind_and_that_all_survived() -> None:
    table = (ROOT / "docs" / "reliability.md").read_text().split("<!-- written by make faults -->")[1]
    rows = [line.strip("| ").split(" | ") for line in table.split("<!-- end -->")[0].strip().splitlines()[2:]]
    named = [row[0] for row in rows]
    assert {*named} == {kind.name for kind, _ in QUICK} | {"run folders", "pages", "image servers"}
    assert [row[5] for row in rows] == ["0"] * len(rows)


# -- hypothesis: whatever a file holds ---------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["suite", "prompts", "item", "file", "id", "text", "label", "meta", "metadata", "licence"])


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(st.lists(st.dictionaries(WORDS, JSON, max_size=5), max_size=3) | st.binary(max_size=60))
def test_any_lines_are_a_suite_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, lines: object) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.jsonl"
    data = lines if isinstance(lines, bytes) else "".join(json.dumps(line) + "\n" for line in lines).encode()  # type: ignore[attr-defined]
    path.write_bytes(data)
    for read in (open_manifest, lambda p: open_prompts(str(p)), lambda p: [*read_lines(p)]):
        try:
            suite = read(path)
        except VtbenchError as bad:
            pictures.check_sentence(bad)
        else:
            assert isinstance(suite, list) or len(suite.hash) == 64


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(JSON)
def test_what_is_read_can_be_written(value: object) -> None:
    """Strict JSON: what `loads` takes is the same value, and can be written as valid UTF-8."""
    text = json.dumps(value)
    try:
        read = loads(text)
    except (ValueError, RecursionError):
        return
    json.dumps(read, ensure_ascii=False, allow_nan=False).encode()
    assert read == json.loads(text)
