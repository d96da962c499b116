"""How a run is asked for: one frozen record of every choice, checked before anything is read or written."""

from __future__ import annotations

import functools
import itertools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vtbench import registry
from vtbench.images.opening import open_of_task, open_suite
from vtbench.images.suite import Suite
from vtbench.images.views import View
from vtbench.metrics import weights
from vtbench.models.devices import dtype_of
from vtbench.models.named_code import note_choice
from vtbench.results.files import plain
from vtbench.running.reduction import TASKS as REDUCERS_TASKS
from vtbench.running.reduction import ReducerAsk, Subjects, asks, check_reducers, task_of
from vtbench.running.understood import check_tower, of_pictures, options_of, reading_task
from vtbench.types.errors import VtbenchError
from vtbench.types.task import Task

Progress = Callable[[str, str, int, int], None]
"""(model, task, images done, images in all)"""
OPTIONS = {
    **{name: name for name in ("view", "checkpoint", "prefix", "limit", "device", "dtype", "batch_size", "save")},
    **{name: name for name in ("shard", "protocol", "icc", "seed", "fit", "tokenizer_checkpoint")},
    "prompts": "suite",
    "per_prompt": "n",
}
"""{attribute: the option of the command line} of what `settings` states where it is not the default."""
UNNAMED = ("folder:", "family:")
"""Specs whose options are known only once they are loaded."""


