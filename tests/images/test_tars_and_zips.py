"""Tars and zips hold what their unpacked folder would: the same rules for hidden files, links and members that come
twice; and one image a webdataset sample. Truth: tarfile's and zipfile's own unpacking, and the webdataset package."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from image_files import encoded, picture, save

from vtbench.images.opening import open_set, open_suite
from vtbench.images.reading import BadImage
from vtbench.images.suite import Suite
from vtbench.types.errors import VtbenchError

Member = tuple[str, bytes | tuple[bytes, str]]
"""A name with its bytes, or with a kind of link and where it leads."""


def png(seed: int) -> bytes:
    return encoded(picture(seed), "PNG")


def jpg(seed: int) -> bytes:
    return encoded(picture(seed), "JPEG")


def tar(path: Path, members: Sequence[Member]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                member.type, member.linkname = content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def packed(path: Path, members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def same(archive: Suite, folder: Suite, prefix: str = "") -> None:
    """Both hold the same names and pixels."""
    theirs = {prefix + item.id: folder.load(item) for item in folder.items}
    ours = {item.id: archive.load(item) for item in archive.items}
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def ids(spec: Path | str) -> list[str]:
    return [item.id for item in open_suite(str(spec)).items]


MACOS = [
    ("imgs/001.png", png(1)),
    ("imgs/._001.png", b"\0\5\x16\7"),
    ("__MACOSX/imgs/._001.png", b"\0\5\x16\7"),
    ("__MACOSX/imgs/002.png", png(7)),
    ("imgs/.cache/003.png", png(8)),
    ("imgs/002.jfif", jpg(2)),
    (".hidden/004.png", png(9)),
]


def test_a_tar_follows_the_folders_rules(tmp_path: Path) -> None:
    shard = tar(tmp_path / "set.tar", MACOS)
    with tarfile.open(shard) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    assert ids(shard) == ["set/imgs/001.png", "set/imgs/002.jfif"]
    same(open_suite(str(shard)), open_suite(str(tmp_path / "out")), "set/")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_follows_the_folders_rules(tmp_path: Path, method: int) -> None:
    shutil.unpack_archive(packed(tmp_path / "set.zip", MACOS, method), tmp_path / "out")
    same(open_suite(str(tmp_path / "set.zip")), open_suite(str(tmp_path / "out")))
    assert ids(tmp_path / "set.zip") == ["imgs/001.png", "imgs/002.jfif"]
    first = open_suite(str(tmp_path / "set.zip")).hash
    assert first == open_suite(str(tmp_path / "out")).hash
    packed(tmp_path / "set.zip", [*MACOS[:-2], ("imgs/002.jfif", jpg(3))], method)
    assert open_suite(str(tmp_path / "set.zip")).hash != first


def test_members_that_come_twice_and_links_are_what_unpacking_leaves(tmp_path: Path) -> None:
    members: list[Member] = [
        ("d/a.png", png(0)),
        ("d/b.png", png(1)),
        ("d/a.png", png(2)),
        ("d/hard.png", (tarfile.LNKTYPE, "d/b.png")),
        ("d/soft.png", (tarfile.SYMTYPE, "b.png")),
        ("e/up.png", (tarfile.SYMTYPE, "../d/b.png")),
    ]
    shard = tar(tmp_path / "set.tar", members)
    with tarfile.open(shard) as archive:
        archive.extractall(tmp_path / "out", filter="data")
    same(open_suite(str(shard)), open_suite(str(tmp_path / "out")), "set/")
    out = open_suite(str(tar(tmp_path / "out.tar", [*members, ("x.png", (tarfile.SYMTYPE, "/etc/x.png"))])))
    assert len(out.items) == 5
    assert out.left_out == {"links out of the tar": 1}


def test_what_a_tar_leaves_out_is_named(tmp_path: Path) -> None:
    files = [("a.png", png(0)), ("b.nef", b"x"), ("c", png(1)), ("a.txt", b"a cat"), ("d.tar", b"x")]
    for suite in (open_suite(str(tar(tmp_path / "s.tar", files))), open_suite(str(packed(tmp_path / "s.zip", files)))):
        assert len(suite.items) == 1
        assert suite.left_out == {".nef": 1, ".tar": 1, "without a suffix": 1}
        assert "such as b.nef" in suite.notes[0]


# -- samples -----------------------------------------------------------------------------------------------------------


def samples(*keys: str, n: int = 3) -> list[tuple[str, bytes]]:
    """n samples with these keys; every picture is another one."""
    out = []
    for k in range(n):
        for place, key in enumerate(keys):
            make = jpg if key.endswith("jpg") else png
            out.append((f"{k:04d}.{key}", b"1" if key in ("json", "cls") else make(10 * k + place)))
    return out


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [(("jpg", "seg.png", "json"), "jpg"), (("mask.png", "png", "cls"), "png"), (("png", "jpg"), "jpg")],
)
def test_one_image_a_sample(tmp_path: Path, keys: tuple[str, ...], wanted: str) -> None:
    """The one that the webdataset package gives for that key; the others are counted."""
    import webdataset

    shard = tar(tmp_path / "set.tar", samples(*keys))
    suite = open_suite(str(shard))
    theirs = [x for (x,) in webdataset.WebDataset(str(shard), shardshuffle=False).decode("rgb8").to_tuple(wanted)]
    assert [i.id for i in suite.items] == [f"set/{k:04d}.{wanted}" for k in range(3)]
    assert all(np.array_equal(suite.load(i), t) for i, t in zip(suite.items, theirs, strict=True))
    assert suite.left_out == {"second images of samples": 3}
    assert "3 second images of samples" in suite.notes[0]


def test_samples_of_several_images_and_no_first_among_them(tmp_path: Path) -> None:
    shard = tar(tmp_path / "set.tar", samples("input.png", "target.png"))
    with pytest.raises(VtbenchError, match=r"several images each \(input\.png, target\.png\): say which, .*#input"):
        open_suite(str(shard))
    assert ids(f"{shard}#target.png") == [f"set/{k:04d}.target.png" for k in range(3)]
    assert ids(f"{shard}#INPUT.png") == [f"set/{k:04d}.input.png" for k in range(3)]
    with pytest.raises(VtbenchError, match=r"holds no image of the key mask\.png"):
        open_suite(f"{shard}#mask.png")


def test_dots_in_names_are_no_samples(tmp_path: Path) -> None:
    names = ["film.0001.png", "film.0002.png", "v1.0-cat.png", "v1.0-dog.png", "photo.final.png", "other.png"]
    assert len(ids(tar(tmp_path / "set.tar", [(n, png(k)) for k, n in enumerate(names)]))) == len(names)


def test_shards_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for k, folder in enumerate("ab"):
        (tmp_path / folder).mkdir()
        tar(tmp_path / folder / "val-0.tar", [("1.png", png(k))])
    assert ids(f"{tmp_path}/*/val-0.tar") == ["a/val-0/1.png", "b/val-0/1.png"]


# -- by what they are --------------------------------------------------------------------------------------------------


def test_containers_are_known_by_their_content(tmp_path: Path) -> None:
    tar(tmp_path / "set.tar", [("a.png", png(0))])
    packed(tmp_path / "set.zip", [("a.png", png(0))])
    for name, under in (("set.tar", "shard"), ("set.tar", "shard.png"), ("set.zip", "archive"), ("set.zip", "x.jpg")):
        shutil.copy(tmp_path / name, tmp_path / under)
        suite = open_suite(str(tmp_path / under))
        assert len(suite.items) == 1
        assert np.array_equal(suite.load(suite.items[0]), picture(0))
        assert open_set(tmp_path / under).n == 1
    (tmp_path / "picture").write_bytes(png(0))
    assert ids(tmp_path / "picture") == ["picture"]


@pytest.mark.parametrize(
    ("name", "squeeze", "word"),
    [
        ("s.tar.gz", gzip.compress, "gzip"),
        ("s.tgz", gzip.compress, "gzip"),
        ("s.tar", gzip.compress, "gzip"),
        ("s.tar.bz2", bz2.compress, "bzip2"),
        ("s.tar", lzma.compress, "xz"),
        ("png.png", gzip.compress, "gzip"),
    ],
)
def test_compressed_tars_are_refused_by_what_they_are(
    tmp_path: Path, name: str, squeeze: Callable[[bytes], bytes], word: str
) -> None:
    (tmp_path / name).write_bytes(squeeze(tar(tmp_path / "set", [("a.png", png(0))]).read_bytes()))
    for opens in (lambda: open_suite(str(tmp_path / name)), lambda: open_set(tmp_path / name)):
        with pytest.raises(VtbenchError, match=rf"compressed .*{word}") as refused:
            opens()
        assert refused.value.code == 2


def test_zips_that_are_refused(tmp_path: Path) -> None:
    packed(tmp_path / "bz2.zip", [("a.png", png(0))], zipfile.ZIP_BZIP2)
    packed(tmp_path / "none.zip", [("a.txt", b"x")])
    whole = bytearray(packed(tmp_path / "locked.zip", [("a.png", png(0))]).read_bytes())
    # Bit 0 of the general purpose flag, in the local header and in the directory: encrypted (APPNOTE.TXT, 4.4.4).
    whole[6] |= 1
    whole[whole.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(whole)
    (tmp_path / "half.zip").write_bytes(whole[:-30])
    for name, words in (
        ("bz2.zip", r"compressed with bzip2 \(a\.png\)"),
        ("none.zip", "holds no image"),
        ("locked.zip", "encrypted"),
        ("half.zip", "truncated or damaged"),
    ):
        with pytest.raises(VtbenchError, match=words) as refused:
            open_suite(str(tmp_path / name))
        assert refused.value.code == 2


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_one_damaged_member_of_a_zip_is_one_bad_image(tmp_path: Path, method: int) -> None:
    path = packed(tmp_path / "set.zip", [("a.png", png(0)), ("b.png", png(1))], method)
    data = bytearray(path.read_bytes())
    data[90] ^= 255
    path.write_bytes(data)
    suite = open_suite(str(path))
    with pytest.raises(BadImage, match=r"a\.png of set\.zip is damaged"):
        suite.load(suite.items[0])
    assert np.array_equal(suite.load(suite.items[1]), picture(1))


def test_files_that_are_no_set_are_refused(tmp_path: Path) -> None:
    import torch

    np.savez(tmp_path / "a.npz", np.zeros((2, 8, 8, 3), np.uint8))
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    (tmp_path / "a.txt").write_text("images/1.png\n")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "gone").symlink_to("/nowhere")
    for name, words in (
        ("a.npz", "holds arrays, which are a set without files"),
        ("a.pt", r"a file of torch\.save"),
        ("a.txt", "holds no images"),
        ("empty", "holds no images"),
        ("gone", "leads nowhere"),
    ):
        with pytest.raises(VtbenchError, match=words):
            open_suite(str(tmp_path / name))
    # What says by its name that it is an image is one bad image, and not the end of the set.
    (tmp_path / "torn.png").write_bytes(b"")
    assert ids(tmp_path / "torn.png") == ["torn.png"]


def test_brackets_in_the_name_of_a_folder_are_no_glob(tmp_path: Path) -> None:
    save(tmp_path / "run[1]" / "a*.png", picture(0))
    assert ids(tmp_path / "run[1]") == ["a*.png"]
    assert ids(tmp_path / "run[1]" / "a*.png") == ["a*.png"]
