"""Tokenizers under the task of understanding: which task it is, and the tower that reads their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vtbench.running.reduction import TASKS
from vtbench.types.errors import VtbenchError
from vtbench.types.task import Task

TASK = TASKS[0]
OF_TOKENS = ("visual-tokens", "duplicates", "coverage")
"""Beginnings of the names of metrics of a tower's tokens, of which a tokenizer drops none."""


def check_tower(tower: str | None, tasks: Sequence[str]) -> None:
    """Refuses a tower that nothing asks for, and the task that needs one without."""
    understands = TASK in tasks
    if tower is not None and not tower.strip():
        raise VtbenchError("--tower is empty: give a folder as save_pretrained writes it, or a hub id")
    if tower is not None and (not understands or len(tasks) > 1):
        raise VtbenchError(
            f"--tower is the model that reads pictures: give models and --task {TASK} alone, or --reducer NAME"
        )
    if understands and tower is None:
        raise VtbenchError(
            f"--task {TASK} compares what a model makes of pictures and of their reconstructions: give --tower FOLDER "
            "or a hub id"
        )


def of_pictures(task: Task) -> Task:
    """The task as it is asked of a tokenizer: what is paid is bits, not the tower's tokens."""
    kept = [name for name in task.metrics if not name.startswith(OF_TOKENS)]
    return replace(task, metrics=("bpp", *kept))
