"""Names of files: paired and kept in one Unicode normal form, and readable where they are no UTF-8."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from image_files import picture, save

import vtbench
from vtbench.images.opening import open_again, open_set, open_suite
from vtbench.images.pairing import check_pairs, stem
from vtbench.models.pictures import SavedPictures
from vtbench.results.files import dumps, loads
from vtbench.running import folders
from vtbench.types.errors import VtbenchError
from vtbench.types.readable import as_the_system_has_it, readable

NAMES = ("café.png", "パフェ.png", "ångström/é.png", "한글.png")
"""Each has a decomposed form, as macOS writes it: e and an accent, the kana and its mark, Jamo."""
LATIN = (b"caf\xe9.png", b"d\xe9j\xe0/\xff\xfe.png")
"""Names in Latin-1, which are no UTF-8."""


def named(folder: Path, form: str, names: tuple[str, ...] = NAMES) -> Path:
    for seed, name in enumerate(names):
        save(folder / unicodedata.normalize(form, name), picture(seed))
    return folder


def latin(folder: Path) -> Path:
    for seed, name in enumerate(LATIN):
        save(Path(os.fsdecode(os.fsencode(folder) + b"/" + name)), picture(seed))
    return folder


# -- normal form -------------------------------------------------------------------------------------------------------


def test_names_pair_in_either_form(tmp_path: Path) -> None:
    ours, theirs = named(tmp_path / "nfc", "NFC"), named(tmp_path / "nfd", "NFD")
    assert {os.fsencode(p.name) for p in ours.iterdir()} != {os.fsencode(p.name) for p in theirs.iterdir()}
    for reference, candidate in ((ours, theirs), (theirs, ours)):
        a, b = open_suite(str(reference)), open_suite(str(candidate))
        for original, pair in check_pairs(a, b, "b"):
            assert np.array_equal(a.load(original), b.load(pair))
        scored = folders.score(reference, [candidate], ["mse"])
        assert (scored.candidates[0].scores[0].value, scored.candidates[0].scores[0].n) == (0, 4)
        assert scored.bad == {}
    assert stem(unicodedata.normalize("NFD", "ä/é.x.png")) == "ä/é.x"


def test_a_copy_by_macos_is_the_same_suite_in_the_same_order(tmp_path: Path) -> None:
    """é sorts after z, and e with an accent before f: the first images of --limit would be others."""
    names = ("éa.png", "ez.png", "z.png", "f.png")
    ours, theirs = (open_suite(str(named(tmp_path / form, form, names))) for form in ("NFC", "NFD"))
    assert [i.id for i in ours.items] == [i.id for i in theirs.items] == ["ez.png", "f.png", "z.png", "éa.png"]
    assert ours.hash == theirs.hash


def test_one_name_in_both_forms_is_two_images_and_no_pair(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        save(tmp_path / unicodedata.normalize(form, "é.png"), picture(0))
    suite = open_suite(str(tmp_path))
    assert len({item.id for item in suite.items}) == len(suite.items) == 2
    with pytest.raises(VtbenchError, match="which pair with one original"):
        check_pairs(suite, suite, "mine")


def test_prompts_of_drawn_images_are_found_in_either_form(tmp_path: Path) -> None:
    named(tmp_path / "images", "NFD", ("été.png",))
    line = {"id": "x", "file": "images/été.png", "text": "summer", "label": None, "metadata": {}}
    (tmp_path / "samples.jsonl").write_text(json.dumps(line) + "\n")
    images = open_set(tmp_path)
    assert images.items[0].meta["prompt"] == "summer"
    assert images.remarks == []


# -- no UTF-8 ----------------------------------------------------------------------------------------------------------


def test_readable_and_back() -> None:
    name = os.fsdecode(b"caf\xe9/\xff \xc3\xa9")
    assert readable(name) == r"caf\xe9/\xff é"
    assert as_the_system_has_it(readable(name)) == name
    assert readable("plain é パ") == "plain é パ"
    assert readable("\ud800") == r"\ud800"
    assert loads(dumps({name: [name, Path(name)]}).encode()) == {r"caf\xe9/\xff é": [r"caf\xe9/\xff é"] * 2}
    assert str(VtbenchError(name)) == readable(name)


def test_names_that_are_no_utf8_are_scored_saved_and_scored_again(tmp_path: Path) -> None:
    from vtbench.running.rescore import add_metrics

    root = latin(tmp_path / "in")
    suite = open_suite(str(root))
    assert [i.id for i in suite.items] == [r"caf\xe9.png", r"d\xe9j\xe0/\xff\xfe.png"]
    for seed, item in enumerate(suite.items):
        assert np.array_equal(suite.load(item), picture(seed))
    assert len(suite.hash) == 64
    run = vtbench.evaluate(
        "png", images=root, view="native", tasks=["compression"], save=["images"], out=tmp_path / "out"
    ).runs[0]
    assert run.info.status == "complete"
    assert [json.loads(line)["item"] for line in (run.path / "rows.jsonl").read_bytes().decode().splitlines()] == [
        i.id for i in suite.items
    ]
    again = add_metrics(run.path, ["mse"])
    assert [row.values["mse"] for row in again.rows()] == [0, 0]


def test_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    """Recorded readably, and opened again from the record."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe9\xe9"))
    save(root / "1.png", picture(0))
    run = vtbench.evaluate("png", images=root, view="native", tasks=["compression"], out=tmp_path / "out").runs[0]
    assert run.info.suite.name == r"b\xe9\xe9"
    assert open_again(run.info.suite.spec or "", run.info.suite.hash).hash == run.info.suite.hash
    assert SavedPictures(root).card.name == r"folder:b\xe9\xe9"
    scored = folders.score(root, [root], ["mse"])
    assert loads(dumps(scored.as_dict()))["candidates"][0]["path"].endswith(r"b\xe9\xe9")
    with pytest.raises(VtbenchError, match=r"no suite, folder or glob '.*b\\xe9\\xe9/x'"):
        open_suite(str(root / "x"))
