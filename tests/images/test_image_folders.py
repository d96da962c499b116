"""Folders, globs and tar shards as suites."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, picture, save

from vtbench.images.opening import open_suite
from vtbench.images.reading import BadImage
from vtbench.types.errors import VtbenchError


def test_folder(tmp_path: Path) -> None:
    """Sorted relative names; hidden files, other suffixes and loops of links are left out."""
    for seed, name in enumerate(("b/2.png", "a.png", "b/1.jpg", "c.PNG", ".hidden.png", ".cache/x.png")):
        save(tmp_path / name, picture(seed))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    suite = open_suite(str(tmp_path))
    assert [i.id for i in suite.items] == ["a.png", "b/1.jpg", "b/2.png", "c.PNG"]
    assert np.array_equal(suite.load(suite.items[0]), picture(1))
    before = suite.hash
    assert open_suite(str(tmp_path)).hash == before
    save(tmp_path / "a.png", picture(9))
    assert open_suite(str(tmp_path)).hash != before


def test_truncated_file_is_an_item_that_says_so(tmp_path: Path) -> None:
    save(tmp_path / "good.png", picture(0))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    suite = open_suite(str(tmp_path))
    assert len(suite.items) == 2
    with pytest.raises(BadImage, match=r"half\.png"):
        suite.load(suite.items[1])
    suite.load(suite.items[0])


def test_globs_and_one_file(tmp_path: Path) -> None:
    for seed, name in enumerate(("x/1.png", "y/2.png", "y/3.jpg")):
        save(tmp_path / name, picture(seed))
    assert [i.id for i in open_suite(f"{tmp_path}/**/*.png").items] == ["x/1.png", "y/2.png"]
    assert [i.id for i in open_suite(f"{tmp_path}/y/*").items] == ["2.png", "3.jpg"]
    assert [i.id for i in open_suite(str(tmp_path / "y" / "2.png")).items] == ["2.png"]
    with pytest.raises(VtbenchError, match="no image matches"):
        open_suite(f"{tmp_path}/*.webp")
    (tmp_path / "empty").mkdir()
    with pytest.raises(VtbenchError, match="holds no image"):
        open_suite(str(tmp_path / "empty"))


def test_imagenet_folders(tmp_path: Path) -> None:
    for name in ("n01440764/ILSVRC2012_val_00000293.JPEG", "n01443537/ILSVRC2012_val_00000236.JPEG"):
        save(tmp_path / "val" / name, picture(0))
    suite = open_suite(str(tmp_path / "val"))
    assert [i.meta for i in suite.items] == [{"class": "n01440764"}, {"class": "n01443537"}]
    save(tmp_path / "flat" / "ILSVRC2012_val_00000001.JPEG", picture(0))
    assert [i.meta for i in open_suite(str(tmp_path / "flat")).items] == [{}]


def traced() -> int:
    """Bytes that live now, but for one block of megabytes: Python's table of interned names (pathlib interns every part
    of a path), which is moved to twice its size at whichever name fills it in a long process."""
    return sum(trace.size for trace in tracemalloc.take_snapshot().traces if trace.size < 2**20)


def test_a_large_folder_costs_little(tmp_path: Path) -> None:
    """4,000 files: an item costs less than 700 bytes, so 20,000 cost 14 MB; loading keeps nothing."""
    one = tmp_path / "images" / "0.png"
    save(one, picture(0))
    for k in range(1, 4000):
        os.link(one, one.with_name(f"{k}.png"))
    tracemalloc.start()
    suite = open_suite(str(tmp_path / "images"))
    kept = traced()
    for item in suite.items[:300]:
        suite.load(item)
    after = traced()
    tracemalloc.stop()
    assert len(suite.items) == 4000
    assert kept / 4000 < 700
    # Loading keeps nothing but what Pillow's plug-ins set up once.
    assert after - kept < 1_000_000


# -- tar shards ------------------------------------------------------------------------------------------------------


def shard(path: Path, seeds: range) -> None:
    with tarfile.open(path, "w") as archive:
        for seed in seeds:
            for suffix, body in (("png", encoded(picture(seed), "PNG")), ("cls", b"7")):
                member = tarfile.TarInfo(f"{seed:06d}.{suffix}")
                member.size = len(body)
                archive.addfile(member, io.BytesIO(body))


def test_shards(tmp_path: Path) -> None:
    """The same pictures in the same order as the webdataset package reads."""
    import webdataset

    for k in range(2):
        shard(tmp_path / f"val-{k:03d}.tar", range(3 * k, 3 * k + 3))
    spec = f"{tmp_path}/val-{{000..001}}.tar"
    theirs = [rgb for (rgb,) in webdataset.WebDataset(spec, shardshuffle=False).decode("rgb8").to_tuple("png")]
    for suite in (open_suite(spec), open_suite(f"{tmp_path}/val-*.tar")):
        assert len(suite.items) == 6
        assert suite.items[4].id == "val-001/000004.png"
        assert all(np.array_equal(suite.load(i), t) for i, t in zip(suite.items, theirs, strict=True))


def test_bad_shards(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", range(2))
    import gzip

    (tmp_path / "z.tar").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    for spec, words in (
        ("z.tar", "uncompressed"),
        ("none.tar", "cannot be read"),
        ("x-{1..b}.tar", "no list of shards"),
    ):
        with pytest.raises(VtbenchError, match=words):
            open_suite(str(tmp_path / spec))
