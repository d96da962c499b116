"""A run leaves as one file and enters a repository: the same bytes, beside others, once."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_submissions import change_record, contents_of, made_anew
from support import command

from vtbench import leaderboard
from vtbench.publishing.submission import add, submit
from vtbench.publishing.verify import OTHER_CODE, verify
from vtbench.results.sums import SUMS, read_sums, sum_of
from vtbench.types.errors import VtbenchError


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
    change_record(run, change)
    with pytest.raises(VtbenchError, match=said):
        submit(run, tmp_path / "s.zip")


def test_duplicates_are_refused_and_others_stand_beside_each_other(runs: Path, tmp_path: Path) -> None:
    one, two = (submit(path, tmp_path / f"{n}.zip").path for n, path in enumerate(sorted(runs.iterdir())))
    first = add(one, tmp_path / "repo")
    assert verify(first.path).verdict == "verified"
    assert set(read_sums(first.path) or {}) == {n for n in contents_of(one) if n != SUMS}
    with pytest.raises(VtbenchError, match="it is there already"):
        add(one, tmp_path / "repo")
    contents = contents_of(one)
    info = json.loads(contents["run.json"])
    other = {**contents, "run.json": json.dumps({**info, "notes": ["mine"]}).encode()}
    with pytest.raises(VtbenchError, match="another answer to the same question"):
        add(made_anew(tmp_path / "other.zip", other), tmp_path / "repo")
    copied = {**contents, "run.json": json.dumps({**info, "id": "f" * 64, "question": {}}).encode()}
    with pytest.raises(VtbenchError, match=r"the rows of .* under another id"):
        add(made_anew(tmp_path / "copy.zip", copied), tmp_path / "repo")
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
    contents = contents_of(submit(run, tmp_path / "s.zip").path)
    info = json.loads(contents["run.json"])
    info["provenance"]["code_sha256"] = "0" * 64
    scores = [json.loads(line) for line in contents["scores.jsonl"].splitlines()]
    next(s for s in scores if s["metric"] == "psnr").update(low=1.0)
    other = {
        **contents,
        "run.json": json.dumps(info).encode(),
        "scores.jsonl": "".join(json.dumps(s) + "\n" for s in scores).encode(),
    }
    added = add(made_anew(tmp_path / "t.zip", other), tmp_path / "repo")
    assert added.verification.verdict == "unchecked"
    assert f"{OTHER_CODE}: psnr" in added.text()
    own = {**other, "run.json": contents["run.json"]}
    with pytest.raises(VtbenchError, match=r"psnr: low is 1\.0"):
        add(made_anew(tmp_path / "u.zip", own), tmp_path / "second")
