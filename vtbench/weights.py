"""Find, verify (sha256) and load checkpoints; offline first.

`status` of what was found: "official" (every sha256 as on the card), "own" (the user's file under a card that claims
nothing), "unverified" (a card of released weights, but the file's sha256 differs from it or upstream states none), or
"none" (nothing to load).
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtbench import checkpoint
from vtbench.types.cards import Card, Weights
from vtbench.types.environment import cache_dir, offline
from vtbench.types.errors import MissingExtra, Unavailable, VtbenchError

if TYPE_CHECKING:
    import torch

Status = Literal["official", "own", "unverified", "none"]
read = checkpoint.read


@dataclass(frozen=True)
class Found:
    """Files by role, what they are, and their hashes as the record shows them."""

    files: Mapping[str, Path]
    status: Status
    hashes: tuple[Mapping[str, str], ...] = ()
    why: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


def sha256_file(path: Path) -> str:
    """sha256 of a file, or of a folder's files (names and contents, in sorted order)."""
    digest = hashlib.sha256()
    if path.is_dir():
        for part in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
            digest.update(f"{part.relative_to(path).as_posix()}\0{sha256_file(part)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def find(card: Card, given: Path | None = None) -> Found:
    """The card's files: the user's (`given`: a file, or a folder with the card's file names), packaged, or the hub's.

    Raises VtbenchError if a given path does not fit, Unavailable if nothing is here and the network is refused.
    """
    if not card.weights:
        if given is not None:
            raise VtbenchError(
                f"{card.name} has no weights to load, so --checkpoint {given} has no meaning: leave it out"
            )
        return Found({}, "none")
    files: dict[str, Path] = {}
    if given is not None and given.name.endswith(".safetensors.index.json") and given.is_file():
        # The index alone is no weights: its folder is, and its shards are hashed with it.
        given = given.parent
    if given is not None and not given.exists():
        raise VtbenchError(f"--checkpoint {given} does not exist: give a file, or a folder with {_wanted(card)}")
    for weight in card.weights:
        if given is None:
            files[weight.role] = _packaged(weight) or _download(card, weight)
        elif weight.role == "folder":
            files["folder"] = given if given.is_dir() else given.parent
        elif given.is_dir():
            files[weight.role] = _in_folder(card, weight, given)
        elif len(card.weights) == 1:
            files[weight.role] = given
        else:
            raise VtbenchError(
                f"{card.name} needs {len(card.weights)} files: give --checkpoint a folder with {_wanted(card)}"
            )
    hashes, status = [], "official"
    why = None
    for weight in card.weights:
        found = sha256_file(files[weight.role])
        hashes.append({"file": files[weight.role].name, "role": weight.role, "sha256": found})
        # The hub's cache names a large file by the sha256 that the hub states for it: as good as one on the card.
        stated = weight.sha256 or (files[weight.role].resolve().name if given is None and weight.hub else None)
        if found == stated:
            continue
        if weight.hub is None and weight.url is None and weight.package is None:
            status = "own" if status == "official" else status
            continue
        if weight.package is not None and given is None:
            raise VtbenchError(
                f"{files[weight.role]} has sha256 {found}, the card says {weight.sha256}: reinstall vtbench"
            )
        if status == "unverified":
            # Every file is hashed, since each is part of the question; the first reason is told.
            continue
        status = "unverified"
        why = (
            f"{files[weight.role].name} has sha256 {found[:12]}…, the card of {card.name} says {weight.sha256[:12]}…"
            if weight.sha256
            else f"upstream states no sha256 for {weight.file}, so {found[:12]}… cannot be verified"
        )
    return Found(files, status, tuple(hashes), why)  # type: ignore[arg-type]


def _wanted(card: Card) -> str:
    return ", ".join(w.file for w in card.weights)


def _in_folder(card: Card, weight: Weights, folder: Path) -> Path:
    path = folder / weight.file
    if not path.is_file():
        path = folder / Path(weight.file).name
    if path.is_file():
        return path
    if len(card.weights) == 1:
        if any(folder.glob("*.safetensors.index.json")):
            return folder
        several = sorted(p for p in folder.iterdir() if p.suffix in checkpoint.SUFFIXES)
        if len(several) == 1:
            return several[0]
        if several and all(p.suffix == ".safetensors" for p in several):
            return folder
    raise VtbenchError(
        f"{folder} does not hold {weight.file}, which {card.name} needs: give a folder with {_wanted(card)}"
    )


def _packaged(weight: Weights) -> Path | None:
    """The file that an installed package carries, from `package:path`."""
    if weight.package is None:
        return None
    package, _, inner = weight.package.partition(":")
    path = Path(str(resources.files(package).joinpath(inner)))
    if not path.is_file():
        raise VtbenchError(f"{package} is installed without {inner}: reinstall it")
    return path


def cached(weight: Weights) -> Path | None:
    """Where an earlier download of this file lies, if it does; never touches the network."""
    if weight.role != "folder":
        path = _store(weight)
        if path.is_file():
            return path
    if weight.hub:
        try:
            from huggingface_hub import snapshot_download, try_to_load_from_cache
        except ImportError:
            return None
        if weight.role == "folder":
            from huggingface_hub.errors import LocalEntryNotFoundError

            try:
                return Path(snapshot_download(weight.hub, revision=weight.revision, local_files_only=True))
            except (LocalEntryNotFoundError, OSError, ValueError):
                return None
        found = try_to_load_from_cache(weight.hub, weight.file, revision=weight.revision)
        return Path(found) if isinstance(found, str) else None
    return None


def _store(weight: Weights) -> Path:
    name = hashlib.sha256(f"{weight.hub}\0{weight.url}\0{weight.revision}\0{weight.file}".encode()).hexdigest()[:16]
    return cache_dir() / "weights" / name / Path(weight.file).name


def _download(card: Card, weight: Weights) -> Path:
    here = cached(weight)
    if here is not None:
        return here
    if weight.hub is None and weight.url is None:
        raise VtbenchError(
            f"{card.name} needs {weight.file}, which is no released file: give it with --checkpoint FILE"
        )
    source = weight.hub or weight.url
    if offline():
        raise Unavailable(
            f"{card.name} needs {weight.file} from {source}, which is not here, and VTBENCH_OFFLINE forbids the "
            "network: give it with --checkpoint"
        )
    try:
        if weight.hub:
            try:
                from huggingface_hub import hf_hub_download, snapshot_download
            except ImportError:
                if weight.url is None:
                    raise MissingExtra("huggingface_hub", "hub", f"downloading {weight.hub}") from None
            else:
                if weight.role == "folder":
                    return Path(
                        snapshot_download(
                            weight.hub, revision=weight.revision,
                            allow_patterns=[f"{weight.file}*", "*.json", "*.safetensors"],
                        )
                    )  # fmt: skip
                return Path(hf_hub_download(weight.hub, weight.file, revision=weight.revision))
        return _fetch(str(weight.url), _store(weight), weight.sha256)
    except VtbenchError:
        raise
    except Exception as bad:
        text = str(bad).strip().splitlines()
        raise Unavailable(
            f"{card.name} needs {weight.file} from {source}, which could not be downloaded "
            f"({type(bad).__name__}: {text[0][:120] if text else ''}): give it with --checkpoint"
        ) from bad


def _fetch(url: str, target: Path, sha256: str | None) -> Path:
    """Downloads with a progress bar, goes on where an earlier try stopped, verifies before the file gets its name."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as bad:
        if bad.code != 416:
            raise
        # The part is whole already: nothing is left to ask for.
        answer = None
    if answer is not None:
        with answer:
            if have and answer.status != 206:
                have = 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            shown = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            with Progress(*shown, TimeRemainingColumn()) as bar, part.open("ab" if have else "wb") as out:
                job = bar.add_task(target.name, total=total, completed=have)
                while chunk := answer.read(1 << 20):
                    out.write(chunk)
                    bar.advance(job, len(chunk))
        if total is not None and part.stat().st_size < total:
            raise Unavailable(f"the download of {url} broke off: run the command again, it goes on where it stopped")
    if sha256 is not None and sha256_file(part) != sha256:
        found = sha256_file(part)
        part.unlink()
        raise VtbenchError(
            f"{url} gave sha256 {found}, wanted {sha256}: the file was deleted; try again or ask upstream"
        )
    os.replace(part, target)
    return target


def state_dict(network: Any, card: Card, files: Mapping[str, Path]) -> dict[str, torch.Tensor]:
    """The tensors of all files under the network's names, before the strict comparison.

    A file whose role is the name of a submodule (encoder, decoder) fills that submodule. `prefix` of the card keeps
    only the names under it; the exponential-average copies of `model_ema.` replace the raw ones where the card says so.
    """
    weights = {w.role: w for w in card.weights} or {role: Weights(file=p.name, role=role) for role, p in files.items()}
    children = {name for name, _ in network.named_children()}
    out: dict[str, torch.Tensor] = {}
    for role, path in files.items():
        weight = weights.get(role, Weights(file=path.name, role=role))
        tensors = checkpoint.read(path, weight.key)
        if weight.ema and any(n.startswith("model_ema.") for n in tensors):
            tensors = _ema(tensors)
        if weight.prefix and any(n.startswith(weight.prefix) for n in tensors):
            tensors = {n.removeprefix(weight.prefix): t for n, t in tensors.items() if n.startswith(weight.prefix)}
        if role in children and not any(n.startswith(f"{role}.") for n in tensors):
            tensors = {f"{role}.{n}": t for n, t in tensors.items()}
        out.update(tensors)
    # A network may know other names under which its entries come (Infinity's, with and without wrappers).
    rename = getattr(network, "rename", None)
    return out if rename is None else {rename(n): t for n, t in out.items()}


def _ema(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LitEma stores `model_ema.<name without dots>`: those values under the proper names."""
    plain = {n: t for n, t in tensors.items() if not n.startswith("model_ema.")}
    averaged = {n.removeprefix("model_ema."): t for n, t in tensors.items() if n.startswith("model_ema.")}
    return {n: averaged.get(n.replace(".", ""), t) for n, t in plain.items()}


def ignored(name: str, optional: tuple[str, ...]) -> bool:
    """True if inference does not need the entry: an exact name, or a prefix that ends in a dot."""
    return any(name.startswith(o) if o.endswith(".") else name == o for o in optional)


TRAINING_ONLY = ("loss.", "model_ema.", "discriminator.", "ema.", "lpips.", "perceptual_loss.")
"""Rule for what is left out without asking: losses, discriminators and averaged copies, by prefix."""


def compare(network: Any, tensors: Mapping[str, Any], what: str, card: Card | None = None) -> None:
    """Strict: raises VtbenchError with the first few missing, unexpected and misshapen names, and a guess."""
    optional = (*getattr(network, "optional", ()), *TRAINING_ONLY)
    wanted = {n: tuple(t.shape) for n, t in network.state_dict().items()}
    integer = {n for n, t in network.state_dict().items() if not t.is_floating_point()}
    missing = [n for n in wanted if n not in tensors and n not in integer and not ignored(n, optional)]
    odd_ok = set(getattr(network, "int_buffers", ()))
    extra = [
        n for n, t in tensors.items()
        if n not in wanted and not ignored(n, optional) and n not in odd_ok and t.is_floating_point()
    ]  # fmt: skip
    wrong = [f"{n} is {list(tensors[n].shape)}, wanted {list(s)}" for n, s in wanted.items()
             if n in tensors and tuple(tensors[n].shape) != s and not ignored(n, optional)]  # fmt: skip
    if not (missing or extra or wrong):
        return
    parts = []
    for label, names in (("missing", missing), ("unexpected", extra), ("of another shape", wrong)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{len(names)} {label}: {', '.join(names[:3])}{more}")
    raise VtbenchError(
        f"{what} does not fit ({'; '.join(parts)}){_guess(tensors, card, len(missing) / max(1, len(wanted)))}"
    )


def _guess(tensors: Mapping[str, Any], card: Card | None, lacking: float) -> str:
    """What the file rather is; `lacking`: the share of the wanted names that it has not."""
    from vtbench.identify import identify

    found = identify({n: list(t.shape) for n, t in tensors.items()})
    if not found:
        if lacking < 0.2:
            return ": most names are right, so it is this model in another version, or a damaged file"
        return ": no model of vtbench has these names"
    # Models that share a network share names: of those that fit, the one that was asked for tells more.
    ours = [m for m in found if card is not None and m.family == card.family]
    match = (ours or found)[0]
    if match.how == "near":
        return f": this looks like {match.name}, incomplete or in another version"
    under = f", with names that begin with {match.prefix!r}" if match.prefix else ""
    return f": this looks like {match.text()}{under}"


def stored_as(tensors: Mapping[str, torch.Tensor]) -> str | None:
    """The half-precision dtypes in which a file keeps weights, in words; None if it keeps none so."""
    halves = sorted({str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.dtype.itemsize < 4
                     and t.dtype.is_floating_point})  # fmt: skip
    return " and ".join(halves) or None


def fill(network: Any, card: Card, files: Mapping[str, Path]) -> Any:
    """`network` with the files' tensors, strictly by name and shape; half precision is widened, NaN is refused.

    `network.stored_as` says in which half precision the file keeps them, if so.
    """
    import torch

    what = f"{', '.join(p.name for p in files.values())} as {card.name}"
    tensors = state_dict(network, card, files)
    compare(network, tensors, what, card)
    own = network.state_dict()
    kept = {}
    for name, target in own.items():
        if name not in tensors or tuple(tensors[name].shape) != tuple(target.shape):
            continue
        value = tensors[name]
        if value.is_floating_point():
            if not bool(torch.isfinite(value).all()):
                raise VtbenchError(f"{what}: the weights {name} hold NaN or infinity: the checkpoint is damaged")
            value = value.float()
        kept[name] = value
    network.load_state_dict(kept, strict=False)
    network.stored_as = stored_as({n: tensors[n] for n in kept})
    return network
