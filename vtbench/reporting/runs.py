"""What a run's record says of the run: its model, its question, its surroundings. `measured` reads its numbers.

A record may come from another version, or be partial: a section that it lacks reads as empty, a number that is not
finite as None. Only these two, and `readers`, know how a record is stored; reports and pages ask here.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from vtbench.reporting.readers import REDUCERS, kind_of, reader, subject_title
from vtbench.reporting.values import finite, known_fields, listed, mapping, text, whole_number
from vtbench.results.record import Run

KINDS = ("codec", "continuous", "discrete", "closed", "generator", *REDUCERS)
"""Kinds of systems, in the order in which tables follow each other. Ranks never join two of them."""
NO_REASON = "the run states no reason"
T = TypeVar("T")


def once(of: Callable[[Run], T]) -> Callable[[Run], T]:
    """Computed once a run, whose record does not change, and kept with it as functools.cached_property would."""
    name = f"_{of.__name__}"

    @functools.wraps(of)
    def kept(run: Run) -> T:
        known = run.__dict__
        if name not in known:
            known[name] = of(run)
        value: T = known[name]
        return value

    return kept


def kind_order(kind: str) -> int:
    """Where a kind stands in a page; unknown kinds come last."""
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def section(run: Run, name: str) -> Mapping[str, Any]:
    """A section of run.json; empty where the file has none (older or partial runs)."""
    known = _sections(run)
    if name not in known:
        known[name] = mapping(run.info.get(name))
    return known[name]


@once
def _sections(run: Run) -> dict[str, Mapping[str, Any]]:
    """Those that were asked for, by name."""
    return {}


def record(run: Run) -> dict[str, Any]:
    """The whole of run.json, ready for JSON."""
    return run.info.as_dict()


@once
def identity(run: Run) -> str:
    """The run's id: the hash of its question."""
    return str(run.info.get("id", ""))


def status(run: Run) -> str | None:
    """running, interrupted, failed, incomplete or complete."""
    return text(run.info.get("status"))


def is_complete(run: Run) -> bool:
    return status(run) == "complete"


@once
def is_ranked(run: Run) -> bool:
    return run.info.get("ranked") is True and is_complete(run)


def why_not_ranked(run: Run) -> str | None:
    """The reason, in words, of a run that is shown but not ranked; several are joined by `; `."""
    if is_ranked(run):
        return None
    reason = run.info.get("why_not_ranked")
    if reason:
        return str(reason)
    if not is_complete(run):
        return f"the run is {status(run) or 'without a status'}"
    return NO_REASON


def limit(run: Run) -> int | None:
    """Only the first so many images of the suite were measured; None: all."""
    return whole_number(run.info.get("limit"))


def shard(run: Run) -> Sequence[int] | None:
    """[number from 1, of how many] of a run of one part of the images."""
    part: Sequence[int] | None = run.info.get("shard")
    return part


def dtype(run: Run) -> str | None:
    return text(run.info.get("dtype"))


def seed(run: Run) -> int | None:
    return whole_number(run.info.get("seed"))


def batch_size(run: Run) -> int | None:
    return whole_number(run.info.get("batch_size"))


def command(run: Run) -> str | None:
    """The command line that was typed."""
    return text(run.info.get("command"))


def enlarged(run: Run) -> int | None:
    """How many images were smaller than the view and were enlarged; None where the record does not say."""
    return whole_number(run.info["enlarged"]) if "enlarged" in run.info else None


def served(run: Run) -> Mapping[str, int]:
    """How images that do not fit the model were served -> number of images."""
    return section(run, "served")


def service(run: Run) -> Mapping[str, Any]:
    """What a closed system's service says of itself."""
    return section(run, "service")


@dataclass(frozen=True)
class Device:
    """The machine's device: `kind` is cpu or cuda, `name` an accelerator's, `cpu` the processor's."""

    kind: str | None = None
    name: str | None = None
    cpu: str | None = None
    threads: int | None = None


def device(run: Run) -> Device:
    return Device(**known_fields(Device, section(run, "device")))


@dataclass(frozen=True)
class Provenance:
    """The code and the surroundings that gave the numbers. `release`: None where the record does not say."""

    vtbench: str | None = None
    git: str | None = None
    code_sha256: str | None = None
    release: bool | None = None
    python: str | None = None
    platform: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    started: str | None = None
    finished: str | None = None


@once
def provenance(run: Run) -> Provenance:
    known = known_fields(Provenance, section(run, "provenance"))
    return Provenance(**{**known, "packages": mapping(known.get("packages"))})


def vtbench_version(run: Run) -> str | None:
    """The version of vtbench that wrote the run."""
    stated = run.info.get("vtbench") or provenance(run).vtbench
    return str(stated) if stated else None


def model_name(run: Run) -> str:
    return str(section(run, "model").get("name", ""))


def model_title(run: Run) -> str:
    """The model's title; its name where it has none."""
    return str(section(run, "model").get("title") or model_name(run))


def family(run: Run) -> str | None:
    return text(section(run, "model").get("family"))


@once
def kind(run: Run) -> str:
    """One of KINDS; empty where the record does not say."""
    return kind_of(mapping(section(run, "model")))


