"""The Python API, of the same shape as the commands: evaluate, score, check, merge."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import registry, weights
from vtbench.results import Run, read_run
from vtbench.run import Job, Progress, Runner
from vtbench.subject import FolderSubject, ModelSubject, Subject
from vtbench.types.adapter import ClosedSystem, Generator, Tokenizer
from vtbench.types.cards import Card, Kind, Multiple, Wrapping
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Bitstream, Codes, Latents

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


@dataclass(frozen=True)
class Prepared:
    """A subject ready to run, with what identifies it."""

    subject: Subject
    identity: Mapping[str, Any]
    weights: Mapping[str, Any]
    reasons: tuple[str, ...] = ()


def prepare(
    model: str, options: Mapping[str, str], checkpoint: Path | None, device: str, dtype: str, fit: str
) -> Prepared:
    """Finds, verifies, builds and loads a model by its spec."""
    if model.startswith("folder:"):
        if options or checkpoint:
            raise VtbenchError(f"{model} is a folder of images: it takes no --option and no --checkpoint")
        subject = FolderSubject(Path(model.removeprefix("folder:")).expanduser())
        identity = {"name": subject.card.name, "options": {}, "content": subject.suite.hash}
        return Prepared(subject, identity, {"status": "none", "files": []})
    entry, resolved, found, made = load(model, options, checkpoint, device, dtype)
    if isinstance(made, Generator):
        raise VtbenchError(f"{model} is a generator: use --task generation, or `vtbench generate {model}`")
    identity = {
        "name": entry.card.name,
        "options": resolved,
        "weights": [h["sha256"] for h in found.hashes],
        "adapter": entry.adapter_sha256(),
    }
    record = {"status": found.status, "files": list(found.hashes), "why": found.why}
    stored = getattr(getattr(made, "network", None), "stored_as", None)
    if stored:
        record["note"] = f"the file keeps its weights in {stored}; they were widened to float32"
    if found.status == "none":
        record["status"] = "none"
    return Prepared(ModelSubject(made, fit), identity, record)


def load(
    model: str, options: Mapping[str, str], checkpoint: Path | None, device: str, dtype: str
) -> tuple[registry.Entry, dict[str, Any], weights.Found, Any]:
    """(entry, resolved options, weights found, the loaded model)."""
    entry = registry.model(model)
    wrapping = registry.wrapper(model)
    if wrapping is not None:
        return _load_wrapped(entry, *wrapping, options, checkpoint, device, dtype)
    if model.startswith("family:"):
        entry, options = _own_configuration(entry, options)
    given = registry.parse_options(entry.card, options)
    resolved = {**entry.card.options, **given}
    check_device(device, dtype)
    found = weights.find(entry.card, checkpoint)
    made = registry.build(entry, resolved)
    made.load(found.files, device, dtype)
    return entry, resolved, found, made


def _own_configuration(entry: registry.Entry, options: Mapping[str, str]) -> tuple[registry.Entry, dict[str, str]]:
    """`family:NAME`: options that are no option of the card change its arch."""
    from vtbench.identify import own_card, with_options

    arch = {k: v for k, v in options.items() if k not in entry.card.options}
    rest = {k: v for k, v in options.items() if k in entry.card.options}
    built = with_options(entry.card.arch or {}, arch)
    shown = entry.card.name + "".join(f",{k}={v}" for k, v in sorted(arch.items()))
    return replace(entry, card=replace(own_card(entry.card, entry.family, built), name=shown)), rest


def _load_wrapped(
    entry: registry.Entry, wrapping: Wrapping, inner: str,
    options: Mapping[str, str], checkpoint: Path | None, device: str, dtype: str,
) -> tuple[registry.Entry, dict[str, Any], weights.Found, Any]:  # fmt: skip
    """`PREFIX:NAME`: a family's model over the model NAME, which is loaded first."""
    own, rest = registry.split_options(entry, options)
    inner_entry, inner_options, files, loaded = load(inner, rest, checkpoint, device, dtype)
    wrapped = wrapping.wrap(loaded, own)
    return replace(entry, card=wrapped.card, inner=inner_entry), {**inner_options, **own}, files, wrapped


def check_device(device: str, dtype: str) -> None:
    """Refuses a device or dtype that is not there."""
    if dtype not in ("float32", "float16", "bfloat16"):
        raise VtbenchError(f"--dtype {dtype!r} is not known: give float32, float16 or bfloat16")
    kind = device.partition(":")[0]
    if kind == "cpu":
        return
    import torch

    if kind == "cuda":
        if not torch.cuda.is_available():
            raise VtbenchError(f"--device {device}: this machine has no CUDA device that torch can use; give cpu")
        index = device.partition(":")[2]
        if index and (not index.isdigit() or int(index) >= torch.cuda.device_count()):
            raise VtbenchError(f"--device {device}: there are {torch.cuda.device_count()} CUDA devices; count from 0")
    elif kind == "mps":
        if not torch.backends.mps.is_available():
            raise VtbenchError("--device mps: this machine has no Metal device that torch can use; give cpu")
    else:
        raise VtbenchError(f"--device {device!r} is not known: give cpu, cuda, cuda:1 or mps")


