"""Submissions made to write elsewhere, to unfold, or to state what is not so are refused, and nothing is written."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from made_submissions import contents_of, made_anew, of_quality

from vtbench.publishing import archive
from vtbench.publishing.archive import pack, unpack
from vtbench.publishing.submission import add, submit
from vtbench.results.sums import SUMS
from vtbench.types.errors import VtbenchError


def _with_entry(name: str, mode: int, data: bytes = b"x") -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        with zipfile.ZipFile(file, "a") as sink:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            sink.writestr(entry, data)

    return spoil


def _packed(data: bytes) -> Callable[[Path], None]:
    def spoil(file: Path) -> None:
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as sink:
            sink.writestr("features/x.f32", data)

    return spoil


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(change(file.read_bytes()))


def _flip(file: Path, name: str) -> None:
    """The last bit of a byte in the middle of one packed file."""
    with zipfile.ZipFile(file) as opened:
        entry = opened.getinfo(name)
    data = bytearray(file.read_bytes())
    data[entry.header_offset + 30 + len(name) + entry.compress_size // 2] ^= 1
    file.write_bytes(bytes(data))


PLAIN = stat.S_IFREG | 0o644
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "above": (_with_entry("../evil.txt", PLAIN), "none of a run's"),
    "absolute": (_with_entry("/tmp/evil.txt", PLAIN), "none of a run's"),
    "above within": (_with_entry("samples/../../evil.png", PLAIN), "none of a run's"),
    "backslashes": (_with_entry("samples\\..\\..\\evil.png", PLAIN), "none of a run's"),
    "another drive": (_with_entry("C:evil.png", PLAIN), "none of a run's"),
    "hidden": (_with_entry(".github/workflows/x.yml", PLAIN), "none of a run's"),
    "code": (_with_entry("conftest.py", PLAIN), "none of a run's"),
    "a page": (_with_entry("samples/x.html", PLAIN), "none of a run's"),
    "a device": (_with_entry("samples/con.png", PLAIN), "none of a run's"),
    "a link": (_with_entry("samples/x.png", stat.S_IFLNK | 0o777, b"/etc/passwd"), "is a link"),
    "a pipe": (_with_entry("samples/x.png", stat.S_IFIFO | 0o666), "is a link, a folder or a device"),
    "a folder": (_with_entry("samples/x.png/", stat.S_IFDIR | 0o755, b""), "is a link, a folder"),
    "twice by case": (_with_entry("samples/00.CANDIDATE.png", PLAIN), "twice"),
    "a long name": (_with_entry(f"samples/{'a' * 300}.png", PLAIN), "none of a run's"),
    "a line break": (_with_entry("samples/a\nb.png", PLAIN), "none of a run's"),
    "not listed": (_with_entry("samples/x.png", PLAIN), f"is not the file that its {SUMS} states"),
    "a bomb": (_packed(bytes(1 << 26)), "would unfold to 67 MB"),
    "cut": (_bytes(lambda data: data[: len(data) // 2]), "no whole zip file"),
    "not a zip": (_bytes(lambda _: b"run"), "no whole zip file"),
    "empty": (_bytes(lambda _: b""), "no whole zip file"),
    "a flipped byte": (lambda file: _flip(file, "rows.jsonl"), "no whole zip file"),
    "a flipped byte of a picture": (lambda file: _flip(file, "samples/00.candidate.png"), "no whole zip file"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_submission_writes_nothing(runs: Path, tmp_path: Path, case: str) -> None:
    spoil, said = HOSTILE[case]
    file = submit(of_quality(runs, 5), tmp_path / "in" / "s.zip").path
    spoil(file)
    before = {p for p in tmp_path.rglob("*") if p != tmp_path / "repo"}
    with pytest.raises(VtbenchError, match=re.escape(said)):
        add(file, tmp_path / "repo")
    assert {p for p in tmp_path.rglob("*") if p != tmp_path / "repo"} == before


def test_a_name_twice_is_refused(run: Path, tmp_path: Path) -> None:
    file = submit(run, tmp_path / "s.zip").path
    with pytest.warns(UserWarning, match="Duplicate name"):
        _with_entry("rows.jsonl", PLAIN)(file)
    with pytest.raises(VtbenchError, match="twice"):
        add(file, tmp_path / "repo")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("rows.jsonl", lambda text: re.sub(r'"psnr": \d', '"psnr": 9', text, count=1), "psnr"),
        ("scores.jsonl", lambda text: re.sub(r'"value": \d', '"value": 9', text, count=1), "computed again"),
        ("run.json", lambda text: re.sub(r'"ranked": false', '"ranked": true', text), "ranked is true"),
        ("run.json", lambda text: text.replace('"psnr": {', '"evil.py@psnr": {', 1), "a file of code"),
        ("run.json", lambda text: text.replace('"schema": 1', '"schema": 2'), "schema 2"),
        ("run.json", lambda text: "[" * 5000, "nested"),
        ("rows.jsonl", lambda text: "", "0 images"),
    ],
    ids=["row", "score", "rank", "code", "schema", "deep", "no rows"],
)
def test_who_makes_the_sums_anew_is_found_by_what_is_computed_again(
    run: Path, tmp_path: Path, name: str, change: Callable[[str], str], said: str
) -> None:
    contents = contents_of(submit(run, tmp_path / "s.zip").path)
    text = contents[name].decode()
    assert change(text) != text
    file = made_anew(tmp_path / "t.zip", {**contents, name: change(text).encode()})
    with pytest.raises(VtbenchError, match=rf"does not add up.*{said}"):
        add(file, tmp_path / "repo")
    assert list((tmp_path / "repo").iterdir()) == []


def test_unpacking_reads_no_more_than_is_stated(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the directory of the archive states is what is looked at; a limit on it holds before anything is written."""
    file = submit(run, tmp_path / "s.zip").path
    monkeypatch.setattr(archive, "LARGEST", file.stat().st_size)
    (tmp_path / "out").mkdir()
    with pytest.raises(VtbenchError, match="it is refused unopened"):
        unpack(file, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(VtbenchError, match="--small leaves"):
        pack({"rows.jsonl": bytes(file.stat().st_size + 1)}, tmp_path / "t.zip")
