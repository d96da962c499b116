"""A frozen folder: the manifest says what the folder holds, gives the same numbers, and tells what changed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from image_files import encoded, picture, save
from PIL import Image
from support import command

import vtbench
from vtbench.images.freezing import freeze
from vtbench.images.limits import BadImage
from vtbench.images.opening import open_set, open_suite
from vtbench.images.pairing import size_of
from vtbench.images.reading import decode, rgb_sha256
from vtbench.images.tiff import _inflated
from vtbench.running import folders
from vtbench.types.errors import VtbenchError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Originals in a/, the same names in b/."""
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    for seed, name in enumerate(("x.png", "sub/ü.png", "12:30.png")):
        save(tmp_path / "a" / name, picture(seed, 16, 16))
        save(tmp_path / "b" / name, picture(seed + 9, 16, 16))
    return tmp_path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def run(*words: object) -> SimpleNamespace:
    code, out, err = command(*words)
    return SimpleNamespace(exit_code=code, output=out + err, stdout=out, stderr=err)


def values(scored: Any) -> list[Any]:
    return [c["scores"] for c in scored.as_dict()["candidates"]]


@pytest.mark.parametrize("out", ["a/mine.jsonl", "mine.jsonl", "a/sub/../mine.jsonl"])
def test_a_manifest_holds_the_folders_items_and_both_hashes(place: Path, out: str) -> None:
    (place / "a" / ".hidden.png").write_bytes(b"x")
    (place / "a" / "raw.dng").write_bytes(b"x")
    folder = open_suite(str(place / "a"))
    done = run("suite", "freeze", place / "a", "--out", place / out, "--licence", "CC0-1.0", "--json")
    assert done.exit_code == 0, done.output
    answered = json.loads(done.stdout)
    assert (answered["n"], answered["left_out"], answered["refused"]) == (3, {".dng": 1}, {})
    assert "left out" in done.stderr
    assert "raw.dng" in done.stderr
    head, *items = lines(place / out)
    assert head == {"suite": "a", "version": "1", "licence": "CC0-1.0"}
    assert [line["item"] for line in items] == [item.id for item in folder.items]
    for line in items:
        data = ((place / out).parent / line["file"]).read_bytes()
        assert line["sha256_file"] == hashlib.sha256(data).hexdigest()
        assert line["sha256_rgb"] == rgb_sha256(np.asarray(Image.open((place / out).parent / line["file"])))
    suite = open_suite(str(place / out))
    assert suite.hash == answered["hash"]
    for ours, theirs in zip(suite.items, folder.items, strict=True):
        assert np.array_equal(suite.load(ours), folder.load(theirs))


def test_names_that_are_no_utf8_and_imagenets_classes_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"n01440764/\xff.png")
    (tmp_path / "n01440764").mkdir()
    (tmp_path / name).write_bytes(encoded(picture(1), "PNG"))
    freeze(str(tmp_path), tmp_path / "s.jsonl", name="mine")
    (item,) = open_suite(str(tmp_path / "s.jsonl")).items
    (of_folder,) = open_suite(str(tmp_path)).items
    assert (item.id, item.place, item.meta) == (of_folder.id, name, {"class": "n01440764"})
    assert np.array_equal(open_suite(str(tmp_path / "s.jsonl")).load(item), picture(1))


def test_numbers_are_those_of_the_folder(place: Path) -> None:
    for side in "ab":
        freeze(str(place / side), place / f"{side}.jsonl")
    of_folders = folders.score(place / "a", [place / "b"], ["psnr", "mse"])
    frozen = folders.score(place / "a.jsonl", [place / "b.jsonl"], ["psnr", "mse"])
    assert values(frozen) == values(of_folders)
    rows = []
    for images in ("a", "a.jsonl"):
        (one,) = vtbench.evaluate(
            "jpeg", images=str(place / images), view="native", tasks=["compression"], out=place / "out"
        ).runs
        assert one.info["status"] == "complete"
        rows.append([(r["item"], r["sha256"], r["values"].get("psnr"), r["values"].get("bits")) for r in one.rows()])
    assert rows[0] == rows[1]
    assert all(row[2] is not None for row in rows[0])


def _changed(path: Path) -> None:
    save(path, picture(77, 16, 16))


def _resized(path: Path) -> None:
    save(path, picture(77, 9, 9))


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


