"""`vtbench evaluate MODEL --task generation`: images from prompts, then the same scores as for folders, in one run.

The run's folder holds what every run holds (run.json, rows.jsonl with one row a sample, scores.jsonl, samples/) and
beside it `generated/`, which `vtbench generate` could have written. Drawing is resumed per image; scoring starts anew.
Where the generator's tokenizer is known, its own reconstruction of the reference set stands beside the score
(`tokenizer-rfid`), as does what the generator adds to it (`gfid-gap` = fid - tokenizer-rfid).
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import generate, registry, scoring, sets
from vtbench.prompts import PromptSuite, open_prompts
from vtbench.results import Run, RunFolder, Score, read_run
from vtbench.run import SAMPLES, Job, Progress, Runner, batches, load_metrics
from vtbench.subject import ModelSubject, image_seed
from vtbench.types.adapter import Prompt
from vtbench.types.cards import Card
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, ImageMetric, Metric, Reference, SetMetric, SetValue
from vtbench.types.task import Task

if TYPE_CHECKING:
    import torch

    from vtbench.images import View
    from vtbench.suite import Suite

NO_TOKENIZER = "the generator's tokenizer is not one of vtbench's, so its own reconstruction is not known"


def prompts_for(task: Task, card: Card, spec: str | None) -> PromptSuite:
    """The suite asked for, or the task's first one of the generator's kind of condition."""
    if spec is not None:
        return open_prompts(spec)
    for name in task.prompts:
        found = open_prompts(name)
        if card.conditioning in (None, found.conditioning):
            return found
    raise VtbenchError(f"{task.name} has no prompts for {card.name}, which is {card.conditioning}-conditional")


def evaluate(
    loaded: generate.Loaded, task: Task, prompts: PromptSuite, per_prompt: int, suite: Suite, view: View, out: Path, *,
    suite_spec: str = "", batch_size: int = 4, seed: int = 0, device: str = "cpu", dtype: str = "float32",
    command: str | None = None, progress: Progress | None = None,
) -> Run:  # fmt: skip
    """One generator on one prompt suite against one reference suite: the finished run."""
    generate.fits(loaded, prompts)
    tell = progress or (lambda *_: None)
    name = str(loaded.identity["name"])
    identity = {**loaded.identity, "prompts": prompts.hash, "per_prompt": per_prompt}
    job = Job(loaded.system, task, suite, view, identity, loaded.weights, out, batch_size, None, seed, device, dtype,
              command=command, suite_spec=suite_spec, model_facts=loaded.facts)  # fmt: skip
    with RunFolder(job.folder()) as folder:
        before = folder.info()
        if before is not None and before.get("id") != job.id():
            raise VtbenchError(f"{folder.path} belongs to another question: choose another --out")
        metrics, unavailable = load_metrics(task.metrics, device)
        if before and before.get("status") == "complete" and not set(before.get("unavailable", {})) & set(metrics):
            return read_run(folder.path)
        made = generate.generate(
            loaded, prompts, per_prompt, folder.path / "generated", seed=seed, batch_size=batch_size, device=device,
            dtype=dtype, command=command, progress=lambda done, total: tell(name, "draw", done, total),
        )  # fmt: skip
        items = [_item(row) for row in made.rows]
        info = Runner(job)._info(items, batch_size, unavailable, metrics)
        reasons = [info["why_not_ranked"]] if info["why_not_ranked"] else []
        distances = any(isinstance(m, SetMetric) for m in metrics.values()) or "fid" in task.metrics
        if distances and len(items) != sets.PROTOCOL_N:
            reasons.append(f"not comparable: {len(items)} images, the protocol wants {sets.PROTOCOL_N}")
        theirs = loaded.identity.get("tokenizer")
        if theirs and theirs["status"] == "unverified":
            reasons.append(f"the tokenizer {theirs['name']} has unverified weights")
        info |= {
            "ranked": not reasons, "why_not_ranked": "; ".join(reasons) or None, "black": made.black,
            "prompts": {"name": prompts.name, "hash": prompts.hash, "n": len(prompts.prompts),
                        "per_prompt": per_prompt, "licence": prompts.licence,
                        "rewritten": sum(p.rewritten for p in prompts.prompts)},
            "tokenizer": theirs,
            "peak_memory_bytes": made.info["peak_memory"]["bytes"],
            "peak_memory_what": made.info["peak_memory"]["what"],
        }  # fmt: skip
        folder.write_info({**info, "status": "running"})
        scores = _score(folder, job, info, loaded, made, items, metrics, unavailable, tell)
        folder.write_scores(scores)
        info["provenance"]["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        folder.write_info({**info, "status": "complete"})
    return read_run(folder.path)


def _item(row: Mapping[str, Any]) -> Item:
    """What a metric may know of a generated image: its prompt, label and metadata."""
    meta = {**row.get("metadata", {}), "prompt": row["text"], "label": row["label"]}
    return Item(str(row["id"]), row["file"], None, str(row["sha256"]), meta)


def _score(folder: RunFolder, job: Job, info: Mapping[str, Any], loaded: generate.Loaded, made: generate.Folder,
           items: Sequence[Item], metrics: Mapping[str, Metric], unavailable: Mapping[str, str],
           tell: Progress) -> list[Score]:  # fmt: skip
    name, task = str(loaded.identity["name"]), job.task.name
    rows = _rows(made, items, {n: m for n, m in metrics.items() if isinstance(m, ImageMetric)}, job.batch_size)
    done: list[dict[str, Any]] = []
    for row in rows:
        done.append(row)
        tell(name, task, len(done), len(items))
    folder.replace_rows(iter(done))
    _samples(folder.path, made)
    chosen = {n: m for n, m in metrics.items() if isinstance(m, SetMetric)}
    values = _set_values(job, loaded, made, chosen)
    labels = [r["label"] for r in made.rows if r["label"] is not None]
    drawn = sets.ImageSet("generated", len(made.rows), lambda: iter(()), labels or None, black=made.black)
    remarks = sets._remarks(drawn)
    out: list[Score] = []
    for metric_name in job.task.metrics:
        card = registry.card_of(registry.metrics().get(metric_name))
        if metric_name in unavailable:
            out.append(Score(task, metric_name, None, 0, len(items), why=unavailable[metric_name], unit=card.unit,
                             better=card.better, version=card.version))  # fmt: skip
        elif metric_name in chosen:
            out.append(sets._marked(scoring.from_set(card, task, values[metric_name], len(items), 0), remarks))
        elif isinstance(metrics[metric_name], ImageMetric):
            totals = scoring.ImageTotals()
            for row in done:
                totals.add(row, metric_name)
            out.append(scoring.summarise(card, task, totals.values, totals.weights, totals.why, totals.missing))
        else:
            out.append(Score(task, metric_name, None, 0, len(items), why="no metric for generated images",
                             unit=card.unit, better=card.better, version=card.version))  # fmt: skip
    # The tokenizer's share is one of FID.
    share = _tokenizer_scores(task, values, unavailable, len(items)) if "fid" in job.task.metrics else []
    return [*out, *share, *_costs(task, made, info)]


def _rows(
    made: generate.Folder, items: Sequence[Item], measures: Mapping[str, ImageMetric], size: int
) -> Iterator[dict[str, Any]]:
    """One row a sample, with the per-image metrics: they see the image on both sides, and the prompt in `meta`."""
    import numpy as np
    import torch

    from vtbench.images import decode, rgb_sha256

    for start in range(0, len(items), size):
        part, notes = items[start : start + size], made.rows[start : start + size]
        pixels = [decode((made.path / str(r["file"])).read_bytes(), str(r["id"])) for r in notes]
        for rgb, note in zip(pixels, notes, strict=True):
            if rgb_sha256(rgb) != note["sha256"]:
                raise VtbenchError(
                    f"{made.path / str(note['file'])} is not the image that was drawn (sha256 differs): delete it and "
                    "run again, it is then made anew"
                )
        found: dict[str, list[Any]] = {n: [] for n in measures}
        for rgb, item in zip(pixels, part, strict=True):
            one = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].contiguous()
            batch = Batch(Reference(one, [item], [str(item.sha256_rgb)]), one)
            for metric_name, metric in measures.items():
                found[metric_name].append(_measure(metric_name, metric, batch))
        for k, note in enumerate(notes):
            row: dict[str, Any] = {
                "item": note["id"], "bits": None, "values": {}, "why": {}, "size": note["size"],
                "sha256": note["sha256"], "seconds": {"generate": note["seconds"]},
                "seed": note["seed"], "prompt": note["text"], "label": note["label"], "cost": note["cost"],
            }  # fmt: skip
            if note.get("warm_up"):
                row["seconds"]["warm_up"] = True
            flags = {f: True for f in ("black", "rewritten") if note.get(f)}
            if flags:
                row["flags"] = flags
            weights = {}
            for metric_name, values in found.items():
                value = values[k]
                if value.value is None:
                    row["why"][metric_name] = value.why or "not measured"
                    continue
                row["values"][metric_name] = float(value.value)
                if value.weight != 1.0:
                    weights[metric_name] = float(value.weight)
            if weights:
                row["weights"] = weights
            yield row


def _measure(name: str, metric: ImageMetric, batch: Batch) -> Any:
    from vtbench.types.metric import Value

    short = min(int(batch.candidate.shape[2]), int(batch.candidate.shape[3]))
    if short < metric.card.min_size:
        return Value(None, why=f"{name} needs images of at least {metric.card.min_size} px, this one has {short}")
    return metric.measure(batch)[0]


def _originals(job: Job, bad: dict[str, str]) -> sets.ImageSet:
    """The reference suite at the task's view, as a set that streams."""

    def read() -> Iterator[torch.Tensor]:
        for part in batches(job.suite, job.view, job.suite.items, sets.BATCH):
            bad.update({o.item.id: o.why for o in part if o.why is not None})
            good = [o for o in part if o.rgb is not None]
            yield from sets._stack(made, [o.rgb for o in good], [o.item.id for o in good])

    made = sets.ImageSet(job.suite.name, len(job.suite.items), read)
    return made


