"""The Python API, of the same shape as the commands: evaluate, score, check, merge."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.models import load as loading
from vtbench.models.build import build
from vtbench.models.devices import check_device as check_device
from vtbench.models.load import Loaded
from vtbench.models.objects import evaluating
from vtbench.models.system import ModelSystem, System
from vtbench.models.weights import WeightFiles
from vtbench.results import Run, read_run
from vtbench.run import Job, Progress, Runner
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    import pandas as pd

    from vtbench.contract import Check
    from vtbench.images import View
    from vtbench.suite import Suite


@dataclass(frozen=True)
class Evaluation:
    """Finished runs, and for every model that failed the sentence why."""

    runs: tuple[Run, ...]
    failures: Mapping[str, str]

    def to_pandas(self) -> pd.DataFrame:
        """One line a score: model, options, weights, task, suite, view, metric, value, low, high, n, missing, why."""
        import pandas as pd

        lines = []
        for run in self.runs:
            model, info = run.info["model"], run.info
            base = {
                "model": model["name"], "options": model["options"], "weights": model["weights"].get("status"),
                "suite": info["suite"]["name"], "view": info["view"]["name"], "ranked": info["ranked"],
            }  # fmt: skip
            lines += [{**base, **{k: s[k] for k in COLUMNS}} for s in run.scores]
        return pd.DataFrame(lines, columns=[*("model", "options", "weights", "suite", "view", "ranked"), *COLUMNS])

    def rows(self) -> Iterator[dict[str, Any]]:
        """All per-image rows, each with its run's model and task."""
        for run in self.runs:
            for row in run.rows():
                yield {"model": run.name, "task": run.info["task"]["name"], **row}

    def value(self, metric: str, task: str | None = None) -> float | None:
        """The metric's value where there is exactly one run that has it."""
        found = [s["value"] for r in self.runs for s in r.scores if s["metric"] == metric and task in (None, s["task"])]
        if len(found) != 1:
            raise VtbenchError(f"{len(found)} runs have the metric {metric!r}: use to_pandas() and choose")
        return found[0]  # type: ignore[no-any-return]


COLUMNS = ("task", "metric", "value", "low", "high", "n", "missing", "unit", "better", "why", "warning")


def prepare(
    model: str, options: Mapping[str, str], checkpoint: Path | None, device: str, dtype: str, fit: str
) -> Loaded:
    """Until the sweep: `models.load.load` of anything but a generator."""
    return loading.load(model, options, checkpoint=checkpoint, device=device, dtype=dtype, fit=fit, generator=False)


def load(
    model: str, options: Mapping[str, str], checkpoint: Path | None, device: str, dtype: str
) -> tuple[registry.Entry, Mapping[str, Any], WeightFiles, Any]:
    """Until the sweep: (entry, resolved options, weights, the loaded model) of `models.build.build`."""
    built = build(model, options, checkpoint, device, dtype)
    return built.entry, built.options, built.files, built.model


