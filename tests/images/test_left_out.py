"""What of a folder are its images: every suffix that can be read, no hidden file, every link; and what is left out is
counted and named."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import encoded, picture, save
from PIL import Image

from vtbench.images import selection
from vtbench.images.opening import open_suite
from vtbench.images.reading import BadImage
from vtbench.types.errors import VtbenchError

BY_PILLOW = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpe", ".jfif", ".JFIF"),
    "PPM": (".ppm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".TIFF"),
    "AVIF": (".avif",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
}


def ids(path: Path | str) -> list[str]:
    return [item.id for item in open_suite(str(path)).items]


def test_every_suffix_of_a_format_that_is_read(tmp_path: Path) -> None:
    names = []
    for kind, ends in BY_PILLOW.items():
        for end in ends:
            (tmp_path / f"{kind}{end}").write_bytes(encoded(picture(0), kind))
            names.append(f"{kind}{end}")
    (tmp_path / "bits.pbm").write_bytes(b"P4\n8 1\n\xaa")
    (tmp_path / "grey.pgm").write_bytes(b"P5\n2 1\n255\n\x00\xff")
    suite = open_suite(str(tmp_path))
    assert [item.id for item in suite.items] == sorted([*names, "bits.pbm", "grey.pgm"])
    assert suite.left_out == {}
    assert suite.notes == []
    for item in suite.items:
        assert suite.load(item).shape[2] == 3


def test_suffixes_are_pillows_own() -> None:
    """Pillow knows which suffixes its formats have; ours are among them, but for an old name of JPEG."""
    Image.init()
    pillow = set(Image.registered_extensions())
    ours = {end for kind, ends in selection.SUFFIXES.items() if kind not in selection.PLUGINS for end in ends}
    assert ours - pillow == {".jif"}


@pytest.mark.parametrize(("end", "kind"), [(".heic", "HEIF"), (".hif", "HEIF"), (".jxl", "JXL")])
def test_a_plugin_makes_a_format_readable(tmp_path: Path, end: str, kind: str) -> None:
    """Written by the plug-in, read back by the suite: lossless where the format is."""
    import pillow_heif
    import pillow_jxl  # noqa: F401

    pillow_heif.register_heif_opener()
    smooth = np.add.outer(np.arange(32), np.arange(48))[..., None].repeat(3, axis=2).astype(np.uint8)
    how: dict[str, Any] = {"lossless": True} if kind == "JXL" else {"quality": 100}
    (tmp_path / f"x{end}").write_bytes(encoded(smooth, kind, **how))
    suite = open_suite(str(tmp_path))
    (item,) = suite.items
    assert np.abs(suite.load(item).astype(int) - smooth).max() <= (0 if kind == "JXL" else 4)
    assert suite.left_out == {}


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plug-in of Pillow is installed."""
    real = importlib.util.find_spec

    def find(name: str, *rest: Any) -> Any:
        return None if name in ("pillow_heif", "pillow_jxl") else real(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", find)


@pytest.mark.usefixtures("bare")
def test_what_no_decoder_reads_is_counted_and_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(0))
    for name in ("b.heic", "sub/c.HEIC", "d.jxl", "photo.nef"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"whatever")
    for name in ("notes.txt", "labels.json", "weights.safetensors"):
        (tmp_path / name).write_text("no picture")
    suite = open_suite(str(tmp_path))
    assert [item.id for item in suite.items] == ["a.png"]
    assert suite.left_out == {".heic": 2, ".jxl": 1, ".nef": 1}
    (note,) = suite.notes
    assert "2 .heic, 1 .jxl, 1 .nef, such as b.heic" in note
    assert ".[formats]" in note
    assert open_suite(f"{tmp_path}/*").left_out == {".heic": 1, ".jxl": 1, ".nef": 1}


def test_pictures_whose_names_do_not_say_so_are_named(tmp_path: Path) -> None:
    """Told by their first bytes; a text beside them is none."""
    save(tmp_path / "a.png", picture(0))
    (tmp_path / "noname").write_bytes(encoded(picture(1), "PNG"))
    (tmp_path / "README").write_text("P is for picture")
    (tmp_path / "b.jpg~").write_bytes(encoded(picture(2), "JPEG"))
    (tmp_path / "c.jpg.part").write_bytes(encoded(picture(2), "JPEG"))
    (tmp_path / "d.txt").write_text("BM or RIFF")
    suite = open_suite(str(tmp_path))
    assert [item.id for item in suite.items] == ["a.png"]
    assert suite.left_out == {".jpg~": 1, ".part": 1, "without a suffix": 2}


