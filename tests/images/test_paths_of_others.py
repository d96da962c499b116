"""What somebody else wrote names files of its own folder, or none: cells, manifests, archives, notes, pictures."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import made_runs
import pytest
from image_files import encoded, picture

from vtbench.images.opening import open_path, open_suite
from vtbench.models.again import _pictures_of
from vtbench.results.record import read_run
from vtbench.tasks.geneval import detect
from vtbench.types.errors import VtbenchError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image of its own, and outside of it one that nobody gave away."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "secret.png").write_bytes(encoded(picture(7), "PNG"))
    own = tmp_path / "own"
    (own / "deep").mkdir(parents=True)
    (own / "deep" / "a.png").write_bytes(encoded(picture(1), "PNG"))
    (own / "link.png").symlink_to(tmp_path / "secret.png")
    (own / "folder").symlink_to(tmp_path)
    (own / "zero.png").symlink_to("/dev/zero")
    (own / "inner.png").symlink_to("deep/a.png")
    os.mkfifo(own / "pipe.png")
    monkeypatch.chdir(tmp_path)
    return own


WRONG: dict[str, Callable[[Path], str]] = {
    "a device": lambda own: "/dev/zero",
    "absolute": lambda own: str(own.parent / "secret.png"),
    "above": lambda own: "../secret.png",
    "above from below": lambda own: "deep/../../secret.png",
    "of the working folder": lambda own: "secret.png",
    "a link": lambda own: "link.png",
    "below a link": lambda own: "folder/secret.png",
    "a link to a device": lambda own: "zero.png",
    "a file's address": lambda own: f"file://{own.parent}/secret.png",
    "an address": lambda own: "https://example.org/x.png",
    "a home": lambda own: "~/secret.png",
    "nothing after all": lambda own: "a\0b.png",
    "a secret of the system": lambda own: "/proc/self/environ",
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("kind", ["arrow", "parquet", "folder"])
def test_cells(name: str, kind: str, place: Path) -> None:
    import datasets
    import pyarrow.parquet

    stated = WRONG[name](place)
    cells = [{"bytes": encoded(picture(1), "PNG"), "path": "/dev/zero"}, {"bytes": None, "path": stated}]
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_list([{"image": cell} for cell in cells], features=features)
    file = place / f"rows.{'arrow' if kind == 'arrow' else 'parquet'}"
    # As a hostile author does: without the library's own embedding of what the paths lead to.
    if kind == "arrow":
        with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, rows.data.table.schema) as out:
            out.write_table(rows.data.table)
    else:
        pyarrow.parquet.write_table(rows.data.table, str(file))
    if kind == "folder":
        for other in place.iterdir():
            if other != file and not other.is_dir():
                other.unlink()
        (place / "folder").unlink()
        (place / "deep" / "a.png").unlink()
        suite = open_suite(f"hf:{place}@local")
    else:
        suite = open_path(file)
    good, bad = suite.items
    assert suite.load(good).shape == picture(1).shape, "bytes are bytes, whatever path stands beside them"
    with pytest.raises(VtbenchError, match="none of its own data set's"):
        suite.load(bad)
    assert len(suite.hash) == 64


def test_cells_that_name_files_of_their_own_folder(place: Path) -> None:
    """The hub's layout of a folder of images: its cells are paths."""
    data = place / "data"
    data.mkdir()
    (data / "a.png").write_bytes(encoded(picture(1), "PNG"))
    (data / "b.png").write_bytes(encoded(picture(2), "PNG"))
    lines = [{"file_name": "a.png", "text": "one"}, {"file_name": "b.png", "text": "two"}]
    (data / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    suite = open_suite(f"hf:{data}@local")
    assert [suite.load(item).shape for item in suite.items] == [picture(1).shape] * 2
    (data / "b.png").unlink()
    (data / "b.png").symlink_to(place.parent / "secret.png")
    with pytest.raises(VtbenchError, match="does not lie in it"):
        open_suite(f"hf:{data}@local")


def test_a_snapshot_of_the_hubs_cache_is_links_to_its_blobs(place: Path) -> None:
    home = place / "datasets--somebody--things"
    (home / "blobs").mkdir(parents=True)
    (home / "snapshots" / "abc").mkdir(parents=True)
    (home / "blobs" / "0123").write_bytes(encoded(picture(1), "PNG"))
    (home / "snapshots" / "abc" / "a.png").symlink_to("../../blobs/0123")
    suite = open_suite(f"hf:{home / 'snapshots' / 'abc'}@local")
    assert suite.load(suite.items[0]).shape == picture(1).shape


@pytest.mark.parametrize("stated", ["../*.parquet", "/{above}/*.parquet"])
def test_a_readme_that_takes_rows_from_elsewhere(stated: str, place: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"text": ["not yours"], "image": [{"bytes": b"", "path": None}]})
    rows.to_parquet(str(place.parent / "other.parquet"))
    home = place / "home"
    home.mkdir()
    path = stated.replace("/{above}", str(place.parent))
    (home / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {path}\n---\n")
    with pytest.raises(VtbenchError, match=r"does not lie in it|cannot be had"):
        open_suite(f"hf:{home}@local")


# -- manifests, tars, zips, notes --------------------------------------------------------------------------------------


def manifest(own: Path, file: str) -> Path:
    content = (own.parent / "secret.png").read_bytes()
    line = {"item": "x", "file": file, "sha256_file": hashlib.sha256(content).hexdigest()}
    (own / "m.jsonl").write_text(json.dumps({"suite": "m"}) + "\n" + json.dumps(line) + "\n")
    return own / "m.jsonl"


@pytest.mark.parametrize("name", WRONG)
def test_manifests(name: str, place: Path) -> None:
    """Even one that knows the hash of what it should not read."""

    def read() -> None:
        suite = open_suite(str(manifest(place, WRONG[name](place))))
        suite.load(suite.items[0])

    with pytest.raises(VtbenchError, match=r"relative path below|no suite may use|not followed|cannot be read"):
        read()


def test_a_manifest_may_link_within_its_folder(place: Path) -> None:
    content = (place / "deep" / "a.png").read_bytes()
    line = {"item": "x", "file": "inner.png", "sha256_file": hashlib.sha256(content).hexdigest()}
    (place / "m.jsonl").write_text(json.dumps({"suite": "m"}) + "\n" + json.dumps(line) + "\n")
    suite = open_suite(str(place / "m.jsonl"))
    assert suite.load(suite.items[0]).shape == picture(1).shape


@pytest.mark.parametrize(
    "name", ["zero.jsonl", "pipe.jsonl", "loop.jsonl", "zero.tar", "pipe.tar", "loop.tar", "zero.zip"]
)
def test_what_is_no_file_is_not_waited_for(name: str, place: Path) -> None:
    path = place / name
    if name.startswith("pipe"):
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if name.startswith("zero") else path)
    with pytest.raises(VtbenchError):
        open_suite(str(path))


