"""Tokenizers under the tasks of understanding: which one it is, and the model that reads their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vtbench.models.reduced import check_options, model_options
from vtbench.models.understood import split
from vtbench.running.reduction import TASKS, task_of
from vtbench.types.errors import VtbenchError
from vtbench.types.task import Task

TASK = TASKS[0]
OF_TOKENS = ("visual-tokens", "duplicates", "coverage", "cache-kept")
"""Beginnings of the names of metrics of a model's visual tokens, of which a tokenizer drops none."""
OF_CHOICE = {"positions"}
"""Options of a model's reading that say something of dropped tokens alone."""


def check_tower(tower: str | None, tasks: Sequence[str]) -> None:
    """Refuses a tower that nothing asks for, and the task that needs one without."""
    asked = next((name for name in TASKS if name in tasks), None)
    if tower is not None and not tower.strip():
        raise VtbenchError("--tower is empty: give a folder as save_pretrained writes it, or a hub id")
    if tower is not None and (asked is None or len(tasks) > 1):
        raise VtbenchError(
            f"--tower is the model that reads pictures: give models and --task {TASK} alone, or --reducer NAME"
        )
    if asked is not None and tower is None:
        raise VtbenchError(
            f"--task {asked} compares what a model makes of pictures and of their reconstructions: give --tower FOLDER "
            "or a hub id"
        )


def reading_task(tower: str, tasks: Sequence[str], images: str | None) -> str:
    """The task that the model can be asked: a language model that sees answers questions, which images must hold."""
    name = task_of(tower, images)
    if name == TASK and TASKS[1] in tasks:
        raise VtbenchError(
            f"--task {TASKS[1]}: {tower} is no language model that sees, and answers no questions: give one such as "
            f"LLaVA, or --task {TASK}"
        )
    return name


def options_of(tower: str, texts: Mapping[str, str], own: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """(a model's options, those of the tower that reads its pictures), the tower's checked. own: the model's names."""
    parts = split(texts, own, model_options(tower) - OF_CHOICE)
    check_options(tower, parts[1])
    return parts


def of_pictures(task: Task) -> Task:
    """The task as it is asked of a tokenizer: what is paid is bits, not the tower's tokens."""
    kept = [name for name in task.metrics if not name.startswith(OF_TOKENS)]
    return replace(task, metrics=("bpp", *kept))