def expand(options: Mapping[str, str | Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of the options' values, in the order given."""
    lists = {k: [v] if isinstance(v, str) else [str(x) for x in v] for k, v in options.items()}
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def evaluate(
    models: Any,
    *,
    tasks: Sequence[str] | None = None,
    images: str | Path | None = None,
    view: str | None = None,
    checkpoint: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 4,
    save: Sequence[str] = (),
    shard: tuple[int, int] | None = None,
    out: str | Path | None = None,
    protocol: str = "vtbench",
    seed: int = 0,
    progress: Progress | None = None,
    command: str | None = None,
    prompts: str | None = None,
    per_prompt: int | None = None,
    tokenizer_checkpoint: str | Path | None = None,
    fit: str | None = None,
) -> Evaluation:
    """Evaluates one model or several and returns their runs.

    models: a name, a list of names, or a tokenizer object. images: a suite, folder, glob or `hf:NAME@REVISION`; without
    it a task runs on its own suites. options: {name: value or list of values}; a list makes one run each.
    fit: how a model of one fixed size is served, "resize" (there and back; the task's default) or "tiles".
    out: folder of the results; None makes a temporary one. A model that fails is named in `failures`, the others go on.
    prompts, per_prompt, tokenizer_checkpoint: for generators (tasks with prompts), which have no other tasks.
    """
    from vtbench.images import View
    from vtbench.suite import open_suite

    specs = [models] if isinstance(models, str) or not isinstance(models, Sequence) else list(models)
    drawing = [isinstance(m, str) and _is_generator(m) for m in specs]
    if any(drawing) and not all(drawing):
        raise VtbenchError("generators and tokenizers were given together: evaluate them in two commands")
    if tasks:
        chosen = [registry.tasks().get(t) for t in tasks]
    else:
        chosen = registry.default_tasks(images_given=images is not None, generators=any(drawing))
    odd = next((t for t in chosen if bool(t.prompts) != any(drawing)), None)
    if odd is not None:
        raise VtbenchError(
            f"the task {odd.name} is for {'generators' if odd.prompts else 'tokenizers'}: "
            f"{specs[0]} is {'a generator' if any(drawing) else 'none'}"
        )
    if not any(drawing) and (prompts or per_prompt or tokenizer_checkpoint):
        raise VtbenchError("--suite, --n and --tokenizer-checkpoint are for generators: leave them out")
    check_run_options(limit, batch_size, save, shard)
    if fit not in (None, "resize", "tiles"):
        raise VtbenchError(f"--fit {fit!r} is not known: give resize or tiles")
    if fit == "tiles" and "tokens" in save:
        raise VtbenchError("--save tokens keeps whole images' tokens, and tiles have many: leave out one of the two")
    if fit is not None:
        chosen = [replace(t, fit=fit) for t in chosen]  # type: ignore[arg-type]
    target = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="vtbench-"))
    if target.exists() and not target.is_dir():
        raise VtbenchError(f"--out {target} is a file: give a folder")
    path = Path(checkpoint).expanduser() if checkpoint is not None else None
    plan = []
    for task in chosen:
        for name in [str(images)] if images is not None else task.suites:
            plan.append((task, name, open_suite(name), View.parse(view or task.view, protocol)))
    texts = {k: ([str(x) for x in v] if isinstance(v, list | tuple) else str(v)) for k, v in (options or {}).items()}
    for spec in specs:
        # A wrong name or option is refused before anything runs.
        if isinstance(spec, str) and not spec.startswith(("folder:", "family:")) and not registry.wrapper(spec):
            card = registry.model(spec).card
            for combination in expand(texts):
                registry.parse_options(card, combination)
    runs: list[Run] = []
    failures: dict[str, str] = {}
    if any(drawing):
        from vtbench import generate, generation

        if limit is not None or shard is not None or save:
            raise VtbenchError("a generator takes no --limit, --shard or --save: --n says how many images a prompt")
        beside = Path(tokenizer_checkpoint).expanduser() if tokenizer_checkpoint is not None else None
        for spec in specs:
            for combination in expand(texts):
                try:
                    loaded = generate.load(spec, combination, path, device, dtype, beside)
                    for task, name, suite, seen in plan:
                        runs.append(generation.evaluate(
                            loaded, task, generation.prompts_for(task, loaded.generator.card, prompts),
                            task.per_prompt if per_prompt is None else per_prompt, suite, seen, target,
                            suite_spec=name, batch_size=batch_size or 4, seed=seed, device=device, dtype=dtype,
                            command=command, progress=progress,
                        ))  # fmt: skip
                except VtbenchError as bad:
                    if len(specs) == 1 and len(expand(texts)) == 1 and bad.code == 2:
                        raise
                    failures[spec + "".join(f" {k}={v}" for k, v in combination.items())] = str(bad)
        return Evaluation(tuple(runs), failures)
    for spec in specs:
        for combination in expand(texts):
            shown = spec if isinstance(spec, str) else type(spec).__name__
            shown += "".join(f" {k}={v}" for k, v in combination.items())
            try:
                ready = loading.load(
                    spec, combination, checkpoint=path, device=device, dtype=dtype, fit=chosen[0].fit, generator=False
                )
                for task, name, suite, seen in plan:
                    system = ready.system.served(task.fit)
                    size, tried = _batch(system, batch_size, suite, seen)
                    job = Job(
                        system, task, suite, seen, ready.identity, ready.weights, target, size, limit,
                        seed, device, dtype, frozenset(save), shard, command,
                        suite_spec=name,
                        extra_reasons=ready.reasons,
                        model_facts={**ready.facts, **tried},
                    )  # fmt: skip
                    with evaluating(spec):
                        runs.append(read_run(Runner(job, progress).run()))
            except VtbenchError as bad:
                if len(specs) == 1 and len(expand(texts)) == 1 and bad.code == 2:
                    raise
                failures[shown] = str(bad)
    return Evaluation(tuple(runs), failures)


def _is_generator(spec: str) -> bool:
    """True for a registered generator; what is no registered name is refused where it is loaded."""
    if spec.startswith(("folder:", "family:")):
        return False
    return registry.model(spec).card.kind == "generator"


def _batch(system: System, wanted: int, suite: Suite, view: View) -> tuple[int, dict[str, Any]]:
    """The batch size, and for 0 (the fastest) the images a second at each that was tried."""
    if wanted or not isinstance(system, ModelSystem) or not suite.items:
        return wanted or 4, {}
    from vtbench.speed import rates

    found = rates(system, suite, view)
    return max(found, key=lambda n: found[n], default=4), {"images_per_second_by_batch": found}


def check_run_options(limit: int | None, batch_size: int, save: Sequence[str], shard: tuple[int, int] | None) -> None:
    if limit is not None and limit < 1:
        raise VtbenchError(f"--limit {limit}: give a number of images, 1 or more")
    if batch_size < 0:
        raise VtbenchError(f"--batch-size {batch_size}: give 1 or more, or 0 for the fastest")
    odd = set(save) - {"tokens", "images"}
    if odd:
        raise VtbenchError(f"--save {', '.join(sorted(odd))}: only tokens and images can be saved")
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise VtbenchError(f"--shard {shard[0]}/{shard[1]}: give i/n with i from 1 to n")


def score(reference: str | Path, candidates: Sequence[str | Path] | str | Path, metrics: Sequence[str] | None = None,
          **more: Any) -> Any:  # fmt: skip
    """Metrics for image folders without any model; see vtbench.folders.score."""
    from vtbench import folders

    many = [candidates] if isinstance(candidates, str | Path) else list(candidates)
    return folders.score(Path(reference), [Path(c) for c in many], metrics, **more)


def check(model: Any, **more: Any) -> list[Check]:
    """The adapter contract; see vtbench.contract.check."""
    from vtbench import contract

    return contract.check(model, **more)
