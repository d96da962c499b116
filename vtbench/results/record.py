"""What a run's folder says, as typed records: `run.json`, a line of `rows.jsonl`, a line of `scores.jsonl`.

Read strictly (a number is a number: no NaN, no "1.5", no 1e999), with one sentence for what is wrong; keys that this
version does not know are kept, so that a newer patch's record passes through unharmed. Every field has a name to be
read by (`run.info.model.name`), and its key still works (`run.info["model"]["name"]`), as in the files themselves.

The JSON schemas of these records are published in docs/schema/ (`python -m vtbench.results.schema`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from vtbench.results.files import LARGEST_RECORD, own_files, read_json
from vtbench.results.html import scores_html
from vtbench.results.sites import outside_sites
from vtbench.results.typed import Pair, Record, read_records, validated
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import reading
from vtbench.types.plugins import refuse_paths

SCHEMA = 1
PARTS = ("run.json", "rows.jsonl", "scores.jsonl")
"""The records of a run's folder."""
IDENTITY_RULE = 2
"""How a run's id is made. 1: files' names, sizes and times, and the adapter's own file. 2: the contents of every
image, and every file of the project that decides a number. Runs of another rule are read, never continued."""

Json = Any
"""A value of JSON: null, a boolean, a number, a text, a list or an object."""


class WeightsFile(Record):
    """One file of weights: its name, its role, the sha256 of its bytes, and who states that of the released file: the
    "card", the "hub" that it came from, or nobody."""

    file: str = ""
    role: str = "model"
    sha256: str | None = None
    stated_by: str | None = None


class CopyRecord(Record):
    """Which copy of the weights was read from the file of a role: in which containers (`key`, with slashes) and under
    which prefix of names, raw or averaged, with which wrappers' segments taken out of the names; `by` which rule it was
    this one; what stood `beside` it, in words."""

    role: str = "model"
    file: str = ""
    key: str | None = None
    prefix: str = ""
    averaged: bool | None = None
    wrappers: list[str] = []
    by: str | None = None
    beside: list[str] = []


class WeightsRecord(Record):
    """status: official, own, unverified or none; `why` it is unverified. `copies`: what was read of each file, where
    vtbench's own reader did."""

    status: str | None = None
    files: list[WeightsFile] = []
    why: str | None = None
    note: str | None = None
    copies: list[CopyRecord] = []


class ReadRecord(Record):
    """A file that somebody's own adapter is, or reads undeclared. at_work: only while the model worked, so that the id
    does not speak of it, and no other call is answered from the run."""

    file: str = ""
    sha256: str | None = None
    at_work: bool = False


class ModelRecord(Record):
    """What was measured. `card`: the facts of its card, without the native network's configuration."""

    name: str = ""
    family: str | None = None
    kind: str | None = None
    title: str | None = None
    card: dict[str, Json] = {}
    options: dict[str, Json] = {}
    knob: str | None = None
    curve: str | None = None
    weights: WeightsRecord = WeightsRecord()
    adapter_sha256: str | None = None
    parameters: int | None = None
    spec: str | None = None
    checkpoint: str | None = None
    prefix: str | None = None
    identity: str | None = None
    """prefix: the copy of the weights asked for. identity: of an object, by which the caller vouches for it."""
    macs: dict[str, float] | None = None
    reads: list[ReadRecord] = []
    code: list[ReadRecord] = []

    @property
    def reads_at_work(self) -> bool:
        """True if files that the run's id does not speak of decided its numbers too."""
        return any(read.at_work for read in self.reads)


class TaskRecord(Record):
    name: str = ""
    version: int | None = None
    title: str | None = None
    fit: str | None = None


class SuiteRecord(Record):
    """The reference images: `hash` is over their contents (identity rule 2); `spec` opens them again. left_out: files
    that are or may hold pictures, and are none of them, by suffix or reason; notes: that in words, and what else the
    name may mean."""

    name: str = ""
    hash: str | None = None
    n: int | None = None
    version: str | None = None
    spec: str | None = None
    left_out: dict[str, int] = {}
    notes: list[str] = []
    dataset: str | None = None
    split: str | None = None
    """Which split of a public data set the images are, whole, where their names say so."""


class ViewRecord(Record):
    """The picture that was scored: "native" or its side; the protocol's crop; 16 digits over all that decides it."""

    name: str = ""
    protocol: str | None = None
    fingerprint: str | None = None


class DeviceRecord(Record):
    kind: str | None = None
    name: str | None = None
    threads: int | None = None
    cpu: str | None = None
    cores: int | None = None


class ProvenanceRecord(Record):
    """Code, packages and times (UTC)."""

    vtbench: str | None = None
    git: str | None = None
    code_sha256: str | None = None
    release: bool | None = None
    python: str | None = None
    platform: str | None = None
    packages: dict[str, str] = {}
    started: str | None = None
    finished: str | None = None


class PromptsRecord(Record):
    """What a generator was asked: the suite's name, the sha256 of all that decides an image, its size."""

    name: str = ""
    hash: str | None = None
    n: int | None = None
    per_prompt: int | None = None
    licence: str | None = None
    rewritten: int | None = None


