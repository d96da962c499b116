"""`--shard auto`: a process that torchrun or Slurm started takes its own shard; the last one to finish joins them all.

Each process writes its own folder, as with `--shard i/n`, and none waits for another: no process group is needed. What
a dead process leaves is named, and the same command, or `vtbench merge`, goes on from there.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vtbench.results.holding import Held
from vtbench.results.record import Run, read_run
from vtbench.running.merge import merge
from vtbench.scoring.feature_cache import Say
from vtbench.types.errors import VtbenchError

LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "Slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
}
"""{launcher: variables of the process's number, of how many there are, and of its number on its machine}."""
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT")
PATIENCE = 3600.0
"""Seconds to wait for another process that joins the same shards."""


@dataclass(frozen=True)
class Rank:
    """The process's shard, counted from 1, of how many; `local`: its number among those of its machine, from 0."""

    part: int
    parts: int
    local: int | None = None


def rank_of(environment: Mapping[str, str]) -> Rank:
    """What the launcher says of this process. Of a Slurm array of single tasks, each task is a shard. Raises
    VtbenchError outside a launcher, and where what it says makes no sense."""
    for launcher, (number, count, local) in LAUNCHERS.items():
        if number not in environment and count not in environment:
            continue
        if number not in environment or count not in environment:
            lacking = number if number not in environment else count
            raise VtbenchError(
                f"--shard auto: {launcher} sets {number} and {count}, and {lacking} is not set: give i/n"
            )
        rank, ranks = _whole(environment, number), _whole(environment, count)
        if rank >= ranks:
            raise VtbenchError(f"--shard auto: {number} is {rank} of {count} {ranks}, counted from 0: give i/n")
        here = _whole(environment, local) if local in environment else None
        if here is not None and here >= ranks:
            raise VtbenchError(f"--shard auto: {local} is {here} of {count} {ranks}, counted from 0: give i/n")
        if launcher == "torchrun":
            _refuse_one_in_each_task(environment, ranks)
        if ranks == 1 and ARRAY[0] in environment:
            break
        return Rank(rank + 1, ranks, here)
    if ARRAY[0] in environment:
        return _of_array(environment)
    names = " or ".join(f"{number} and {count} ({launcher})" for launcher, (number, count, _) in LAUNCHERS.items())
    raise VtbenchError(f"--shard auto reads {names}, and none is set: start it by a launcher, or give i/n")


def _refuse_one_in_each_task(environment: Mapping[str, str], ranks: int) -> None:
    """Of a torchrun that every task of a Slurm job has begun for itself, the processes of all tasks have the same
    numbers. The first task's cannot be told from those of a torchrun in a batch script, and make the whole."""
    number, count, _ = LAUNCHERS["Slurm"]
    if number not in environment or count not in environment:
        return
    task, tasks = _whole(environment, number), _whole(environment, count)
    if task and ranks < tasks:
        raise VtbenchError(
            f"--shard auto: torchrun has {ranks} processes in this task alone, and Slurm {tasks} tasks, so that each "
            "would make the same shards: start one torchrun for all of them (--nnodes), or none, or give i/n"
        )


def _of_array(environment: Mapping[str, str]) -> Rank:
    task, least, step, count = (
        _whole(environment, name) if name in environment else default
        for name, default in zip(ARRAY, (0, 0, 1, 1), strict=True)
    )
    index, rest = divmod(task - least, max(step, 1))
    if rest or not 0 <= index < count:
        raise VtbenchError(
            f"--shard auto: the array's task {task} is none of {count} from {least} in steps of {step}: submit it as "
            "--array=1-N"
        )
    return Rank(index + 1, count)


def _whole(environment: Mapping[str, str], name: str) -> int:
    text = environment[name].strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise VtbenchError(f"--shard auto: {name} is {environment[name]!r}, wanted a whole number: give i/n")
    return int(text)


def device_of(rank: Rank, device: str | None) -> str | None:
    """The device of this process: of several GPUs of its machine its own; where a launcher shows each process one GPU
    only, that one. What names a device by its number stays."""
    if device != "cuda" or rank.local is None:
        return device
    import torch

    devices = torch.cuda.device_count()
    if devices > 1 and rank.local >= devices:
        raise VtbenchError(
            f"--shard auto: this is process {rank.local}, counted from 0, of a machine with {devices} GPUs: start one "
            "a GPU"
        )
    return f"cuda:{rank.local}" if devices > 1 else device


def joined(run: Run, out: Path, say: Say) -> Run:
    """The whole, where this shard was the last to finish; else the shard itself, and `say` is told what is missing."""
    shard = run.info.shard
    if shard is None:
        return run
    part, parts = shard[0], shard[1]
    name = run.path.name.split("--shard-")[0]
    folders = [out / f"{name}--shard-{k}-of-{parts}" for k in range(1, parts + 1)]
    states = {k: _state(folder, run.info.id) for k, folder in enumerate(folders, 1)}
    missing = _listed(states)
    if missing:
        say(
            f"shard {part} of {parts} of {name} is finished; not yet: {', '.join(missing)}. The last one to finish "
            "joins them all"
        )
        return run
    whole = out / name
    try:
        with Held(out / f".{name}.joining", whole, PATIENCE):
            if _answers(whole, run):
                return read_run(whole)
            (joint,) = merge(folders, out)
    except VtbenchError as bad:
        say(f"all {parts} shards of {name} are finished, and could not be joined: {bad}")
        return run
    say(f"all {parts} shards of {name} are finished: joined into {joint}")
    return read_run(joint)


def _listed(states: Mapping[int, str | None]) -> list[str]:
    """The shards that have a state, those of one state in a row together."""
    out = []
    for state, neighbours in itertools.groupby(states, key=lambda k: states[k]):
        first, *others = neighbours
        if state is not None:
            out.append(f"{first}{f' to {others[-1]}' if others else ''} ({state})")
    return out


def _state(folder: Path, id_: str | None) -> str | None:
    """Why a shard cannot be joined yet; None if it is finished."""
    if not (folder / "run.json").is_file():
        return "not begun"
    info = read_run(folder).info
    if info.id != id_:
        return "of another question"
    return None if info.finished else str(info.status)


def _answers(whole: Path, shard: Run) -> bool:
    """Whether the whole lies there already, joined by another process or made by one alone."""
    if not (whole / "run.json").is_file():
        return False
    info = read_run(whole).info
    return info.id == shard.info.id and bool(info.finished) and info.shard is None and info.limit == shard.info.limit