@dataclass(frozen=True)
class Request:
    """Models to evaluate (names, or objects with encode and decode) and every choice of the run.

    images: a suite, folder, glob or `hf:NAME@REVISION`; None: each task's own suites. options: {name: value or values};
    several values make one run each. prefix: which copy of a checkpoint's weights. device, dtype: None is cpu and
    float32, of an object its own. icc: "srgb" converts images by their colour profiles. fit: "resize" or "tiles", None:
    the task's. shard: (i, n), counted from 1; "auto": as
    the launcher that started this process says. batch_size 0: the fastest. out: None makes a temporary folder. prompts,
    per_prompt, tokenizer_checkpoint: for generators only. ray, workers: an address of a cluster, and how many of its
    workers measure. identity: of one object, the name under which it is the same
    as in other calls; without it no other call continues or answers this one.
    """

    models: Any
    tasks: Sequence[str] | None = None
    images: str | Path | None = None
    view: str | None = None
    checkpoint: str | Path | None = None
    prefix: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    device: str | None = None
    dtype: str | None = None
    batch_size: int = 4
    save: Sequence[str] = ()
    shard: tuple[int, int] | Literal["auto"] | None = None
    out: str | Path | None = None
    protocol: str = "vtbench"
    icc: str | None = None
    seed: int = 0
    command: str | None = None
    prompts: str | None = None
    per_prompt: int | None = None
    tokenizer_checkpoint: str | Path | None = None
    fit: str | None = None
    identity: str | None = None
    ray: str | None = None
    workers: int | None = None
    reducers: Sequence[str] = ()
    tower: str | None = None
    keep: Sequence[int] = ()
    baselines: bool = True

    @property
    def specs(self) -> list[Any]:
        if self.reducers:
            return list(asks(self.reducers, self.keep, self._every_option(), baselines=self.baselines))
        one = isinstance(self.models, str) or not isinstance(self.models, Sequence)
        return [self.models] if one else list(self.models)

    @property
    def part(self) -> tuple[int, int] | None:
        """The shard as numbers, once they are known."""
        return None if isinstance(self.shard, str) else self.shard

    @property
    def draws(self) -> bool:
        """True if the models are generators; refuses generators and tokenizers in one request."""
        kinds = {isinstance(m, str) and _is_generator(m) for m in self.specs}
        if len(kinds) > 1:
            raise VtbenchError("generators and tokenizers were given together: evaluate them in two commands")
        return kinds == {True}

    @property
    def checkpoint_path(self) -> Path | None:
        return _path(self.checkpoint)

    @property
    def tokenizer_path(self) -> Path | None:
        return _path(self.tokenizer_checkpoint)

    @functools.cached_property
    def subjects(self) -> Subjects:
        """The models whose tokens the reducers drop, loaded when they are asked for."""
        return Subjects(str(self.tower), self.device or "cpu", dtype_of(self.dtype or "float32"))

    def combinations(self) -> list[dict[str, str]]:
        """Every combination of the options' values, in the order given; those of reducers stand in the specs."""
        return [{}] if self.reducers else self._every_option()

    def _every_option(self) -> list[dict[str, str]]:
        lists = {k: [str(x) for x in v] if isinstance(v, list | tuple) else [str(v)] for k, v in self.options.items()}
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]

    def settings(self, spec: Any, options: Mapping[str, str], question: Question) -> dict[str, Any]:
        """Options of the command line that ask for this one run; empty where the model is an object."""
        if isinstance(spec, ReducerAsk):
            return self._settings_of_reducer(spec, question)
        if not isinstance(spec, str):
            return {}
        named = {registry.tasks().name_of(t): t for t in self.tasks or ()}
        out: dict[str, Any] = {"models": [spec], "task": [named.get(question.task.name, question.task.name)]}
        if self.images is not None:
            out["images"] = str(self.images)
        if self.tower is not None:
            out["tower"] = self.tower
        if options:
            out["option"] = dict(options)
        if files := os.environ.get(weights.VARIABLE):
            out["metric_weights"] = [word for word in files.split(os.pathsep) if word]
        for attribute, option in OPTIONS.items():
            value = getattr(self, attribute)
            if value != getattr(Request, attribute, None) and value != []:
                out[option] = f"{value[0]}/{value[1]}" if attribute == "shard" else plain(value)
        return out

    def _settings_of_reducer(self, ask: ReducerAsk, question: Question) -> dict[str, Any]:
        """The same of one point of a reducer."""
        out: dict[str, Any] = {"reducer": [ask.name], "tower": self.tower, "baselines": "no"}
        out |= {"keep": str(ask.keep)} if ask.keep is not None else {}
        out |= {"images": str(self.images)} if self.images is not None else {}
        out |= {"option": ask.texts()} if ask.options else {}
        for attribute in ("view", "limit", "device", "dtype", "batch_size", "protocol", "icc", "seed"):
            value = getattr(self, attribute)
            if value != getattr(Request, attribute, None):
                out[OPTIONS[attribute]] = plain(value)
        return out

    def chosen_tasks(self) -> list[Task]:
        """The tasks asked for, or those that are the default of such a request; each of the models' kind."""
        draws = self.draws
        if self.reducers:
            images = None if self.images is None else str(self.images)
            return [registry.tasks().get(task_of(str(self.tower), images))]
        if self.tasks:
            for spec in self.tasks:
                note_choice(spec)
            tasks = [registry.tasks().get(t) for t in self.tasks]
        else:
            tasks = registry.default_tasks(generators=draws, images_given=self.images is not None)
        for task in tasks:
            if bool(task.prompts) != draws:
                raise VtbenchError(
                    f"the task {task.name} is for {'generators' if task.prompts else 'tokenizers'}: "
                    f"{self.specs[0]} is {'a generator' if draws else 'none'}"
                )
        if self.tower is not None:
            tasks = [of_pictures(registry.tasks().get(self._reading_task()))]
        return tasks if self.fit is None else [replace(t, fit=self.fit) for t in tasks]  # type: ignore[arg-type]

    def checked(self) -> Request:
        """The request, unless a choice has no meaning: nothing was read or written then."""
        if self.limit is not None and self.limit < 1:
            raise VtbenchError(f"--limit {self.limit}: give a number of images, 1 or more")
        if self.batch_size < 0:
            raise VtbenchError(f"--batch-size {self.batch_size}: give 1 or more, or 0 for the fastest")
        if not self.batch_size and self.shard is not None:
            raise VtbenchError(
                "--batch-size 0 is each shard's own, and shards are joined of one: give --shard a number"
            )
        unknown = set(self.save) - {"tokens", "images", "features"}
        if unknown:
            raise VtbenchError(f"--save {', '.join(sorted(unknown))}: only tokens, images and features can be saved")
        if self.part is not None and not 1 <= self.part[0] <= self.part[1]:
            raise VtbenchError(f"--shard {self.part[0]}/{self.part[1]}: give i/n with i from 1 to n")
        if self.fit not in (None, "resize", "tiles"):
            raise VtbenchError(f"--fit {self.fit!r} is not known: give resize or tiles")
        if self.fit == "tiles" and "tokens" in self.save:
            raise VtbenchError(
                "--save tokens keeps whole images' tokens, and tiles have many: leave out one of the two"
            )
        if self.draws:
            if self.limit is not None or self.shard is not None or self.save:
                raise VtbenchError("a generator takes no --limit, --shard or --save: --n says how many images a prompt")
        elif self.prompts or self.per_prompt or self.tokenizer_checkpoint:
            raise VtbenchError("--suite, --n and --tokenizer-checkpoint are for generators: leave them out")
        if self.reducers or self.keep:
            return self._checked_reducers()
        check_tower(self.tower, self.tasks or ())
        if self.tower is not None:
            self._reading_task()
        self._check_identity()
        self._check_workers()
        if self.out is not None and Path(self.out).exists() and not Path(self.out).is_dir():
            raise VtbenchError(f"--out {self.out} is a file: give a folder")
        for spec in self.specs:
            # A wrong name or option is refused before anything runs.
            if isinstance(spec, str) and not spec.startswith(UNNAMED) and registry.wrapper(spec) is None:
                card = registry.model(spec).card
                for combination in self.combinations():
                    registry.parse_options(card, self.options_of(spec, combination)[0])
        return self

    def options_of(self, spec: Any, texts: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """(the model's options, those of the tower that reads its pictures)"""
        if self.tower is None:
            return dict(texts), {}
        named = isinstance(spec, str) and not spec.startswith(UNNAMED) and registry.wrapper(spec) is None
        return options_of(self.tower, texts, tuple(registry.model(spec).card.options) if named else ())

    def _reading_task(self) -> str:
        """The task of the model that reads pictures."""
        return reading_task(str(self.tower), self.tasks or (), None if self.images is None else str(self.images))

    def _checked_reducers(self) -> Request:
        """The same of a request for reducers, which are no models of the list."""
        if not self.reducers:
            raise VtbenchError("--keep is how many tokens a reducer keeps: give --reducer NAME, or leave it out")
        if self.models:
            raise VtbenchError(f"{self.models[0]} and --reducer were given together: evaluate them in two commands")
        if self.tasks and not {*self.tasks} <= {*REDUCERS_TASKS}:
            raise VtbenchError(
                f"--task {self.tasks[0]}: a reducer's task is {' or '.join(REDUCERS_TASKS)}, by the kind of --tower"
            )
        if self.ray is not None or self.shard is not None:
            raise VtbenchError("a reducer is measured by one process: leave out --ray and --shard")
        if self.save or self.checkpoint or self.prefix or self.fit:
            raise VtbenchError("a reducer has no --save, --checkpoint, --prefix or --fit: leave them out")
        check_reducers(self.reducers, self.tower, self.keep, self._every_option())
        if self.out is not None and Path(self.out).exists() and not Path(self.out).is_dir():
            raise VtbenchError(f"--out {self.out} is a file: give a folder")
        return self

    def _check_identity(self) -> None:
        """An identity names one object, and what is put together from several calls needs one."""
        objects = [spec for spec in self.specs if not isinstance(spec, str)]
        if self.identity is not None:
            if len(self.specs) != 1 or not objects:
                raise VtbenchError(
                    f"identity={self.identity!r} names one object: a model that is given by name is known by its "
                    "files, and several objects need a call each"
                )
            if not isinstance(self.identity, str) or not self.identity.strip():
                raise VtbenchError(
                    f"identity={self.identity!r} names nothing: give the text by which you know this object again"
                )
        elif objects and self.shard is not None:
            raise VtbenchError(
                "the shards of an object are joined by its identity: give identity='…', the same in every shard's call"
            )

    def _check_workers(self) -> None:
        """What workers elsewhere cannot do is said before a cluster is asked."""
        check_workers(self.ray, self.workers)
        if self.ray is None:
            return
        objects = [type(spec).__name__ for spec in self.specs if not isinstance(spec, str)]
        if objects:
            raise VtbenchError(
                f"{objects[0]} is an object of this process, which no worker has: give --ray a model by its name"
            )
        if self.draws:
            raise VtbenchError(
                f"{self.specs[0]} is a generator: draw with `vtbench generate {self.specs[0]} --ray {self.ray}`, and "
                "score the folder with `vtbench score --set`"
            )
        if not self.batch_size:
            raise VtbenchError("--batch-size 0 tries batches on this machine, not on the workers': give --ray a number")

    def folder(self) -> Path:
        """Where the runs go."""
        return Path(self.out) if self.out is not None else Path(tempfile.mkdtemp(prefix="vtbench-"))

    def questions(self) -> list[Question]:
        """Every task on every suite, at the view asked for."""
        own = self.images is None
        return [
            Question(
                task,
                name,
                open_of_task(name) if own else open_suite(name),
                View.parse(self.view or task.view, self.protocol, self.icc),
            )
            for task in self.chosen_tasks()
            for name in (task.suites if own else [str(self.images)])
        ]


@dataclass(frozen=True)
class Question:
    """One task on one suite at one view; `spec` opens the suite again."""

    task: Task
    spec: str
    suite: Suite
    view: View


def check_workers(ray: str | None, workers: int | None) -> None:
    """Refuses an empty address, no worker, and workers of no cluster."""
    if ray is not None and not ray.strip():
        raise VtbenchError("--ray is empty: give local, auto, HOST:PORT of the cluster's head, or ray://HOST:PORT")
    if workers is not None and workers < 1:
        raise VtbenchError(f"--workers {workers}: give a number of workers, 1 or more")
    if workers is not None and ray is None:
        raise VtbenchError(f"--workers {workers} are workers of a cluster of Ray: give --ray local, or its address")


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser()


def _is_generator(spec: str) -> bool:
    """True for a registered generator, and for an own configuration of its family."""
    return not spec.startswith("folder:") and registry.model(spec).card.kind == "generator"
