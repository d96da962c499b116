"""`vtbench score RUN`: adds metrics to a finished run from its saved images or tokens; the model is not asked again
where pictures were saved, and only decodes where tokens were."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry
from vtbench.results import Run, RunFolder, Score, read_run
from vtbench.run import Job, Runner
from vtbench.store import TokenFile
from vtbench.subject import FolderSubject, ModelSubject, Produced, Subject
from vtbench.types.errors import VtbenchError
from vtbench.types.task import Task
from vtbench.types.tokens import Tokens

if TYPE_CHECKING:
    import torch

    from vtbench.types.item import Item


class SavedTokens(Subject):
    """A run's tokens, decoded again by its model."""

    def __init__(self, run: Run, inner: ModelSubject) -> None:
        self.inner, self.card, self.options = inner, inner.card, inner.options
        self.tokens = TokenFile(run.path)
        self.row = {row["item"]: index for index, row in enumerate(run.rows())}

    def produce(self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item]) -> Produced:
        import torch

        from vtbench.images import serve

        service = serve(self.card.sizes, int(images.shape[2]), int(images.shape[3]), self.inner.fit)
        out: list[torch.Tensor] = []
        parts: list[Tokens] = []
        failed: dict[int, str] = {}
        for position, item in enumerate(items):
            tokens = self.tokens[self.row[item.id]] if item.id in self.row else None
            if tokens is None:
                failed[position] = f"the run kept no tokens of {item.id}"
                out.append(torch.zeros_like(images[position]))
                continue
            made = self.inner.model.decode(tokens, [seeds[position]])  # type: ignore[union-attr]
            out.append(service.from_model(made.detach().to("cpu", torch.float32))[0])
            parts.append(tokens)
        joined = type(parts[0]).join(parts) if parts and not failed else None
        return Produced(torch.stack(out), joined, failed=failed)


def add_metrics(path: Path, names: Sequence[str] | None, *, device: str = "cpu") -> Run:
    """Adds `names` (default: every metric of the task that has no value yet) to the run in `path`; returns the run.

    Raises VtbenchError if the run is not finished, kept neither images nor tokens, or its images changed since.
    """
    from vtbench.images import View
    from vtbench.suite import open_suite

    run = read_run(path)
    info = dict(run.info)
    if info["status"] not in ("complete", "incomplete"):
        raise VtbenchError(f"{path} is {info['status']}: run evaluate again until it is complete")
    wanted = (
        registry.metric_names(names)
        if names
        else [s["metric"] for s in run.scores if s["value"] is None and s["metric"] in info["metrics"]]
    )
    if not wanted:
        raise VtbenchError(f"{path} has a value of every metric of its task: name others with --metrics")
    for name in wanted:
        registry.metrics().get(name)
    suite = open_suite(info["suite"]["spec"])
    if suite.hash != info["suite"]["hash"]:
        raise VtbenchError(f"{info['suite']['spec']} is no longer what {path} was made from: run evaluate again")
    view = View.parse(info["view"]["name"], info["view"]["protocol"])
    subject = _subject(run, device)
    # As recorded: a task that was named by path is known by that path alone.
    task = Task(**info["task"], suites=(), view=info["view"]["name"], metrics=tuple(wanted))
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        job = Job(
            subject, task, suite, view, {"name": run.name, "options": info["model"]["options"], "rescored": str(path)},
            info["model"]["weights"], Path(scratch), info["batch_size"], info["limit"], info["seed"], device,
            info["dtype"], suite_spec=info["suite"]["spec"],
        )  # fmt: skip
        made = read_run(Runner(job).run())
        with RunFolder(path) as folder:
            new = {row["item"]: row for row in made.rows()}
            folder.replace_rows(_joined(run.rows(), new))
            # Speed belongs to the run itself, not to its rescoring.
            fresh = {s["metric"]: Score(**s) for s in made.scores if s["metric"] in wanted}
            kept = [fresh.pop(s["metric"]) if s["metric"] in fresh else Score(**s) for s in run.scores]
            folder.write_scores([*kept, *fresh.values()])
            info.pop("schema")
            info["metrics"] = {**info["metrics"], **made.info["metrics"]}
            info["unavailable"] = {
                **{n: w for n, w in info["unavailable"].items() if n not in wanted}, **made.info["unavailable"]
            }  # fmt: skip
            info["added"] = sorted({*info.get("added", ()), *wanted})
            folder.write_info(info)
    return read_run(path)


def _joined(rows: Iterator[dict[str, Any]], new: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        other = new.get(row["item"], {})
        if "*" not in row["why"]:
            row["values"] = {**row["values"], **other.get("values", {})}
            row["why"] = {n: w for n, w in {**row["why"], **other.get("why", {})}.items() if n not in row["values"]}
            weights = {**row.get("weights", {}), **other.get("weights", {})}
            if weights:
                row["weights"] = weights
            if "lines" in other:
                row["lines"] = other["lines"]
        yield row


def _subject(run: Run, device: str) -> Subject:
    if (run.path / "images").is_dir():
        return FolderSubject(run.path / "images", partial=True)
    if not TokenFile(run.path).exists():
        raise VtbenchError(f"{run.path} kept neither images nor tokens: run evaluate with --save images")
    from vtbench import api

    model = run.info["model"]
    if not model.get("spec"):
        raise VtbenchError(f"{run.path} was made by an object that is gone: run evaluate with --save images")
    options = {k: str(v) for k, v in model["options"].items()}
    checkpoint = Path(model["checkpoint"]) if model.get("checkpoint") else None
    ready = api.prepare(model["spec"], options, checkpoint, device, run.info["dtype"], run.info["task"]["fit"])
    hashes = [f["sha256"] for f in ready.weights.get("files", ())]
    if hashes != [f["sha256"] for f in model["weights"].get("files", ())]:
        raise VtbenchError(f"the weights of {run.name} are not those of {run.path}: give the same files")
    if not isinstance(ready.subject, ModelSubject):
        raise VtbenchError(f"{run.path} kept neither images nor tokens: run evaluate with --save images")
    return SavedTokens(run, ready.subject)
