"""The command line: thin over the Python API of the same shape; no logic."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vtbench.types.errors import VtbenchError
from vtbench.types.version import VERSION

app = typer.Typer(
    name="vtbench", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Measures image tokenizers and the generators built on them: numbers that can be repeated.",
)  # fmt: skip
leaderboard_app = typer.Typer(no_args_is_help=True, help="Build the static leaderboard page from runs.")
adapter_app = typer.Typer(no_args_is_help=True, help="For authors of adapters: parity with upstream, parameter names.")
app.add_typer(leaderboard_app, name="leaderboard")
app.add_typer(adapter_app, name="adapter")
geneval_app = typer.Typer(no_args_is_help=True, help="GenEval: verdicts on detections, the detector, the prompts.")
app.add_typer(geneval_app, name="geneval")

Models = Annotated[
    list[str], typer.Argument(help="A registered name, path/to/file.py@name, or folder:DIR.", show_default=False)
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="K=V[,V2…]", help="An option of the model; several values make one run each."
    ),
]
Checkpoint = Annotated[Path | None, typer.Option(help="A checkpoint file, or a folder that holds the card's files.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[
    str, typer.Option(help="The model's dtype: float32, float16 or bfloat16. Metrics are always float32.")
]
MetricWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--metric-weights", metavar="NAME=FILE", help="A metric network's file; its numbers are marked unverified."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def say(text: str) -> None:
    typer.echo(text)


def options_of(texts: list[str] | None) -> dict[str, list[str]]:
    """`k=v,v2` texts as {k: [v, v2]}."""
    out: dict[str, list[str]] = {}
    for text in texts or []:
        key, equals, values = text.partition("=")
        if not equals or not key.strip() or not values.strip():
            raise VtbenchError(f"--option {text!r} is not of the form NAME=VALUE or NAME=VALUE,VALUE2")
        out.setdefault(key.strip(), []).extend(v.strip() for v in values.split(",") if v.strip())
    return out


def single(texts: list[str] | None) -> dict[str, str]:
    """Options where one value each is wanted; commas stay (a list-valued size, say)."""
    out = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise VtbenchError(f"--option {text!r} is not of the form NAME=VALUE")
        out[key.strip()] = value.strip()
    return out


def use_weights(texts: list[str] | None) -> None:
    """Hands `NAME=FILE` to the metrics, as VTBENCH_METRIC_WEIGHTS does."""
    if not texts:
        return
    from vtbench.metrics import weights

    for name, path in single(texts).items():
        weights.entry(name)
        if not Path(path).is_file():
            raise VtbenchError(f"--metric-weights {name}={path}: there is no such file")
    known = [os.environ[weights.VARIABLE]] if os.environ.get(weights.VARIABLE) else []
    os.environ[weights.VARIABLE] = os.pathsep.join([*texts, *known])


def shard_of(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    part, slash, parts = text.partition("/")
    if not slash or not part.isdigit() or not parts.isdigit():
        raise VtbenchError(f"--shard {text!r} is not of the form i/n, e.g. 1/4")
    return int(part), int(parts)


def print_version(wanted: bool) -> None:
    if wanted:
        say(f"vtbench {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the command as a whole."""


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="models, families, suites, tasks or metrics.")] = "models",
    as_json: AsJson = False,
) -> None:
    """What there is, what each needs, and whether it is here. Imports no torch."""
    from vtbench import listing, show
    from vtbench.types.errors import near

    tables = {n: getattr(listing, n) for n in ("models", "families", "suites", "tasks", "metrics")}
    if what not in tables:
        raise VtbenchError(f"there is no list of {what!r}{near(what, tables)}: give {', '.join(tables)}")
    found = tables[what]()
    say(json.dumps(found, ensure_ascii=False, indent=1, default=str) if as_json else show.listing(what, found))