def _reconstructions(job: Job, loaded: generate.Loaded) -> sets.ImageSet:
    """The tokenizer's own reconstruction of the reference suite."""
    from vtbench.images import to_float, to_uint8

    assert loaded.tokenizer is not None
    subject = ModelSubject(loaded.tokenizer, "resize")

    def read() -> Iterator[torch.Tensor]:
        import numpy as np
        import torch

        for part in batches(job.suite, job.view, job.suite.items, job.batch_size):
            for original in part:
                if original.rgb is None:
                    continue
                rgb = torch.from_numpy(np.ascontiguousarray(original.rgb)).permute(2, 0, 1)[None].contiguous()
                seeds = [image_seed(job.seed, original.sha256)]
                yield to_uint8(subject.produce(to_float(rgb), seeds, [original.item]).images)

    return sets.ImageSet("reconstructions", len(job.suite.items), read)


def _set_values(job: Job, loaded: generate.Loaded, made: generate.Folder,
                metrics: Mapping[str, SetMetric]) -> dict[str, SetValue]:  # fmt: skip
    """{metric: value} and, with a known tokenizer, {"tokenizer-rfid": value}."""
    if not metrics:
        return {}
    extractors = {m.extractor().id: m.extractor() for m in metrics.values()}
    for extractor in extractors.values():
        extractor.load(job.device)
    bad: dict[str, str] = {}
    out: dict[str, SetValue] = {}
    with tempfile.TemporaryDirectory(prefix="vtbench-") as scratch:
        left = sets.extract(_originals(job, bad), extractors, Path(scratch), "reference")
        right = sets.extract(sets.open_set(made.images), extractors, Path(scratch), "generated")
        for name, metric in metrics.items():
            key = metric.extractor().id
            a, b = left[key].read(), right[key].read()
            if min(len(a), len(b)) < 2:
                out[name] = SetValue(None, why=f"{len(a)} reference images and {len(b)} drawn ones; a set needs two")
                continue
            out[name] = metric.finish(a, b)
        if "fid" in metrics and loaded.tokenizer is not None:
            key = metrics["fid"].extractor().id
            own = sets.extract(
                _reconstructions(job, loaded), {key: extractors[key]}, Path(scratch), "reconstructed"
            )  # fmt: skip
            out["tokenizer-rfid"] = metrics["fid"].finish(left[key].read(), own[key].read())
    if bad:
        remark = f"{len(bad)} reference images could not be read: {next(iter(bad))}"
        out = {n: dataclasses.replace(v, warning="; ".join(filter(None, [v.warning, remark]))) for n, v in out.items()}
    return out


