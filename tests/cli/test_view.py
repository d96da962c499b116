"""`vtbench view`: the page of one run, with a browser and without."""

from __future__ import annotations

import json
import os
import shutil
import webbrowser
from pathlib import Path

import pytest
from support import ROOT, command

from vtbench import leaderboard
from vtbench.leaderboard.site import check_replaceable
from vtbench.results.sites import MARKER

RUNS = ROOT / "tests" / "data" / "runs_schema1" / "runs" / "curve"
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in SCREENS:
        monkeypatch.delenv(name, raising=False)
    first = sorted(RUNS.iterdir())[0]
    shutil.copytree(first, tmp_path / "out" / first.name)
    return Path("out") / first.name


@pytest.fixture
def small_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the site's builder: where its pages lie, without what is on them."""

    def build(runs: list[Path], out: Path) -> Path:
        assert len(runs) == 1
        check_replaceable(out)
        (out / "model").mkdir(parents=True, exist_ok=True)
        (out / "model" / "jpeg.html").write_text("JPEG")
        (out / MARKER).write_text('{"vtbench": "site"}')
        return out / "index.html"

    monkeypatch.setattr(leaderboard, "build", build)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that a browser was asked for."""
    asked: list[str] = []
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(webbrowser, "open", lambda url: asked.append(url) or True)
    return asked


def page_in(out: str) -> Path:
    return Path(out.splitlines()[0].removeprefix("page: "))


def test_without_a_screen_it_says_where_the_page_lies(run: Path, opened: list[str]) -> None:
    before = sorted(p.name for p in run.iterdir())
    code, out, _ = command("view", run)
    assert code == 0
    page = page_in(out)
    assert page.is_relative_to(Path(f"{run}.page").resolve())
    assert "JPEG" in page.read_text()
    assert "no browser is here" in out
    assert opened == []
    assert sorted(p.name for p in run.iterdir()) == before, "nothing is written into the run"
    # A site keeps copies of the runs that it shows, which are no runs beside them.
    assert list(Path("out").glob("*.page/data/runs/*/run.json"))
    assert [line["path"] for line in json.loads(command("runs", "out", "--json")[1])] == [str(run)]
    # The site itself can be read, as it was published.
    (copy,) = json.loads(command("runs", f"{run}.page", "--json")[1])
    assert copy["path"].startswith(f"{run}.page")


@pytest.mark.usefixtures("small_site")
def test_a_browser_is_asked_for_the_page(run: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.chdir(run)
    code, out, _ = command("view", ".")
    assert code == 0
    assert opened == [page_in(out).as_uri()]
    assert "no browser" not in out


@pytest.mark.usefixtures("small_site")
@pytest.mark.parametrize("words", [("--no-open",), ("--out", "page"), ("--json",)])
def test_only_written(run: Path, opened: list[str], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    code, out, _ = command("view", run, *words)
    assert code == 0
    assert opened == []
    page = Path(json.loads(out)["page"]) if words == ("--json",) else page_in(out)
    assert page.is_file()
    assert "no browser" not in out
    assert Path("page").is_dir() == (words[0] == "--out")


@pytest.mark.usefixtures("small_site")
def test_a_browser_that_fails_is_none(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> bool:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", broken)
    code, out, _ = command("view", run)
    assert code == 0
    assert "no browser is here" in out


@pytest.mark.usefixtures("small_site")
def test_what_is_no_single_run_is_one_sentence(run: Path, opened: list[str]) -> None:
    second = run.with_name("second")
    shutil.copytree(run, second)
    Path("empty").mkdir()
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("mine")
    for words, said in (
        (("out",), "holds 2 runs"),
        (("empty",), "holds no run"),
        (("nowhere",), "holds no run"),
        ((run, "--out", "taken"), "is not a page of vtbench"),
        ((run, "--out", "taken/mine.txt"), "is a file"),
    ):
        code, _, err = command("view", *words)
        assert code == 2, words
        assert said in err
        assert err.count("\n") == 1
    assert os.listdir("taken") == ["mine.txt"]
    assert opened == []
