"""`--shard auto`: what launchers say of a process, its device, and the last shard that joins them all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import command, evaluate, stable

import vtbench
from vtbench.results.record import read_run
from vtbench.running.ranks import Rank, device_of, rank_of
from vtbench.types.errors import VtbenchError

TORCHRUN = {"RANK": "2", "WORLD_SIZE": "8", "LOCAL_RANK": "2"}
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
SRUN = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}
ARRAY = {
    "SLURM_PROCID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_LOCALID": "0",
    "SLURM_ARRAY_TASK_ID": "5",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_STEP": "2",
    "SLURM_ARRAY_TASK_COUNT": "3",
}
LAUNCHED = [name for name in {**TORCHRUN, **ARRAY}]


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        pytest.param(TORCHRUN, Rank(3, 8, 2), id="torchrun"),
        pytest.param({"RANK": "0", "WORLD_SIZE": "1"}, Rank(1, 1), id="one process"),
        pytest.param(SRUN, Rank(1, 4, 0), id="srun"),
        pytest.param({**SRUN, **TORCHRUN}, Rank(3, 8, 2), id="torchrun below srun"),
        pytest.param(ARRAY, Rank(3, 3), id="the third task of an array 1,3,5"),
        pytest.param({**ARRAY, **SRUN}, Rank(1, 4, 0), id="an array of jobs of four tasks: each job is one run"),
        pytest.param({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2"}, Rank(2, 2), id="an array from 0"),
        pytest.param({**ARRAY, **ALONE}, Rank(3, 3), id="a torchrun of one process in every task of an array"),
        pytest.param({**SRUN, **ALONE}, Rank(1, 1, 0), id="a torchrun in the script of a job of four tasks"),
    ],
)
def test_what_a_launcher_says(environment: dict[str, str], rank: Rank) -> None:
    assert rank_of(environment) == rank


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        pytest.param({}, "start it by a launcher, or give i/n", id="outside"),
        pytest.param({"LOCAL_RANK": "0"}, "start it by a launcher, or give i/n", id="a local rank alone"),
        pytest.param({"RANK": "0"}, "WORLD_SIZE is not set", id="no count"),
        pytest.param({"SLURM_NTASKS": "4"}, "SLURM_PROCID is not set", id="no number"),
        pytest.param({"RANK": "8", "WORLD_SIZE": "8"}, "RANK is 8 of WORLD_SIZE 8, counted from 0", id="beyond"),
        pytest.param({"RANK": "0", "WORLD_SIZE": "0"}, "RANK is 0 of WORLD_SIZE 0", id="of none"),
        pytest.param({"RANK": "-1", "WORLD_SIZE": "8"}, "RANK is '-1', wanted a whole number", id="negative"),
        pytest.param({"RANK": "0", "WORLD_SIZE": "4x2"}, "WORLD_SIZE is '4x2'", id="no number as count"),
        pytest.param({**TORCHRUN, "LOCAL_RANK": ""}, "LOCAL_RANK is ''", id="an empty local rank"),
        pytest.param({**TORCHRUN, "LOCAL_RANK": "8"}, "LOCAL_RANK is 8 of WORLD_SIZE 8", id="a local rank beyond"),
        pytest.param(
            {**SRUN, **ALONE, "SLURM_PROCID": "1"}, "each would make the same shards", id="a torchrun in every task"
        ),
        pytest.param({**ARRAY, "SLURM_ARRAY_TASK_ID": "4"}, "the array's task 4 is none of 3 from 1", id="a gap"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(VtbenchError, match="--shard auto") as refused:
        rank_of(environment)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("devices", "local", "device", "wanted"),
    [
        (8, 3, "cuda", "cuda:3"),
        (1, 3, "cuda", "cuda"),
        (8, 3, "cuda:5", "cuda:5"),
        (8, None, "cuda", "cuda"),
        (0, 3, "cpu", "cpu"),
        (0, 0, "mps", "mps"),
        (0, 0, None, None),
    ],
)
def test_each_process_has_the_gpu_of_its_number(
    devices: int, local: int | None, device: str | None, wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    assert device_of(Rank(1, 16, local), device) == wanted


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(VtbenchError, match="process 5, counted from 0, of a machine with 4 GPUs"):
        device_of(Rank(6, 8, 5), "cuda")


def ranked(images: Path, out: Path, rank: int, monkeypatch: pytest.MonkeyPatch) -> vtbench.Evaluation:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "3")
    return evaluate("slow", images, out, batch_size=3, shard="auto")


def test_the_last_one_joins_whichever_it_is_and_a_dead_one_is_named(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate("slow", images, tmp_path / "whole", batch_size=3).runs[0].path
    out = tmp_path / "out"
    parts = [ranked(images, out, rank, monkeypatch).runs[0] for rank in (2, 0)]
    assert [list(run.info.shard or ()) for run in parts] == [[3, 3], [1, 3]]
    (last,) = ranked(images, out, 1, monkeypatch).runs
    assert (last.path.name, last.info.shard, last.info.n) == (whole.name, None, 22)
    assert stable(last.path) == stable(whole)
    # The same command again: every process finds the whole.
    assert ranked(images, out, 0, monkeypatch).runs[0].path == last.path

    # The second one was killed in mid-run: it is named, and the whole is joined when it has gone on.
    shutil.rmtree(last.path)
    shard = out / f"{whole.name}--shard-2-of-3"
    record = read_run(shard).info.with_(status="running").as_dict()
    (shard / "run.json").write_text(json.dumps(record))
    (shard / "scores.jsonl").unlink()
    (shard / "rows.jsonl").write_bytes(b"".join((shard / "rows.jsonl").read_bytes().splitlines(True)[:4]))
    words = ["evaluate", f"{Path(__file__).parents[1] / 'bad_adapters.py'}@slow", "--images", images, "--out", out]
    words += ["--view", "native", "--task", "compression", "--batch-size", "3", "--shard", "auto"]
    monkeypatch.setenv("RANK", "0")
    code, _, err = command(*words)
    assert (code, "shard 1 of 3" in err, "not yet: 2 (running)" in err) == (0, True, True)
    code, _, err = command("merge", out, "--out", tmp_path / "merged")
    assert code == 2
    assert "shard-2-of-3 is running: run the same command again" in err
    monkeypatch.setenv("RANK", "1")
    code, answer, err = command(*words)
    assert code == 0
    assert f"all 3 shards of {whole.name} are finished: joined into {last.path}" in err
    assert "22 images" in answer
    assert stable(last.path) == stable(whole)


def test_a_thousand_shards_that_are_not_there_are_one_word(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "1000")
    words = ["evaluate", "jpeg", "--images", images, "--out", tmp_path, "--view", "32", "--task", "compression"]
    for rank in (0, 5):
        monkeypatch.setenv("RANK", str(rank))
        code, _, err = command(*words, "--shard", "auto")
        assert code == 0
    assert "not yet: 2 to 5 (not begun), 7 to 1000 (not begun). The last one" in err


def test_one_process_alone_is_no_shard(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    (run,) = evaluate("right", images, tmp_path, shard="auto", limit=4).runs
    assert run.info.shard is None
    with pytest.raises(VtbenchError, match="give out, a folder that all processes write to"):
        vtbench.evaluate("jpeg", images=images, shard="auto")


@pytest.mark.parametrize("flags", ["--ray local --shard auto", "--shard automatic", "--shard auto"])
def test_the_command_line_refuses(flags: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    code, out, err = command("evaluate", "jpeg", "--images", images, "--out", tmp_path / "out", *flags.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
