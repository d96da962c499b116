"""`vtbench new`: the one file from which a tokenizer, metric, task, suite or set of prompts of one's own begins."""

from __future__ import annotations

import keyword
import re
from importlib import resources
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from vtbench.cli.apps import answer
from vtbench.cli.options import AsJson
from vtbench.types.errors import VtbenchError, near


class Starter(NamedTuple):
    """name: what the recipe of CONTRIBUTING.md is called, and so the text that is replaced. suffix: of the file.
    then: commands that work on it at once, with {file} and {name}."""

    name: str
    suffix: str
    then: tuple[str, ...]


STARTERS = {
    "tokenizer": Starter(
        "mean-colour",
        ".py",
        (
            "vtbench check {file}@{name}",
            "vtbench evaluate {file}@{name} --images starter-natural --task reconstruction --limit 2",
        ),
    ),
    "metric": Starter("worst-pixel", ".py", ("vtbench score ORIGINALS RECONSTRUCTIONS --metrics psnr,{file}@{name}",)),
    "task": Starter("portraits", ".py", ("vtbench evaluate jpeg --task {file}@{name} --limit 2",)),
    "suite": Starter("one-face", ".jsonl", ("vtbench evaluate jpeg --images {file} --view 256 --task compression",)),
    "prompts": Starter("two-classes", ".jsonl", ("vtbench generate ngram-kmeans --suite {file} --out drawn",)),
}
NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)*")


def new(
    kind: Annotated[str, typer.Argument(help="tokenizer, metric, task, suite or prompts.")],
    name: Annotated[str, typer.Argument(help="What it will be called: small letters, digits, - between.")],
    folder: Annotated[Path, typer.Option("--in", help="Where the file is written.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write the one file that a tokenizer, metric, task, suite or set of prompts of your own begins with; it works as
    it is."""
    if kind not in STARTERS:
        raise VtbenchError(f"there is no starting point for {kind!r}{near(kind, STARTERS)}: give {', '.join(STARTERS)}")
    if not NAME.fullmatch(name):
        raise VtbenchError(f"the name {name!r} is none: give small letters and digits, with - between, such as my-vq")
    starter = STARTERS[kind]
    stem = re.sub(r"[-.]", "_", name) if starter.suffix == ".py" else name
    if starter.suffix == ".py" and keyword.iskeyword(stem):
        raise VtbenchError(f"the name {name!r} is a word of Python, which no file may have: give another")
    path = folder / f"{stem}{starter.suffix}"
    content = text(kind, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as out:
            out.write(content)
    except FileExistsError:
        raise VtbenchError(f"{path} is there already, and is not overwritten: give another name, or --in") from None
    then = [line.format(file=path, name=name) for line in starter.then]
    answer({"file": path, "then": then}, "\n".join([str(path), *then]), as_json=as_json)


def text(kind: str, name: str) -> str:
    """The starting point under a name of one's own."""
    starter = STARTERS[kind]
    content = resources.files("vtbench.cli").joinpath("starters", f"{kind}{starter.suffix}.txt").read_text("utf-8")
    content = content.replace(starter.name.replace("-", "_") + ".py", re.sub(r"[-.]", "_", name) + ".py")
    return content.replace(starter.name, name).replace(_class(starter.name), _class(name))


def _class(name: str) -> str:
    """mean-colour -> MeanColour."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_.]", name))
