"""`score RUN` that is killed or stopped goes on from the last whole batch, and makes of the run what one pass makes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from stopped import BATCH, KILLED, STOPPED, Commands, left

from vtbench.running import kept_work

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")
GENERATOR = """
import torch

from vtbench import Card, Family, Generator, Multiple


class Seeds(Generator):
    def generate(self, prompts, seeds):
        noise = [torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return torch.stack(noise)


CARD = Card("kept-noise", "kept-noise", "generator", "Noise", sizes=Multiple(), conditioning="class")
FAMILY = Family("kept-noise", "Noise", (CARD,), Seeds)
"""
TASK = """
from vtbench import Task

TASK = Task("drawn", "Drawn", 1, (), "native", ({metric!r},), prompts=("classes:2",))
"""
PER_BATCH = 3
"""Calls: the metric of images, and the network on both sides."""


def of_run(commands: Commands, save: str = "images", **more: Any) -> dict[str, Any]:
    """A question of a run of ten images, and a copy of that beside it."""
    model = "jpeg" if save == "images" else "kmeans-vq"
    run = Path(commands.evaluate(model, "out", view="32", save=[save], batch_size=BATCH, **more))
    shutil.copytree(run, run.with_name("copy"), dirs_exist_ok=True)
    return {"run": str(run), "metrics": [commands.distance, commands.counted]}


def of_drawing(commands: Commands) -> dict[str, Any]:
    (commands.folder / "noise.py").write_text(GENERATOR)
    (commands.folder / "drawn.py").write_text(TASK.format(metric=commands.distance))
    more = {"tasks": [f"{commands.folder / 'drawn.py'}@drawn"], "view": "native", "per_prompt": 35}
    run = Path(commands.evaluate(f"{commands.folder / 'noise.py'}@kept-noise", "out", **more))
    shutil.copytree(run, run.with_name("copy"))
    return {"run": str(run), "metrics": [commands.distance]}


@pytest.mark.parametrize("save", ["images", "tokens"])
def test_finished_batches_are_not_made_again(save: str, commands: Commands) -> None:
    question = of_run(commands, save)
    wanted, whole = commands.rescore(question), commands.calls()
    assert not commands.kept(), "a command that is through leaves nothing"
    for after, how in ((0, KILLED), (PER_BATCH, STOPPED), (2 * PER_BATCH + 1, KILLED), (len(whole) - 1, KILLED)):
        commands.ends_early(question, after, how)
        assert len(commands.kept()) == 1
        assert commands.rescore(question) == wanted
        assert commands.calls() == left(whole, [PER_BATCH], after)
        assert not commands.kept()


def test_drawn_images_are_not_measured_again(commands: Commands) -> None:
    """Two whole batches of 32, a part of one, and a batch of the reference."""
    question = of_drawing(commands)
    wanted, whole = commands.rescore(question), commands.calls()
    assert len(whole) == 4
    commands.ends_early(question, 2)
    assert commands.rescore(question) == wanted
    assert commands.calls() == whole[2:]
    assert not commands.kept()


# -- what changes between two tries ------------------------------------------------------------------------------------


def repainted(path: Path) -> None:
    """Other pixels in a file of the same times."""
    times = path.stat()
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def a_picture(question: dict[str, Any], commands: Commands) -> None:
    repainted(Path(question["run"]).with_name("copy") / "images" / "001.png")


def a_metric(question: dict[str, Any], commands: Commands) -> None:
    text = commands.metrics.read_text()
    commands.metrics.write_text(text.replace("factor = 1.0", "factor = 2.0"))


def other_metrics(question: dict[str, Any], commands: Commands) -> None:
    question["metrics"] = question["metrics"][1:]


def their_order(question: dict[str, Any], commands: Commands) -> None:
    question["metrics"] = question["metrics"][::-1]


@pytest.mark.parametrize("change", [a_picture, a_metric, other_metrics, their_order])
def test_what_changed_meanwhile_is_another_question(
    change: Callable[[dict[str, Any], Commands], None], commands: Commands
) -> None:
    question = of_run(commands)
    commands.ends_early(question, 2 * PER_BATCH + 1)
    change(question, commands)
    found, calls = commands.rescore(question), commands.calls()
    assert found == commands.rescore(question)
    assert calls == commands.calls()


def test_tokens_that_the_run_kept_are_those_that_it_holds(commands: Commands) -> None:
    question = of_run(commands, "tokens")
    other = Path(commands.evaluate("kmeans-vq", "other", view="32", save=["tokens"], images=str(commands.made)))
    commands.ends_early(question, 2 * PER_BATCH + 1)
    for name in ("tokens.bin", "tokens.idx"):
        (Path(question["run"]).with_name("copy") / name).write_bytes((other / name).read_bytes())
    found, calls = commands.rescore(question), commands.calls()
    assert found == commands.rescore(question)
    assert calls == commands.calls()


def test_what_could_not_be_read_then_is_read_now(commands: Commands) -> None:
    """A mount that did not answer is no fault of the picture; what still cannot be read costs no other batch."""
    question = of_run(commands)
    wanted, whole = commands.rescore(question), commands.calls()
    unread = {"VTBENCH_TEST_UNREAD": "images/001.png images/006.png"}
    commands.ends_early(question, len(whole) - 1, **unread)
    some = commands.rescore(question, VTBENCH_TEST_UNREAD="images/001.png")
    # The first batch is what it was; the second holds the picture that can be read, and a third is no whole one.
    assert len(commands.calls()) == 2 * PER_BATCH
    assert some == commands.rescore(question, VTBENCH_TEST_UNREAD="images/001.png")
    commands.calls()
    commands.ends_early(question, len(whole) - 1, **unread)
    assert commands.rescore(question) == wanted
    assert commands.calls() == whole


@pytest.mark.parametrize("what", ["rows", "a line", "features", "record"])
def test_what_is_damaged_is_made_again(what: str, commands: Commands) -> None:
    question = of_run(commands)
    wanted, whole = commands.rescore(question), commands.calls()
    commands.ends_early(question, 2 * PER_BATCH + 1)
    (place,) = commands.kept()
    (rows,) = place.glob("run/*/rows.jsonl")
    if what == "rows":
        rows.write_bytes(rows.read_bytes()[:-20])
    elif what == "a line":
        rows.write_bytes(rows.read_bytes().replace(b'{"item"', b"\\0\\0\\0\\0\\0\\0\\0", 1))
    elif what == "record":
        (rows.parent / "run.json").write_text("{")
    else:
        path = next(rows.parent.glob("features/*.f32"))
        path.write_bytes(b"\\1" + path.read_bytes()[1:])
    found = commands.rescore(question)
    assert len(commands.calls()) == (2 * PER_BATCH if what == "rows" else len(whole))
    if what != "features":
        assert found == wanted
        return
    # The run says that its pictures went through once more, and why.
    changed = {name for name in wanted if found[name] != wanted[name]}
    assert changed == {"run.json", "SHA256SUMS"}


def test_a_run_that_was_measured_and_not_written_yet_is_not_measured_again(commands: Commands) -> None:
    """A kill between the last batch and the run itself: what is finished is only joined."""
    question = of_run(commands)
    wanted, whole = commands.rescore(question), commands.calls()
    with pytest.raises(AssertionError, match=KILLED):
        commands.rescore(question, VTBENCH_TEST_KILLED_AT_THE_END="1")
    assert commands.calls() == whole
    assert len(commands.kept()) == 1
    assert commands.rescore(question) == wanted
    assert commands.calls() == []


def test_two_commands_and_an_unwritable_cache_cost_nothing(commands: Commands, tmp_path: Path) -> None:
    question = of_run(commands)
    wanted, whole = commands.rescore(question), commands.calls()
    commands.ends_early(question, len(whole) - 1)
    (place,) = commands.kept()
    with kept_work.held(place, ["run"], tmp_path / "scratch"):
        assert commands.rescore(question) == wanted
        assert commands.calls() == whole
    below = tmp_path / "file"
    below.write_text("no folder")
    assert commands.rescore(question, VTBENCH_CACHE=str(below / "cache")) == wanted
