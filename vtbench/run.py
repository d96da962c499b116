"""The pipeline: run(job) -> folder of results. Resumable; reading, the model and the metrics overlap.

reader threads -> batches of originals (hash checked, view applied) -> model (this thread) -> metrics thread -> rows
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench import provenance, registry, scoring
from vtbench.models.devices import peak_memory
from vtbench.models.outputs import Output
from vtbench.models.system import ModelSystem, System
from vtbench.results import NotWritten, RunFolder, disk_error, plain
from vtbench.store import FeatureFile, TokenFile
from vtbench.subject import image_seed, pair_names
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.metric import Batch, ImageMetric, Metric, Reference, RowMetric, SetMetric, TokenMetric, measured
from vtbench.types.task import Task
from vtbench.types.tokens import Codes, Tokens

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vtbench.images import View
    from vtbench.suite import Suite
    from vtbench.types.item import Item

SAMPLES = 6
"""Images of a run whose pictures are kept for the page."""

Progress = Callable[[str, str, int, int], None]
"""(model, task, images done, images in all)"""


@dataclass
class Job:
    """One question. `identity`: what the model is, as far as results depend on it (name, options, hashes)."""

    subject: System
    task: Task
    suite: Suite
    view: View
    identity: Mapping[str, Any]
    weights: Mapping[str, Any]
    out: Path
    batch_size: int = 4
    limit: int | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    save: frozenset[str] = frozenset()
    shard: tuple[int, int] | None = None
    command: str | None = None
    suite_spec: str = ""
    """What opens the suite again: its name, folder, glob or `hf:` address."""
    extra_reasons: tuple[str, ...] = ()
    model_facts: Mapping[str, Any] = field(default_factory=dict)

    def question(self) -> dict[str, Any]:
        """Everything that can move a number; commit, batch size and limit are recorded, not hashed."""
        cards = {n: registry.card_of(registry.metrics().get(n)) for n in self.task.metrics}
        return {
            "model": dict(self.identity),
            "task": {"name": self.task.name, "version": self.task.version, "fit": self.task.fit},
            "metrics": {n: c.version for n, c in cards.items()},
            "suite": self.suite.hash,
            "view": self.view.fingerprint(),
            "dtype": self.dtype,
            "seed": self.seed,
            "device": self.device.partition(":")[0],
        }

    def id(self) -> str:
        text = json.dumps(plain(self.question()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def folder(self) -> Path:
        name = "".join(c if c.isalnum() or c in "-_." else "-" for c in str(self.identity["name"]))[:60].strip("-.")
        shard = f"--shard-{self.shard[0]}-of-{self.shard[1]}" if self.shard else ""
        return self.out / f"{name or 'model'}--{self.task.name}--{self.id()[:12]}{shard}"

    def items(self) -> Sequence[Item]:
        """The items of this run: the suite's, cut to the limit, or the shard's whole batches."""
        items = self.suite.items
        if self.limit is not None:
            items = items[: self.limit]
        if self.shard is None:
            return items
        part, parts = self.shard
        batches = -(-len(items) // self.batch_size)
        first, last = (part - 1) * batches // parts, part * batches // parts
        return items[first * self.batch_size : last * self.batch_size]


@dataclass
class _Original:
    """One item as read: pixels of the view, or why there are none."""

    item: Item
    rgb: np.ndarray[Any, Any] | None
    sha256: str
    flags: Mapping[str, Any]
    why: str | None = None


@dataclass
class _Work:
    """A batch on its way from the model to the metrics: groups of one size, in item order."""

    originals: list[_Original]
    groups: list[tuple[list[int], torch.Tensor, Output]]
    warm_up: bool
    macs: tuple[float, float] | None = None
    """Multiply-accumulates an image of encoding and decoding, where this batch was counted."""


def load_metrics(names: Sequence[str], device: str) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics that can be computed here, and for the others the reason why not."""
    ready: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    for name in names:
        metric = registry.metric(name)
        try:
            metric.load(device)
        except Unavailable as bad:
            unavailable[name] = str(bad)
        except VtbenchError as bad:
            # Refused weights or a missing extra: the number is null with this reason, the other metrics go on.
            unavailable[name] = str(bad)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, OSError) as bad:
            # A file of tensors that are not this network's: libraries say so in many ways.
            text = (str(bad).strip().splitlines() or [""])[0][:160]
            unavailable[name] = f"the network of {name} could not be loaded ({type(bad).__name__}: {text})"
        else:
            ready[name] = metric
    for metric in list(ready.values()):
        # A number made from other per-image values needs those in the rows, asked for or not.
        for name in metric.inputs if isinstance(metric, RowMetric) else ():
            if name not in ready:
                more, reasons = load_metrics([name], device)
                ready.update(more)
                if reasons:
                    ready.pop(metric.card.name)
                    unavailable[metric.card.name] = reasons[name]
    return ready, unavailable


