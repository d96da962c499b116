"""`vtbench fetch`: weights and suites ahead of time, for machines without network."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from vtbench.cli.apps import answer, complain
from vtbench.cli.options import AcceptLicence, AsJson, accept
from vtbench.types.errors import VtbenchError

Job = tuple[str, Callable[[], object]]
"""(what is fetched, the call that fetches it)"""


def fetch(
    models: Annotated[list[str] | None, typer.Argument(help="Models whose weights are wanted.")] = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="The networks of all metrics.")] = False,
    suites: Annotated[bool, typer.Option("--suites", help="The images of all named suites.")] = False,
    accept_licence: AcceptLicence = None,
    as_json: AsJson = False,
) -> None:
    """Download weights and suites ahead of time. What is here already is not asked for again; a broken one goes on."""
    from vtbench.types.environment import offline

    if not models and not metrics and not suites:
        raise VtbenchError("nothing was asked for: give models, --metrics or --suites")
    if offline():
        raise VtbenchError("VTBENCH_OFFLINE forbids the network: unset it for `vtbench fetch`")
    accept(accept_licence)
    # All names first: one that is wrong is said before anything is downloaded.
    jobs = [job for name in models or [] for job in _of_model(name)]
    jobs += [*(_of_metrics() if metrics else ()), *(_of_suites() if suites else ())]
    here: dict[str, str] = {}
    failed: dict[str, str] = {}
    for what, bring in jobs:
        try:
            here[what] = str(bring())
        except VtbenchError as bad:
            failed[what] = str(bad)
            complain(f"{what}: {bad}")
    lines = [*(f"{what}: {place}" for what, place in here.items()), f"{len(here)} here, {len(failed)} failed"]
    answer(
        {"here": here, "failed": failed},
        "\n".join(lines),
        as_json=as_json,
    )
    if failed:
        raise typer.Exit(1)


def _of_model(name: str) -> Iterator[Job]:
    """A model's files, and those of the model inside and of the tokenizer that it needs."""
    from vtbench import registry
    from vtbench.models.weights import find

    entry = registry.model(name)
    if entry.inner is not None:
        yield from _of_model(entry.inner.card.name)
    elif entry.card.weights:
        yield name, lambda: ", ".join(map(str, find(entry.card).files.values()))
    if entry.card.tokenizer:
        yield from _of_model(entry.card.tokenizer)


def _of_metrics() -> Iterator[Job]:
    from vtbench.metrics import weights

    for one in weights.TABLE.values():
        if one.comes_by_itself:
            yield one.name, functools.partial(weights.find, one.name)


def _of_suites() -> Iterator[Job]:
    from vtbench.images.named import list_suites

    for suite in list_suites():
        if suite["state"] != "ready":
            yield suite["name"], functools.partial(_count, suite["name"])


def _count(name: str) -> str:
    """Brings a suite's images, and says how many there are."""
    from vtbench.images.opening import open_suite

    return f"{len(open_suite(f'suite:{name}').items)} images"
