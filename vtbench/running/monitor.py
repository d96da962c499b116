"""`vtbench.Monitor`: evaluations of a tokenizer while it is trained, in a plain loop or as a callback of Lightning."""

from __future__ import annotations

import contextlib
import functools
import logging
import operator
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from vtbench.models.objects import asking, model_of
from vtbench.models.training_loop import is_first_process, one_process_alone, random_numbers_kept
from vtbench.results.record import Run, Score
from vtbench.running.evaluate import evaluate
from vtbench.running.request import Request
from vtbench.types.errors import RAISED, VtbenchError

_logger = logging.getLogger(__name__)

PREFIX = "vtbench/"
STEP, SECONDS, FAILURE = f"{PREFIX}step", f"{PREFIX}seconds", f"{PREFIX}failure"
"""Names in what is logged, beside the metrics'."""
LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""The two packages that Lightning comes as; each has a class Callback of its own."""


@dataclass(frozen=True)
class Measured:
    """One evaluation of a Monitor."""

    step: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    """By the name that is logged: `vtbench/TASK/METRIC`, and `vtbench/TASK/SUITE/METRIC` where there are several."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a metric has no number, by the same names."""
    failure: str | None = None
    """Why the evaluation failed; None if it did not."""
    seconds: float = 0.0
    """How long it took, by the clock."""
    runs: tuple[Path, ...] = ()
    """The runs' folders, where `out` keeps them."""

    def logged(self) -> dict[str, float | str]:
        """What a log is given: the step, the numbers, the seconds, and of a failure its sentence."""
        failed = {} if self.failure is None else {FAILURE: self.failure}
        return {STEP: self.step, **self.numbers, SECONDS: self.seconds, **failed}


class Monitor:
    """Evaluates a tokenizer object every so many steps of its training, and logs the numbers.

    In a plain loop call it with the step, `monitor(step)`. To a Trainer of Lightning give it as a callback,
    `Trainer(callbacks=[monitor])`, with Lightning imported before the monitor is made: steps are then Lightning's
    `global_step`, and without `log` the numbers go to the trainer's loggers.

    tokenizer: an object with `encode(images)` and `decode(tokens)`, images float32 (B, 3, H, W) in [0, 1], or what else
    `vtbench.evaluate` takes as an object. suite: a suite, folder, glob or `hf:NAME@REVISION`; None: the tasks' own.
    every: steps from one evaluation to the next, counted from step 0. tasks: as `vtbench.evaluate` takes them;
    "compression" needs no network of its own, so it is the quickest. log: what has `log(dict)`, as a run of wandb has,
    or a function of one dict: `vtbench/step`, the numbers, `vtbench/seconds`, and of a failure the text
    `vtbench/failure`. limit, view, batch_size, protocol, icc, fit, seed: as `vtbench.evaluate` takes them. out: a
    folder that keeps the run of every evaluation; None keeps none.

    Each evaluation is a new one of the weights as they are, and gives what `vtbench.evaluate` of the same object gives.
    The training goes on as if there had been none: global random numbers, the train and eval mode of every module that
    the object reaches, grad mode, autocast and torch's other settings are what they were (on CUDA, torch's mark of peak
    memory is set back). Of several processes, the first alone measures and asks nothing of the others; they wait for it
    in their next exchange of gradients, so an evaluation must take less than the process group's timeout.

    Raises VtbenchError here, before training, for a question without meaning: no such suite or task, an object without
    encode and decode. What fails later is logged with its reason, stands in `history` and is never raised.
    """

    history: list[Measured]
    """All evaluations, in order; in the first process alone."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        every: int,
        suite: str | Path | None = None,
        tasks: Sequence[str] | str | None = ("reconstruction",),
        log: Any = None,
        limit: int | None = None,
        view: str | None = None,
        batch_size: int = 4,
        protocol: str = "vtbench",
        icc: str | None = None,
        fit: str | None = None,
        seed: int = 0,
        out: str | Path | None = None,
    ) -> None:
        _become_callback(self)
        self._every = _count_of_steps(every)
        if isinstance(tokenizer, str):
            raise VtbenchError(f"{tokenizer!r} is a name, whose weights stay the same: give the object that is trained")
        with asking(tokenizer):
            model_of(tokenizer, {})
        self._request = Request(
            [tokenizer],
            tasks=[tasks] if isinstance(tasks, str) else tasks,
            images=suite,
            view=view,
            limit=limit,
            batch_size=batch_size,
            protocol=protocol,
            icc=icc,
            fit=fit,
            seed=seed,
            out=out,
        )
        questions = self._request.checked().questions()
        self._names_suites = len({question.suite.name for question in questions}) > 1
        self._sink = None if log is None else _sink_of(log)
        self._last: int | None = None
        self._warned: set[str] = set()
        self.history = []

    def __call__(self, step: int) -> Measured | None:
        """Evaluates and logs where a multiple of `every` was reached since the last call; else None."""
        return self.evaluate(step) if self._is_due(int(step)) and is_first_process() else None

    def evaluate(self, step: int) -> Measured:
        """Evaluates and logs, whatever the step; for the first process, as it asks no other."""
        return self._log(self._measure(int(step)), [] if self._sink is None else [self._sink])

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        """Lightning's hook after every batch."""
        step = int(trainer.global_step)
        # Before the first step of an optimizer (gradients are accumulated) nothing was trained.
        if step > 0 and self._is_due(step) and trainer.is_global_zero:
            loggers = [functools.partial(_to_lightning, logger) for logger in trainer.loggers]
            self._log(self._measure(step), loggers if self._sink is None else [self._sink])

    def _is_due(self, step: int) -> bool:
        """Whether a multiple of `every` lies between the last step that was heard of and this one: a step may come
        again (batches whose gradients are accumulated) and steps may be passed over (two optimizers)."""
        last = step - 1 if self._last is None or step < self._last else self._last
        self._last = step
        return step // self._every > last // self._every

    def _measure(self, step: int) -> Measured:
        began = time.perf_counter()
        numbers: dict[str, float] = {}
        missing: dict[str, str] = {}
        failure: str | None = None
        folders: tuple[Path, ...] = ()
        try:
            with _folder(self._request.out) as out, random_numbers_kept(), one_process_alone(self._request.specs[0]):
                # Nobody has this identity again: no run on the disk answers for it, and its own names the step.
                identity = f"step {step}, evaluation {uuid.uuid4().hex}"
                result = evaluate(replace(self._request, out=out, identity=identity))
                failure = "; ".join(result.failures.values()) or None
                folders = tuple(run.path for run in result.runs) if self._request.out is not None else ()
                for name, score in self._scores(result.runs):
                    if score.value is None:
                        missing[name] = score.why or "it has no value"
                    else:
                        numbers[name] = score.value
        except RAISED as bad:
            # Whosever fault it is: it must not end a training of days.
            _logger.debug("the evaluation at step %d", step, exc_info=bad)
            failure = str(bad) if isinstance(bad, VtbenchError) else f"{type(bad).__name__}: {bad}"
        return Measured(step, numbers, missing, failure, time.perf_counter() - began, folders)

    def _scores(self, runs: Sequence[Run]) -> Iterator[tuple[str, Score]]:
        """The tasks' metrics by the names that are logged; costs, which a training beside them moves, are left out."""
        for run in runs:
            suite = f"{run.info.suite.name}/" if self._names_suites else ""
            for score in run.scores:
                if score.metric in run.info.metrics or score.metric in run.info.unavailable:
                    yield f"{PREFIX}{run.info.task.name}/{suite}{score.metric}", score

    def _log(self, measured: Measured, sinks: Sequence[Callable[[dict[str, float | str]], object]]) -> Measured:
        """Into the history, and to whatever takes it; what that raises is said."""
        self.history.append(measured)
        if measured.failure is not None:
            _logger.warning("step %d was not measured: %s", measured.step, measured.failure)
        for name, why in measured.missing.items():
            if name not in self._warned:
                self._warned.add(name)
                _logger.warning("%s has no number: %s", name, why)
        for sink in sinks:
            try:
                sink(measured.logged())
            except RAISED as bad:
                # A logger of somebody's: it must not end a training of days.
                _logger.warning("step %d was not logged: %s: %s", measured.step, type(bad).__name__, bad)
        if not sinks:
            _logger.info("%s", measured.logged())
        return measured

    def __reduce__(self) -> tuple[Any, ...]:
        # Lightning sends its callbacks to processes that it spawns; the class with its Callback is made there anew.
        return _blank, (getattr(type(self), "_without_lightning", type(self)),), self.__dict__