@app.command()
def evaluate(
    models: Models,
    task: Annotated[list[str] | None, typer.Option(help="A task; may be repeated. Default: all that fit.")] = None,
    images: Annotated[
        str | None, typer.Option(metavar="SUITE|DIR|GLOB|hf:NAME@REV", help="Images instead of the task's own suites.")
    ] = None,
    view: Annotated[str | None, typer.Option(help="native, or the side of the centre crop: 256, 512, …")] = None,
    checkpoint: Checkpoint = None,
    option: Option = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N images; the result is not ranked.")] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    batch_size: Annotated[int, typer.Option(help="Images at a time; 0: the fastest of 1 to 64, tried first.")] = 4,
    save: Annotated[str | None, typer.Option(help="tokens, images, or both: keep them in the run's folder.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="i/n", help="Only the i-th of n parts; join with vtbench merge.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that is there goes on.")] = Path("out"),
    protocol: Annotated[
        str, typer.Option(help="vtbench, or a named convention: titok, llamagen, var, magvit2, clean.")
    ] = "vtbench",
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 0,
    fit: Annotated[
        str | None, typer.Option(help="Serve a model of one fixed size by resize (there and back) or by tiles.")
    ] = None,
    metric_weights: MetricWeights = None,
    suite: Annotated[str | None, typer.Option(help="For generators: the prompts, as for vtbench generate.")] = None,
    n: Annotated[int | None, typer.Option("--n", help="For generators: images for each prompt or class.")] = None,
    tokenizer_checkpoint: Annotated[Path | None, typer.Option(help="The file of a generator's tokenizer.")] = None,
) -> None:
    """Evaluate tokenizers on images; prints the scores and where the results are."""
    from vtbench import api, show

    use_weights(metric_weights)
    keep = [s.strip() for s in (save or "").split(",") if s.strip()]
    with show.progress() as progress:
        result = api.evaluate(
            models, tasks=task, images=images, view=view, checkpoint=checkpoint, options=options_of(option),
            limit=limit,
            device=device, dtype=dtype, batch_size=batch_size, save=keep, shard=shard_of(shard), out=out,
            protocol=protocol, seed=seed, progress=progress, command=shlex.join(["vtbench", *sys.argv[1:]]),
            prompts=suite, per_prompt=n, tokenizer_checkpoint=tokenizer_checkpoint, fit=fit,
        )  # fmt: skip
    say(show.evaluation(result, out))
    if result.failures:
        for name, why in result.failures.items():
            typer.echo(f"vtbench: {name} failed: {why}", err=True)
        raise typer.Exit(1)
    if any(r.info["status"] == "incomplete" for r in result.runs):
        raise typer.Exit(1)


@app.command()
def score(
    reference: Annotated[Path, typer.Argument(help="Folder of originals, or a run to add metrics to.")],
    candidates: Annotated[list[Path] | None, typer.Argument(help="Folders of candidates.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Names with commas; `vtbench list metrics` shows all.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")] = None,
    sets: Annotated[
        bool, typer.Option("--set", help="Compare sets, not pairs: FID, KID, IS, precision, recall, …")
    ] = False,
    device: Device = "cpu",
    metric_weights: MetricWeights = None,
) -> None:
    """Metrics for image folders without any model: one reference, many candidates."""
    from vtbench import show

    use_weights(metric_weights)
    names = [m.strip() for m in metrics.split(",") if m.strip()] if metrics else None
    if not candidates and (reference / "run.json").is_file():
        from vtbench.running import rescore

        say(show.run_scores(rescore.add_metrics(reference, names, device=device)))
        return
    from vtbench.results.files import write_json
    from vtbench.running import folders

    with show.counter("score") as progress:
        if sets:
            from vtbench.running import sets as set_scores

            made: Any = set_scores.score(reference, candidates or [], names, device=device, progress=progress)
        else:
            made = folders.score(reference, candidates or [], names, device=device, progress=progress)
    # The table first: it took long to make, and a full disk must not swallow it.
    say(show.folders(made))
    if json_file is not None:
        write_json(json_file, made.as_dict())
    if made.bad:
        for item, why in made.bad.items():
            typer.echo(f"vtbench: {item}: {why}", err=True)
        raise typer.Exit(1)


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="A generator's name, or path/to/file.py@name.")],
    suite: Annotated[
        str,
        typer.Option(help="starter-classes, starter-objects, starter-quotes, geneval, classes:N, or a .jsonl file."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the images; one that is there goes on.")],
    n: Annotated[int, typer.Option("--n", help="Images for each prompt or class.")] = 1,
    checkpoint: Checkpoint = None,
    tokenizer_checkpoint: Annotated[Path | None, typer.Option(help="The file of the generator's tokenizer.")] = None,
    option: Option = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 0,
    rewritten: Annotated[bool, typer.Option("--rewritten", help="The pipeline rewrites prompts: say so.")] = False,
) -> None:
    """Images from prompts or class labels, each with its seed; resumable per image."""
    from vtbench import show
    from vtbench.images.prompts import open_prompts
    from vtbench.models.load import load
    from vtbench.running.draw import Order, draw

    prompts = open_prompts(suite, rewritten=rewritten)
    loaded = load(
        model,
        single(option),
        checkpoint=checkpoint,
        device=device,
        dtype=dtype,
        generator=True,
        tokenizer_checkpoint=tokenizer_checkpoint,
    )
    order = Order(prompts, n, seed, batch_size, device, dtype, shlex.join(["vtbench", *sys.argv[1:]]))
    with show.counter("generate") as progress:
        made = draw(loaded, order, out, progress)
    say(f"{len(made.rows)} images: {made.images}")
    if made.black:
        typer.echo(f"vtbench: {len(made.black)} images are all black (a safety checker?): {made.black[0]} …", err=True)


@app.command()
def statistics(
    images: Annotated[Path, typer.Argument(help="A folder, a tar, or an .npz with arr_0.")],
    out: Annotated[Path, typer.Option(help="The .npz to write: mu, sigma and n.")],
    metric: Annotated[str, typer.Option(help="Whose features: fid, sfid or fd-dinov2.")] = "fid",
    device: Device = "cpu",
) -> None:
    """Save a set's statistics, to be the REFERENCE of `score --set`."""
    from vtbench import show
    from vtbench.running import sets

    with show.counter("statistics") as progress:
        sets.statistics(images, out, metric=metric, device=device, progress=progress)
    say(str(out))


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="A registered name or path/to/file.py@name.")],
    checkpoint: Checkpoint = None,
    option: Option = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
) -> None:
    """The contract that every adapter must pass, in words."""
    from vtbench import contract, show

    found = contract.check(
        model, options=single(option), checkpoint=checkpoint, device=device, dtype=dtype,
        say=None if as_json else lambda c: say(show.check(c)),
    )  # fmt: skip
    if as_json:
        say(json.dumps([c.as_dict() for c in found], indent=1))
    failed = [c.name for c in found if c.status == "failed"]
    skipped = [c.name for c in found if c.status == "not checked"]
    if not as_json:
        passed = len(found) - len(failed) - len(skipped)
        say(f"{model}: {passed} passed, {len(failed)} failed, {len(skipped)} not checked")
    if failed:
        raise typer.Exit(1)


