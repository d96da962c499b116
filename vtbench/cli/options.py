"""Options and arguments as several verbs spell them, and how their texts are read."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from vtbench.types.errors import VtbenchError

Models = Annotated[
    list[str], typer.Argument(help="A registered name, path/to/file.py@name, or folder:DIR.", show_default=False)
]
OptionalModels = Annotated[
    list[str] | None,
    typer.Argument(help="A registered name, path/to/file.py@name, or folder:DIR.", show_default=False),
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-o", metavar="K=V[,V2…]", help="An option of the model; several values make one run each."
    ),
]
Checkpoint = Annotated[Path | None, typer.Option(help="A checkpoint file, or a folder that holds the card's files.")]
Prefix = Annotated[
    str | None, typer.Option(help="Which copy of the weights, where a checkpoint holds several: params_ema, vqmodel.")
]
TokenizerCheckpoint = Annotated[Path | None, typer.Option(help="The file of a generator's tokenizer.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or mps.")]
Dtype = Annotated[
    str, typer.Option(help="The model's dtype: float32, float16 or bfloat16. Metrics are always float32.")
]
Seed = Annotated[int, typer.Option(help="Seed of all noise.")]
MetricNames = Annotated[
    str | None,
    typer.Option(help="Names, or path/to/file.py@name, with commas; `vtbench list metrics` shows all."),
]
MetricWeights = Annotated[
    list[str] | None,
    typer.Option(
        "--metric-weights", metavar="NAME=FILE", help="A metric network's file; its numbers are marked unverified."
    ),
]
Icc = Annotated[
    str | None,
    typer.Option(
        metavar="srgb", help="Convert images by the colour profiles that they state; without it none is applied."
    ),
]
Code = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.py@NAME",
        help="The code of a run's model, which you name yourself; a record's own word runs none.",
    ),
]
AcceptLicence = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-licence", metavar="MODEL", help="You keep to the licence of this model's weights, which restricts it."
    ),
]
Readers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Images that are read at a time; by default one fewer than the cores, from 2 to 16.",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="Workers of a cluster of Ray measure: local, auto, HOST:PORT, ray://HOST:PORT."
    ),
]
Workers = Annotated[int | None, typer.Option(help="With --ray: how many workers; default: one a GPU, or one a core.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON to standard output.")]
JsonFile = Annotated[Path | None, typer.Option("--json-file", help="Write everything as JSON to this file.")]


def options_of(texts: list[str] | None) -> dict[str, list[str]]:
    """`k=v,v2` texts as {k: [v, v2]}."""
    out: dict[str, list[str]] = {}
    for text in texts or []:
        key, equals, values = text.partition("=")
        if not equals or not key.strip() or not values.strip():
            raise VtbenchError(f"--option {text!r} is not of the form NAME=VALUE or NAME=VALUE,VALUE2")
        # A value that holds a comma stands in double quotes.
        words = next(csv.reader([values], skipinitialspace=True))
        out.setdefault(key.strip(), []).extend(word.strip() for word in words if word.strip())
    return out


def single(texts: list[str] | None, word: str = "--option") -> dict[str, str]:
    """Options where one value each is wanted; commas stay (a list-valued size, say). word: as the user wrote it."""
    out: dict[str, str] = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise VtbenchError(f"{word} {text!r} is not of the form NAME=VALUE")
        if out.get(key.strip(), value.strip()) != value.strip():
            raise VtbenchError(
                f"{word} {key.strip()} is given as {out[key.strip()]} and as {value.strip()}: give one of them"
            )
        out[key.strip()] = value.strip()
    return out


def listed(text: str) -> list[str]:
    """The words between commas, empty ones left out."""
    return [word.strip() for word in text.split(",") if word.strip()]


def counts_of(text: str | None) -> list[int]:
    """--keep as numbers, each once."""
    words = listed(text or "")
    wrong = [word for word in words if not word.isdecimal() or len(word) > 9]
    if wrong or (text is not None and not words):
        raise VtbenchError(f"--keep {text!r} is no list of numbers of tokens: give them with commas, as in 192,128,64")
    return list(dict.fromkeys(map(int, words)))


def reducers_of(texts: list[str] | None) -> list[str]:
    """--reducer, given once or several times, with commas or without."""
    return list(dict.fromkeys(name for text in texts or () for name in listed(text)))


def names_of(text: str | None) -> list[str] | None:
    """--metrics as names; None: the verb's own choice."""
    return listed(text) if text else None


def shard_of(text: str | None) -> tuple[int, int] | Literal["auto"] | None:
    """--shard i/n as (i, n)."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    part, slash, parts = text.partition("/")
    if not slash or not part.isdigit() or not parts.isdigit():
        raise VtbenchError(f"--shard {text!r} is not of the form i/n, e.g. 1/4, and not auto")
    return int(part), int(parts)


def accept(names: list[str] | None) -> None:
    """Hands the names of models whose licences are kept to what downloads them, as VTBENCH_ACCEPT_LICENCE does."""
    if not names:
        return
    from vtbench import registry
    from vtbench.models import licences

    models = [name for text in names for name in listed(text)]
    for name in models:
        registry.model(name)
    os.environ[licences.VARIABLE] = ",".join([*models, *licences.accepted()])


def known(models: list[str]) -> None:
    """Refuses the name of no model, with the near ones, before torch is loaded for it. What is no plain name (a file,
    a folder, a family, a wrapper) is left to whoever opens it."""
    from vtbench import registry

    for name in models:
        if name and not re.search(r"[:@/\\]", name):
            registry.model(name)


def models_of(models: list[str] | None, *, otherwise: object) -> list[str]:
    """The models, each known; refused where there are none and nothing is asked for in their place."""
    if not models and not otherwise:
        raise VtbenchError("nothing to evaluate: name a model (`vtbench list models`), or give --reducer and --tower")
    known(models or [])
    return list(models or ())


def use_weights(texts: list[str] | None) -> None:
    """Hands `NAME=FILE` to the metrics, as VTBENCH_METRIC_WEIGHTS does."""
    if not texts:
        return
    from vtbench.metrics import weights

    for name, path in single(texts).items():
        weights.entry(name)
        if not Path(path).is_file():
            raise VtbenchError(f"--metric-weights {name}={path}: there is no such file")
    before = [os.environ[weights.VARIABLE]] if os.environ.get(weights.VARIABLE) else []
    os.environ[weights.VARIABLE] = os.pathsep.join([*texts, *before])


def use_readers(count: int | None) -> None:
    """Hands --readers to whatever reads images, as VTBENCH_READERS does."""
    if count is None:
        return
    from vtbench.images import ahead

    if not 1 <= count <= ahead.LIMIT:
        raise VtbenchError(f"--readers {count}: give the number of images that are read at a time, 1 to {ahead.LIMIT}")
    os.environ[ahead.VARIABLE] = str(count)
