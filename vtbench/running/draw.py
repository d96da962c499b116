"""`vtbench generate`: prompts -> images on disk with their seeds, resumable per image.

A folder holds generate.json (the record), samples.jsonl (one line an image) and images/PROMPT/SAMPLE.png. An image's
seed comes from the run's seed, the prompt's id and the sample's number, so that any single image can be made again. A
line is written after its picture; whatever a kill leaves half done is made again, to the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.images.prompts import PromptSuite
from vtbench.images.reading import rgb_sha256
from vtbench.images.rounding import to_uint8
from vtbench.images.seeds import sample_seed
from vtbench.models.adapter_files import recorded
from vtbench.models.devices import synchronize
from vtbench.models.isolation import isolated
from vtbench.models.load import Loaded
from vtbench.models.memory import Memory
from vtbench.models.outputs import check_generated
from vtbench.results import provenance, sources
from vtbench.results.drawings import (
    RECORD,
    SAMPLES,
    DrawingRecord,
    SampleRecord,
    read_drawing_record,
    read_samples,
)
from vtbench.results.files import NotWritten, append, dumps, own_files, plain, write_atomic, write_json
from vtbench.results.folder import RunFolder
from vtbench.results.record import IDENTITY_RULE, SCHEMA
from vtbench.results.typed import validated
from vtbench.types.adapter import Generator, Prompt
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.foreign import cause
from vtbench.types.opened import Opened, noting

Tick = Callable[[int, int], None]
"""(images done, images in all)"""


@dataclass(frozen=True)
class Drawing:
    """What was drawn: `rows` as in samples.jsonl; `black`: files that are all black."""

    path: Path
    rows: tuple[SampleRecord, ...]
    info: DrawingRecord

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def black(self) -> list[str]:
        return [row.file for row in self.rows if row.black]


@dataclass(frozen=True)
class Sample:
    """One image to draw: the prompt, the sample's number, its seed."""

    prompt: Prompt
    number: int
    seed: int

    @property
    def id(self) -> str:
        return f"{self.prompt.id}/{self.number:05d}"

    @property
    def file(self) -> str:
        return f"images/{self.id}.png"


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
def draw(loaded: Loaded, order: Order, out: Path, progress: Tick | None = None) -> Drawing:
    """Draws what is missing of the order in the folder `out`, and returns all of it."""
    wanted = order.checked(loaded).samples()
    if out.exists() and not out.is_dir():
        raise VtbenchError(f"--out {out} is a file: give a folder")
    with RunFolder(out):
        own_files(out, (RECORD, SAMPLES, "images"))
        memory = Memory.begin(order.device)
        info, kept = _record(loaded, order, out, len(wanted))
        for torn in (out / "images").glob("*/.*.png.*"):
            # A kill in the middle of a picture leaves its unfinished copy.
            torn.unlink()
        done = _kept(out, wanted if kept else [])
        write_json(out / RECORD, {**info, "status": "running"})
        if progress is not None:
            progress(done, len(wanted))
        with _failures_recorded(out, info):
            _batches(loaded, order, out, info, wanted[done:], progress)
        rows = tuple(read_samples(out))
        black = [row.file for row in rows if row.black]
        info |= {"status": "complete", "black": black, "peak_memory": memory.most()}
        write_json(out / RECORD, info)
    return Drawing(out, rows, validated(DrawingRecord, plain(info), f"{out / RECORD}"))


def _batches(
    loaded: Loaded, order: Order, out: Path, info: dict[str, Any], left: Sequence[Sample], progress: Tick | None
) -> None:
    """Draws what is left of the order, a batch at a time; `info` is told what the generator reads meanwhile."""
    drawn = info["n"] - len(left)
    for first in range(0, len(left), order.batch_size):
        batch = left[first : first + order.batch_size]
        _one_batch(loaded, batch, out, order.device, warm_up=drawn == 0 and info["n"] > order.batch_size)
        drawn += len(batch)
        if late := loaded.read_at_work():
            reads = [*recorded(loaded.files.read, at_work=False), *recorded(late, at_work=True)]
            info["model"] = {**info["model"], "reads": reads}
            write_json(out / RECORD, {**info, "status": "running"})
        if progress is not None:
            progress(drawn, info["n"])


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
    return Drawing(path, tuple(read_samples(path)), read_drawing_record(path))