@app.command()
def quickstart(out: Annotated[Path, typer.Option(help="Folder of runs and page.")] = Path("out/quick")) -> None:
    """Built-in tokenizers and a generator on the built-in suites, and the page. Offline, a few minutes."""
    from vtbench import quickstart as quick
    from vtbench import show

    with show.progress() as progress:
        page, failures = quick.run(out, progress)
    say(f"page: {page}")
    for name, why in failures.items():
        typer.echo(f"vtbench: {name} failed: {why}", err=True)
    if failures:
        raise typer.Exit(1)


@app.command()
def merge(
    runs: Annotated[list[Path], typer.Argument(help="Folders that hold all shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the joined runs.")] = Path("out/merged"),
) -> None:
    """Join the shards of evaluate --shard into one run."""
    from vtbench.running import merge as merging

    for path in merging.merge(runs, out):
        say(str(path))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two runs or more, on the same images and protocol.")],
    metrics: Annotated[str | None, typer.Option(help="Names with commas; default: all that both have.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")] = None,
) -> None:
    """Paired differences on the same images: interval, sign test, win rate, where they differ most."""
    from vtbench.reporting import compare as comparing
    from vtbench.results.files import write_json

    names = [m.strip() for m in metrics.split(",") if m.strip()] if metrics else None
    made = comparing.compare(runs, names)
    if json_file is not None:
        write_json(json_file, made.as_dict())
    say(made.text())


@app.command()
def explain(
    models: Annotated[list[str], typer.Argument(help="A model, a run, or folder:DIR; or two runs.")],
    claim: Annotated[
        list[str] | None,
        typer.Option(help="metric=value as somebody printed it, e.g. ssim=0.675; for two runs: metric."),
    ] = None,
    images: Annotated[str | None, typer.Option(help="Originals: suite, folder, glob or hf:NAME@REV.")] = None,
    checkpoint: Checkpoint = None,
    option: Option = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N images.")] = None,
    device: Device = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything to this file.")] = None,
) -> None:
    """Which convention moves the number by how much, largest first."""
    from vtbench import explain as explaining
    from vtbench.results.files import write_json

    if len(models) == 2:
        from vtbench.explain_runs import explain_runs

        if images or checkpoint or option:
            raise VtbenchError("two runs state their own images and model: leave out --images, --checkpoint, --option")
        made = explain_runs(Path(models[0]), Path(models[1]), claim or None, limit=limit, device=device)
    elif len(models) == 1:
        made = explaining.explain(
            models[0], single(claim), images=images, checkpoint=checkpoint, options=single(option), limit=limit,
            device=device,
        )  # fmt: skip
    else:
        raise VtbenchError(f"{len(models)} systems were given: explain takes a model with --claim, or two runs")
    if json_file is not None:
        write_json(json_file, made.as_dict())
    say(made.text())


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What is installed, which metric weights are here and verified, what a missing thing would enable."""
    from vtbench import listing, show

    found = listing.doctor()
    say(json.dumps(found, indent=1, default=str) if as_json else show.doctor(found))


@app.command()
def identify(file: Annotated[Path, typer.Argument(help="A checkpoint file.")], as_json: AsJson = False) -> None:
    """Which model a checkpoint is, from its names and shapes."""
    from vtbench import show
    from vtbench.models import identify as identifying

    found = identifying.identify_file(file)
    say(json.dumps([m.as_dict() for m in found], indent=1) if as_json else show.identified(file, found))
    if not found:
        raise typer.Exit(1)


@leaderboard_app.command("build")
def leaderboard_build(
    runs: Annotated[list[Path], typer.Argument(help="Runs, or folders that hold runs.")],
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("site"),
) -> None:
    """Static pages that open from disk without network or JavaScript."""
    from vtbench import leaderboard
    from vtbench.results.record import find_runs

    say(str(leaderboard.build(find_runs(runs), out)))


@adapter_app.command("parity")
def adapter_parity(
    fixtures: Annotated[list[Path], typer.Argument(help="Fixture .json files; the .npz stands beside.")],
) -> None:
    """Our network against upstream's recorded outputs, filled by parameter name."""
    from vtbench import parity

    failed = 0
    for path in fixtures:
        try:
            report = parity.check_fixture(path)
        except VtbenchError as bad:
            failed += 1
            say(f"{path.name}: FAILED: {bad}")
            continue
        failed += not report.ok
        say(report.line())
    if failed:
        raise typer.Exit(1)


