"""Nothing of the machine leaves with a run: paths, users, keys."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from made_submissions import change_record

from vtbench.publishing.scrub import Scrubber, last_part
from vtbench.publishing.submission import add, submit
from vtbench.results.files import read_lines
from vtbench.results.sums import write_sums
from vtbench.types.errors import VtbenchError

HOME = "/home/alice"
KEY = "hf_" + "abcDEF0123456789" * 2


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

    change_record(run, spoil)
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

    change_record(run, spoil)
    with pytest.raises(VtbenchError, match=r"question\.model\.options\.table.*give a relative name"):
        submit(run, tmp_path / "s.zip")
    change_record(run, lambda info: info.update(question={}, notes=[f"of {HOME}/x"]))
    change_record(run, lambda info: info["model"].update(title="The VAE of Alice", options={"quality": 5}))
    with pytest.raises(VtbenchError, match=r"model\.title is 'The VAE of Alice', which holds a user's name"):
        submit(run, tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()
