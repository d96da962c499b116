"""The command line keeps what 8f55388 had: verbs, options, defaults, listed names and exit codes. More may come."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[1] / "data" / "cli"


def recorder() -> Any:
    spec = importlib.util.spec_from_file_location("record_of_the_command_line", DATA / "record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record = recorder()
SURFACE: dict[str, dict[str, Any]] = json.loads((DATA / "surface.json").read_text())
LISTS: dict[str, list[dict[str, Any]]] = json.loads((DATA / "lists.json").read_text())


@pytest.fixture(scope="module")
def surface() -> dict[str, dict[str, Any]]:
    return record.surface()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("wrong")
    record.prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VTBENCH_CACHE", str(folder / "cache"))
        yield folder


def test_every_verb_is_there(surface: dict[str, dict[str, Any]]) -> None:
    assert len(SURFACE) == 22
    assert set(SURFACE) - set(surface) == set()


@pytest.mark.parametrize("verb", SURFACE)
def test_options_and_arguments_are_as_they_were(surface: dict[str, dict[str, Any]], verb: str) -> None:
    now = surface[verb]
    for name, before in SURFACE[verb].items():
        assert name in now, f"vtbench {verb} lost {before['spelt'] or name}"
        # --json was a path here; it is a switch everywhere now, and such a path is still taken (see test_json).
        spelt = {"--json-file"} if name == "json_file" else set(before["spelt"])
        assert spelt <= set(now[name]["spelt"])
        # What was wanted may be left out by now: an old command still does.
        assert before["required"] or not now[name]["required"]
        for fact in ("place", "default", "several", "switch"):
            assert now[name][fact] == before[fact], f"vtbench {verb}: {fact} of {name}"
        # What had to be given may be left out by now: every old command still does.
        assert now[name]["required"] <= before["required"], f"vtbench {verb}: {name}"
    added = {name: facts for name, facts in now.items() if name not in SURFACE[verb]}
    assert not [name for name, facts in added.items() if facts["required"]], "an old command would no longer do"


@pytest.mark.parametrize("verb", SURFACE)
def test_help_names_every_option(surface: dict[str, dict[str, Any]], verb: str) -> None:
    code, text, _ = record.answer([*verb.split(), "--help"])
    assert code == 0
    before = (DATA / "help" / f"{verb.replace(' ', '-') or 'vtbench'}.txt").read_text()
    spelt = [s for facts in SURFACE[verb].values() for s in facts["spelt"]]
    below = [v.split()[-1] for v in SURFACE if v and v.rpartition(" ")[0] == verb]
    assert below or SURFACE[verb], "a verb shows something"
    for word in [*spelt, *below]:
        assert word in before
        assert word in text


@pytest.mark.parametrize("what", LISTS)
def test_everything_listed_is_still_listed(what: str) -> None:
    code, text, _ = record.answer(["list", what, "--json"])
    assert code == 0
    now = {entry["name"]: entry for entry in json.loads(text)}
    assert len(LISTS[what]) >= 5
    for before in LISTS[what]:
        assert before["name"] in now, f"vtbench list {what} lost {before['name']}"
        facts = {fact: now[before["name"]][fact] for fact in before}
        if what == "metrics":
            # A definition that was mended says so by a higher version, and old numbers are not compared with new ones.
            assert facts.pop("version") >= before["version"]
        assert facts == {fact: before[fact] for fact in facts}


@pytest.mark.parametrize(("words", "code", "names"), record.WRONG)
def test_a_wrong_command_ends_as_it_did(place: Path, words: str, code: int, names: str) -> None:
    recorded = {entry["command"]: entry for entry in json.loads((DATA / "wrong_commands.json").read_text())}
    assert recorded[words]["code"] == code, "the table is what was recorded"
    ended, out, err = record.answer(words.split())
    said = " ".join((out + err).split())
    assert ended == code, f"it said: {said}\nbefore: {recorded[words]['message']}"
    assert names.lower() in said.lower()
    assert "Traceback" not in said


def test_the_version_is_printed() -> None:
    assert record.answer(["--version"]) == (0, f"vtbench {importlib.metadata.version('vtbench')}\n", "")