def unverified_metrics(metrics: Mapping[str, Metric]) -> list[str]:
    """Metric networks that were given by path: their numbers are shown and never ranked."""
    from vtbench.metrics import weights

    needs = {need for m in metrics.values() for need in m.card.needs if need in weights.needed_by()}
    return [f"unverified metric weights: {why}" for need in sorted(needs) if (why := weights.unverified(need))]


def read_original(suite: Suite, view: View, item: Item) -> _Original:
    """Reads, verifies and views one image; a bad one is named, not raised."""
    from vtbench.images import rgb_sha256

    try:
        rgb, flags = view.apply(suite.load(item))
    except VtbenchError as bad:
        return _Original(item, None, "", {}, str(bad))
    return _Original(item, rgb, rgb_sha256(rgb), flags)


def batches(suite: Suite, view: View, items: Sequence[Item], size: int) -> Iterator[list[_Original]]:
    """Batches of originals, read ahead by two threads; at most three batches are in memory."""
    with ThreadPoolExecutor(2, thread_name_prefix="read") as pool:
        ahead: list[Any] = []
        next_item = 0
        for start in range(0, len(items), size):
            while next_item < min(len(items), start + 3 * size):
                ahead.append(pool.submit(read_original, suite, view, items[next_item]))
                next_item += 1
            now, ahead = ahead[:size], ahead[size:]
            yield [f.result() for f in now]


