"""One changed digit in any file of a run is found, and what cannot be checked is said, never passed over."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_features
from support import ROOT, command, cuts

import vtbench
from vtbench.publishing.verify import NO_SUMS, OTHER_CODE, verify
from vtbench.results.files import read_lines
from vtbench.results.folder import RunFolder
from vtbench.results.record import read_info
from vtbench.results.sums import SUMS, differences, files_below, of_bytes, read_sums
from vtbench.running import rescore
from vtbench.types.errors import VtbenchError

OLD = ROOT / "tests" / "data" / "runs_schema1" / "runs"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that kept all that a run can keep: tokens, features, pictures, samples."""
    root = tmp_path_factory.mktemp("verify")
    more: dict[str, Any] = {"save": ["tokens", "images", "features"], "view": "native", "out": root / "out"}
    task = tiny_features.task(root / "task", tag="verified")
    (run,) = vtbench.evaluate("kmeans-vq", images=cuts(root / "images", 6), tasks=[task], **more).runs
    return run.path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def one_digit(path: Path, rng: random.Random) -> str:
    """Changes a digit of a text at a random place, or the last bit of a byte of another file; returns where."""
    data = bytearray(path.read_bytes())
    if path.suffix in (".json", ".jsonl", ".yaml", "") and path.name != "tokens.bin":
        places = [match.start() for match in re.finditer(rb"[0-9]", bytes(data))]
        place = rng.choice(places)
        data[place] = ord(rng.choice([c for c in "0123456789" if ord(c) != data[place]]))
    else:
        place = rng.randrange(len(data))
        data[place] ^= 1
    path.write_bytes(bytes(data))
    return f"byte {place} of {path.name}"


def test_a_finished_run_is_verified(finished: Path) -> None:
    seen = verify(finished)
    assert (seen.verdict, seen.wrong, seen.unchecked) == ("verified", (), ())
    assert seen.files == len(files_below(finished)) == len(read_sums(finished) or {})
    # Only what the run itself has no value of is not computed again.
    assert set(seen.not_again.values()) <= {"it has no value"}
    assert {"run.json", "rows.jsonl", "scores.jsonl", "config.yaml", "tokens.bin", "tokens.idx"} <= set(
        files_below(finished)
    )
    assert {name.partition("/")[0] for name in files_below(finished)} >= {"samples", "images", "features"}


