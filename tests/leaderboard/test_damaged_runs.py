"""Run folders from elsewhere: a bad one is named and left out of the page, the page stands with all good ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import damaged_runs
import pytest
from damaged_runs import KINDS, MARKUP, damaged_run, seeds
from site_pages import check_only_own_scripts, pages

from vtbench import leaderboard
from vtbench.cli.study import leaderboard_build
from vtbench.leaderboard.pages.data import scores_parquet
from vtbench.leaderboard.site import MARKER
from vtbench.reporting.compare import compare
from vtbench.reporting.inventory import inventory
from vtbench.reporting.reading import read_runs
from vtbench.reporting.table import COLUMNS, scores_csv
from vtbench.results.record import read_run
from vtbench.running.merge import merge
from vtbench.types.errors import VtbenchError

EACH = 12
"""Damaged copies of each of the five seeds."""


def sentence(call: Callable[[], object]) -> str | None:
    """What a call says if it refuses; whatever else it raises fails the test."""
    try:
        call()
    except VtbenchError as bad:
        said = str(bad)
    else:
        return None
    for never in ("\n", "\x1b", "\u202e", "the secret"):
        assert never not in said
    return said


@pytest.mark.parametrize("kind", KINDS)
def test_every_whole_run_is_accepted(kind: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(seeds()[kind], tmp_path / "r"))
    left_out: dict[Path, str] = {}
    assert len(read_runs([folder], left_out)) == 1
    assert left_out == {}
    assert inventory([folder])[0].why is None
    assert compare([folder, seeds()[kind]], resamples=10).images
    assert leaderboard.build([folder], tmp_path / "site", left_out).is_file()
    assert left_out == {}


def test_a_page_of_whole_and_damaged_runs(tmp_path: Path) -> None:
    whole = {json.loads((path / "run.json").read_text())["id"]: path for path in seeds().values()}
    for kind, path in seeds().items():
        shutil.copytree(path, tmp_path / "runs" / f"whole-{kind}")
    hurt = [damaged_run(kind, seed, tmp_path / "runs" / f"{kind}-{seed}") for kind in KINDS for seed in range(EACH)]
    left_out: dict[Path, str] = {}
    page = leaderboard.build([tmp_path / "runs"], tmp_path / "site", left_out)
    shown = json.loads((page.parent / MARKER).read_text())["runs"]
    assert whole.keys() <= {*shown}
    assert left_out.keys() <= {*hurt}
    assert len(left_out) >= len(hurt) // 3
    for path, why in left_out.items():
        assert str(path) in why
    for name, read in pages(page.parent).items():
        check_only_own_scripts(name, read)
        assert "the secret" not in read.words
    for listed in inventory([tmp_path / "runs"]):
        # The page may refuse rows too, which a list does not read.
        assert (listed.why is None) or listed.path in left_out
    beside = sorted((damaged_runs.RECORDED / "shards").iterdir())[1]
    for path in hurt:
        kind = path.name.partition("-")[0]
        sentence(lambda: compare([path, seeds()[kind]], resamples=10))  # noqa: B023
        if kind == "shards":
            sentence(lambda: merge([path, beside], tmp_path / "merged" / path.name))  # noqa: B023


def test_markup_in_every_text_of_a_record_stays_text(tmp_path: Path) -> None:
    """Each text in turn would take 300 pages: all at once, where a record may hold any text."""

    def marked(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {k: marked(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [marked(v, key) for v in value]
        return f"{value}{MARKUP}" if isinstance(value, str) and key not in ("status", "metric", "better") else value

    folder = Path(shutil.copytree(seeds()["curve"], tmp_path / "runs" / "r"))
    for name in ("run.json", "rows.jsonl", "scores.jsonl"):
        text = (folder / name).read_text()
        parts = text.splitlines() if name.endswith("l") else [text]
        (folder / name).write_text("".join(json.dumps(marked(json.loads(part))) + "\n" for part in parts))
    left_out: dict[Path, str] = {}
    leaderboard.build([tmp_path / "runs"], tmp_path / "site", left_out)
    assert left_out == {}
    for name, read in pages(tmp_path / "site").items():
        check_only_own_scripts(name, read)
        assert "49" not in read.words or "{{7*7}}" in read.words


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 38)


NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (_pipe, "no regular file"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "link to a file outside"),
    "a device by a link inside": (lambda path: path.symlink_to("/dev/full"), "link to a file outside"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "cannot be read"),
    "a link that leads nowhere": (lambda path: path.symlink_to("gone"), "leads nowhere"),
    "a link to a secret": (lambda path: path.symlink_to(path.parent.parent / "secret"), "link to a file outside"),
    "a folder": (lambda path: path.mkdir(), "cannot be read"),
    "a terabyte of nothing": (_sparse, ""),
}  # fmt: skip


@pytest.mark.parametrize("how", NO_FILES)
@pytest.mark.parametrize("name", ["run.json", "scores.jsonl", "rows.jsonl"])
def test_what_is_no_file_of_the_run(how: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "secret").write_text('{"schema": 1, "secret": "the secret"}\n')
    folder = Path(shutil.copytree(seeds()["curve"], tmp_path / "runs" / "r"))
    (folder / name).unlink()
    make, says = NO_FILES[how]
    make(folder / name)
    left_out: dict[Path, str] = {}
    shutil.copytree(seeds()["shards"], tmp_path / "runs" / "whole")
    leaderboard.build([tmp_path / "runs"], tmp_path / "site", left_out)
    assert list(left_out) == [folder]
    assert says in left_out[folder]
    said = sentence(lambda: [*read_run(folder).rows()])
    assert said is not None
    assert name in said


def test_the_command_names_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import typer

    shutil.copytree(seeds()["curve"], tmp_path / "runs" / "whole")
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "run.json").write_text("[1, 2]")
    with pytest.raises(typer.Exit) as end:
        leaderboard_build([tmp_path / "runs"], tmp_path / "site", as_json=True)
    assert end.value.exit_code == 1
    printed, complained = capsys.readouterr()
    answer = json.loads(printed)
    assert [*answer["left_out"]] == [str(tmp_path / "runs" / "bad")]
    assert Path(answer["site"]).is_file()
    assert complained.startswith("vtbench: left out of the page: ")
    assert complained.count("\n") == 1
    with pytest.warns(UserWarning, match="left out of the page"):
        leaderboard.build([tmp_path / "runs"], tmp_path / "site")
    with pytest.raises(VtbenchError, match="no run is left"):
        leaderboard.build([tmp_path / "runs" / "bad"], tmp_path / "other")


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**30, 2**63 - 1])
def test_whole_numbers_beyond_64_bits_are_null_in_parquet_alone(number: int) -> None:
    import io

    import pyarrow.parquet as pq

    line = dict.fromkeys(COLUMNS) | {"n": number, "seed": number, "metric": "psnr"}
    (read,) = pq.read_table(io.BytesIO(scores_parquet([line]))).to_pylist()
    fits = number if number < 2**63 and number > -(2**63) - 1 else None
    assert (read["n"], read["seed"], read["missing"], read["metric"]) == (fits, fits, None, "psnr")
    assert str(number) in scores_csv([line]).decode()
