"""Manifests inside the tree and outside: hashes, tampering, and what a manifest may not say."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import picture, save
from PIL import Image

import vtbench
from vtbench.images import manifests as suite_manifests
from vtbench.images.opening import open_suite
from vtbench.images.reading import BadImage, rgb_sha256
from vtbench.types.errors import VtbenchError


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines), encoding="utf-8")
    return path


def line(home: Path, name: str, file: str) -> dict[str, Any]:
    """A manifest's line for one file, with the sha256 of its bytes."""
    return {"item": name, "file": file, "sha256_file": hashlib.sha256((home / file).read_bytes()).hexdigest()}


@pytest.fixture
def manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of manifests with one suite of two images."""
    home = tmp_path / "suites"
    lines: list[dict[str, Any]] = [{"suite": "mine", "version": "3", "title": "Mine", "licence": "CC0"}]
    for seed, name in enumerate(("a", "b")):
        rgb = save(home / "images" / f"{name}.png", picture(seed))
        lines.append(line(home, name, f"images/{name}.png") | {"sha256_rgb": rgb_sha256(rgb)})
    write(home / "mine.jsonl", lines)
    monkeypatch.setattr(suite_manifests, "MANIFESTS", home)
    return home


def test_one_pixel_changed(manifests: Path) -> None:
    suite = open_suite("mine")
    assert np.array_equal(suite.load(suite.items[1]), picture(1))
    changed = picture(1)
    changed[3, 3, 0] ^= 1
    Image.fromarray(changed).save(manifests / "images" / "b.png")
    with pytest.raises(VtbenchError, match="b of mine is not the image that its manifest states"):
        suite.load(suite.items[1])
    suite.load(suite.items[0])


def test_same_pixels_in_another_file_are_the_same_image(manifests: Path) -> None:
    """The second hash decides."""
    Image.fromarray(picture(1)).save(manifests / "images" / "b.png", compress_level=0)
    suite = open_suite("mine")
    assert np.array_equal(suite.load(suite.items[1]), picture(1))


def test_same_file_decoded_otherwise_is_said(manifests: Path) -> None:
    lines = (manifests / "mine.jsonl").read_text().splitlines()
    row = json.loads(lines[2]) | {"sha256_rgb": "0" * 64}
    (manifests / "mine.jsonl").write_text("\n".join([*lines[:2], json.dumps(row)]))
    suite = open_suite("mine")
    with pytest.raises(VtbenchError, match="its file is the same, so Pillow decodes it otherwise"):
        suite.load(suite.items[1])


def test_missing_file_and_broken_manifest(manifests: Path) -> None:
    suite = open_suite("mine")
    (manifests / "images" / "a.png").unlink()
    with pytest.raises(BadImage, match="a cannot be read"):
        suite.load(suite.items[0])
    (manifests / "mine.jsonl").write_text('{"suite": "mine", "version": "3"}\n{"item": ')
    with pytest.raises(VtbenchError, match=r"mine\.jsonl line 2 is not JSON"):
        open_suite("mine")


def test_hash_follows_the_content(manifests: Path) -> None:
    before = open_suite("mine").hash
    text = (manifests / "mine.jsonl").read_text()
    (manifests / "mine.jsonl").write_text(text.replace('"title": "Mine"', '"title": "Other"'))
    assert open_suite("mine").hash == before
    (manifests / "mine.jsonl").write_text(text.replace(rgb_sha256(picture(0)), "1" * 64))
    assert open_suite("mine").hash != before


# -- outside the tree ------------------------------------------------------------------------------------------------

HEADER = {"suite": "mine", "version": "3", "title": "Mine", "licence": "CC0"}


def test_one_file_inside_the_tree_and_outside_is_one_suite(manifests: Path, tmp_path: Path) -> None:
    inside = open_suite("mine")
    shutil.copytree(manifests, tmp_path / "elsewhere")
    outside = open_suite(str(tmp_path / "elsewhere" / "mine.jsonl"))
    assert (outside.name, outside.version, outside.licence) == ("mine", "3", "CC0")
    assert outside.hash == inside.hash
    assert "mine" in suite_manifests.builtin_suites()
    for k, item in enumerate(outside.items):
        assert np.array_equal(outside.load(item), picture(k))
    save(tmp_path / "elsewhere" / "images" / "a.png", picture(7))
    with pytest.raises(VtbenchError, match=r"a of mine is not the image .* restore the image"):
        outside.load(outside.items[0])
    save(manifests / "images" / "a.png", picture(7))
    with pytest.raises(VtbenchError, match="reinstall"):
        inside.load(inside.items[0])


def test_the_sha256_of_the_file_is_enough(tmp_path: Path) -> None:
    """What `sha256sum` prints can be written into a manifest by hand."""
    save(tmp_path / "a b" / "é.png", picture(1))
    path = write(tmp_path / "mine.jsonl", [{"suite": "mine"}, line(tmp_path, "cat", "a b/é.png")])
    suite = open_suite(str(path))
    assert (suite.version, [i.id for i in suite.items]) == ("1", ["cat"])
    assert np.array_equal(suite.load(suite.items[0]), picture(1))
    first = suite.hash
    save(tmp_path / "a b" / "é.png", picture(2))
    with pytest.raises(VtbenchError, match=r"sha256 of the file differs"):
        suite.load(suite.items[0])
    write(path, [{"suite": "mine"}, line(tmp_path, "cat", "a b/é.png")])
    assert open_suite(str(path)).hash != first


def test_a_manifest_outside_is_evaluated(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png", picture(1, 16, 16))
    path = write(tmp_path / "mine.jsonl", [HEADER, line(tmp_path, "cat", "in/a.png")])
    run = vtbench.evaluate(
        "png", images=str(path), view="native", tasks=["compression"], limit=1, out=tmp_path / "out"
    ).runs[0]
    assert run.info["status"] == "complete"
    assert run.info["suite"]["hash"] == open_suite(str(path)).hash
    assert [row["item"] for row in run.rows()] == ["cat"]


SHA = "0" * 64


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "names no suite in its first line"),
        ([{"item": "a", "file": "a.png", "sha256_rgb": SHA}], "names no suite in its first line"),
        ([{"suite": " "}, {"item": "a", "file": "a.png", "sha256_rgb": SHA}], "names no suite"),
        ([HEADER], "lists no image"),
        ([HEADER, ["a"]], r"line 2 is a list: wanted a header"),
        ([HEADER, {"item": "a", "sha256_rgb": SHA}], "image 1 of .* has no item and file"),
        ([HEADER, {"item": 7, "file": "a.png", "sha256_rgb": SHA}], "has no item and file"),
        ([HEADER, {"item": "a", "file": "a.png", "sha256_rgb": SHA, "meta": []}], "a meta that is no object"),
        ([HEADER, {"item": "a", "file": "a.png"}], r"\(a\) states no sha256: give sha256_file"),
        ([HEADER, {"item": "a", "file": "a.png", "sha256_file": "abc"}], "sha256 'abc': wanted 64 hexadecimal"),
        ([HEADER, *[{"item": "a", "file": f"{k}.png", "sha256_rgb": SHA} for k in "xy"]], "the item 'a' twice"),
    ],
)
def test_what_a_manifest_may_not_be(tmp_path: Path, lines: list[Any], says: str) -> None:
    with pytest.raises(VtbenchError, match=says) as refused:
        open_suite(str(write(tmp_path / "mine.jsonl", lines)))
    assert refused.value.code == 2
    assert "mine.jsonl" in str(refused.value)


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("/etc/passwd.png", "relative path below the manifest's folder"),
        ("../a.png", "relative path below"),
        ("images/../../a.png", "relative path below"),
        ("images\\..\\a.png", "relative path below"),
        (".", "relative path below"),
        ("skimage:../../secret.png", "relative path below"),
        ("skimage:/etc/a.png", "relative path below"),
        ("torch:a.png", "names a file of torch, which no suite may use"),
    ],
)
def test_a_manifest_names_nothing_outside_its_folder(tmp_path: Path, file: str, says: str) -> None:
    path = write(tmp_path / "mine.jsonl", [HEADER, {"item": "a", "file": file, "sha256_rgb": SHA}])
    with pytest.raises(VtbenchError, match=says):
        open_suite(str(path))


def test_a_built_in_manifest_bears_its_files_name(manifests: Path) -> None:
    (manifests / "mine.jsonl").rename(manifests / "other.jsonl")
    with pytest.raises(VtbenchError, match=r"other\.jsonl calls itself 'mine'"):
        open_suite("other")
