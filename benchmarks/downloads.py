"""Every address from which vtbench downloads, as docs/downloads.md lists it: facts of cards and tables, no network.

python -m benchmarks.downloads > docs/downloads.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vtbench import registry
from vtbench.images.hub import REMOTE
from vtbench.images.prompts import GENEVAL_PROMPTS, GENEVAL_URL
from vtbench.metrics.released_weights import TABLE, MetricWeights
from vtbench.models.licences import licence_of, restricts
from vtbench.types.cards import Card, Weights
from vtbench.types.environment import HUB

HEAD = f"""# What is downloaded, from where

`python -m benchmarks.downloads > docs/downloads.md` writes this page from the cards and tables that the code reads;
`tests/models/test_addresses.py` holds it to them.

**None of these addresses was ever tried over a real network**: vtbench was written on machines without one. Downloads
are tested against servers on the same machine, which stand for these hosts under their own names. An address may have
moved; whoever finds one that has, or one that works, can say so in an issue. The addresses, names of files and hashes
were taken from upstream's code, model cards and READMEs, named on each card.

What comes is checked before it is used: against the sha256 here, or the one that the hub states for the file (LFS); a
file with another is deleted. Where nobody states one, the file is recorded by its own hash and marked unverified. The
proxy of `HTTPS_PROXY`, `NO_PROXY` and certificates in `SSL_CERT_FILE` are honoured for all, `HF_ENDPOINT` (a mirror of
{HUB}) for what comes from the hub, and `VTBENCH_OFFLINE=1` keeps vtbench from asking anybody.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_metrics(), *_models(), *_images()]).rstrip() + "\n"


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    yield ""


def _metrics() -> Iterator[str]:
    by_themselves = [one for one in sorted(TABLE.values(), key=lambda w: w.name) if one.comes_by_itself]
    others = [one for one in sorted(TABLE.values(), key=lambda w: w.name) if not one.comes_by_itself]
    yield f"## Networks of metrics\n\nAt their first use, or by `vtbench fetch --metrics` ({len(by_themselves)}):\n"
    yield from _table(("name", "address", "MB", "sha256", "licence"), [_metric(one) for one in by_themselves])
    yield f"By hand, or with a package ({len(others)}; `vtbench doctor --json` says how):\n"
    yield from _table(("name", "address", "MB", "digest", "licence"), [_metric(one) for one in others])


def _metric(one: MetricWeights) -> tuple[str, ...]:
    digest = f"`{one.sha256[:16]}…`" if one.sha256 else f"md5 `{one.md5}`"
    return f"`{one.name}`", one.url, f"{one.megabytes:g}", digest, one.licence


def _models() -> Iterator[str]:
    lines = [
        _model(entry.card, weight)
        for entry in sorted(registry.entries(), key=lambda e: e.card.name)
        for weight in entry.card.weights
        if weight.hub is not None or weight.url is not None
    ]
    yield f"## Weights of models\n\nAt their first use, or by `vtbench fetch MODEL` ({len(lines)} files). A licence\n"
    yield "in bold restricts the use: `--accept-licence MODEL` says that it is kept.\n"
    yield from _table(("model", "address", "file", "sha256", "licence"), lines)


def _model(card: Card, weight: Weights) -> tuple[str, ...]:
    where = f"{HUB}/{weight.hub}" if weight.hub else str(weight.url)
    at = f" at `{weight.revision[:12]}`" if weight.revision else ""
    stated = weight.sha256[:16] if weight.sha256 else weight.sha256_begins
    digest = f"`{stated}…`" if stated else "the hub's" if weight.hub else "none stated"
    licence = licence_of(card, weight) or "not known"
    said = f"**{licence}**" if restricts(licence) else licence
    file = "the folder" if weight.role == "folder" else f"`{weight.file}`"
    return f"`{card.name}`", where + at, file, digest, said


def _images() -> Iterator[str]:
    yield "## Data sets and prompts\n\nAt their first use; data sets also by `vtbench fetch --suites`:\n"
    lines = []
    for name, facts in REMOTE.items():
        address = f"{HUB}/datasets/{facts['address'].removeprefix('hf:')}"
        lines.append((f"`{name}`", address, str(facts["n"])))
    yield from _table(("suite", "address", "images"), lines)
    yield from _table(("prompts", "address", "prompts"), [("`geneval`", GENEVAL_URL, str(GENEVAL_PROMPTS))])


if __name__ == "__main__":
    print(page(), end="")