def _count_of_steps(every: Any) -> int:
    try:
        steps = 0 if isinstance(every, bool) else operator.index(every)
    except TypeError:
        steps = 0
    if steps < 1:
        raise VtbenchError(f"every={every!r}: give the number of steps between two evaluations, 1 or more")
    return steps


def _blank(cls: type[Monitor]) -> Monitor:
    monitor = cls.__new__(cls)
    _become_callback(monitor)
    return monitor


def _become_callback(monitor: Monitor) -> None:
    """Makes it one of Lightning's callbacks, where Lightning is imported."""
    loaded = tuple(name for name in LIGHTNING if hasattr(sys.modules.get(name), "Callback"))
    own: Any = type(monitor)
    monitor.__class__ = _callback_class(own, loaded)


@functools.cache
def _callback_class(cls: type[Monitor], packages: tuple[str, ...]) -> type[Monitor]:
    """The class, as a Callback of those of Lightning's packages that are imported: a Trainer takes nothing else."""
    callbacks = [sys.modules[name].Callback for name in packages]
    bases = [base for base in callbacks if not issubclass(cls, base)]
    if not bases:
        return cls
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls, *bases), {**names, "_without_lightning": cls})


def _sink_of(log: Any) -> Callable[[dict[str, float | str]], object]:
    for sink in (getattr(log, "log", None), log):
        if callable(sink):
            return cast("Callable[[dict[str, float | str]], object]", sink)
    raise VtbenchError(
        f"log={type(log).__name__} has no log(dict): give a run of wandb, or a function of one dict that hands the "
        "numbers on (to add_scalar of tensorboard's writer)"
    )


def _to_lightning(logger: Any, logged: Mapping[str, float | str]) -> None:
    """Numbers alone: most of Lightning's loggers take no text. The reason of a failure is said in a warning."""
    numbers = {name: value for name, value in logged.items() if not isinstance(value, str)}
    logger.log_metrics(numbers, step=logged[STEP])


@contextlib.contextmanager
def _folder(out: str | Path | None) -> Iterator[str | Path]:
    """Where runs go: the folder that keeps them, or one for the moment."""
    if out is not None:
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="vtbench-monitor-", ignore_cleanup_errors=True) as folder:
        yield folder
