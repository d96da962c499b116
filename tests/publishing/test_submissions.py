"""A run leaves as one file and enters a repository: the same bytes, nothing of the machine, nothing outside it."""

from __future__ import annotations

import io
import json
import re
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import command, cuts

import vtbench
from vtbench import leaderboard
from vtbench.publishing import archive
from vtbench.publishing.archive import pack, unpack
from vtbench.publishing.scrub import Scrubber, last_part
from vtbench.publishing.submission import add, submit
from vtbench.publishing.verify import OTHER_CODE, verify
from vtbench.results.files import read_lines
from vtbench.results.sums import SUMS, as_text, read_sums, sum_of, write_sums
from vtbench.types.errors import VtbenchError

HOME = "/home/alice"
KEY = "hf_" + "abcDEF0123456789" * 2
NO_COMMAND = "vtbench evaluate jpeg -o quality=5 --images pictures"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of two qualities, one of them not ranked, whatever this tree is."""
    root = tmp_path_factory.mktemp("submissions")
    more: dict[str, Any] = {"view": "native", "tasks": ["compression"], "out": root / "runs", "command": NO_COMMAND}
    pictures = cuts(root / "pictures", 4)
    # Limited, and so not ranked.
    vtbench.evaluate("jpeg", images=pictures, options={"quality": 5}, limit=3, **more)
    vtbench.evaluate("jpeg", images=pictures, options={"quality": 60}, **more)
    for path in (root / "runs").iterdir():
        # As from a folder that was named relatively.
        _change(path, lambda info: info["suite"].update(spec="pictures"))
    return root / "runs"


def _change(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    info = json.loads((path / "run.json").read_text())
    change(info)
    (path / "run.json").write_text(json.dumps(info, indent=1) + "\n")
    write_sums(path)


def _of_quality(runs: Path, quality: int) -> Path:
    """Folders are named by ids, which are others for every state of the code."""
    infos = {path: json.loads((path / "run.json").read_text()) for path in runs.iterdir()}
    return next(path for path, info in infos.items() if info["model"]["options"] == {"quality": quality})


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_of_quality(runs, 5), tmp_path / "mine"))


def test_submit_add_build_on_a_clean_clone_gives_the_same_page(runs: Path, tmp_path: Path) -> None:
    """The maintainers' repository, filled in another order and cloned; and the page of the runs as they lay on the disk
    of who made them. Byte for byte."""
    origin = tmp_path / "origin"
    _git("init", "--quiet", "-b", "main", str(origin))
    for number, path in enumerate(sorted(runs.iterdir(), reverse=True)):
        submission = submit(path, tmp_path / f"{number}.zip")
        added = add(submission.path, origin / "runs")
        assert added.verification.verdict == "verified"
        _git("-C", str(origin), "add", "-A")
        _git("-C", str(origin), "-c", "user.name=m", "-c", "user.email=m@example.org", "commit", "--quiet", "-m", "run")
    clone = tmp_path / "there" / "clone"
    _git("clone", "--quiet", str(origin), str(clone))
    page, own = _site(clone / "runs", clone / "site"), _site(runs, tmp_path / "own")
    assert len(own) > 20
    assert page == own


def _git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True, timeout=60)


def _site(paths: Path, out: Path) -> dict[str, bytes]:
    left_out: dict[Path, str] = {}
    leaderboard.build([paths], out, left_out)
    assert not left_out
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    """Whenever, and from wherever it is submitted; whatever the times and rights of its files are."""
    first = submit(run, tmp_path / "a.zip")
    elsewhere = Path(shutil.copytree(run, tmp_path / "else" / "where"))
    for path in elsewhere.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert submit(elsewhere, tmp_path / "b.zip").sha256 == first.sha256
    with zipfile.ZipFile(first.path) as opened:
        assert {entry.date_time for entry in opened.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert opened.testzip() is None
        assert "config.yaml" not in opened.namelist()


def test_nothing_of_the_machine_leaves(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "qwertyuiop-123456")

    def spoil(info: dict[str, Any]) -> None:
        info["command"] = f"vtbench evaluate jpeg --images '{HOME}/my photos/x' -o a=/mnt/b/c.pt --out ~/out/{KEY}"
        info["suite"]["spec"] = f"{HOME}/my photos/x"
        info["model"]["checkpoint"] = "C:\\Users\\Alice Smith\\w.pt"
        info["notes"] = [
            f"file://{HOME}/a.png cannot be read; alice has qwertyuiop-123456, see https://example.org/a/b"
        ]
        info["why_not_ranked"] = f"unverified weights ({HOME}/w.pt is not the card's); 1/2 of a/b"

    _change(run, spoil)
    rows = list(read_lines(run / "rows.jsonl"))
    rows[0]["why"]["lpips-alex"] = f"{HOME}/.cache/alex.pth is not there"
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_sums(run)
    submission = submit(run, tmp_path / "s.zip")
    with zipfile.ZipFile(submission.path) as opened:
        texts = {name: opened.read(name).decode(errors="replace") for name in opened.namelist() if "json" in name}
    whole = "\n".join(texts.values())
    for gone in ("alice", "Alice", "/home", "/mnt", "Users", "my photos", KEY, "qwertyuiop", str(tmp_path)):
        assert gone not in whole, gone
    info = json.loads(texts["run.json"])
    assert info["command"] == "vtbench evaluate jpeg --images x -o a=c.pt --out '…'"
    assert info["suite"]["spec"] == "x"
    assert info["model"]["checkpoint"] == "w.pt"
    assert info["notes"] == ["a.png cannot be read; … has [SOME_API_KEY], see https://example.org/a/b"]
    assert info["why_not_ranked"] == "unverified weights (w.pt is not the card's); 1/2 of a/b"
    assert json.loads(texts["rows.jsonl"].splitlines()[0])["why"]["lpips-alex"] == "alex.pth is not there"
    added = add(submission.path, tmp_path / "repo")
    assert (added.ranked, added.why_not_ranked) == (False, info["why_not_ranked"])


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/home/alice/runs/mine.pt", "mine.pt"),
        ("/home/alice", "…"),
        ("/Users/alice/", "…"),
        ("~/x/y.pt", "y.pt"),
        ("/root", "…"),
        ("C:\\data\\w.pt", "w.pt"),
        ("D:/data/w.pt", "w.pt"),
        ("\\\\server\\share\\w.pt", "w.pt"),
        ("/data/a/", "a"),
    ],
)
def test_the_last_part_of_a_path(path: str, last: str) -> None:
    assert last_part(path) == last
    assert Scrubber(()).text(path, "spec") == last
    assert Scrubber(()).text(f"({path})") == f"({last})"


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/x",
        "bit/px and I/O, 1 / 2",
        "hf:owner/name@main",
        "pictures/cats",
        "../x",
        "a < b > c",
    ],
)
def test_what_is_no_absolute_path_stays(text: str) -> None:
    assert Scrubber(()).text(text) == text
    assert Scrubber(()).text(text, "spec") == text


def test_a_fact_that_cannot_be_changed_is_refused(run: Path, tmp_path: Path) -> None:
    """The id is the hash of the question: it cannot be told without what stands there."""
    import hashlib

    def spoil(info: dict[str, Any]) -> None:
        info["question"]["model"]["options"] = info["model"]["options"] = {"quality": 5, "table": f"{HOME}/t.bin"}
        info["id"] = hashlib.sha256(json.dumps(info["question"], sort_keys=True).encode()).hexdigest()

    _change(run, spoil)
    with pytest.raises(VtbenchError, match=r"question\.model\.options\.table.*give a relative name"):
        submit(run, tmp_path / "s.zip")
    _change(run, lambda info: info.update(question={}, notes=[f"of {HOME}/x"]))
    _change(run, lambda info: info["model"].update(title="The VAE of Alice", options={"quality": 5}))
    with pytest.raises(VtbenchError, match=r"model\.title is 'The VAE of Alice', which holds a user's name"):
        submit(run, tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda info: info.update(status="running"), "is running"),
        (lambda info: info.update(shard=[1, 2]), "shard 1 of 2"),
        (lambda info: info.update(n=9), "is not as it was written"),
    ],
    ids=["unfinished", "shard", "does not add up"],
)
def test_what_may_not_be_submitted(
    run: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    _change(run, change)
    with pytest.raises(VtbenchError, match=said):
        submit(run, tmp_path / "s.zip")


def _made_anew(file: Path, contents: dict[str, bytes], *, sums: bool = True) -> Path:
    """A zip of these files, with the sums that fit them."""
    contents = dict(contents)
    if sums:
        import hashlib

        contents[SUMS] = as_text({n: hashlib.sha256(d).hexdigest() for n, d in contents.items() if n != SUMS}).encode()
    with zipfile.ZipFile(file, "w") as sink:
        for name, data in contents.items():
            sink.writestr(name, data)
    return file


def _contents(submission: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(submission) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


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
    file = submit(_of_quality(runs, 5), tmp_path / "in" / "s.zip").path
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
    contents = _contents(submit(run, tmp_path / "s.zip").path)
    text = contents[name].decode()
    assert change(text) != text
    file = _made_anew(tmp_path / "t.zip", {**contents, name: change(text).encode()})
    with pytest.raises(VtbenchError, match=rf"does not add up.*{said}"):
        add(file, tmp_path / "repo")
    assert list((tmp_path / "repo").iterdir()) == []


def test_duplicates_are_refused_and_others_stand_beside_each_other(runs: Path, tmp_path: Path) -> None:
    one, two = (submit(path, tmp_path / f"{n}.zip").path for n, path in enumerate(sorted(runs.iterdir())))
    first = add(one, tmp_path / "repo")
    assert verify(first.path).verdict == "verified"
    assert set(read_sums(first.path) or {}) == {n for n in _contents(one) if n != SUMS}
    with pytest.raises(VtbenchError, match="it is there already"):
        add(one, tmp_path / "repo")
    contents = _contents(one)
    info = json.loads(contents["run.json"])
    other = {**contents, "run.json": json.dumps({**info, "notes": ["mine"]}).encode()}
    with pytest.raises(VtbenchError, match="another answer to the same question"):
        add(_made_anew(tmp_path / "other.zip", other), tmp_path / "repo")
    copied = {**contents, "run.json": json.dumps({**info, "id": "f" * 64, "question": {}}).encode()}
    with pytest.raises(VtbenchError, match=r"the rows of .* under another id"):
        add(_made_anew(tmp_path / "copy.zip", copied), tmp_path / "repo")
    add(two, tmp_path / "repo")
    assert len(list((tmp_path / "repo").iterdir())) == 2


def test_a_folder_that_is_there_stays(run: Path, tmp_path: Path) -> None:
    file = submit(run, tmp_path / "s.zip").path
    name = add(file, tmp_path / "repo").path.name
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(VtbenchError, match="is there already"):
        add(file, tmp_path / "second")
    assert not (tmp_path / "elsewhere").exists()


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


def test_the_verbs(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command("leaderboard", "submit", str(run))
    assert code == 0, err
    (file,) = tmp_path.glob("jpeg--compression--*.zip")
    assert f"sha256 {sum_of(file)}" in out
    bad = tmp_path / "bad.zip"
    bad.write_bytes(io.BytesIO(b"no").getvalue())
    code, out, err = command("leaderboard", "add", str(bad), str(file), "--to", "repo")
    assert code == 1, "one of two was refused"
    assert "verified" in out
    assert "no whole zip file" in err
    code, out, err = command("leaderboard", "verify", "repo")
    assert code == 0, out + err


def test_a_run_of_another_version_enters_and_its_intervals_are_said_to_be_unchecked(run: Path, tmp_path: Path) -> None:
    """Its values are those of its rows; who computed its intervals by other code may have been right."""
    contents = _contents(submit(run, tmp_path / "s.zip").path)
    info = json.loads(contents["run.json"])
    info["provenance"]["code_sha256"] = "0" * 64
    scores = [json.loads(line) for line in contents["scores.jsonl"].splitlines()]
    next(s for s in scores if s["metric"] == "psnr").update(low=1.0)
    other = {
        **contents,
        "run.json": json.dumps(info).encode(),
        "scores.jsonl": "".join(json.dumps(s) + "\n" for s in scores).encode(),
    }
    added = add(_made_anew(tmp_path / "t.zip", other), tmp_path / "repo")
    assert added.verification.verdict == "unchecked"
    assert f"{OTHER_CODE}: psnr" in added.text()
    own = {**other, "run.json": contents["run.json"]}
    with pytest.raises(VtbenchError, match=r"psnr: low is 1\.0"):
        add(_made_anew(tmp_path / "u.zip", own), tmp_path / "second")
