"""`vtbench generate`: prompts -> images on disk with their seeds, resumable per image.

A folder holds generate.json (the record), samples.jsonl (one line an image) and images/PROMPT/SAMPLE.png. An image's
seed comes from the run's seed, the prompt's id and the sample's number, so that any single image can be made again. A
line is written after its picture; whatever a kill leaves half done is made again, to the same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.images.prompts import PromptSuite
from vtbench.images.seeds import sample_seed
from vtbench.models.adapter_files import recorded
from vtbench.models.isolation import isolated
from vtbench.models.load import Loaded
from vtbench.models.memory import Memory
from vtbench.results import provenance, sources
from vtbench.results.drawings import (
    RECORD,
    SAMPLES,
    DrawingRecord,
    SampleRecord,
    Samples,
    read_drawing_record,
)
from vtbench.results.files import (
    NotWritten,
    append,
    disk_error,
    dumps,
    flushed,
    own_files,
    plain,
    write_atomic,
    write_json,
)
from vtbench.results.folder import RunFolder
from vtbench.results.record import IDENTITY_RULE, SCHEMA
from vtbench.results.typed import validated
from vtbench.running.sampling import DrawnBatch, Sample, drawn_batch
from vtbench.types import interrupts
from vtbench.types.errors import VtbenchError
from vtbench.types.foreign import cause

Tick = Callable[[int, int], None]
"""(images done, images in all)"""


@dataclass(frozen=True)
class Drawing:
    """What was drawn: `rows` as in samples.jsonl; `black`: files that are all black."""

    path: Path
    rows: Sequence[SampleRecord]
    info: DrawingRecord

    @property
    def images(self) -> Path:
        return self.path / "images"

    @functools.cached_property
    def black(self) -> list[str]:
        return [row.file for row in self.rows if row.black]


@dataclass(frozen=True)
class Order:
    """How images are asked for: the prompts, images a prompt, seed, batch, device, dtype, the command that asked."""

    suite: PromptSuite
    per_prompt: int = 1
    seed: int = 0
    batch_size: int = 4
    device: str = "cpu"
    dtype: str = "float32"
    command: str | None = None

    def checked(self, loaded: Loaded) -> Order:
        """Refuses texts for a class-conditional generator and labels for one that reads, and empty orders."""
        card = loaded.system.card
        if card.conditioning is not None and card.conditioning != self.suite.conditioning:
            raise VtbenchError(
                f"{card.name} is {card.conditioning}-conditional, but {self.suite.name} holds "
                f"{'texts' if self.suite.conditioning == 'text' else 'class labels'}: give another --suite"
            )
        self._check_labels(card.name, getattr(loaded.generator, "classes", None))
        if self.batch_size < 1:
            raise VtbenchError(f"--batch-size {self.batch_size}: give 1 or more")
        if self.per_prompt < 1:
            raise VtbenchError(f"--n {self.per_prompt}: give the number of images a prompt, 1 or more")
        return self

    def _check_labels(self, name: str, known: int | None) -> None:
        """Refuses labels beyond the generator's classes: before anything is drawn."""
        if not isinstance(known, int) or self.suite.conditioning != "class":
            return
        beyond = next((p for p in self.suite.prompts if int(p.label or 0) >= known), None)
        if beyond is not None:
            raise VtbenchError(
                f"{name} has {known} classes, 0 to {known - 1}, and {self.suite.name} asks for the class "
                f"{beyond.label}: give classes:{known}"
            )

    def samples(self) -> list[Sample]:
        """Every image, in order."""
        return [
            Sample(p, k, sample_seed(self.seed, p.id, k)) for p in self.suite.prompts for k in range(self.per_prompt)
        ]

    def question(self, loaded: Loaded) -> dict[str, Any]:
        """Everything that decides an image."""
        return {
            "rule": IDENTITY_RULE,
            "code": sources.digest([Path(__file__), *loaded.sources]),
            "model": dict(loaded.identity),
            "prompts": self.suite.hash,
            "seed": self.seed,
            "dtype": self.dtype,
            "device": self.device.partition(":")[0],
        }


@isolated()
def draw(
    loaded: Loaded, order: Order, out: Path, progress: Tick | None = None, drawer: Drawer | None = None
) -> Drawing:
    """Draws what is missing of the order in the folder `out`, and returns all of it. drawer: who draws; by default this
    process."""
    drawer = drawer or Drawer()
    wanted = order.checked(loaded).samples()
    if out.exists() and not out.is_dir():
        raise VtbenchError(f"--out {out} is a file: give a folder")
    with RunFolder(out):
        own_files(out, (RECORD, SAMPLES, "images"))
        memory = drawer.memory(order)
        info, kept = _record(loaded, order, out, len(wanted))
        for torn in (out / "images").glob("*/.*.png.*"):
            # A kill in the middle of a picture leaves its unfinished copy.
            torn.unlink()
        done = _kept(out, wanted if kept else [])
        write_json(out / RECORD, {**info, "status": "running"})
        if progress is not None:
            progress(done, len(wanted))
        with _failures_recorded(out, info):
            if done < len(wanted):
                info["device"] = dict(drawer.ready(loaded, order, len(wanted)))
            _batches(loaded, order, out, info, wanted[done:], progress, drawer)
        rows = Samples(out)
        black = [row.file for row in rows if row.black]
        info |= {"status": "complete", "black": black, "peak_memory": memory.most()}
        flushed(out / SAMPLES)
        write_json(out / RECORD, info)
    return Drawing(out, rows, validated(DrawingRecord, plain(info), f"{out / RECORD}"))