def test_one_changed_digit_in_any_file_is_found(finished: Path) -> None:
    """Every file of a real run in turn, the file of sums itself too, at seeded places."""
    rng = random.Random(20)
    for name in [*files_below(finished), SUMS]:
        path = finished / name
        before = path.read_bytes()
        # Records are what people read and copy: more places of each.
        for _ in range(6 if name in ("run.json", "rows.jsonl", "scores.jsonl", SUMS) else 1):
            where = one_digit(path, rng)
            try:
                assert verify(finished).verdict == "changed", where
            finally:
                path.write_bytes(before)
    assert verify(finished).verdict == "verified"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: (run / "samples" / "00.candidate.png").unlink(), "is in SHA256SUMS and not in the folder"),
        (lambda run: (run / "notes.txt").write_text("mine"), "is in the folder and not in SHA256SUMS"),
        (lambda run: _as_link(run / "tokens.bin"), "is a link"),
        (lambda run: (run / SUMS).write_text((run / SUMS).read_text()[:-1]), "ends in the middle of a line"),
        (lambda run: (run / SUMS).write_text((run / SUMS).read_text() * 2), "is no sha256 and the name of a file"),
    ],
    ids=["gone", "more", "link", "cut", "twice"],
)
def test_a_file_that_is_no_file_of_the_run(run: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(run)
    seen = verify(run)
    assert seen.verdict == "changed"
    assert said in " ".join(seen.wrong)


def _as_link(path: Path) -> None:
    elsewhere = path.rename(path.parent.parent / path.name)
    path.symlink_to(elsewhere)


def _edit(name: str, change: Callable[[Any], object], line: int = 0) -> Callable[[Path], None]:
    """Changes a record as somebody would who knows JSON."""

    def spoil(run: Path) -> None:
        path = run / name
        if name.endswith("l"):
            lines = list(read_lines(path))
            change(lines[line] if line >= 0 else lines)
            path.write_text("".join(json.dumps(one) + "\n" for one in lines))
        else:
            value = json.loads(path.read_text())
            change(value)
            path.write_text(json.dumps(value))

    return spoil


def _score(metric: str, **changes: Any) -> Callable[[Path], None]:
    return _edit("scores.jsonl", lambda lines: next(s for s in lines if s["metric"] == metric).update(changes), -1)


ADDED_UP = {
    "a score": (_score("psnr", value=99.0), "psnr: value is 99.0, and computed again it is"),
    "the ninth digit of a score": (_edit("scores.jsonl", lambda s: s.update(value=s["value"] * (1 + 1e-8))), "value"),
    "an interval": (_score("psnr", low=1.0), "psnr: low is 1.0"),
    "a count": (_score("psnr", n=7), "psnr: n is 7"),
    "a score of sets": (_score("verified-fid", value=0.5), "verified-fid: value is 0.5"),
    "a rate": (_score("bpp", value=0.5), "bpp: value is 0.5"),
    "a cost": (_score("images-per-second", value=1e6), "images-per-second: value is"),
    "a unit": (_score("psnr", unit="B"), "unit is 'B'"),
    "a fingerprint": (_score("psnr", fingerprint="0" * 16), "fingerprint is"),
    "a metric twice": (_edit("scores.jsonl", lambda s: s.append(dict(s[0])), -1), "stands there 2 times"),
    "a score left out": (_edit("scores.jsonl", lambda s: s.pop(0), -1), "which run.json lists"),
    "a row's value": (_edit("rows.jsonl", lambda r: r["values"].update(psnr=50.0), 2), "psnr: value is"),
    "a row's bits": (_edit("rows.jsonl", lambda r: r.update(bits=1.0), 1), "bpp is"),
    "a row twice": (_edit("rows.jsonl", lambda r: r.__setitem__(1, r[0]), -1), "stands there 2 times"),
    "a row less": (_edit("rows.jsonl", lambda r: r.pop(), -1), "run.json states 6"),
    "a value out of bounds": (_edit("rows.jsonl", lambda r: r["values"].update(psnr=-3.0)), "outside"),
    "another model": (_edit("run.json", lambda i: i["model"].update(name="mine")), "model.name"),
    "another option": (_edit("run.json", lambda i: i["model"]["options"].update(codes=2)), "model.options"),
    "another id": (_edit("run.json", lambda i: i.update(id="0" * 64)), "the sha256 of its question"),
    "another question": (_edit("run.json", lambda i: i["question"].update(seed=7)), "the sha256 of its question"),
    "another suite": (_edit("run.json", lambda i: i["suite"].update(hash="0" * 64)), "suite.hash"),
    "another version": (_edit("run.json", lambda i: i["metrics"]["psnr"].update(version=9)), "of version 9"),
    "the rank": (_edit("run.json", lambda i: i.update(ranked=True, why_not_ranked=None, limit=2)), "limited to 2"),
    "no reason": (_edit("run.json", lambda i: i.update(ranked=False, why_not_ranked=None)), "no reason"),
    "a newer schema": (_edit("run.json", lambda i: i.update(schema=9)), "schema 9"),
    "tokens cut": (lambda run: (run / "tokens.bin").write_bytes(b"VTB1"), "tokens.idx does not divide"),
    "a feature": (lambda run: one_digit(next((run / "features").glob("*.f32")), random.Random(1)), "damaged at record"),
    "a picture of another item": (
        _edit("samples/samples.json", lambda s: s[0].update(item="else.png")),
        "which is no image of the run",
    ),
    "a picture elsewhere": (
        _edit("samples/samples.json", lambda s: s[0].update(candidate="../images/00.png")),
        "which is not in samples/",
    ),
}
"""What somebody may change who makes the sums anew, or whose run has none: it does not add up."""


@pytest.mark.parametrize("case", ADDED_UP)
def test_without_sums_it_does_not_add_up(run: Path, case: str) -> None:
    spoil, said = ADDED_UP[case]
    (run / SUMS).unlink()
    spoil(run)
    seen = verify(run)
    assert seen.verdict == "changed", seen.text()
    assert said in " ".join(seen.wrong), seen.wrong


@pytest.mark.parametrize("kind", sorted(path.name for path in OLD.iterdir()))
def test_a_run_of_an_older_version_cannot_be_checked_whole(kind: str) -> None:
    """Recorded by a vtbench that wrote no sums: nothing is wrong with it, and it is no pass."""
    for path in sorted((OLD / kind).iterdir()):
        seen = verify(path)
        assert (seen.verdict, seen.wrong, seen.unchecked[0]) == ("unchecked", (), NO_SUMS), seen.text()
        # That code gave psnr-pooled another interval; its value is what the rows say.
        assert all(why == f"{OTHER_CODE}: psnr-pooled" for why in seen.unchecked[1:])
        assert seen.again


def test_new_metrics_do_not_vouch_for_a_picture_that_changed(run: Path) -> None:
    """`score RUN` writes the sums of what it wrote; those of all other files stay what they were."""
    stated = read_sums(run)
    rescore.add_metrics(run, ["mse"])
    assert verify(run).verdict == "verified"
    one_digit(run / "samples" / "01.reference.png", random.Random(2))
    rescore.add_metrics(run, ["mse"])
    assert "samples/01.reference.png is not the file that SHA256SUMS states" in " ".join(verify(run).wrong)
    assert {name for name, value in (read_sums(run) or {}).items() if (stated or {})[name] != value} == {
        "run.json",
        "rows.jsonl",
        "scores.jsonl",
    }


def test_sums_go_before_the_first_change_and_come_back_at_the_end(run: Path) -> None:
    info = read_info(run / "run.json")

    def stopped() -> None:
        with RunFolder(run) as folder:
            folder.write_info(info)
            assert read_sums(run) is None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert read_sums(run) is None, "who was stopped has not finished"
    with RunFolder(run):
        pass
    assert differences(run, read_sums(run) or {}) == [], "a run that was killed at its very end gets them next time"
    with RunFolder(run) as folder:
        folder.write_info(info.with_(status="running"))
    assert read_sums(run) is None, "what is not finished has none"


def test_names_that_would_break_a_line(tmp_path: Path) -> None:
    """As coreutils writes them (md5sum invocation): a backslash before the sum, \\n and \\\\ in the name."""
    from vtbench.results.sums import write_sums

    for name in ("a\nb", "c\\d", "plain", "e\rf"):
        (tmp_path / name).write_text(name)
    write_sums(tmp_path)
    assert set(read_sums(tmp_path) or {}) == {"a\nb", "c\\d", "plain", "e\rf"}
    assert differences(tmp_path, read_sums(tmp_path) or {}) == []
    assert (tmp_path / SUMS).read_bytes().count(b"\n") == 4
    with pytest.raises(VtbenchError, match="not in the order"):
        of_bytes(b"".join(reversed((tmp_path / SUMS).read_bytes().splitlines(keepends=True))), "it")


@pytest.fixture
def exits(run: Path) -> tuple[Path, Path]:
    """A changed copy beside the whole one."""
    changed = Path(shutil.copytree(run, run.parent / "changed"))
    one_digit(changed / "rows.jsonl", random.Random(3))
    return run, changed


def test_the_verb_says_it_by_its_exit_code(exits: tuple[Path, Path]) -> None:
    whole, changed = exits
    old = next((OLD / "curve").iterdir())
    codes = {
        (whole,): 0,
        (changed,): 1,
        (old,): 3,
        (whole, old): 3,
        (old, changed): 1,
    }
    for paths, wanted in codes.items():
        code, out, _ = command("leaderboard", "verify", *map(str, paths), "--json")
        assert code == wanted
        assert [one["path"] for one in json.loads(out)] == [str(p) for p in paths]
    code, out, _ = command("leaderboard", "verify", str(changed))
    assert "NOT as it was written" in out
    assert "rows.jsonl is not the file" in out
