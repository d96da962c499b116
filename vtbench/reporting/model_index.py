"""Results as the `model-index` of a Hugging Face model card: the YAML that stands at the top of a README.md.

The fields are those of huggingface_hub's EvalResult (repocard_data.py), which reads them back; the Hub groups results
by task, data set and its config, split and revision, so that two views of one suite are two configs here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vtbench.reporting import runs as facts
from vtbench.reporting.measured import metric_card, score, scores
from vtbench.results.record import Run, Score
from vtbench.types.readable import one_line

TASKS = {"text": "text-to-image", "label": "unconditional-image-generation"}
"""What the Hub calls a task, by what a generator is asked."""
RECONSTRUCTION = "image-to-image"
PROJECT = "https://github.com/vtbench/vtbench"


def model_index(runs: Sequence[Run], metrics: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """One entry a model, in the order of the runs, each with the results of its runs that have a value. metrics: by
    name; default: all that are measured, costs of the machine left out."""
    by_model: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        entry = _result(run, metrics)
        if entry["metrics"]:
            by_model.setdefault(one_line(facts.model_name(run)), []).append(entry)
    return [{"name": name, "results": results} for name, results in by_model.items()]


def as_yaml(index: Sequence[Mapping[str, Any]]) -> str:
    """The block between the lines of three hyphens, which stands first in a README.md."""
    import yaml

    text = yaml.safe_dump({"model-index": list(index)}, sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{text}---\n"


def _result(run: Run, metrics: Sequence[str] | None) -> dict[str, Any]:
    """One run: its task, its images, its numbers, and what keeps them from being ranked."""
    names = [s.metric for s in scores(run) if metric_card(run, s.metric) is not None] if metrics is None else metrics
    stated = [s for name in names if (s := score(run, name)) is not None and s.value is not None]
    conditioning = facts.model_card(run).get("conditioning")
    task = RECONSTRUCTION if facts.kind(run) != "generator" else TASKS.get(str(conditioning), TASKS["label"])
    config = {"view": facts.view_name(run), "protocol": facts.protocol(run), "task_version": facts.task_version(run)}
    return {
        "task": {"type": task, "name": one_line(facts.task_title(run))},
        "dataset": {
            "name": one_line(facts.suite_name(run)),
            "type": one_line(facts.suite_name(run)),
            "config": one_line(f"{facts.view_name(run)}, {facts.task_name(run)}{_setting(run)}"),
            "revision": facts.suite_hash(run) or "not stated",
            "args": {key: value for key, value in config.items() if value is not None},
        },
        "metrics": [_metric(run, one) for one in stated],
        "source": {"name": f"vtbench {facts.vtbench_version(run) or ''}".strip(), "url": PROJECT},
    }


def _setting(run: Run) -> str:
    """A system's options: its results on the same images are others for each."""
    return "".join(f", {name} {value}" for name, value in sorted(facts.options(run).items()))


def _metric(run: Run, stated: Score) -> dict[str, Any]:
    card = metric_card(run, stated.metric)
    args: dict[str, Any] = {"version": stated.version, "n": stated.n, "run": facts.identity(run)[:12]}
    if stated.low is not None and stated.high is not None:
        args |= {"low": stated.low, "high": stated.high}
    if not facts.is_ranked(run):
        args["not_ranked"] = one_line(str(facts.why_not_ranked(run)))
    title = card.title if card is not None and card.title else stated.metric
    unit = f" ({stated.unit})" if stated.unit else ""
    return {"type": stated.metric, "value": stated.value, "name": one_line(f"{title}{unit}"), "args": args}
