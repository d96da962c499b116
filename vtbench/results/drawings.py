"""What `vtbench generate` leaves beside its images, as typed records: generate.json, and a line of samples.jsonl."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from vtbench.results.files import loads, own_files, read_error, read_json
from vtbench.results.record import DeviceRecord, Json, ModelRecord, PromptsRecord, ProvenanceRecord, check_schema
from vtbench.results.typed import Pair, Record, read_records, validated
from vtbench.types.anew import Anew
from vtbench.types.errors import VtbenchError

RECORD, SAMPLES = "generate.json", "samples.jsonl"


class SampleNote(Record):
    """What a line says of an image for those who only look at it: its file and what it was drawn from."""

    file: str
    text: str | None = None
    label: int | None = None
    metadata: dict[str, Json] = {}

    def meta(self) -> dict[str, Any]:
        """What a metric may know of the image."""
        return {**self.metadata, "prompt": self.text, "label": self.label}


class SampleRecord(SampleNote):
    """A line of samples.jsonl: one drawn image, and all that makes it again."""

    id: str
    prompt: str
    sample: int
    seed: int
    sha256: str
    size: Pair
    seconds: float
    cost: dict[str, float] = {}
    rewritten: bool = False
    warm_up: bool = False
    black: bool = False


class MemoryRecord(Record):
    """The most memory that was in use at a time, in bytes, and whose."""

    bytes: int | None = None
    what: str = ""


class DrawingRecord(Record):
    """generate.json. `id`: sha256 of `question`, all that decides an image."""

    schema_: int = Field(alias="schema")
    identity_rule: int = 1
    id: str
    question: dict[str, Json] = {}
    per_prompt: int
    n: int | None = None
    model: ModelRecord = ModelRecord()
    suite: PromptsRecord = PromptsRecord()
    seed: int | None = None
    dtype: str | None = None
    device: DeviceRecord = DeviceRecord()
    batch_size: int | None = None
    command: str | None = None
    provenance: ProvenanceRecord = ProvenanceRecord()
    status: str | None = None
    failure: str | None = None
    black: list[str] = []
    peak_memory: MemoryRecord = MemoryRecord()


def read_samples(folder: Path) -> Iterator[SampleRecord]:
    """The lines of samples.jsonl in `folder`, one at a time; a link to a file elsewhere is refused."""
    own_files(folder, (SAMPLES,))
    return read_records(SampleRecord, folder / SAMPLES)


class Samples(Anew[SampleRecord]):
    """The whole lines of samples.jsonl as they are now, of which only the ends are held: a line is read anew whenever
    it is asked for. All of them are checked once, here."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / SAMPLES
        self.ends = array("Q", [0])
        """Bytes of the file up to each line, and up to its end."""
        whole = sum(1 for _ in read_samples(folder))
        if whole:
            with self.path.open("rb") as source:
                for line in itertools.islice(source, whole):
                    self.ends.append(self.ends[-1] + len(line))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def at(self, index: int) -> SampleRecord:
        try:
            with self.path.open("rb") as source:
                source.seek(self.ends[index])
                line = source.read(self.ends[index + 1] - self.ends[index])
        except OSError as bad:
            raise read_error(bad, self.path) from bad
        return validated(SampleRecord, loads(line), f"{self.path} line {index + 1}")

    def __iter__(self) -> Iterator[SampleRecord]:
        return itertools.islice(read_samples(self.path.parent), len(self))


def read_notes(file: Path) -> Iterator[SampleNote]:
    """The same of a samples.jsonl that somebody may have written by hand: what stands in it beside the file's name."""
    own_files(file.parent, (file.name,))
    return read_records(SampleNote, file)


def read_drawing_record(folder: Path) -> DrawingRecord:
    """generate.json of `folder`; a damaged one is refused with what to do."""
    file = folder / RECORD
    try:
        own_files(folder, (RECORD,))
        value = read_json(file)
        check_schema(value.get("schema") if isinstance(value, dict) else None, file)
        return validated(DrawingRecord, value, str(file))
    except VtbenchError as bad:
        raise VtbenchError(f"{bad}; delete the folder, or choose another --out") from bad
