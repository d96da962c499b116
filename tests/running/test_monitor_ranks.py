"""`vtbench.Monitor` under DDP: two real processes, of which the first measures and the other waits for nothing."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from support import ROOT, noise, run

SCRIPT = """
import json, os, sys, threading
from datetime import timedelta
folder, images = sys.argv[1:]
import torch, torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
import vtbench
from monitored import PSNR, QUICK, Quantizer, numbers_of

# One import for both.
other = os.fork()
rank = 1 if other == 0 else 0
meet, patience = f"file://{folder}/meet", timedelta(minutes=5)
dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=2, timeout=patience)


class Asks(Quantizer):
    # As quantizers do that gather their statistics.
    def encode(self, x):
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(torch.ones(1))
        return super().encode(x)


class AsksNobody(Quantizer):
    def encode(self, x):
        dist.all_reduce(torch.ones(1))
        return super().encode(x)


def trained(model, whole):
    torch.manual_seed(0)
    # What was measured in three steps that both processes make together.
    wrapped = DistributedDataParallel(model)
    monitor = vtbench.Monitor(wrapped if whole else model, suite=images, every=1, tasks=[QUICK])
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(1, 4):
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(10 * step + rank))
        optimizer.zero_grad()
        (wrapped(x) - x).square().mean().backward()
        optimizer.step()
        monitor(step)
    both = [torch.zeros(3), torch.zeros(3)]
    dist.all_gather(both, model.gain.detach().flatten())
    assert torch.equal(*both) and (both[0] - 0.5).abs().min() > 0
    return [(one.step, one.numbers.get(PSNR), one.failure) for one in monitor.history]


wrong, done = [], threading.Event()


def watch():
    # As a thread that writes checkpoints beside the training.
    while not done.wait(0.001):
        try:
            assert dist.get_world_size() == 2
        except Exception as bad:
            wrong.append(repr(bad))


watcher = threading.Thread(target=watch)
watcher.start()
model = Asks()
answers = {"asks": trained(model, False), "wrapped": trained(Asks(), True), "asks nobody": trained(AsksNobody(), True)}
sharded = vtbench.Monitor(
    fully_shard(Quantizer(), mesh=init_device_mesh("cpu", (2,))), suite=images, every=1, tasks=[QUICK]
)
sharded(1)
answers["sharded"] = [(one.step, None, one.failure) for one in sharded.history]
done.set()
watcher.join()
assert not wrong, wrong[0]
assert dist.get_world_size() == 2
dist.barrier()
dist.destroy_process_group()
if rank == 0:
    answers["evaluate"] = numbers_of(model, images)["psnr"]
with open(f"{folder}/{rank}.json", "w") as out:
    json.dump(answers, out)
if rank == 1:
    os._exit(0)
assert os.waitpid(other, 0)[1] == 0
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process wrote down, the first one's first."""
    folder = tmp_path_factory.mktemp("ranks")
    images = noise(folder / "noise")
    run(
        [sys.executable, "-c", SCRIPT, str(folder), str(images)],
        environment={"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_the_first_process_measures_alone(answers: list[dict[str, Any]]) -> None:
    first, second = answers
    assert not any(second.values())
    for how in ("asks", "wrapped"):
        assert [(step, why) for step, _, why in first[how]] == [(1, None), (2, None), (3, None)]
        assert len({psnr for _, psnr, _ in first[how]}) == 3
    assert first["asks"] == first["wrapped"]
    assert first["asks"][-1][1] == first["evaluate"]


def test_a_model_that_exchanges_without_asking_costs_a_reason(answers: list[dict[str, Any]]) -> None:
    reasons = [why for _, _, why in answers[0]["asks nobody"]]
    assert len(reasons) == 3
    assert all("process group has not been initialized" in why for why in reasons)


def test_weights_in_pieces_cost_a_reason(answers: list[dict[str, Any]]) -> None:
    ((_, _, why),) = answers[0]["sharded"]
    assert "has its weights in pieces on several processes" in why
