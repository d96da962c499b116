"""The Python face of the verbs: evaluate, score, check, compare, and the ways to models and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtbench import registry
from vtbench.types.cards import Card, Kind

if TYPE_CHECKING:
    from vtbench.models.load import Loaded
    from vtbench.proving.sheet import Check
    from vtbench.reporting.compare import Comparison
    from vtbench.results.record import Run
    from vtbench.running.evaluation import Evaluation
    from vtbench.running.folders import Scored
    from vtbench.running.request import Progress


def evaluate(
    models: Any = (),
    *,
    tasks: Sequence[str] | None = None,
    images: str | Path | None = None,
    view: str | None = None,
    checkpoint: str | Path | None = None,
    prefix: str | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int = 4,
    save: Sequence[str] = (),
    shard: tuple[int, int] | Literal["auto"] | None = None,
    out: str | Path | None = None,
    protocol: str = "vtbench",
    icc: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    command: str | None = None,
    prompts: str | None = None,
    per_prompt: int | None = None,
    tokenizer_checkpoint: str | Path | None = None,
    fit: str | None = None,
    identity: str | None = None,
    ray: str | None = None,
    workers: int | None = None,
    reducers: Sequence[str] = (),
    tower: str | None = None,
    keep: Sequence[int] = (),
    baselines: bool = True,
) -> Evaluation:
    """Evaluates one model or several, or reducers of a model's visual tokens, and returns the runs.

    models: a name, a list of names, or a tokenizer object. images: a suite, folder, glob or `hf:NAME@REVISION`; without
    it a task runs on its own suites. options: {name: value or list of values}; a list makes one run each.
    prefix: which copy of the checkpoint's weights is read, where it holds several ("params_ema", "first_stage_model.").
    icc: "srgb" converts images by the colour profiles that they state, which are not applied otherwise.
    fit: how a model of one fixed size is served, "resize" (there and back; the task's default) or "tiles".
    out: folder of the results; None makes a temporary one. A model that fails is named in `failures`, the others go on.
    prompts, per_prompt, tokenizer_checkpoint: for generators (tasks with prompts), which have no other tasks.
    device, dtype: None is cpu and float32. An object stays where and as it is, so they can only be its own.
    identity: an object's results are never continued or taken from disk, as nothing tells whether it is the same one;
    with an identity (a text of your own, such as "step 1000") you vouch for that.
    shard: (i, n), counted from 1: only that part of the images; "auto" under torchrun or Slurm, where the last process
    to finish joins all parts in `out`.
    ray, workers: the address of a cluster of Ray ("local", "auto", "ray://HOST:PORT"), and how many of its workers
    measure; the results are those of one process.
    reducers, tower, keep: in place of models, names of reducers (`vtbench list reducers`), the folder or hub id of the
    model whose tokens they drop, and how many of a picture's tokens go on, one run each; baselines: beside them the
    full model, random, uniform and pooled tokens, and smaller pictures.
    """
    # Every parameter but `progress` is a field of Request, by the same name.
    choices = {**locals(), "options": options or {}}
    del choices["progress"]
    from vtbench.running.launch import evaluate as run
    from vtbench.running.request import Request

    return run(Request(**choices), progress)


def score(
    reference: str | Path,
    candidates: Sequence[str | Path] | str | Path,
    metrics: Sequence[str] | None = None,
    **more: Any,
) -> Scored:
    """Metrics for image folders without any model; further keywords as in `vtbench.running.folders.score`."""
    from vtbench.running import folders

    many = [candidates] if isinstance(candidates, str | Path) else list(candidates)
    return folders.score(Path(reference), [Path(c) for c in many], metrics, **more)


def check(model: Any, **more: Any) -> list[Check]:
    """The contract that every adapter must pass; further keywords as in `vtbench.proving.contract.check`."""
    from vtbench.proving import contract

    checks: list[Check] = contract.check(model, **more)
    return checks


def compare(runs: Sequence[str | Path], metrics: Sequence[str] | None = None) -> Comparison:
    """Paired differences of two finished runs or more on the same images, the first being the one compared with."""
    from vtbench.reporting import compare as comparing

    return comparing.compare([Path(r) for r in runs], metrics)


def load(
    model: str,
    *,
    options: Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    prefix: str | None = None,
) -> Loaded:
    """A model by its name, verified and loaded; its Tokenizer, ClosedSystem or Generator is `.model`."""
    from vtbench.models import load as loading

    path = None if checkpoint is None else Path(checkpoint).expanduser()
    texts = {k: str(v) for k, v in (options or {}).items()}
    return loading.load(model, texts, checkpoint=path, device=device, dtype=dtype, prefix=prefix)


def list_models(pattern: str = "*", *, kind: Kind | None = None) -> list[Card]:
    """The cards of all models whose name matches `pattern` (as a shell would: "llamagen*"), by name."""
    import fnmatch

    cards = [e.card for e in registry.entries()]
    return [c for c in cards if fnmatch.fnmatch(c.name, pattern) and kind in (None, c.kind)]


def read_runs(*paths: str | Path) -> list[Run]:
    """Every run at or below the paths."""
    from vtbench.results.record import find_runs, read_run

    return [read_run(path) for path in find_runs([Path(p) for p in paths])]