@adapter_app.command("manifest")
def adapter_manifest(
    model: Annotated[str, typer.Argument(help="A model's name or alias.")], as_json: AsJson = False
) -> None:
    """Every parameter name and shape that the model expects; allocates no memory."""
    from vtbench import parity

    found = parity.manifest_of(model)
    if as_json:
        say(json.dumps(found))
        return
    for name, shape in found.items():
        say(f"{name} {shape}")


@geneval_app.command("score")
def geneval_score(
    cases: Annotated[Path, typer.Argument(help="JSONL, one case a line: metadata and detections.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write scores and verdicts to this file.")] = None,
) -> None:
    """Score detections that you already have, as the reference implementation does."""
    from vtbench.results.files import write_json
    from vtbench.tasks import geneval

    made = geneval.score_file(cases)
    if json_file is not None:
        write_json(json_file, made.as_dict())
    say(made.text())


@geneval_app.command("detect")
def geneval_detect(
    images: Annotated[Path, typer.Argument(help="What `vtbench generate` wrote, or the reference's image folder.")],
    out: Annotated[Path, typer.Option(help="The .jsonl of cases to write; its record stands beside, .record.json.")],
    detector: Annotated[str, typer.Option(help="A Mask2Former of transformers: a folder or a hub id.")] = "",
    revision: Annotated[str | None, typer.Option(help="The hub's commit of the detector.")] = None,
    device: Device = "cpu",
) -> None:
    """Detect objects and colours with Mask2Former and CLIP; the score is named geneval-hf."""
    from vtbench import show
    from vtbench.tasks import geneval, geneval_detector

    with show.counter("detect") as progress:
        geneval_detector.run(images, out, detector or geneval_detector.DETECTOR, revision, device, progress)
    say(f"{geneval_detector.NAME} (other detector weights than the reference's: no published GenEval)")
    say(geneval.score_file(out).text())


@geneval_app.command("prompts")
def geneval_prompts(
    out: Annotated[Path, typer.Option(help="The .jsonl to write, in the reference's format.")],
    per_task: Annotated[int, typer.Option(help="Prompts of each of the six categories, at most 80.")] = 20,
    seed: Annotated[int, typer.Option(help="Another seed, other prompts.")] = 0,
) -> None:
    """New prompts in GenEval's six categories; its own 553 are the suite `geneval`."""
    from vtbench.results.files import dumps, write_atomic
    from vtbench.tasks.geneval.prompts import make

    found = make(per_task, seed)
    write_atomic(out, "".join(dumps(m) + "\n" for m in found))
    say(f"{len(found)} prompts: {out}")


def main() -> None:
    """The entry point: one sentence and an exit code for what a user can mend."""
    # Idle OpenMP workers sleep rather than spin: reading, the model and the metrics share the cores. Read by the
    # library when it is loaded, so it must stand here, before torch; who set it keeps their choice.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except VtbenchError as bad:
        typer.echo(f"vtbench: {bad}", err=True)
        sys.exit(bad.code)
    except OSError as bad:
        # Whatever is written outside a run's folder: a site, a statistics file, a cache.
        from vtbench.results.files import disk_error

        typer.echo(f"vtbench: {disk_error(bad, Path(str(bad.filename or 'a file')))}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into the exit code of an interruption, and says nothing.
        if isinstance(end, SystemExit) and end.code != 130:
            raise
        typer.echo("vtbench: stopped; finished batches are kept, run the same command again to go on", err=True)
        sys.exit(130)