def of_object(tokenizer: Any, fit: str) -> Prepared:
    """A tokenizer object from inside somebody's training loop."""
    if isinstance(tokenizer, Tokenizer | ClosedSystem):
        made = tokenizer
    elif callable(getattr(tokenizer, "encode", None)) and callable(getattr(tokenizer, "decode", None)):
        made = _Duck(tokenizer)
    else:
        raise VtbenchError(
            f"{type(tokenizer).__name__} is no tokenizer: give a registered name, or an object with encode and decode"
        )
    digest = hashlib.sha256(repr((type(tokenizer).__qualname__, made.options, _settings(tokenizer))).encode())
    states = _states(tokenizer)
    for part, state in states.items():
        for name, tensor in state.items():
            digest.update(f"{part}.{name}".encode())
            if callable(getattr(tensor, "detach", None)):
                plain = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(plain.view(_uint8()).numpy().tobytes())
    files = [{"file": "state_dict of the object", "role": "model", "sha256": digest.hexdigest()}] if states else []
    if not states:
        # Nothing says whether this is the object of the last call, so its results are never taken from disk.
        digest.update(uuid.uuid4().bytes)
    identity = {"name": made.card.name, "options": dict(made.options), "object": digest.hexdigest()}
    record = {"status": "own", "files": files, "why": None}
    reasons = () if files else ("an object without a state dict: nothing identifies its weights",)
    return Prepared(ModelSubject(made, fit), identity, record, reasons)


def _modules(thing: Any) -> list[Any]:
    """The object itself and what it holds, as far as they are torch modules."""
    from torch import nn

    return [m for m in (thing, *getattr(thing, "__dict__", {}).values()) if isinstance(m, nn.Module)]


def _states(thing: Any) -> dict[str, Mapping[str, Any]]:
    """The state dicts that identify an object's weights: its own, or those of the modules that it holds."""
    if callable(getattr(thing, "state_dict", None)):
        return {"": thing.state_dict()}
    held = getattr(thing, "__dict__", {}).items()
    return {n: m.state_dict() for n, m in held if callable(getattr(m, "state_dict", None))}


def _settings(thing: Any) -> list[tuple[str, Any]]:
    """Plain attributes, which decide results as weights do: a number of steps, a temperature."""
    simple = (bool, int, float, str, type(None))
    return sorted(
        (n, v) for n, v in getattr(thing, "__dict__", {}).items()
        if not n.startswith("_") and n != "training"
        and (isinstance(v, simple) or (isinstance(v, tuple | list) and all(isinstance(x, simple) for x in v)))
    )  # fmt: skip


@contextlib.contextmanager
def _evaluating(thing: Any) -> Iterator[None]:
    """An object's modules in eval mode, and back as they were: a training loop goes on untouched."""
    if isinstance(thing, str):
        yield
        return
    was = [(part, part.training) for module in _modules(thing) for part in module.modules()]
    try:
        for module in _modules(thing):
            module.eval()
        yield
    finally:
        for part, training in was:
            part.training = training


def _uint8() -> Any:
    import torch

    return torch.uint8


class _Duck(Tokenizer):
    """An object with encode(images) and decode(tokens); seeds are handed over if it takes them."""

    def __init__(self, thing: Any) -> None:
        name = type(thing).__name__.lower()
        given = getattr(thing, "card", None)
        self.stated = isinstance(given, Card)
        super().__init__(given if isinstance(given, Card) else Card(
            name=name, family="object", kind="discrete", title=type(thing).__name__, sizes=Multiple(1)))  # fmt: skip
        self.thing = thing

    def parameter_count(self) -> int | None:
        each = {id(p): p.numel() for m in _modules(self.thing) for p in m.parameters()}
        return sum(each.values()) if each else None

    def _call(self, method: Callable[..., Any], first: Any, seeds: Sequence[int]) -> Any:
        import inspect

        named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        takes = len([
            p for p in inspect.signature(method).parameters.values() if p.default is p.empty and p.kind in named
        ])  # fmt: skip
        return method(first, seeds) if takes > 1 else method(first)

    def encode(self, images: Any, seeds: Sequence[int], budget: float | None = None) -> Any:
        some = next((p for m in _modules(self.thing) for p in m.parameters()), None)
        tokens = self._call(self.thing.encode, images if some is None else images.to(some.device), seeds)
        if not self.stated:
            # Nobody states what an object is: its tokens do.
            kind = next((k for t, k in KINDS.items() if isinstance(tokens, t)), self.card.kind)
            self.card = replace(self.card, kind=kind)
        return tokens

    def decode(self, tokens: Any, seeds: Sequence[int]) -> Any:
        return self._call(self.thing.decode, tokens, seeds)


KINDS: Mapping[type, Kind] = {Codes: "discrete", Latents: "continuous", Bitstream: "codec"}


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
                ready = (
                    prepare(spec, combination, path, device, dtype, chosen[0].fit)
                    if isinstance(spec, str)
                    else of_object(spec, chosen[0].fit)
                )
                for task, name, suite, seen in plan:
                    if isinstance(ready.subject, ModelSubject):
                        ready.subject.fit = task.fit
                    size, tried = _batch(ready.subject, batch_size, suite, seen)
                    job = Job(
                        ready.subject, task, suite, seen, ready.identity, ready.weights, target, size, limit,
                        seed, device, dtype, frozenset(save), shard, command,
                        suite_spec=name,
                        extra_reasons=ready.reasons,
                        model_facts={"spec": spec if isinstance(spec, str) else None, "checkpoint": path, **tried},
                    )  # fmt: skip
                    with _evaluating(spec):
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


def _batch(subject: Subject, wanted: int, suite: Suite, view: View) -> tuple[int, dict[str, Any]]:
    """The batch size, and for 0 (the fastest) the images a second at each that was tried."""
    if wanted or not isinstance(subject, ModelSubject) or not suite.items:
        return wanted or 4, {}
    from vtbench.speed import rates

    found = rates(subject, suite, view)
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