class Runner:
    """Runs one job into its folder."""

    def __init__(self, job: Job, progress: Progress | None = None) -> None:
        self.job = job
        self.progress = progress or (lambda *_: None)
        self.kind = job.subject.card.kind

    def run(self) -> Path:
        """Returns the run's folder. Raises VtbenchError when the model fails; rows up to then are kept."""
        job = self.job
        path = job.folder()
        job.subject.check(job.items(), job.suite, job.view)
        if "images" in job.save:
            pair_names(job.items(), job.suite.name)
        with RunFolder(path) as folder:
            before = folder.info()
            if before is not None and before.get("id") != job.id():
                raise VtbenchError(
                    f"{path} belongs to another question ({before.get('id', '?')[:12]}): choose another --out"
                )
            items = job.items()
            if not items:
                raise VtbenchError(
                    f"{job.suite.name} holds no images{' in this shard' if job.shard else ''}: nothing to do"
                )
            batch = int(before["batch_size"]) if before else job.batch_size
            if job.shard and batch != job.batch_size:
                raise VtbenchError(f"{path} was begun with --batch-size {batch}: give the same for its shards")
            metrics, unavailable = load_metrics(job.task.metrics, job.device)
            if before:
                newly = [n for n in before.get("unavailable", {}) if n in metrics]
                if newly or not job.save <= set(before.get("save", ())):
                    # Metrics that were null for lack of weights, or tokens and images that nobody asked to be kept:
                    # the images go through the model once more.
                    self._restart(folder)
                elif before.get("status") in ("complete", "incomplete") and int(before["n"]) == len(items):
                    self.progress(str(job.identity["name"]), job.task.name, len(items), len(items))
                    return path
                job.save |= set(before.get("save", ()))
            info = self._info(items, batch, unavailable, metrics)
            done = folder.keep_rows(batch)
            if done > len(items):
                raise VtbenchError(f"{path} holds {done} rows, this run asks for {len(items)}: choose another --out")
            folder.write_info({**info, "status": "running"})
            try:
                failures = self._pipeline(folder, items, batch, done, metrics)
            except KeyboardInterrupt:
                folder.write_info({**info, "status": "interrupted"})
                raise
            except NotWritten as bad:
                with contextlib.suppress(VtbenchError):
                    folder.write_info({**info, "status": "interrupted", "failure": str(bad)})
                raise
            except VtbenchError as bad:
                folder.write_info({**info, "status": "failed", "failure": str(bad), "ranked": False,
                                   "why_not_ranked": f"the model failed: {bad}"})  # fmt: skip
                raise
            self._finish(folder, info, items, metrics, unavailable, failures)
        return path

    def _restart(self, folder: RunFolder) -> None:
        for name in ("rows.jsonl", "scores.jsonl", "tokens.bin", "tokens.idx"):
            (folder.path / name).unlink(missing_ok=True)
        for part in (folder.path / "features").glob("*.f32"):
            part.unlink()

    def _info(
        self, items: Sequence[Item], batch: int, unavailable: Mapping[str, str], metrics: Mapping[str, Metric]
    ) -> dict[str, Any]:
        job = self.job
        card = job.subject.card
        reasons = list(job.extra_reasons)
        if job.weights.get("status") == "unverified":
            reasons.append(f"unverified weights ({job.weights.get('why') or 'made for a test'})")
        reasons += unverified_metrics(metrics)
        if job.limit is not None and job.limit < len(job.suite.items):
            reasons.append(f"limited to {job.limit} of {len(job.suite.items)} images")
        if job.shard:
            reasons.append(f"shard {job.shard[0]} of {job.shard[1]}: merge the shards")
        if not provenance.is_release():
            reasons.append("the core, a task or a metric differs from the release")
        reasons += registry.not_of_the_release(job.task)
        facts = dataclasses.asdict(card)
        facts.pop("arch", None)
        options = dict(job.identity.get("options", {}))
        curve = {k: v for k, v in options.items() if k != card.knob}
        return {
            "id": job.id(),
            "question": job.question(),
            "model": {
                "name": job.identity["name"],
                "family": card.family,
                "kind": card.kind,
                "title": card.title,
                "card": facts,
                "options": options,
                "knob": card.knob,
                "curve": f"{job.identity['name']} {json.dumps(plain(curve), sort_keys=True)}" if card.knob else None,
                "weights": dict(job.weights),
                "adapter_sha256": job.identity.get("adapter"),
                "parameters": job.subject.parameter_count(),
                **job.model_facts,
            },
            "task": {"name": job.task.name, "version": job.task.version, "title": job.task.title, "fit": job.task.fit},
            "suite": {
                "name": job.suite.name,
                "hash": job.suite.hash,
                "n": len(job.suite.items),
                "version": job.suite.version,
                "spec": job.suite_spec,
            },
            "view": {"name": job.view.name, "protocol": job.view.protocol, "fingerprint": job.view.fingerprint()},
            "protocol": job.view.protocol,
            "dtype": job.dtype,
            "device": provenance.device_facts(job.device),
            "seed": job.seed,
            "n": len(items),
            "limit": job.limit,
            "shard": list(job.shard) if job.shard else None,
            "batch_size": batch,
            "save": sorted(job.save),
            "ranked": not reasons,
            "why_not_ranked": "; ".join(reasons) or None,
            "unavailable": dict(unavailable),
            "metrics": {n: dataclasses.asdict(registry.card_of(registry.metrics().get(n))) for n in job.task.metrics},
            "command": job.command,
            "provenance": {**provenance.facts(), "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
        }

    # -- the pipeline --------------------------------------------------------------------------------------------

    def _pipeline(self, folder: RunFolder, items: Sequence[Item], batch: int, done: int,
                  metrics: Mapping[str, Metric]) -> dict[str, int]:  # fmt: skip
        writer = _Writer(self.job, folder, metrics, items, done, self.progress)
        if done >= len(items):
            return writer.counts
        more = len(items) > batch
        made = (
            self._work(originals, first=done + k == 0, warm_up=not k and len(items) - done > batch, more=more)
            for k, originals in enumerate(batches(self.job.suite, self.job.view, items[done:], batch))
        )
        if self.job.device == "cpu" and any(m.card.needs for m in metrics.values()):
            # A metric's network beside the model's on the same cores only slows both: in turn.
            for given in made:
                writer.write(given)
        else:
            self._overlapped(made, writer)
        return writer.counts

    @staticmethod
    def _overlapped(made: Iterator[_Work], writer: _Writer) -> None:
        """Metrics of a batch while the model works on the next."""
        from threadpoolctl import threadpool_limits

        work: queue.Queue[_Work | None] = queue.Queue(maxsize=2)
        trouble: list[BaseException] = []

        def consume() -> None:
            # OpenMP's limit is the calling thread's own: a second team of workers would spin against the model's.
            with threadpool_limits(1, user_api="openmp"):
                while (given := work.get()) is not None:
                    if not trouble:
                        try:
                            writer.write(given)
                        except BaseException as bad:
                            trouble.append(bad)

        thread = threading.Thread(target=consume, name="metrics")
        thread.start()
        try:
            for given in made:
                if trouble:
                    break
                work.put(given)
        finally:
            work.put(None)
            thread.join()
        if trouble:
            raise trouble[0]

    def _work(self, originals: list[_Original], *, first: bool, warm_up: bool, more: bool) -> _Work:
        """One batch through the model; the first of several, whose time does not count, is counted instead."""
        groups = self._model(originals, count_macs=first and more)
        counted = [produced.macs for _, _, produced in groups if produced.macs is not None]
        return _Work(originals, groups, warm_up, counted[-1] if counted else None)

    def _model(
        self, originals: Sequence[_Original], *, count_macs: bool
    ) -> list[tuple[list[int], torch.Tensor, Output]]:
        """The batch through the model, in groups of one size."""
        import numpy as np
        import torch

        from vtbench.images import to_float

        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position, original in enumerate(originals):
            if original.rgb is not None:
                by_size[(original.rgb.shape[0], original.rgb.shape[1])].append(position)
        groups = []
        for positions in by_size.values():
            stacked = np.stack([originals[p].rgb for p in positions])  # type: ignore[misc]
            # Pixels stay as they were read (channels last), which convolutions like best; values are the same.
            reference = torch.from_numpy(stacked).permute(0, 3, 1, 2)
            items = [originals[p].item for p in positions]
            seeds = [image_seed(self.job.seed, originals[p].sha256) for p in positions]
            try:
                produced = self.job.subject.produce(to_float(reference), seeds, items, count_macs=count_macs)
            except VtbenchError as bad:
                # In mid-run it is the model that failed, whatever the sentence: the others go on.
                raise VtbenchError(str(bad), code=1) from bad
            except Exception as bad:
                # An adapter may raise anything.
                name = self.job.identity["name"]
                raise VtbenchError(f"{name} raised {type(bad).__name__} on {items[0].id}: {bad}", code=1) from bad
            groups.append((positions, reference, produced))
            self.kind = produced.kind or self.kind
        return groups

    def _finish(self, folder: RunFolder, info: dict[str, Any], items: Sequence[Item], metrics: Mapping[str, Metric],
                unavailable: Mapping[str, str], counts: Mapping[str, int]) -> None:  # fmt: skip
        bad = enlarged = 0
        served: Counter[str] = Counter()
        for row in folder.read_rows():
            flags = row.get("flags", {})
            bad += "*" in row["why"]
            enlarged += bool(flags.get("enlarged"))
            served.update([flags["served"]] if "served" in flags else ())
        if bad:
            reason = f"{bad} of {len(items)} images could not be scored"
            info["why_not_ranked"] = "; ".join(filter(None, [info["why_not_ranked"], reason]))
            info["ranked"] = False
        info["status"] = "incomplete" if bad else "complete"
        info["model"]["kind"] = info["model"]["card"]["kind"] = self.kind
        info["enlarged"], info["served"] = enlarged, dict(served)
        # Written with the first batch, so that a run that was killed and went on knows them too.
        first = next(folder.read_rows(), {})
        info["model"]["macs"] = first.get("seconds", {}).get("macs")
        memory = peak_memory(self.job.device, "metrics and libraries")
        info["peak_memory_bytes"], info["peak_memory_what"] = memory["bytes"], memory["what"]
        scores = scoring.finalise(folder, info, metrics, unavailable, items)
        if self.job.limit is None and self.job.shard is None and not bad:
            self._keep_reference_features(folder, info, metrics)
        folder.write_scores(scores)
        info["provenance"]["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        folder.write_info(info)

    def _keep_reference_features(
        self, folder: RunFolder, info: Mapping[str, Any], metrics: Mapping[str, Metric]
    ) -> None:
        """Moves the originals' features to the cache, so that the next model need not make them again."""
        import shutil

        for extractor in {
            m.extractor().id: m.extractor() for m in metrics.values() if isinstance(m, SetMetric)
        }.values():
            own = folder.path / "features" / f"{scoring.feature_name(extractor.id)}.reference.f32"
            kept = scoring.reference_features(
                extractor.id, str(info["suite"]["hash"]), str(info["view"]["fingerprint"])
            )
            if own.exists() and not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                part = kept.with_name(f".{kept.name}.{time.time_ns()}")
                shutil.copyfile(own, part)
                part.replace(kept)


class _Writer:
    """The metrics thread's work: candidates -> uint8 -> metrics -> rows, features, tokens and samples, in order."""

    def __init__(self, job: Job, folder: RunFolder, metrics: Mapping[str, Metric], items: Sequence[Item], done: int,
                 progress: Progress) -> None:  # fmt: skip
        self.job, self.folder, self.items, self.done, self.progress = job, folder, items, done, progress
        self.measures = {n: m for n, m in metrics.items() if isinstance(m, ImageMetric)}
        extractors = {m.extractor().id: m.extractor() for m in metrics.values() if isinstance(m, SetMetric)}
        self.features = {}
        self.counts: dict[str, int] = {}
        for extractor in extractors.values():
            extractor.load(job.device)
            name = scoring.feature_name(extractor.id)
            kept = scoring.reference_features(extractor.id, job.suite.hash, job.view.fingerprint())
            own = FeatureFile(folder.path / "features" / f"{name}.f32", extractor.dim)
            # With shards and failures the cache's order would not be this run's, so they make their own.
            use_cache = kept.exists() and job.shard is None
            reference = (
                None if use_cache else FeatureFile(folder.path / "features" / f"{name}.reference.f32", extractor.dim)
            )
            for file in (own, reference):
                if file is not None:
                    file.keep(done)
            self.features[extractor.id] = (extractor, own, reference)
        self.tokens = TokenFile(folder.path)
        wants = any(isinstance(m, TokenMetric) for m in metrics.values())
        self.keep_tokens = "tokens" in job.save or (wants and job.subject.card.kind == "discrete")
        if self.keep_tokens:
            self.tokens.keep(done)

    def write(self, work: _Work) -> None:
        rows: list[dict[str, Any]] = []
        for original in work.originals:
            row: dict[str, Any] = {"item": original.item.id, "bits": None, "values": {}, "why": {}, "seconds": {}}
            if original.why is not None:
                row["why"]["*"] = original.why
            rows.append(row)
        blobs = [b""] * len(rows)
        features = {key: [None, None] for key in self.features}
        for positions, reference, produced in work.groups:
            self._group(work, rows, blobs, features, positions, reference, produced)
        if work.macs is not None:
            rows[0]["seconds"]["macs"] = {"encode": work.macs[0], "decode": work.macs[1]}
        for key, (_, own, ref) in self.features.items():
            for file, made in ((own, features[key][0]), (ref, features[key][1])):
                if file is not None:
                    file.append(self._filled(made, len(rows), file.dim))
        if self.keep_tokens:
            self.tokens.append(blobs)
        self.folder.append_rows(rows)
        self.done += len(rows)
        self.progress(str(self.job.identity["name"]), self.job.task.name, self.done, len(self.items))

    @staticmethod
    def _filled(made: Any, rows: int, dim: int) -> Any:
        import numpy as np

        return made if made is not None else np.zeros((rows, dim), np.float32)

    def _group(self, work: _Work, rows: list[dict[str, Any]], blobs: list[bytes], features: dict[str, list[Any]],
               positions: list[int], reference: torch.Tensor, produced: Output) -> None:  # fmt: skip
        import numpy as np
        import torch

        from vtbench.images import to_uint8

        originals = [work.originals[p] for p in positions]
        if self.measures or self.features or self.done < SAMPLES or "images" in self.job.save:
            reference = reference.contiguous()
            made = produced.images
            candidate = made if made.dtype == torch.uint8 else to_uint8(made).contiguous()
        else:
            # Nobody looks at these pixels: they were made for their bits and their time.
            candidate = produced.images
        tokens = produced.tokens
        bits = self._bits(tokens, len(positions))
        batch = Batch(
            Reference(reference, [o.item for o in originals], [o.sha256 for o in originals]), candidate, tokens, bits,
            self.job.subject if isinstance(self.job.subject, ModelSystem) else None,
            [image_seed(self.job.seed, o.sha256) for o in originals],
        )  # fmt: skip
        found = {name: self._measure(name, metric, batch) for name, metric in self.measures.items()}
        ceiling = self._ceiling(batch, produced)
        lines = batch.kept.get("lines")
        packed = tokens.pack() if tokens is not None and self._packs(tokens) else None
        each = len(tokens) // len(positions) if tokens is not None else 1
        for k, position in enumerate(positions):
            row = rows[position]
            height, width = int(reference.shape[2]), int(reference.shape[3])
            row["size"] = [height, width]
            row["sha256"] = originals[k].sha256
            flags = {**originals[k].flags, **{n: v for n, v in produced.record.items() if v}}
            if flags:
                row["flags"] = flags
            if k in produced.failed:
                row["why"]["*"] = produced.failed[k]
                continue
            row["bits"] = float(bits[k]) if bits is not None else None
            weights = {}
            for name, values in found.items():
                value = values[k]
                if value.value is None:
                    row["why"][name] = value.why or "not measured"
                else:
                    row["values"][name] = float(value.value)
                    if value.weight != 1.0:
                        weights[name] = float(value.weight)
            if weights:
                row["weights"] = weights
            if ceiling:
                row["resize_only"] = {n: float(v[k].value) for n, v in ceiling.items() if v[k].value is not None}
            if lines is not None and lines[k]:
                row["lines"] = lines[k]
            row["seconds"] = {
                "encode": None if produced.encode_seconds is None else produced.encode_seconds / len(positions),
                "decode": None if produced.decode_seconds is None else produced.decode_seconds / len(positions),
            }
            if work.warm_up:
                row["seconds"]["warm_up"] = True
            if packed is not None:
                # A tiled image is several token blobs; only whole images are stored one blob a row.
                blobs[position] = packed[k] if each == 1 else b""
            self._sample(position, originals[k], reference[k], candidate[k])
        for key, (extractor, _, ref) in self.features.items():
            for slot, images in ((0, candidate), (1, reference)):
                if slot == 1 and ref is None:
                    continue
                if features[key][slot] is None:
                    features[key][slot] = np.zeros((len(rows), extractor.dim), np.float32)
                features[key][slot][positions] = extractor.extract(images)

    def _packs(self, tokens: Tokens) -> bool:
        return self.keep_tokens and (isinstance(tokens, Codes) or "tokens" in self.job.save)

    @staticmethod
    def _bits(tokens: Tokens | None, images: int) -> np.ndarray[Any, Any] | None:
        """Bits an image; the tiles of one image add up."""
        if tokens is None:
            return None
        made: np.ndarray[Any, Any] = tokens.bits().reshape(images, -1).sum(axis=1)
        return made

    @staticmethod
    def _measure(name: str, metric: ImageMetric, batch: Batch) -> Sequence[Any]:
        try:
            return measured(name, metric, batch)
        except VtbenchError:
            raise
        except Exception as bad:
            # A metric of somebody's may raise anything; the run says which one, and on what.
            first = batch.reference.items[0].id
            raise VtbenchError(f"the metric {name} raised {type(bad).__name__} on {first}: {bad}", code=1) from bad

    def _ceiling(self, batch: Batch, produced: Output) -> dict[str, Sequence[Any]]:
        """What the resizing alone costs, by the metrics of pixels: the ceiling of a model that got resized images."""
        from vtbench.images import to_uint8

        if produced.ceiling is None:
            return {}
        beside = Batch(batch.reference, to_uint8(produced.ceiling).contiguous())
        return {n: self._measure(n, m, beside) for n, m in self.measures.items() if not m.card.needs}

    def _sample(self, position: int, original: _Original, reference: torch.Tensor, candidate: torch.Tensor) -> None:
        index = self.done + position
        if "images" in self.job.save:
            target = self.folder.path / "images" / Path(original.item.id).with_suffix(".png")
            if not target.resolve().is_relative_to((self.folder.path / "images").resolve()):
                raise VtbenchError(
                    f"the item {original.item.id!r} would be written outside the run's folder: rename it"
                )
            self._save(candidate, target)
        if index >= SAMPLES or (self.job.shard and self.job.shard[0] > 1):
            return
        folder = self.folder.path / "samples"
        names = {}
        for kind, image in (("reference", reference), ("candidate", candidate)):
            names[kind] = f"{index:02d}.{kind}.png"
            self._save(image, folder / names[kind])
        path = folder / "samples.json"
        known = json.loads(path.read_text()) if path.exists() else []
        known = [k for k in known if k["item"] != original.item.id] + [{"item": original.item.id, **names}]
        from vtbench.results import write_json

        write_json(path, known)

    @staticmethod
    def _save(image: torch.Tensor, target: Path) -> None:
        from PIL import Image

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # A third of the time of the default level for a tenth more bytes: the model waits for these cores.
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(target, compress_level=1)
        except OSError as bad:
            raise disk_error(bad, target) from bad