def _batches(
    loaded: Loaded,
    order: Order,
    out: Path,
    info: dict[str, Any],
    left: Sequence[Sample],
    progress: Tick | None,
    drawer: Drawer,
) -> None:
    """Draws what is left of the order, a batch at a time; `info` is told what the generator reads meanwhile."""
    finished = info["n"] - len(left)

    def keep(drawn: DrawnBatch) -> None:
        nonlocal finished
        _append(out, drawn)
        finished += len(drawn.rows)
        if late := loaded.read_at_work():
            reads = [*recorded(loaded.files.read, at_work=False), *recorded(late, at_work=True)]
            info["model"] = {**info["model"], "reads": reads}
            write_json(out / RECORD, {**info, "status": "running"})
        if progress is not None:
            progress(finished, info["n"])

    drawer.batches(loaded, order, left, finished, keep)


class Drawer:
    """What draws an order's batches: this process, unless a subclass says otherwise."""

    def memory(self, order: Order) -> Memory:
        """Counts the memory that drawing takes, from now on."""
        return Memory.begin(order.device)

    def ready(self, loaded: Loaded, order: Order, images: int) -> Mapping[str, Any]:
        """Facts of the device, for the record; raises VtbenchError where the order cannot be drawn so."""
        return provenance.device_facts(order.device)

    def batches(
        self,
        loaded: Loaded,
        order: Order,
        left: Sequence[Sample],
        finished: int,
        keep: Callable[[DrawnBatch], None],
    ) -> None:
        """Draws what is left, and hands every batch to `keep`, in order. finished: images that were drawn before."""
        for first in range(0, len(left), order.batch_size):
            interrupts.check()
            batch = left[first : first + order.batch_size]
            warm_up = first == finished == 0 and len(left) > order.batch_size
            keep(drawn_batch(loaded, batch, order.device, warm_up=warm_up))


@contextlib.contextmanager
def _failures_recorded(out: Path, info: Mapping[str, Any]) -> Iterator[None]:
    """What ends a drawing early is written into its record before it is raised: none is left as if it still ran."""
    try:
        yield
    except BaseException as bad:
        stopped = isinstance(bad, KeyboardInterrupt | NotWritten)
        why = {} if isinstance(bad, KeyboardInterrupt) else {"failure": cause(bad)}
        with contextlib.suppress(VtbenchError):
            write_json(out / RECORD, {**info, "status": "interrupted" if stopped else "failed", **why})
        raise


def _record(loaded: Loaded, order: Order, out: Path, n: int) -> tuple[dict[str, Any], bool]:
    """The record of this order, and whether images of it that lie here stay: not where the generator read files that
    may be others by now. A folder of another order is refused."""
    question = order.question(loaded)
    digest = hashlib.sha256(json.dumps(plain(question), sort_keys=True).encode()).hexdigest()
    before = read_drawing_record(out) if (out / RECORD).is_file() else None
    if before is None and (out / SAMPLES).exists():
        raise VtbenchError(f"{out} holds {SAMPLES} without {RECORD}: choose another --out")
    if before is not None and (before.id != digest or before.per_prompt != order.per_prompt):
        what = "another question" if before.id != digest else f"--n {before.per_prompt}"
        raise VtbenchError(f"{out} belongs to {what}: choose another --out, or delete it")
    identity, suite = loaded.identity, order.suite
    record = {
        "schema": SCHEMA,
        "identity_rule": IDENTITY_RULE,
        "id": digest,
        "question": question,
        "per_prompt": order.per_prompt,
        "n": n,
        "model": {
            "name": identity["name"],
            "card": loaded.card_facts(),
            "options": identity["options"],
            "weights": dict(loaded.weights),
            "tokenizer": identity.get("tokenizer"),
            **loaded.facts,
            **({"reads": recorded(loaded.files.read, at_work=False)} if loaded.files.read else {}),
        },
        "suite": {
            "name": suite.name,
            "hash": suite.hash,
            "version": suite.version,
            "licence": suite.licence,
            "rewritten": sum(p.rewritten for p in suite.prompts),
        },
        "seed": order.seed,
        "dtype": order.dtype,
        "device": provenance.device_facts(order.device),
        "batch_size": order.batch_size,
        "command": order.command,
        "provenance": provenance.facts([Path(__file__), *loaded.sources]),
    }
    return record, before is None or not before.model.reads_at_work


def read_drawing(path: Path) -> Drawing:
    """A folder that `draw` made."""
    if not (path / RECORD).is_file():
        raise VtbenchError(f"{path} has no {RECORD}: give a folder that `vtbench generate` wrote")
    return Drawing(path, Samples(path), read_drawing_record(path))


def _kept(out: Path, wanted: Sequence[Sample]) -> int:
    """Cuts samples.jsonl to the lines that are whole, as planned and have their picture; returns how many stay."""
    path = out / SAMPLES
    if not path.exists():
        return 0
    rows, kept = Samples(out), 0
    for row, sample in zip(rows, wanted, strict=False):
        planned = (sample.prompt.id, sample.number, sample.seed, sample.file)
        if (row.prompt, row.sample, row.seed, row.file) != planned:
            raise VtbenchError(f"{path} line {kept + 1} is not the image that was asked for: choose another --out")
        if not (out / row.file).is_file():
            break
        kept += 1
    try:
        os.truncate(path, rows.ends[kept])
    except OSError as bad:
        raise disk_error(bad, path) from bad
    return kept


def _append(out: Path, drawn: DrawnBatch) -> None:
    """A batch's pictures, then its lines, whoever drew it."""
    for place, picture in drawn.pictures.items():
        if not (out / place).parent.resolve().is_relative_to(out.resolve()):
            raise NotWritten(f"{(out / place).parent} is a link to a folder outside {out}: remove it")
        write_atomic(out / place, picture)
    append(out / SAMPLES, "".join(dumps(row) + "\n" for row in drawn.rows).encode())