def _tokenizer_scores(task: str, values: Mapping[str, SetValue], unavailable: Mapping[str, str], n: int) -> list[Score]:
    """What the tokenizer alone loses on the reference set, and what the generator adds."""
    own, fid = values.get("tokenizer-rfid"), values.get("fid")
    why = unavailable.get("fid") or NO_TOKENIZER
    if own is None or own.value is None:
        reason = own.why if own is not None and own.why else why
        return [Score(task, name, None, 0, n, why=reason, better="lower") for name in ("tokenizer-rfid", "gfid-gap")]
    gap = None if fid is None or fid.value is None else fid.value - own.value
    uneven = "the two distances are of sets of different size, and each is biased by its own"
    return [
        Score(task, "tokenizer-rfid", own.value, own.n or 0, 0, low=own.low, high=own.high, warning=own.warning,
              better="lower", details={"what": "Fréchet distance of the tokenizer's reconstructions of the reference"}),
        Score(task, "gfid-gap", gap, n if gap is not None else 0, 0 if gap is not None else n, better="lower",
              why=None if gap is not None else "fid has no value",
              warning=uneven if gap is not None and own.n != n else None),
    ]  # fmt: skip


def _costs(task: str, made: generate.Folder, info: Mapping[str, Any]) -> list[Score]:
    """Time to image, images a second, network evaluations, acceptance, peak memory, parameters."""
    n = len(made.rows)
    times = sorted(float(r["seconds"]) for r in made.rows if not r.get("warm_up"))
    out = []

    def add(name: str, value: float | None, unit: str, better: str | None, why: str, count: int, **more: Any) -> None:
        out.append(Score(task, name, value, count if value is not None else 0, 0 if value is not None else n,
                         why=None if value is not None else why, unit=unit, better=better, details=more))  # fmt: skip

    batch = info["batch_size"]
    untimed = "no image was timed: the first batch warms up"
    for p in (50, 95):
        value = times[min(len(times) - 1, int(p / 100 * len(times)))] if times else None
        add(f"image-seconds-p{p}", value, "s/image", "lower", untimed, len(times), batch_size=batch)
    total = math.fsum(times)
    add("images-per-second", len(times) / total if total > 0 else None, "image/s", "higher", untimed, len(times),
        batch_size=batch)  # fmt: skip
    costs: dict[str, list[float]] = {"nfe": []}
    for row in made.rows:
        for key, value in row["cost"].items():
            costs.setdefault(key, []).append(float(value))
    for key, values in sorted(costs.items()):
        mean = math.fsum(values) / len(values) if values else None
        add(key, mean, "evaluations/image" if key == "nfe" else "", "lower" if key == "nfe" else None,
            "the generator does not count them", len(values))  # fmt: skip
    memory = info.get("peak_memory_bytes")
    add("peak-memory", memory / 2**20 if memory else None, "MiB", "lower", "not measured on this device", n,
        what=info.get("peak_memory_what", ""))  # fmt: skip
    parameters = info["model"].get("parameters")
    add("parameters", float(parameters) if parameters is not None else None, "parameters", "lower",
        "this system has no parameters to count", n)  # fmt: skip
    return out