CHANGES = {
    "changed": (_changed, r"sha256 of the pixels differs: it is \w{16}…, stated \w{16}…; that of the file differs too"),
    "resized": (_resized, "sha256 of the pixels differs"),
    "torn": (_torn, "sha256 of the file differs: .* as it is, .*cannot be read"),
    "missing": (Path.unlink, "cannot be read .*: was it removed"),
}


@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_an_error_row_on_every_path(place: Path, change: str, side: str) -> None:
    for each in "ab":
        freeze(str(place / each), place / f"{each}.jsonl")
    how, says = CHANGES[change]
    how(place / side / "x.png")
    scored = folders.score(place / "a.jsonl", [place / "b.jsonl"], ["mse"])
    (row,) = [r for r in scored.as_dict()["candidates"][0]["rows"] if r["why"]]
    assert row["item"] == "x.png"
    reason = " ".join(row["why"].values())
    assert re.search(says, reason), reason
    images = open_set(place / f"{side}.jsonl")
    assert sum(len(batch) for batch in images.read()) == 2
    assert re.search(says, images.bad["x.png"])


def test_a_changed_image_is_an_error_row_of_evaluate_and_named_by_explain(place: Path) -> None:
    freeze(str(place / "a"), place / "a.jsonl")
    freeze(str(place / "b"), place / "b.jsonl")
    _changed(place / "a" / "x.png")
    (one,) = vtbench.evaluate(
        "png", images=str(place / "a.jsonl"), view="native", tasks=["compression"], out=place / "out"
    ).runs
    (row,) = [r for r in one.rows() if "*" in r["why"]]
    assert "sha256 of the pixels differs" in row["why"]["*"]
    done = run("explain", f"folder:{place / 'b.jsonl'}", "--images", place / "a.jsonl", "--claim", "psnr=8")
    assert "sha256 of the pixels differs" in done.output, done.output


def test_the_same_pixels_in_another_file_are_told_apart(place: Path) -> None:
    freeze(str(place / "a"), place / "a.jsonl")
    before = open_suite(str(place / "a.jsonl"))
    item = next(i for i in before.items if i.id == "x.png")
    rgb = before.load(item)
    assert before.picture(item).flags == {}
    Image.fromarray(rgb).save(place / "a" / "x.png", compress_level=0)
    read = before.picture(item)
    assert np.array_equal(read.rgb, rgb)
    assert "sha256 of the file differs" in read.flags["reencoded"]
    assert read.flags["reencoded"].endswith("its pixels are those that the manifest states")
    with pytest.raises(VtbenchError, match="its pixels are the same, but --icc applies the profile"):
        before.picture(item, "srgb")
    head, *rest = lines(place / "a.jsonl")
    one_hash = [{k: v for k, v in line.items() if k != "sha256_rgb"} for line in rest]
    (place / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [head, *one_hash]))
    suite = open_suite(str(place / "a.jsonl"))
    suite.load(next(i for i in suite.items if i.id == "sub/ü.png"))
    save(place / "a" / "sub" / "ü.png", picture(5))
    with pytest.raises(VtbenchError, match="whether its pixels do is not known, since no sha256_rgb is stated"):
        suite.load(next(i for i in suite.items if i.id == "sub/ü.png"))


