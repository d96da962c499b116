"""model/NAME.html: one page a model, with the records of its runs and the values of their images beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

from vtbench.leaderboard import modelpage, runpage
from vtbench.leaderboard.addresses import model_address, record_address, values_name
from vtbench.leaderboard.content import newest_cards
from vtbench.leaderboard.gallery import Kept, kept_samples
from vtbench.leaderboard.imagevalues import chosen_runs, directory, values_of
from vtbench.leaderboard.page import File, Page, Site, script
from vtbench.reporting.runs import question, system
from vtbench.reporting.versions import older_metrics
from vtbench.results.record import Run
from vtbench.types.metric import MetricCard


def pages(site: Site) -> list[Page | File]:
    if not site.runs:
        return []
    kept = cache(lambda: kept_samples(site.samples))
    cards = cache(lambda: newest_cards(site.runs))
    older = older_metrics(site.runs)
    out: list[Page | File] = [File("data/systems.js", partial(_directory, site))]
    for name, of_groups in modelpage.by_model(site).items():
        runs = [run for members in of_groups.values() for run in members]
        out.append(Page(model_address(name), "model.html.j2", partial(modelpage.facts, of_groups, site, kept)))
        out.append(File(f"data/{values_name(name)}.js", partial(_values, name, runs, site, older, kept, cards)))
        for run in runs:
            names = runpage.own_records(run)
            out += [File(record_address(run, r), partial(runpage.contents, run.path / r)) for r in names]
    return out


def _directory(site: Site) -> bytes:
    return script("systems", directory(site.context, site.groups, site.samples))


def _values(
    name: str,
    runs: Sequence[Run],
    site: Site,
    older: Mapping[str, set[str]],
    kept: Callable[[], Kept],
    cards: Callable[[], Mapping[str, MetricCard]],
) -> bytes:
    """The values of a model's images, and its pictures, each once however many tasks its systems were run for."""
    places = dict.fromkeys((question(run).images, system(run)) for run in runs)
    samples = [sample for place in places for sample in kept().get(place, ())]
    questions = {group.question: group.ident for group in site.groups}
    return script(values_name(name), values_of(chosen_runs(runs), site.context, questions, older, samples, cards()))