def _samples(path: Path, made: generate.Folder) -> None:
    """Pictures for the page: beside an image stands its prompt, written out, where a tokenizer has its original."""
    from vtbench.results import write_json

    folder = path / "samples"
    folder.mkdir(exist_ok=True)
    known = []
    # One image a prompt first, so that the page shows different ones.
    order = sorted(range(len(made.rows)), key=lambda i: (made.rows[i]["sample"], i))[:SAMPLES]
    for k, index in enumerate(order):
        row = made.rows[index]
        names = {kind: f"{k:02d}.{kind}.png" for kind in ("reference", "candidate")}
        (folder / names["candidate"]).write_bytes((made.path / str(row["file"])).read_bytes())
        prompt = Prompt(str(row["prompt"]), row["text"], row["label"])
        _prompt_picture(prompt, tuple(row["size"])).save(folder / names["reference"])
        known.append({"item": row["id"], **names})
    write_json(folder / "samples.json", known)


def _prompt_picture(prompt: Prompt, size: tuple[int, ...]) -> Any:
    import textwrap

    from PIL import Image, ImageDraw, ImageFont

    height, width = size
    image = Image.new("RGB", (width, height), (238, 238, 238))
    text = prompt.text if prompt.text is not None else f"class {prompt.label} ({prompt.id})"
    points = max(8, width // 16)
    lines = textwrap.fill(f"prompt: {text}", max(8, int(width / (0.55 * points))))
    ImageDraw.Draw(image).multiline_text(
        (points // 2, points // 2), lines, fill=(34, 34, 34), font=ImageFont.load_default(points)
    )
    return image
