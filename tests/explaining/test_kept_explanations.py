"""`explain` that is killed or stopped goes on from the last whole batch, to what one pass gives, byte for byte."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stopped import ADAPTER, KILLED, STOPPED, Commands, left, pictures

from vtbench.running import kept_work

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")


def adapter(commands: Commands) -> dict[str, Any]:
    """A model of a user's file, with a checkpoint and a file that it declares."""
    folder = commands.folder / "adapter"
    folder.mkdir()
    (folder / "scaled.py").write_text(ADAPTER)
    (folder / "declared.txt").write_text("0.9")
    torch.save({"scale": torch.tensor(0.8)}, commands.folder / "scale.pth")
    more = {"options": {"gain": "0.7"}, "checkpoint": str(commands.folder / "scale.pth"), "batch_size": 4}
    return {"model": f"{folder / 'scaled.py'}@scaled", "more": {**more, "images": str(commands.real)}}


def question_of(kind: str, commands: Commands) -> tuple[dict[str, Any], list[int]]:
    """(a question, calls a batch of each of its stages)."""
    images = {"images": str(commands.real), "batch_size": 4}
    if kind == "model":
        return {"model": "jpeg", "more": {**images, "options": {"quality": "30"}}}, [3, 1]
    if kind == "adapter":
        return adapter(commands), [3, 1]
    if kind == "folder":
        (commands.made / "005.png").write_bytes(b"no picture")
        return {"model": f"folder:{commands.made}", "more": images}, [2]
    if kind == "reference":
        (commands.made / "005.png").write_bytes(b"no picture")
        other = pictures(commands.folder / "other", 2)
        claims = {commands.counted: 20, commands.distance: 7}
        more = {**images, "reference": str(other)}
        return {"model": f"folder:{commands.made}", "claims": claims, "more": more}, [6, 1]
    if kind == "images":
        return {"model": commands.evaluate("jpeg", "out", view="32", save=["images"])}, [2]
    if kind == "tokens":
        return {"model": commands.evaluate("kmeans-vq", "out", view="32", save=["tokens"])}, [3]
    first, second = (commands.evaluate("jpeg", f"out-{view}", view=view) for view in ("32", "24"))
    return {"model": first, "second": second, "claims": ["psnr"]}, [1]


KINDS = ("model", "adapter", "folder", "reference", "images", "tokens", "runs")


@pytest.mark.parametrize("kind", KINDS)
def test_finished_batches_are_not_made_again(kind: str, commands: Commands) -> None:
    question, per_batch = question_of(kind, commands)
    wanted = commands.explain(question)
    assert any(claim["value"] is not None for claim in wanted["claims"])
    whole = commands.calls()
    assert not commands.kept(), "a command that is through leaves nothing"
    last = len(whole) - 1
    for after in sorted({per_batch[0], min(2 * per_batch[0] + 1, last), last}):
        commands.ends_early(question, after)
        assert commands.kept()
        assert commands.explain(question) == wanted
        assert commands.calls() == left(whole, per_batch, after)
        assert not commands.kept()


def test_a_command_may_be_stopped_again_and_again(commands: Commands) -> None:
    question, per_batch = question_of("reference", commands)
    wanted, whole = commands.explain(question), commands.calls()
    for _ in range(4):
        commands.ends_early(question, per_batch[0], STOPPED)
    commands.ends_early(question, per_batch[0] + 1, KILLED)
    assert commands.explain(question) == wanted
    # Two batches of pictures, and after the last, which is never kept, one of the reference.
    assert commands.calls() == left(whole, per_batch, 3 * per_batch[0] + 1)


# -- what changes between two tries ------------------------------------------------------------------------------------


