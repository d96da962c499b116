"""`vtbench generate`: prompts -> images on disk with their seeds, resumable per image.

A folder holds generate.json (the record), samples.jsonl (one line an image) and images/PROMPT/SAMPLE.png. An image's
seed comes from the run's seed, the prompt's id and the sample's number, so that any single image can be made again. A
line is written after its picture; whatever a kill leaves half done is made again, to the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench import provenance
from vtbench.models import load as loading
from vtbench.models.devices import peak_memory, synchronize
from vtbench.models.load import Loaded as Loaded
from vtbench.models.outputs import check_generated
from vtbench.prompts import PromptSuite, sample_seed
from vtbench.results import RunFolder, dumps, plain, read_lines, write_atomic
from vtbench.types.adapter import Prompt
from vtbench.types.errors import VtbenchError

Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Folder:
    """What was made: `rows` as in samples.jsonl; `black`: files that are all black."""

    path: Path
    rows: tuple[Mapping[str, Any], ...]
    info: Mapping[str, Any]

    @property
    def images(self) -> Path:
        return self.path / "images"

    @property
    def black(self) -> list[str]:
        return [str(r["file"]) for r in self.rows if r.get("black")]


def load(
    model: str,
    options: Mapping[str, str],
    checkpoint: Path | None,
    device: str,
    dtype: str,
    tokenizer_checkpoint: Path | None = None,
) -> Loaded:
    """Until the sweep: `models.load.load` of a generator."""
    return loading.load(
        model,
        options,
        checkpoint=checkpoint,
        device=device,
        dtype=dtype,
        generator=True,
        tokenizer_checkpoint=tokenizer_checkpoint,
    )


def plan(suite: PromptSuite, per_prompt: int, seed: int) -> list[tuple[Prompt, int, int]]:
    """(prompt, sample's number, seed) of every image, in order."""
    if per_prompt < 1:
        raise VtbenchError(f"--n {per_prompt}: give the number of images a prompt, 1 or more")
    return [(p, k, sample_seed(seed, p.id, k)) for p in suite.prompts for k in range(per_prompt)]


def fits(loaded: Loaded, suite: PromptSuite) -> None:
    """Refuses texts for a class-conditional generator and labels for one that reads."""
    wanted = loaded.generator.card.conditioning
    if wanted is not None and wanted != suite.conditioning:
        raise VtbenchError(
            f"{loaded.generator.card.name} is {wanted}-conditional, but {suite.name} holds "
            f"{'texts' if suite.conditioning == 'text' else 'class labels'}: give another --suite"
        )


def generate(
    loaded: Loaded, suite: PromptSuite, per_prompt: int, out: Path, *, seed: int = 0, batch_size: int = 4,
    device: str = "cpu", dtype: str = "float32", command: str | None = None, progress: Tick | None = None,
) -> Folder:  # fmt: skip
    """Makes what is missing of `per_prompt` images a prompt in the folder `out`, and returns all of it."""
    fits(loaded, suite)
    if batch_size < 1:
        raise VtbenchError(f"--batch-size {batch_size}: give 1 or more")
    wanted = plan(suite, per_prompt, seed)
    question = {
        "model": dict(loaded.identity), "prompts": suite.hash, "seed": seed, "dtype": dtype,
        "device": device.partition(":")[0],
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(plain(question), sort_keys=True).encode()).hexdigest()
    if out.exists() and not out.is_dir():
        raise VtbenchError(f"--out {out} is a file: give a folder")
    with RunFolder(out) as lock:
        record = out / "generate.json"
        before = _record(record) if record.is_file() else None
        if before is None and (out / "samples.jsonl").exists():
            raise VtbenchError(f"{out} holds samples.jsonl without generate.json: choose another --out")
        if before is not None and (before.get("id") != digest or before.get("per_prompt") != per_prompt):
            what = "another question" if before.get("id") != digest else f"--n {before.get('per_prompt')}"
            raise VtbenchError(f"{out} belongs to {what}: choose another --out, or delete it")
        facts = dataclasses.asdict(loaded.generator.card)
        facts.pop("arch", None)
        info: dict[str, Any] = {
            "schema": 1, "id": digest, "question": question, "per_prompt": per_prompt, "n": len(wanted),
            "model": {"name": loaded.identity["name"], "card": facts, "options": loaded.identity["options"],
                      "weights": dict(loaded.weights), "tokenizer": loaded.identity["tokenizer"], **loaded.facts},
            "suite": {"name": suite.name, "hash": suite.hash, "version": suite.version, "licence": suite.licence,
                      "rewritten": sum(p.rewritten for p in suite.prompts)},
            "seed": seed, "dtype": dtype, "device": provenance.device_facts(device), "batch_size": batch_size,
            "command": command, "provenance": provenance.facts(),
        }  # fmt: skip
        for torn in (out / "images").glob("*/.*.png.*"):
            # A kill in the middle of a picture leaves its unfinished copy.
            torn.unlink()
        done = _kept(out, wanted)
        write_atomic(record, json.dumps(plain({**info, "status": "running"}), ensure_ascii=False, indent=1) + "\n")
        if progress is not None:
            progress(done, len(wanted))
        while done < len(wanted):
            batch = wanted[done : done + batch_size]
            _one_batch(loaded, batch, out, device, warm_up=done == 0 and len(wanted) > batch_size)
            done += len(batch)
            if progress is not None:
                progress(done, len(wanted))
        rows = tuple(read_lines(out / "samples.jsonl"))
        black = [r["file"] for r in rows if r.get("black")]
        info |= {"status": "complete", "black": black, "peak_memory": peak_memory(device)}
        write_atomic(record, json.dumps(plain(info), ensure_ascii=False, indent=1) + "\n")
        del lock
    return Folder(out, rows, info)


def read(path: Path) -> Folder:
    """A folder that `generate` made."""
    record = path / "generate.json"
    if not record.is_file():
        raise VtbenchError(f"{path} has no generate.json: give a folder that `vtbench generate` wrote")
    return Folder(path, tuple(read_lines(path / "samples.jsonl")), _record(record))


def _record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as bad:
        raise VtbenchError(f"{path} cannot be read ({bad}): delete the folder, or choose another --out") from bad
    if not isinstance(found, dict):
        raise VtbenchError(f"{path} is a {type(found).__name__}, not a record: delete the folder, or choose another")
    return found


def _kept(out: Path, wanted: Sequence[tuple[Prompt, int, int]]) -> int:
    """Cuts samples.jsonl to the lines that are whole, as planned and have their picture; returns how many stay."""
    path = out / "samples.jsonl"
    if not path.exists():
        return 0
    kept: list[str] = []
    for row, (prompt, sample, seed) in zip(read_lines(path), wanted, strict=False):
        if (row.get("prompt"), row.get("sample"), row.get("seed")) != (prompt.id, sample, seed):
            raise VtbenchError(f"{path} line {len(kept) + 1} is not the image that was asked for: choose another --out")
        if not (out / str(row["file"])).is_file():
            break
        kept.append(dumps(row) + "\n")
    write_atomic(path, "".join(kept))
    return len(kept)


def _one_batch(
    loaded: Loaded, batch: Sequence[tuple[Prompt, int, int]], out: Path, device: str, *, warm_up: bool
) -> None:
    from PIL import Image

    from vtbench.images import rgb_sha256, to_uint8

    name = loaded.generator.card.name
    prompts, seeds = [p for p, _, _ in batch], [s for _, _, s in batch]
    synchronize(device)
    start = time.perf_counter()
    try:
        made = loaded.generator.generate(prompts, seeds)
    except (VtbenchError, KeyboardInterrupt):
        raise
    except Exception as bad:
        raise VtbenchError(f"{name} raised {type(bad).__name__} on the prompt {prompts[0].id}: {bad}", code=1) from bad
    synchronize(device)
    took = (time.perf_counter() - start) / len(batch)
    check_generated(made, name, prompts)
    pixels = to_uint8(made.detach().to("cpu").float()).permute(0, 2, 3, 1).contiguous().numpy()
    cost = {k: float(v) for k, v in loaded.generator.cost().items()}
    lines = []
    for (prompt, sample, seed), rgb in zip(batch, pixels, strict=True):
        file = f"images/{prompt.id}/{sample:05d}.png"
        held = io.BytesIO()
        Image.fromarray(rgb).save(held, "PNG", compress_level=1)
        write_atomic(out / file, held.getvalue())
        row: dict[str, Any] = {
            "id": f"{prompt.id}/{sample:05d}", "prompt": prompt.id, "sample": sample, "seed": seed, "text": prompt.text,
            "label": prompt.label, "rewritten": prompt.rewritten, "file": file, "sha256": rgb_sha256(rgb),
            "size": [int(rgb.shape[0]), int(rgb.shape[1])], "seconds": took, "cost": cost,
        }  # fmt: skip
        if warm_up:
            row["warm_up"] = True
        if not rgb.any():
            row["black"] = True
        if prompt.metadata:
            row["metadata"] = dict(prompt.metadata)
        lines.append(dumps(row) + "\n")
    with (out / "samples.jsonl").open("ab") as target:
        target.write("".join(lines).encode())
