"""Where a request is measured: in this process, as one of a launcher's processes, or by workers of a cluster."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from vtbench.running import evaluate as here
from vtbench.running import ranks, spread
from vtbench.running.evaluation import Evaluation
from vtbench.running.request import Progress, Request
from vtbench.scoring.feature_cache import Say
from vtbench.types.errors import VtbenchError


def evaluate(request: Request, progress: Progress | None = None, say: Say | None = None) -> Evaluation:
    """The runs of a request, as `running.evaluate.evaluate` says, where the request wants them made."""
    if request.ray is not None:
        if request.shard == "auto":
            raise VtbenchError("--ray hands batches out by itself, and --shard auto is for launchers: give one of them")
        return spread.evaluate(request, progress, say)
    if request.shard == "auto":
        return _of_launcher(request, progress, say or (lambda _: None))
    return here.evaluate(request, progress, say)


def _of_launcher(request: Request, progress: Progress | None, say: Say) -> Evaluation:
    """This process's shard; or the whole, where it was the last one to finish."""
    rank = ranks.rank_of(os.environ)
    if request.out is None:
        raise VtbenchError("--shard auto: give out, a folder that all processes write to")
    device = ranks.device_of(rank, request.device)
    shard = (rank.part, rank.parts) if rank.parts > 1 else None
    result = here.evaluate(replace(request, shard=shard, device=device), progress, say)
    return Evaluation(tuple(ranks.joined(run, Path(request.out), say) for run in result.runs), result.failures)