def test_unreadable_images_and_links_that_lead_out_are_named(place: Path) -> None:
    (place / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (place / "a" / "out.png").symlink_to(place / "b" / "x.png")
    (place / "a" / "in.png").symlink_to("x.png")
    (place / "a" / "nowhere.png").symlink_to("gone.png")
    (place / "a" / "back\\slash.png").write_bytes(encoded(picture(3), "PNG"))
    done = run("suite", "freeze", place / "a", "--out", place / "a" / "s.jsonl")
    assert done.exit_code == 1
    for named in (
        "bad.png",
        "out.png is a link that leads out",
        "nowhere.png",
        "slash.png has a name that no manifest",
    ):
        assert named in done.stderr
    suite = open_suite(str(place / "a" / "s.jsonl"))
    assert [i.id for i in suite.items] == ["12:30.png", "in.png", "sub/ü.png", "x.png"]
    for item in suite.items:
        suite.load(item)
    # From a folder above both, the link may be followed, then and later.
    freeze(str(place / "a"), place / "s.jsonl")
    above = open_suite(str(place / "s.jsonl"))
    assert "out.png" in {i.id for i in above.items}
    out = next(i for i in above.items if i.id == "out.png")
    above.load(out)
    assert size_of(above, out) == (16, 16)
    above.within = place / "a"
    assert size_of(above, out) is None, "not even a header is read out of the folder"


def test_nothing_is_overwritten_and_nothing_half_written(place: Path) -> None:
    out = place / "a.jsonl"
    freeze(str(place / "a"), out, name="first")
    before = out.read_bytes()
    with pytest.raises(VtbenchError, match="there already: choose another, or replace it with --force"):
        freeze(str(place / "a"), out)
    assert out.read_bytes() == before
    freeze(str(place / "a"), out, name="second", force=True)
    assert lines(out)[0]["suite"] == "second"
    shutil.rmtree(place / "b")
    (place / "b").mkdir()
    (place / "b" / "bad.png").write_bytes(b"no")
    with pytest.raises(VtbenchError, match=r"none of the 1 images .* nothing was written"):
        freeze(str(place / "b"), out, force=True)
    assert lines(out)[0]["suite"] == "second"
    assert not [p for p in place.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    ("spec", "out", "says", "options"),
    [
        ("a", "b/s.jsonl", "lies neither in", {}),
        ("a", "a/s.json", "does not end in .jsonl", {}),
        ("a", "d.jsonl", "is no file", {}),
        ("a", "s.jsonl", "--name is empty", {"name": " "}),
        ("f.jsonl", "s.jsonl", "is no folder of images", {}),
    ],
)
def test_what_cannot_be_frozen(place: Path, spec: str, out: str, says: str, options: dict[str, Any]) -> None:
    (place / "d.jsonl").mkdir()
    freeze(str(place / "a"), place / "f.jsonl")
    with pytest.raises(VtbenchError, match=says):
        freeze(str(place / spec), place / out, **options)
    assert not (place / "s.jsonl").exists()


def test_prompts_and_labels_of_drawn_pictures_are_known(place: Path) -> None:
    notes = [{"file": f"a/{name}", "prompt": name, "label": k} for k, name in enumerate(("x.png", "sub/ü.png"))]
    (place / "samples.jsonl").write_text("".join(json.dumps(note) + "\n" for note in notes))
    freeze(str(place / "a"), place / "a" / "s.jsonl")
    freeze(str(place / "a"), place / "s.jsonl")
    of_folder, above = open_set(place / "a"), open_set(place / "s.jsonl")
    assert of_folder.labels == above.labels == [1, 0]
    assert [i.meta for i in of_folder.items] == [i.meta for i in above.items]
    assert above.remarks == of_folder.remarks
    # A manifest may have come from elsewhere: nothing above its own folder is looked at.
    assert open_set(place / "a" / "s.jsonl").labels is None


def test_a_png_whose_checksum_differs_is_an_error_row_and_not_frozen(place: Path) -> None:
    path = place / "a" / "x.png"
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadImage, match="checksum of its IDAT"):
        open_suite(str(path)).load(open_suite(str(path)).items[0])
    scored = folders.score(place / "a", [place / "b"], ["mse"])
    assert "checksum of its IDAT" in scored.bad["x.png"]
    frozen = freeze(str(place / "a"), place / "a.jsonl")
    assert "checksum of its IDAT" in frozen.refused["x.png"]
    other = open_set(place / "a")
    list(other.read())
    assert "checksum of its IDAT" in other.bad["x.png"]


def test_a_deflated_tiff_decodes_to_its_pixels_or_not_at_all() -> None:
    """zlib's Adler-32 stands at the end of every strip, wherever the damage is."""
    rgb = np.ascontiguousarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3) // 3)
    data = encoded(rgb, "TIFF", compression="tiff_adobe_deflate")
    with Image.open(io.BytesIO(data)) as image:
        (start,), (count,) = image.tag_v2[273], image.tag_v2[279]
    refused = 0
    for place in range(start, start + count):
        for bit in (1, 4, 64):
            damaged = bytearray(data)
            damaged[place] ^= bit
            try:
                assert np.array_equal(decode(bytes(damaged), "x"), rgb), (place, bit)
            except BadImage:
                refused += 1
    assert refused > 2 * count
    assert np.array_equal(decode(data, "x"), rgb)
    # A last strip may be padded to the height of the others.
    padded = zlib.compress(bytes(range(200)) * 1000)
    assert _inflated(padded, 200) == bytes(range(200))
    for cut in (1, 4, 6):
        with pytest.raises(zlib.error):
            _inflated(padded[:-cut], 200)