def options(run: Run) -> Mapping[str, Any]:
    """The model's options as they were resolved."""
    return mapping(section(run, "model").get("options"))


def knob(run: Run) -> tuple[str | None, Any]:
    """The option that trades rate for quality, and its value in this run."""
    name = section(run, "model").get("knob")
    return (str(name), options(run).get(name)) if name else (None, None)


@once
def curve_key(run: Run) -> str:
    """Equal for runs that lie on one curve: the same model, weights, adapter and dtype, and options that differ in the
    knob only. A knob may choose the weights, a network a quality: then their origin must be equal, not they."""
    fixed = json.dumps({k: v for k, v in options(run).items() if k != knob(run)[0]}, sort_keys=True, default=str)
    loaded = _loaded(run)
    if any(knob(run)[0] in mapping(mapping(file).get("when")) for file in listed(model_card(run).get("weights"))):
        _, stated, *rest, asked = loaded
        asked = {k: v for k, v in asked.items() if k != "weights"}
        loaded = [stated.get("status"), section(run, "model").get("checkpoint"), *rest, asked]
    facts = json.dumps([*loaded, fixed], sort_keys=True, default=str)
    return f"{model_name(run)} {fixed} {hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def model_card(run: Run) -> Mapping[str, Any]:
    """The card of the model as it was when the run was made; empty where the record has none."""
    return mapping(section(run, "model").get("card"))


def adapter_sha256(run: Run) -> str | None:
    return text(section(run, "model").get("adapter_sha256"))


def parameters(run: Run) -> float | None:
    """How many parameters the networks have."""
    return finite(section(run, "model").get("parameters"))


@dataclass(frozen=True)
class WeightFile:
    file: str
    sha256: str


@dataclass(frozen=True)
class WeightFacts:
    """Where the weights came from. `status`: official, own, unverified, built-in, none; None: not stated."""

    status: str | None = None
    why: str | None = None
    note: str | None = None
    files: tuple[WeightFile, ...] = ()


@once
def weights(run: Run) -> WeightFacts:
    stated = mapping(section(run, "model").get("weights"))
    files = [f for f in listed(stated.get("files")) if isinstance(f, Mapping)]
    known = known_fields(WeightFacts, stated)
    known["files"] = tuple(WeightFile(str(f.get("file", "")), str(f.get("sha256") or "")) for f in files)
    return WeightFacts(**known)


def _loaded(run: Run) -> list[Any]:
    """What was loaded, whatever its options: the weights whatever their files are called, the adapter, and what else
    the question says of the model: what an object or a folder of pictures holds, a generator's tokenizer."""
    stated, asked = mapping(section(run, "model").get("weights")), mapping(section(run, "question").get("model"))
    files = [{k: v for k, v in mapping(f).items() if k != "file"} for f in stated.get("files") or ()]
    other = {k: v for k, v in asked.items() if k not in ("options", "prompts", "per_prompt")}
    return [model_name(run), {**stated, "files": files}, adapter_sha256(run), dtype(run), other]


@once
def system(run: Run) -> str:
    """What is measured, whatever it is measured on: equal for runs of the same model, options, weights and dtype."""
    return json.dumps([*_loaded(run), options(run)], sort_keys=True, default=str)


def task_name(run: Run) -> str:
    return str(section(run, "task").get("name", ""))


def task_title(run: Run) -> str:
    return subject_title(run, str(section(run, "task").get("title") or task_name(run)))


def task_version(run: Run) -> int | None:
    return whole_number(section(run, "task").get("version"))


def task_fit(run: Run) -> str | None:
    """The task's rule for images whose size does not fit the model."""
    return text(section(run, "task").get("fit"))


def suite_name(run: Run) -> str:
    return str(section(run, "suite").get("name", ""))


def suite_hash(run: Run) -> str | None:
    return text(section(run, "suite").get("hash"))


def suite_images(run: Run) -> int | None:
    """How many images the suite has, whatever the limit."""
    return whole_number(section(run, "suite").get("n"))


def view_name(run: Run) -> str:
    return str(section(run, "view").get("name", ""))


def view_fingerprint(run: Run) -> str | None:
    return text(section(run, "view").get("fingerprint"))


def protocol(run: Run) -> str | None:
    return text(section(run, "view").get("protocol") or run.info.get("protocol"))


class Question(NamedTuple):
    """What makes runs comparable."""

    task: str
    task_version: int
    suite: str
    """The suite's hash; its name where it has none."""
    view: str
    fingerprint: str
    """Of the view."""
    fit: str
    reader: str = ""  # of what is understood: by which model, read how, with which rule for positions

    @property
    def images(self) -> tuple[str, str, str]:
        """Equal for questions about the same pictures: (suite, view, fingerprint)."""
        return self.suite, self.view, self.fingerprint


@once
def question(run: Run) -> Question:
    return Question(
        task_name(run),
        task_version(run) or 0,
        str(suite_hash(run) or suite_name(run)),
        view_name(run),
        view_fingerprint(run) or "",
        task_fit(run) or "",
        reader(run),
    )
