"""A path that exists wins over a suite's name; both meanings are named, and the other one can be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_files import picture, save
from support import command

import vtbench
from vtbench.images.hub import REMOTE
from vtbench.images.opening import open_again, open_named, open_of_task, open_path, open_set, open_suite
from vtbench.models.again import originals
from vtbench.models.pictures import SavedPictures
from vtbench.types.errors import VtbenchError

NAME = "starter-natural"
BOTH = f"{NAME} is a path here, which was taken, and the name of a suite of vtbench, which is suite:{NAME}"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three images that is called like a built-in suite, in the working folder."""
    for seed in range(3):
        save(tmp_path / NAME / f"{seed}.png", picture(seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path / NAME


@pytest.mark.usefixtures("local")
def test_the_path_wins_and_both_are_named() -> None:
    suite = open_suite(NAME)
    assert [i.id for i in suite.items] == ["0.png", "1.png", "2.png"]
    assert suite.notes == [BOTH]
    assert open_suite(f"./{NAME}").notes == []
    for named in (open_suite(f"suite:{NAME}"), open_named(NAME), open_of_task(NAME)):
        assert len(named.items) == 9
        assert named.notes == []
    assert open_set(Path(NAME)).n == 3
    assert len(SavedPictures(Path(NAME)).items) == 3


def test_a_file_and_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder called like a data set on the hub, which could not be had here; and a file called like a suite."""
    monkeypatch.chdir(tmp_path)
    remote = next(iter(REMOTE))
    save(tmp_path / remote / "a.png", picture(0))
    assert len(open_suite(remote).items) == 1
    assert f"which is suite:{remote}" in open_suite(remote).notes[0]
    save(tmp_path / "starter-text.png", picture(0))
    (tmp_path / "starter-text.png").rename(tmp_path / "starter-text")
    assert [i.id for i in open_suite("starter-text").items] == ["starter-text"]


def test_names_that_are_no_suite() -> None:
    with pytest.raises(VtbenchError, match=r"no suite 'starter-natura' \(did you mean starter-natural"):
        open_suite("suite:starter-natura")


@pytest.mark.usefixtures("local")
def test_a_tasks_own_suites_are_the_built_in_ones(tmp_path: Path) -> None:
    run = vtbench.evaluate("png", tasks=["compression"], out=tmp_path / "out").runs[0]
    assert run.info.suite.n == 9
    assert run.info.suite.hash == open_named(NAME).hash
    assert run.info.suite.notes == []
    # Opened again by the same name, which has two meanings here: the run's contents decide.
    assert originals(run).hash == run.info.suite.hash


def test_a_run_on_the_folder_says_so_and_opens_it_again(local: Path, tmp_path: Path) -> None:
    run = vtbench.evaluate("png", tasks=["compression"], images=NAME, view="native", out=tmp_path / "out").runs[0]
    assert (run.info.suite.n, run.info.suite.notes) == (3, [BOTH])
    assert originals(run).hash == open_path(local).hash
    save(local / "0.png", picture(9))
    with pytest.raises(VtbenchError, match="is no longer what"):
        originals(run)
    assert np.array_equal(open_again(NAME, "0" * 64).load(open_suite(NAME).items[0]), picture(9))


@pytest.mark.usefixtures("local")
def test_every_command_takes_the_path_and_says_so(tmp_path: Path) -> None:
    for seed in range(3):
        save(tmp_path / "cand" / f"{seed}.png", picture(seed))
    code, out, err = command("score", NAME, "cand", "--metrics", "mse")
    assert (code, "n=3" in out, f"{NAME}: {BOTH}" in err) == (0, True, True)
    code, out, err = command("score", f"./{NAME}", "cand", "--metrics", "mse")
    assert (code, "n=3" in out) == (0, True)
    code, out, err = command("evaluate", "png", "--images", NAME, "--view", "native", "--task", "compression")
    assert (code, "3 images" in out.splitlines()[0], BOTH in out) == (0, True, True)
    code, out, err = command("explain", "folder:cand", "--images", NAME, "--claim", "mse=0")
    assert (code, f"note: {BOTH}" in out) == (0, True)