@pytest.mark.parametrize("depth", [1, 100_000])
def test_manifests_that_nest(depth: int, place: Path) -> None:
    (place / "m.jsonl").write_text('{"suite": "m"}\n' + "[" * depth + "\n")
    with pytest.raises(VtbenchError, match="is not JSON"):
        open_suite(str(place / "m.jsonl"))


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_tars(name: str, kind: bytes, place: Path) -> None:
    """A link out of a tar leads to none of its members, so it is none."""
    content = encoded(picture(1), "PNG")
    with tarfile.open(place / "x.tar", "w") as archive:
        whole = tarfile.TarInfo("0.png")
        whole.size = len(content)
        archive.addfile(whole, io.BytesIO(content))
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = kind, WRONG[name](place).replace("\0", "")
        archive.addfile(link)
        device = tarfile.TarInfo("2.png")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 5
        archive.addfile(device)
    suite = open_suite(str(place / "x.tar"))
    assert [item.id for item in suite.items] == ["x/0.png"]


def test_zips(place: Path) -> None:
    """Names of members are names; a link is the text that it is stored as."""
    content = encoded(picture(1), "PNG")
    with zipfile.ZipFile(place / "x.zip", "w") as archive:
        archive.writestr("0.png", content)
        archive.writestr("../1.png", content)
        archive.writestr("/dev/2.png", content)
        link = zipfile.ZipInfo("3.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(place.parent / "secret.png"))
    suite = open_suite(str(place / "x.zip"))
    read, refused = 0, 0
    for item in suite.items:
        try:
            assert suite.load(item).shape == picture(1).shape
            read += 1
        except VtbenchError:
            refused += 1
    assert (read, refused) == (2, 1)


@pytest.mark.parametrize("name", WRONG)
def test_notes_of_drawn_images(name: str, place: Path) -> None:
    metadata = {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a bench"}
    line = {"file": WRONG[name](place), "text": "a bench", "metadata": metadata}
    (place / "samples.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(VtbenchError, match=r"leads out of|is missing|cannot be read"):
        detect.pictures(place)


def test_pictures_that_a_run_kept(tmp_path: Path, place: Path) -> None:
    """A run from elsewhere may be links to pictures of this machine: they would stand on a page beside its numbers."""
    run = made_runs.write(tmp_path / "run", scores=[made_runs.score("psnr", 30.0)])
    (run / "images").mkdir()
    (run / "images" / "a.png").write_bytes(encoded(picture(1), "PNG"))
    (run / "images" / "b.png").symlink_to(place.parent / "secret.png")
    loaded = _pictures_of(read_run(run))
    assert loaded is not None
    suite = loaded.system.suite  # type: ignore[attr-defined]
    first, second = suite.items
    assert suite.load(first).shape == picture(1).shape
    with pytest.raises(VtbenchError, match="leads out of"):
        suite.load(second)
