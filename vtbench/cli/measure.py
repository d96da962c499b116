"""Verbs that measure: evaluate, score, generate, statistics, merge."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtbench.cli import text
from vtbench.cli.apps import answer, command_line, complain, exit_with
from vtbench.cli.config import from_file, refuse_code_of
from vtbench.cli.options import (
    AcceptLicence,
    AsJson,
    Checkpoint,
    Code,
    Device,
    Dtype,
    Icc,
    JsonFile,
    MetricNames,
    MetricWeights,
    Option,
    OptionalModels,
    Prefix,
    Ray,
    Readers,
    Seed,
    TokenizerCheckpoint,
    Workers,
    accept,
    counts_of,
    known,
    listed,
    models_of,
    names_of,
    options_of,
    reducers_of,
    shard_of,
    single,
    use_readers,
    use_weights,
)
from vtbench.cli.progress import JOINING, SCORING, Loading, counter, progress, stage
from vtbench.types.errors import VtbenchError

if TYPE_CHECKING:
    from vtbench.models.load import Loaded
    from vtbench.running.draw import Drawing, Order
    from vtbench.running.evaluation import Evaluation
    from vtbench.running.request import Request
    from vtbench.running.spread_drawing import Asked

Tasks = Annotated[
    list[str] | None,
    typer.Option(help="A task, or path/to/file.py@name; may be repeated. Default: all that fit."),
]
Images = Annotated[
    str | None,
    typer.Option(metavar="SUITE|DIR|GLOB|MANIFEST.jsonl|hf:NAME@REV", help="Images instead of the task's own suites."),
]
View = Annotated[str | None, typer.Option(help="native, or the side of the centre crop: 256, 512, …")]
Limit = Annotated[int | None, typer.Option(help="Only the first N images; the result is not ranked.")]
BatchSize = Annotated[int, typer.Option(help="Images at a time; 0: the fastest of 1 to 64, tried first.")]
Save = Annotated[str | None, typer.Option(help="tokens, images, features, with commas: keep them in the run's folder.")]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="i/n|auto", help="Only the i-th of n parts; join with vtbench merge. auto: as torchrun or Slurm says."
    ),
]
Results = Annotated[Path, typer.Option(help="Folder of the results; a run that is there goes on.")]
Protocol = Annotated[str, typer.Option(help="vtbench, or a named convention: titok, llamagen, var, magvit2, clean.")]
Fit = Annotated[
    str | None, typer.Option(help="Serve a model of one fixed size by resize (there and back) or by tiles.")
]
Prompts = Annotated[str | None, typer.Option(help="For generators: the prompts, as for vtbench generate.")]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.yaml|RUN",
        is_eager=True,
        callback=from_file,
        help="Options from a file, by their names here; a run's folder repeats it. What is typed beside comes first.",
    ),
]
Reducers = Annotated[
    list[str] | None,
    typer.Option(
        "--reducer",
        metavar="NAME",
        help="In place of models: a reducer of visual tokens, or all-baselines; may be repeated.",
    ),
]
TowerSpec = Annotated[
    str | None,
    typer.Option(metavar="DIR|HUB_ID", help="Reads the pictures: CLIP, SigLIP, DINOv2, ViT, LLaVA, Qwen-VL."),
]
Keep = Annotated[str | None, typer.Option(metavar="N[,N2…]", help="Tokens of a picture that go on; one run each.")]
Baselines = Annotated[
    bool,
    typer.Option(
        "--baselines/--no-baselines", help="Beside a reducer also full, random (5 draws), uniform, pooling, resize."
    ),
]
PerPrompt = Annotated[int | None, typer.Option("--n", help="For generators: images for each prompt or class.")]


def evaluate(
    ctx: typer.Context,
    models: OptionalModels = None,
    config: Config = None,
    task: Tasks = None,
    images: Images = None,
    view: View = None,
    checkpoint: Checkpoint = None,
    prefix: Prefix = None,
    option: Option = None,
    limit: Limit = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    batch_size: BatchSize = 4,
    readers: Readers = None,
    save: Save = None,
    shard: Shard = None,
    out: Results = Path("out"),
    protocol: Protocol = "vtbench",
    icc: Icc = None,
    seed: Seed = 0,
    fit: Fit = None,
    metric_weights: MetricWeights = None,
    accept_licence: AcceptLicence = None,
    suite: Prompts = None,
    n: PerPrompt = None,
    tokenizer_checkpoint: TokenizerCheckpoint = None,
    as_json: AsJson = False,
    json_file: JsonFile = None,
    ray: Ray = None,
    workers: Workers = None,
    reducer: Reducers = None,
    tower: TowerSpec = None,
    keep: Keep = None,
    baselines: Baselines = True,
) -> None:
    """Evaluate tokenizers on images, or reducers of visual tokens; prints the scores and where the results are."""
    models = models_of(models, otherwise=reducer or keep)
    from vtbench.running.request import Request

    # Options that are called as in a request go into it as they are.
    choices = {name: value for name, value in locals().items() if name in Request.__dataclass_fields__}
    refuse_code_of(ctx, config)
    use_weights(metric_weights)
    use_readers(readers)
    accept(accept_licence)
    choices |= {
        "tasks": task,
        "options": options_of(option),
        "save": listed(save or ""),
        "shard": shard_of(shard),
        "command": command_line(),
        "prompts": suite,
        "per_prompt": n,
        "reducers": reducers_of(reducer),
        "keep": counts_of(keep),
    }
    request = Request(**choices)
    _report(_measured(request), out, as_json, json_file)


def _measured(request: Request) -> Evaluation:
    """The evaluation, with a bar."""
    from vtbench.running.launch import evaluate as run

    with progress() as update:
        return run(request, update, complain)


def _report(result: Evaluation, out: Path, as_json: bool, json_file: Path | None) -> None:
    """The scores; exit code 1 where a model failed or an image could not be scored."""
    answer(result.as_dict(), text.evaluation(result, out), as_json=as_json, json_file=json_file)
    exit_with(f"{name} failed: {why}" for name, why in result.failures.items())
    if any(run.info.status == "incomplete" for run in result.runs):
        raise typer.Exit(1)


def score(
    reference: Annotated[Path, typer.Argument(help="Folder or manifest of originals, or a run to add metrics to.")],
    candidates: Annotated[list[Path] | None, typer.Argument(help="Folders or manifests of candidates.")] = None,
    metrics: MetricNames = None,
    json_file: JsonFile = None,
    sets: Annotated[
        bool, typer.Option("--set", help="Compare sets, not pairs: FID, KID, IS, precision, recall, …")
    ] = False,
    device: Device = "cpu",
    readers: Readers = None,
    icc: Icc = None,
    code: Code = None,
    metric_weights: MetricWeights = None,
    as_json: AsJson = False,
    ray: Ray = None,
    workers: Workers = None,
) -> None:
    """Metrics for image folders without any model: one reference, many candidates."""
    use_weights(metric_weights)
    use_readers(readers)
    names = names_of(metrics)
    _check_spread(ray, workers, sets or (not candidates and (reference / "run.json").is_file()))
    if not candidates and (reference / "run.json").is_file():
        if icc is not None:
            raise VtbenchError(f"{reference} is a run, which states its own view: leave out --icc")
        with stage(SCORING):
            from vtbench.running import rescore

            run = rescore.add_metrics(reference, names, device=device, code=code)
        answer(run.as_dict(), text.run_scores(run), as_json=as_json, json_file=json_file)
        return
    if code is not None:
        raise VtbenchError(f"--code {code} is for a run, and {reference} is none: leave it out")
    with counter("score") as tick:
        from vtbench.running import folders
        from vtbench.running import sets as image_sets

        more: dict[str, Any] = {"device": device, "icc": icc, "progress": tick, "say": complain}
        score_all: Any = image_sets.score
        if not sets:
            score_all, more["hashing"] = folders.score, partial(tick, job="hash")
        if ray is not None:
            from vtbench.running import spread_folders

            score_all, more = spread_folders.score, {**more, "ray": ray, "workers": workers}
        scored = score_all(reference, candidates or [], names, **more)
    for note in scored.notes:
        complain(note)
    answer(scored.read_when_asked(), text.folders(scored), as_json=as_json, json_file=json_file)
    exit_with(f"{item}: {why}" for item, why in scored.bad.items())


def _check_spread(ray: str | None, workers: int | None, other: bool) -> None:
    """Workers score pairs of folders. other: a set or a run is asked for."""
    from vtbench.running.request import check_workers

    check_workers(ray, workers)
    if ray is not None and other:
        raise VtbenchError("--ray scores folders in pairs: a set, and a run, are scored in one process; leave it out")


def generate(
    model: Annotated[str, typer.Argument(help="A generator's name, or path/to/file.py@name.")],
    suite: Annotated[
        str,
        typer.Option(help="starter-classes, starter-objects, starter-quotes, geneval, classes:N, or a .jsonl file."),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the images; one that is there goes on.")],
    n: Annotated[int, typer.Option("--n", help="Images for each prompt or class.")] = 1,
    checkpoint: Checkpoint = None,
    prefix: Prefix = None,
    tokenizer_checkpoint: TokenizerCheckpoint = None,
    option: Option = None,
    accept_licence: AcceptLicence = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 4,
    seed: Seed = 0,
    rewritten: Annotated[bool, typer.Option("--rewritten", help="The pipeline rewrites prompts: say so.")] = False,
    as_json: AsJson = False,
    ray: Ray = None,
    workers: Workers = None,
) -> None:
    """Images from prompts or class labels, each with its seed; resumable per image."""
    known([model])
    with stage(Loading()):
        from vtbench.images.prompts import open_prompts
        from vtbench.models.load import load
        from vtbench.running.draw import Order
        from vtbench.running.request import check_workers
        from vtbench.running.spread_drawing import Asked

        check_workers(ray, workers)
        accept(accept_licence)
        prompts = open_prompts(suite, rewritten=rewritten)
        loaded = load(
            model,
            single(option),
            checkpoint=checkpoint,
            device=device if ray is None else "cpu",
            dtype=dtype,
            generator=True,
            prefix=prefix,
            tokenizer_checkpoint=tokenizer_checkpoint,
        )
    order = Order(prompts, n, seed, batch_size, device, loaded.dtype, command_line())
    asked = Asked(model, single(option), suite, rewritten, checkpoint, prefix, tokenizer_checkpoint)
    drawing = _drawn(loaded, order, out, asked, ray, workers)
    facts = {"out": out, "images": drawing.images, "n": len(drawing.rows), "black": drawing.black}
    answer(facts, f"{len(drawing.rows)} images: {drawing.images}", as_json=as_json)
    if drawing.black:
        complain(f"{len(drawing.black)} images are all black (a safety checker?): {drawing.black[0]} …")


def _drawn(loaded: Loaded, order: Order, out: Path, asked: Asked, ray: str | None, workers: int | None) -> Drawing:
    """The drawing, by this process or by workers, with a bar."""
    from vtbench.running.cluster import connected
    from vtbench.running.draw import draw
    from vtbench.running.spread_drawing import SpreadDrawer

    with counter("generate") as tick:
        if ray is None:
            return draw(loaded, order, out, tick)
        with connected(ray, workers, order.device) as cluster:
            return draw(loaded, order, out, tick, SpreadDrawer(cluster, asked, complain))


def statistics(
    images: Annotated[Path, typer.Argument(help="A folder, a tar, a zip, or an .npz with arr_0.")],
    out: Annotated[Path, typer.Option(help="The .npz to write: mu, sigma and n.")],
    metric: Annotated[str, typer.Option(help="Whose features: fid, sfid or fd-dinov2.")] = "fid",
    device: Device = "cpu",
    readers: Readers = None,
    as_json: AsJson = False,
) -> None:
    """Save a set's statistics, to be the REFERENCE of `score --set`."""
    use_readers(readers)
    with counter("statistics") as tick:
        from vtbench.running import sets

        source = sets.statistics(images, out, metric=metric, device=device, progress=tick)
    facts = {"out": out, "metric": metric, "notes": source.notes, "bad": source.bad}
    answer(facts, str(out), as_json=as_json)
    for note in source.notes:
        complain(note)
    exit_with(f"{item}: {why}" for item, why in source.bad.items())


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Folders that hold all shards.")],
    out: Annotated[Path, typer.Option(help="Folder of the joined runs.")] = Path("out/merged"),
    as_json: AsJson = False,
) -> None:
    """Join the shards of evaluate --shard into one run."""
    with stage(JOINING):
        from vtbench.running.merge import merge as join

        paths = list(join(runs, out, complain))
    answer({"runs": paths}, "\n".join(map(str, paths)), as_json=as_json)