class RunInfo(Record):
    """run.json. `id`: sha256 of `question`, all that can move a number; commit, batch and limit stand beside it."""

    schema_: int = Field(alias="schema")
    identity_rule: int = 1
    id: str = ""
    question: dict[str, Json] = {}
    model: ModelRecord = ModelRecord()
    task: TaskRecord = TaskRecord()
    suite: SuiteRecord = SuiteRecord()
    view: ViewRecord = ViewRecord()
    protocol: str | None = None
    dtype: str | None = None
    device: DeviceRecord = DeviceRecord()
    seed: int | None = None
    status: str | None = None
    n: int | None = None
    limit: int | None = None
    shard: Pair | None = None
    batch_size: int | None = None
    save: list[str] = []
    ranked: bool | None = None
    why_not_ranked: str | None = None
    unavailable: dict[str, str] = {}
    metrics: dict[str, dict[str, Json]] = {}
    command: str | None = None
    provenance: ProvenanceRecord = ProvenanceRecord()
    failure: str | None = None
    enlarged: int = 0
    served: dict[str, int] = {}
    peak_memory_bytes: int | None = None
    peak_memory_what: str | None = None
    merged_from: int | None = None
    added: list[str] = []
    prompts: PromptsRecord | None = None
    black: list[str] = []
    notes: list[str] = []
    """What happened on the way that a reader should know: what could not be trusted and was computed anew."""

    @property
    def finished(self) -> bool:
        """True if every image went through; images that could not be scored make it `incomplete`."""
        return self.status in ("complete", "incomplete")

    def with_(self, **changes: Any) -> RunInfo:
        """A copy with these fields, checked like one that was read."""
        return validated(RunInfo, {**self.as_dict(), **changes}, "the record")


class Row(Record):
    """One image: its values by metric, and for what has no value the reason (`*`: the image as a whole)."""

    item: str
    bits: float | None = None
    values: dict[str, float | None] = {}
    why: dict[str, str] = {}
    weights: dict[str, float] = {}
    seconds: dict[str, Json] = {}
    size: Pair | None = None
    sha256: str | None = None
    flags: dict[str, Json] = {}
    resize_only: dict[str, float] = {}

    @property
    def failed(self) -> str | None:
        """Why the image could not be scored at all; None if it was."""
        return self.why.get("*")

    def weight(self, metric: str) -> float:
        return self.weights.get(metric, 1.0)


class Score(Record):
    """One metric of one run; `value` None needs `why`. low, high: 95 % interval."""

    task: str = ""
    metric: str
    value: float | None = None
    n: int = 0
    missing: int = 0
    low: float | None = None
    high: float | None = None
    why: str | None = None
    warning: str | None = None
    unit: str = ""
    better: str | None = None
    version: int = 1
    protocol: str | None = None
    fingerprint: str | None = None
    """16 hexadecimal digits over view, rounding, reference and metric version: numbers of one may be compared."""
    details: dict[str, Json] = {}

    def as_dict(self) -> dict[str, Any]:
        """Every field, stated or not, as scores.jsonl keeps it."""
        return self.model_dump(by_alias=True)


def by_metric(scores: Iterable[Score]) -> dict[str, dict[str, Any]]:
    return {s.metric: {k: v for k, v in s.as_dict().items() if k != "metric"} for s in scores}


def check_schema(schema: Any, path: Path) -> None:
    """Refuses a file without a schema's number, and one of a newer schema."""
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise VtbenchError(f"{path} states no schema number: it is not a result of vtbench")
    if schema > SCHEMA:
        raise VtbenchError(
            f"{path} has schema {schema}, this vtbench reads up to {SCHEMA}: upgrade vtbench to read this result"
        )


def read_info(path: Path) -> RunInfo:
    """run.json at `path`."""
    value = read_json(path)
    check_schema(value.get("schema") if isinstance(value, dict) else None, path)
    return validated(RunInfo, value, str(path))


@dataclass(frozen=True)
class Run:
    """A run as read from its folder; rows are read lazily."""

    path: Path
    info: RunInfo
    scores: tuple[Score, ...]

    @property
    def name(self) -> str:
        return self.info.model.name

    def rows(self) -> Iterator[Row]:
        own_files(self.path, PARTS)
        return read_records(Row, self.path / "rows.jsonl")

    def as_dict(self) -> dict[str, Any]:
        """Its folder, run.json, and every score by its metric's name."""
        return {"path": str(self.path), "run": self.info.as_dict(), "scores": by_metric(self.scores)}

    def score(self, metric: str) -> Score | None:
        return next((s for s in self.scores if s.metric == metric), None)

    def __repr__(self) -> str:
        task, suite = self.info.task.name, self.info.suite.name
        return f"<Run {self.name}: {task} on {suite}, {len(self.scores)} scores, {self.info.status}, {self.path}>"

    def _repr_html_(self) -> str:
        return scores_html(repr(self).strip("<>"), self.scores)


def read_run(path: Path) -> Run:
    """The run in folder `path`; a newer schema is refused, and so is a record that is a link to a file elsewhere."""
    with reading(path, "a run", "it is damaged, or no result of vtbench"):
        own_files(path, PARTS)
        scores = tuple(read_records(Score, path / "scores.jsonl", LARGEST_RECORD))
        run = Run(path, read_info(path / "run.json"), scores)
        refuse_paths((*run.info.metrics, *run.info.unavailable, *(score.metric for score in scores)), path)
        return run


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Every run folder at or below `paths`, in sorted order; a path without any is refused by name."""
    out: list[Path] = []
    for path in paths:
        if os.path.lexists(path / "run.json"):
            out.append(path)
            continue
        # A pattern finds links that lead nowhere too: whoever reads them says so.
        below = outside_sites(sorted(p.parent for p in path.glob("**/run.jso[n]")), path) if path.is_dir() else []
        if not below:
            raise VtbenchError(f"{path} holds no run (no run.json at or below it): give the --out of an evaluation")
        out.extend(below)
    return list(dict.fromkeys(out))