def test_files_that_hold_many_images_are_named(tmp_path: Path) -> None:
    """A clone of a data set, of which only the preview is an image by its name."""
    save(tmp_path / "assets" / "preview.png", picture(0))
    for name in ("data/train-0.parquet", "data/train-1.parquet", "old.tar", "old.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    suite = open_suite(str(tmp_path))
    assert [item.id for item in suite.items] == ["assets/preview.png"]
    assert suite.left_out == {".parquet": 2, ".tar": 1, ".zip": 1}


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "val-000.tar").write_bytes(b"x")
    with pytest.raises(
        VtbenchError, match=r"holds no image .*it holds 1 \.tar, such as val-000\.tar: give such a file"
    ):
        open_suite(str(tmp_path / "t"))
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.parquet").write_bytes(b"x")
    with pytest.raises(VtbenchError, match=rf"give hf:{tmp_path}/p@local"):
        open_suite(str(tmp_path / "p"))


def test_what_systems_put_beside_is_no_picture(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(0))
    for name in (
        "._a.png",
        ".thumbs/a.png",
        "__MACOSX/a.png",
        "__MACOSX/._a.png",
        "sub/@eaDir/a.png",
        "sub/#recycle/a.png",
    ):
        save(tmp_path / name, picture(1))
    suite = open_suite(str(tmp_path))
    assert [item.id for item in suite.items] == ["a.png"]
    assert suite.left_out == {}


# -- links -------------------------------------------------------------------------------------------------------------


def test_two_links_to_one_folder_are_two(tmp_path: Path) -> None:
    save(tmp_path / "real" / "a.png", picture(0))
    (tmp_path / "set").mkdir()
    for name in ("train", "val"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "real")
    assert ids(tmp_path / "set") == ["train/a.png", "val/a.png"]
    (tmp_path / "set" / "own").mkdir()
    save(tmp_path / "set" / "own" / "a.png", picture(0))
    (tmp_path / "set" / "again").symlink_to("own")
    assert ids(tmp_path / "set") == ["again/a.png", "own/a.png", "train/a.png", "val/a.png"]


def test_links_upwards_end_there_and_circles_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b" / "1.png", picture(0))
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    assert ids(tmp_path / "a") == ["b/1.png"]
    # Nine folders, each with links to all others: 9! ways through them.
    for k in range(9):
        (tmp_path / "c" / str(k)).mkdir(parents=True)
        for other in range(9):
            (tmp_path / "c" / str(k) / f"to{other}").symlink_to(tmp_path / "c" / str(other))
    with pytest.raises(VtbenchError, match="more than 64 links: remove those that lead in circles"):
        open_suite(str(tmp_path / "c"))


def test_what_cannot_be_read_is_an_item_that_says_so(tmp_path: Path) -> None:
    """Dangling links, links to themselves and pipes: none is waited for, none is left out."""
    save(tmp_path / "a.png", picture(0))
    (tmp_path / "gone.png").symlink_to("/nowhere/blob")
    (tmp_path / "self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "pipe.png")
    for spec in (str(tmp_path), f"{tmp_path}/*.png"):
        suite = open_suite(spec)
        assert [item.id for item in suite.items] == ["a.png", "gone.png", "pipe.png", "self.png"]
        for item, words in zip(suite.items[1:], ("link that leads to no file", "no regular file", "link"), strict=True):
            with pytest.raises(BadImage, match=rf"{item.id} is .*{words}"):
                suite.load(item)
        assert len(suite.hash) == 64


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images would be missing without a word. (Rights do not stop a test that runs as root.)"""
    save(tmp_path / "sub" / "a.png", picture(0))
    save(tmp_path / "b.png", picture(0))
    real = os.scandir

    def scan(path: Any) -> Any:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(VtbenchError, match=r"sub cannot be listed \(Permission denied\): mend its rights"):
        open_suite(str(tmp_path))
