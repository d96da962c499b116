"""Which files a card's weights are, and whether they are the released ones.

`status` of what lies there: "official" (every sha256 as on the card), "own" (the user's file under a card that claims
nothing), "unverified" (a card of released weights, but the file's sha256 differs from it or upstream states none), or
"none" (nothing to load).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from vtbench.models.downloads import digest_over, digests, sha256_file
from vtbench.models.files import download
from vtbench.models.hub_files import verified
from vtbench.models.weight_files import INDEX, index_in, nothing_in, read_index, weight_files
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError

Status = Literal["official", "own", "unverified", "none"]


@dataclass(frozen=True)
class WeightFiles:
    """Files by role, what they are, and their hashes as the record shows them."""

    files: Mapping[str, Path]
    status: Status
    hashes: tuple[Mapping[str, Any], ...] = ()
    """{"file", "role", "sha256", "stated_by"} of every file."""
    why: str | None = None
    """Why they are unverified."""

    @property
    def sha256(self) -> list[str]:
        return [h["sha256"] for h in self.hashes]


def find(card: Card, checkpoint: Path | None = None) -> WeightFiles:
    """The card's files: the user's (`checkpoint`: a file, or a folder with the card's names), packaged, or the hub's.

    Raises VtbenchError if a given path does not fit, Unavailable if nothing is here and the network is refused.
    """
    if not card.weights:
        if checkpoint is not None:
            raise VtbenchError(
                f"{card.name} has no weights to load, so --checkpoint {checkpoint} has no meaning: leave it out"
            )
        return WeightFiles({}, "none")
    if checkpoint is None:
        return _verified(card, {w.role: _packaged(w) or download(card, w) for w in card.weights}, users=False)
    if not exists(checkpoint):
        raise VtbenchError(f"--checkpoint {checkpoint} does not exist: give a file, or a folder with {_names(card)}")
    return _verified(card, {w.role: _of_the_user(card, w, checkpoint) for w in card.weights}, users=True)


def refuse_of_other_options(files: WeightFiles, card: Card, every: Card) -> None:
    """Raises VtbenchError where a file is by its name the one of other options of the model: `card` has the files of
    the options that were asked for, `every` those of all."""
    ours = {weight.file for weight in card.weights}
    others = {Path(weight.file).name: weight.when for weight in every.weights if weight.file not in ours}
    for path in files.files.values():
        if path.name in others:
            said = " ".join(f"--option {name}={value}" for name, value in others[path.name].items())
            raise VtbenchError(f"{path.name} is the file of {card.name} under other options: give {said}")


def exists(path: Path) -> bool:
    """Whether a path leads anywhere; one that the system does not take (too long, say) does not."""
    with contextlib.suppress(OSError, ValueError):
        return path.exists()
    return False


def _of_the_user(card: Card, weight: Weights, checkpoint: Path) -> Path:
    if weight.role == "folder":
        return checkpoint if checkpoint.is_dir() else _folder_of(card, checkpoint)
    if INDEX.search(checkpoint.name) and index_in(checkpoint.parent) == checkpoint:
        # The index alone is no weights: its folder is, and its shards are hashed with it.
        checkpoint = checkpoint.parent
    if checkpoint.is_dir():
        return _in_folder(card, weight, checkpoint)
    if len(card.weights) == 1:
        return checkpoint
    raise VtbenchError(f"{card.name} needs {len(card.weights)} files: give --checkpoint a folder with {_names(card)}")


def _folder_of(card: Card, file: Path) -> Path:
    """The folder of a file that a library reads by its folder: refused where it would take another file there."""
    if file.suffix == ".json":
        return file.parent
    files = [name for entry in weight_files(file.parent) for name in (entry.path.name, *entry.beside)]
    if files != [file.name]:
        others = ", ".join(name for name in files if name != file.name) or "no file of weights"
        raise VtbenchError(
            f"{card.name} is read as a folder, and beside {file.name} there lies {others}: give the folder, or put "
            f"{file.name} with its config.json into a folder of its own"
        )
    return file.parent


def _digest_and_hub(weight: Weights, path: Path, users: bool) -> tuple[str, bool]:
    """(sha256 of what is read at a path, whether the hub states it). Raises VtbenchError for a damaged file of
    its cache."""
    if users or weight.hub is None:
        return _digest(path), False
    sums = digests(path)
    return digest_over(sums), verified(path, sums)


def _digest(path: Path) -> str:
    """sha256 of what is read at a path: of an index, its own bytes and its shards."""
    if not INDEX.search(path.name):
        return sha256_file(path)
    files = (path.name, *read_index(path).files)
    parts = [f"{name}\0{sha256_file(path.parent / name)}\n" for name in files if (path.parent / name).is_file()]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _verified(card: Card, files: Mapping[str, Path], *, users: bool) -> WeightFiles:
    """Hashes of every file, each part of the question, and their status; of several reasons the first is kept."""
    hashes: list[Mapping[str, Any]] = []
    status: Status = "official"
    why = None
    for weight in card.weights:
        path = files[weight.role]
        digest, by_hub = _digest_and_hub(weight, path, users)
        begins = weight.sha256_begins and not users and digest.startswith(weight.sha256_begins)
        by_card = digest == weight.sha256 or bool(begins)
        stated_by = "card" if by_card else "hub" if by_hub else None
        hashes.append({"file": path.name, "role": weight.role, "sha256": digest, "stated_by": stated_by})
        # What the hub states is as good as what the card does, where the card states nothing.
        if by_card or (by_hub and weight.sha256 is None):
            continue
        if weight.hub is None and weight.url is None and weight.package is None:
            status = "own" if status == "official" else status
            continue
        if weight.package is not None and not users:
            raise VtbenchError(f"{path} has sha256 {digest}, the card says {weight.sha256}: reinstall vtbench")
        if status == "unverified":
            continue
        status = "unverified"
        why = (
            f"{path.name} has sha256 {digest[:12]}…, the card of {card.name} says {weight.sha256[:12]}…"
            if weight.sha256
            else _unstated(weight, digest)
        )
    return WeightFiles(files, status, tuple(hashes), why)


def _unstated(weight: Weights, digest: str) -> str:
    if weight.sha256_begins is None:
        return f"upstream states no sha256 for {weight.file}, so {digest[:12]}… cannot be verified"
    return (
        f"upstream states only {weight.sha256_begins}… of the sha256 of {weight.file}, so {digest[:12]}… of a file "
        "that vtbench did not download cannot be verified"
    )


def _names(card: Card) -> str:
    return ", ".join(w.file for w in card.weights)


def _in_folder(card: Card, weight: Weights, folder: Path) -> Path:
    path = folder / weight.file
    if not path.is_file():
        path = folder / Path(weight.file).name
    if path.is_file():
        return path
    if len(card.weights) == 1:
        if index_in(folder) is not None:
            return folder
        files = weight_files(folder)
        if len(files) == 1 and not files[0].beside:
            return files[0].path
        if files:
            return folder
    raise nothing_in(folder, f"{weight.file}, which {card.name} needs")


def _packaged(weight: Weights) -> Path | None:
    """The file that an installed package carries, from `package:path`."""
    if weight.package is None:
        return None
    package, _, inner = weight.package.partition(":")
    path = Path(str(resources.files(package).joinpath(inner)))
    if not path.is_file():
        raise VtbenchError(f"{package} is installed without {inner}: reinstall it")
    return path