def _kept(out: Path, wanted: Sequence[Sample]) -> int:
    """Cuts samples.jsonl to the lines that are whole, as planned and have their picture; returns how many stay."""
    path = out / SAMPLES
    if not path.exists():
        return 0
    kept: list[str] = []
    for row, sample in zip(read_samples(out), wanted, strict=False):
        planned = (sample.prompt.id, sample.number, sample.seed, sample.file)
        if (row.prompt, row.sample, row.seed, row.file) != planned:
            raise VtbenchError(f"{path} line {len(kept) + 1} is not the image that was asked for: choose another --out")
        if not (out / row.file).is_file():
            break
        kept.append(dumps(row.as_dict()) + "\n")
    write_atomic(path, "".join(kept))
    return len(kept)


def _one_batch(loaded: Loaded, batch: Sequence[Sample], out: Path, device: str, *, warm_up: bool) -> None:
    """Draws a batch: its pictures, then its lines."""
    generator = loaded.generator
    pixels, seconds = _drawn(generator, batch, device, loaded.system.opened)
    cost = {k: float(v) for k, v in generator.cost().items()}
    lines = []
    for sample, rgb in zip(batch, pixels, strict=True):
        _save_png(rgb, out / sample.file, out)
        row = _row(sample, rgb) | {"seconds": seconds, "cost": cost}
        lines.append(dumps({**row, "warm_up": True} if warm_up else row) + "\n")
    append(out / SAMPLES, "".join(lines).encode())


def _drawn(generator: Generator, batch: Sequence[Sample], device: str, opened: Opened | None) -> tuple[Any, float]:
    """(uint8 (B, H, W, 3), seconds an image); whatever a generator raises or may not return is a sentence. opened:
    notes what it reads."""
    name, prompts = generator.card.name, [s.prompt for s in batch]
    synchronize(device)
    start = time.perf_counter()
    try:
        with noting(opened):
            images = generator.generate(prompts, [s.seed for s in batch])
    except (VtbenchError, KeyboardInterrupt):
        raise
    except RAISED as bad:
        raise VtbenchError(f"{name} raised {type(bad).__name__} on the prompt {prompts[0].id}: {bad}", code=1) from bad
    synchronize(device)
    seconds = (time.perf_counter() - start) / len(batch)
    check_generated(images, name, prompts)
    rgb = to_uint8(images.detach().to("cpu").float()).permute(0, 2, 3, 1).contiguous().numpy()
    return rgb, seconds


def _save_png(rgb: Any, path: Path, within: Path) -> None:
    from PIL import Image

    if not path.parent.resolve().is_relative_to(within.resolve()):
        raise NotWritten(f"{path.parent} is a link to a folder outside {within}: remove it")
    encoded = io.BytesIO()
    Image.fromarray(rgb).save(encoded, "PNG", compress_level=1)
    write_atomic(path, encoded.getvalue())


def _row(sample: Sample, rgb: Any) -> dict[str, Any]:
    """One line of samples.jsonl, without its costs."""
    prompt = sample.prompt
    row: dict[str, Any] = {
        "id": sample.id,
        "prompt": prompt.id,
        "sample": sample.number,
        "seed": sample.seed,
        "text": prompt.text,
        "label": prompt.label,
        "rewritten": prompt.rewritten,
        "file": sample.file,
        "sha256": rgb_sha256(rgb),
        "size": [int(rgb.shape[0]), int(rgb.shape[1])],
    }
    if not rgb.any():
        row["black"] = True
    if prompt.metadata:
        row["metadata"] = dict(prompt.metadata)
    return row