def repainted(path: Path) -> None:
    """Other pixels in a file of the same times."""
    times = path.stat()
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def rewritten(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def gain(question: dict[str, Any], commands: Commands) -> None:
    question["more"]["options"] = {"gain": "0.4"}


def limit(question: dict[str, Any], commands: Commands) -> None:
    question["more"]["limit"] = 9


def checkpoint(question: dict[str, Any], commands: Commands) -> None:
    torch.save({"scale": torch.tensor(0.3)}, commands.folder / "scale.pth")


def settings(question: dict[str, Any], commands: Commands) -> None:
    """The class of the metric lies in another file than its settings."""
    rewritten(commands.folder / "own.py", "factor = 2.0", "factor = 4.0")


CHANGES: dict[str, tuple[str, Callable[[dict[str, Any], Commands], Any]]] = {
    "a checkpoint": ("adapter", checkpoint),
    "an option": ("adapter", gain),
    "a limit": ("adapter", limit),
    "the batch size": ("adapter", lambda question, commands: question["more"].update(batch_size=2)),
    "the seed": ("adapter", lambda question, commands: question["more"].update(seed=3)),
    "colours": ("adapter", lambda question, commands: question["more"].update(icc="srgb")),
    "an adapter": ("adapter", lambda _, commands: rewritten(commands.folder / "adapter/scaled.py", "* 1.0", "* 0.5")),
    "what it declares": ("adapter", lambda _, commands: (commands.folder / "adapter/declared.txt").write_text("0.2")),
    "an original": ("adapter", lambda question, commands: repainted(commands.real / "001.png")),
    "an original of a folder": ("folder", lambda question, commands: repainted(commands.real / "001.png")),
    "a picture of a folder": ("folder", lambda question, commands: repainted(commands.made / "001.png")),
    "a picture that a run kept": (
        "images",
        lambda question, commands: repainted(Path(question["model"]) / "images/001.png"),
    ),
    "a metric": ("folder", lambda _, commands: rewritten(commands.metrics, "factor = 1.0", "factor = 2.0")),
    "a metric's settings": ("settings", settings),
}


def with_settings(commands: Commands) -> dict[str, Any]:
    own = commands.folder / "own.py"
    own.write_text(
        "from .counted_metrics import Counted as Base\n\n\ndef made():\n    metric = Base()\n    metric.factor = 2.0\n"
        "    return metric\n\n\nmade.card = Base.card\nMETRICS = (made,)\n"
    )
    question, _ = question_of("folder", commands)
    return {**question, "claims": {f"{own}@counted": 20}}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_meanwhile_is_another_question(change: str, commands: Commands) -> None:
    kind, make = CHANGES[change]
    question = with_settings(commands) if kind == "settings" else question_of(kind, commands)[0]
    before = commands.explain(question)
    # The first view whole, and a part of the second; of a folder's one view two batches.
    after = len(commands.calls()) - 2
    commands.ends_early(question, after)
    make(question, commands)
    found = commands.explain(question)
    again = commands.calls()
    assert found == commands.explain(question), "one pass gives something else"
    assert again == commands.calls()
    if change not in ("the batch size", "the seed", "colours"):
        assert found["claims"] != before["claims"]


def test_another_reference_set_leaves_the_pictures_of_the_system(commands: Commands) -> None:
    question, per_batch = question_of("reference", commands)
    commands.explain(question)
    whole = commands.calls()
    commands.ends_early(question, len(whole) - 1)
    repainted(commands.folder / "other" / "000.png")
    found = commands.explain(question)
    # The last batch is no whole one, and of the set none is what it was.
    assert len(commands.calls()) == per_batch[0] + 3
    assert found == commands.explain(question)
    commands.calls()
    commands.ends_early(question, len(whole) - 1)
    question["more"]["reference"] = str(pictures(commands.folder / "third", 5))
    found = commands.explain(question)
    assert len(commands.calls()) == per_batch[0] + 3
    assert found == commands.explain(question)


def test_tokens_that_a_run_kept_are_those_that_it_holds(commands: Commands) -> None:
    question, _ = question_of("tokens", commands)
    other = Path(commands.evaluate("kmeans-vq", "other", view="32", save=["tokens"], images=str(commands.made)))
    commands.explain(question)
    after = len(commands.calls()) - 2
    commands.ends_early(question, after)
    for name in ("tokens.bin", "tokens.idx"):
        (Path(question["model"]) / name).write_bytes((other / name).read_bytes())
    found = commands.explain(question)
    assert len(commands.calls()) == after + 2
    assert found == commands.explain(question)


def test_a_file_that_the_model_reads_at_work_is_read_again(commands: Commands) -> None:
    """Nothing in the model's identity speaks of it: batches from before it was first opened stay."""
    question, per_batch = question_of("adapter", commands)
    late = commands.folder / "adapter" / "late.txt"
    late.write_text("0.5")
    commands.explain(question)
    whole = commands.calls()
    commands.ends_early(question, len(whole) - 1)
    late.write_text("0.1")
    found = commands.explain(question)
    assert len(commands.calls()) == per_batch[0] + 3 * per_batch[1]
    assert found == commands.explain(question)
    assert len(commands.calls()) == len(whole)


# -- what could not be read, and what is damaged -----------------------------------------------------------------------


@pytest.mark.parametrize("side", ["real", "made"])
def test_what_could_not_be_read_then_is_read_now(side: str, commands: Commands) -> None:
    """A mount that did not answer is no fault of the picture; what still cannot be read costs no other batch."""
    question, per_batch = question_of("folder", commands)
    wanted, whole = commands.explain(question), commands.calls()
    unread = {"VTBENCH_TEST_UNREAD": f"{side}/001.png {side}/006.png"}
    commands.ends_early(question, len(whole) - 1, **unread)
    some = commands.explain(question, VTBENCH_TEST_UNREAD=f"{side}/001.png")
    # The first batch is what it was; the second holds the picture that can be read, and a third is no whole one.
    assert len(commands.calls()) == 2 * per_batch[0]
    assert some == commands.explain(question, VTBENCH_TEST_UNREAD=f"{side}/001.png")
    commands.calls()
    commands.ends_early(question, len(whole) - 1, **unread)
    assert commands.explain(question) == wanted
    assert commands.calls() == whole


@pytest.mark.parametrize("what", ["rows", "a line", "items", "features", "originals", "sums"])
def test_what_is_damaged_is_made_again(what: str, commands: Commands) -> None:
    question, per_batch = question_of("reference", commands)
    wanted, whole = commands.explain(question), commands.calls()
    # Two of the first view's three batches.
    commands.ends_early(question, 3 * per_batch[0] - 1)
    (place,) = commands.kept()
    rows = place / "rows" / "rows.jsonl"
    if what == "rows":
        rows.write_bytes(rows.read_bytes()[:-20])
    elif what == "a line":
        rows.write_bytes(rows.read_bytes().replace(b'{"item"', b"\0\0\0\0\0\0\0", 1))
    elif what == "items":
        rewritten(rows, "003.png", "004.png")
    else:
        end = {"features": ".f32", "originals": ".reference.f32", "sums": ".f32.crc"}[what]
        path = sorted(p for p in (place / "rows" / "features").iterdir() if p.name.endswith(end))[0]
        path.write_bytes(b"\1" + path.read_bytes()[1:])
    assert commands.explain(question) == wanted
    left_over = {"rows": 2 * per_batch[0]}.get(what, 3 * per_batch[0])
    assert len(commands.calls()) == left_over + len(whole) - 3 * per_batch[0]


def test_two_commands_and_an_unwritable_cache_cost_nothing(commands: Commands, tmp_path: Path) -> None:
    question, _ = question_of("reference", commands)
    wanted, whole = commands.explain(question), commands.calls()
    commands.ends_early(question, len(whole) - 1)
    places = commands.kept()
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(kept_work.held(place, ["rows"], tmp_path / "scratch"))
        assert commands.explain(question) == wanted
        assert commands.calls() == whole
    below = tmp_path / "file"
    below.write_text("no folder")
    assert commands.explain(question, VTBENCH_CACHE=str(below / "cache")) == wanted


def test_a_system_that_fails_at_the_second_view_leaves_nothing(commands: Commands) -> None:
    """It is a reason, with which the command comes to its end."""
    question, _ = question_of("runs", commands)
    found = commands.explain(question, VTBENCH_TEST_FAILS="jpeg")
    assert any("no memory left" in str(move["why"]) for move in found["claims"][0]["moves"])
    assert not commands.kept()
