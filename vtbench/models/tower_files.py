"""A model of transformers from a folder or a hub id: its configuration, its weights, what they are. Offline first.

Nothing in such a folder is run: the configuration is read as JSON, weights by vtbench's own reader, and only classes
that `attach` names are built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.models import checkpoint
from vtbench.models.downloads import digest_over, sha256_file
from vtbench.models.files import cached, fetch
from vtbench.models.hub_files import verified
from vtbench.models.weight_files import index_in, read_index, weight_files
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import RAISED, MissingExtra, Unavailable, VtbenchError
from vtbench.types.foreign import cause, read_object

if TYPE_CHECKING:
    import torch

HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?")
TRIED = "5.24"
"""The release of transformers to whose modules the reducers were attached and tried."""
MAJOR = 5
BESIDE = (
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
)
"""Files beside the weights that decide what a model makes of a picture and a text."""
SLACK = 1_000_000
"""Parameters by which a model may be larger than twice its file: tied and shared ones stand in a file once."""
MOST = {"num_hidden_layers": 200, "hidden_size": 16384, "image_size": 8192, "intermediate_size": 131072}
"""Sizes that a configuration may state at most: one that was made for it would fill the memory."""


@dataclass(frozen=True)
class ModelFiles:
    """A model's folder, its configuration as stated, and sha256 by file of all that decides its output."""

    spec: str
    folder: Path
    config: Mapping[str, Any]
    sums: Mapping[str, str]
    weights: tuple[str, ...]
    """Names of the files of weights among them."""
    hub: bool = False

    @property
    def name(self) -> str:
        """How people call it: the last part of the hub id or of the folder's path."""
        if self.hub:
            return self.spec.partition("@")[0].rpartition("/")[2]
        return self.folder.resolve().name

    @property
    def sha256(self) -> str:
        """64 hexadecimal digits over the names and contents of all of them."""
        return digest_over(dict(self.sums))

    def record(self) -> dict[str, Any]:
        """As a run's record states weights: official where the hub states the very digests."""
        official = self.hub and verified(self.folder, {n: self.sums[n] for n in self.weights})
        by = "hub" if official else None
        files = [{"file": n, "role": "tower", "sha256": self.sums[n], "stated_by": by} for n in self.weights]
        return {"status": "official" if official else "own", "files": files, "why": None}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The named tensors of its weights, on the CPU; safely read, whatever kind of file they lie in."""
        return checkpoint.read(self.folder if index_in(self.folder) is not None else self.folder / self.weights[0])


def model_files(spec: str) -> ModelFiles:
    """The files of a folder, or of a hub id (`owner/name`, `owner/name@REVISION`): an earlier download first.

    Raises VtbenchError for what is neither; Unavailable where it is not here and the network is refused or fails.
    """
    path = Path(spec).expanduser()
    hub = False
    if not path.is_dir():
        if path.exists():
            raise VtbenchError(f"--tower {spec} is a file: give the folder that holds its config.json")
        match = HUB_ID.fullmatch(spec)
        if match is None:
            raise VtbenchError(
                f"--tower {spec} is neither a folder nor a hub id such as openai/clip-vit-base-patch32: give one"
            )
        path, hub = _of_hub(spec, match["name"], match["revision"]), True
    if not (path / "config.json").is_file():
        raise VtbenchError(f"{path} holds no config.json: give a folder as transformers' save_pretrained writes it")
    config = read_object(path / "config.json")
    _check_sizes(config, path)
    index = index_in(path)
    names = (
        [index.name, *read_index(index).files] if index is not None else [f.path.name for f in weight_files(path)][:1]
    )
    absent = [name for name in names if not (path / name).is_file()]
    if not names or absent:
        lacking = absent[0] if absent else "model.safetensors"
        raise VtbenchError(f"{path} holds no {lacking}: give a folder as transformers' save_pretrained writes it")
    beside = [name for name in BESIDE if (path / name).is_file()]
    sums = {name: sha256_file(path / name) for name in [*beside, *names]}
    return ModelFiles(spec, path, config, sums, tuple(names), hub)


def _of_hub(spec: str, name: str, revision: str | None) -> Path:
    """The folder of the hub's cache, or of a new download."""
    card = Card(name, "transformers", "closed", name)
    kept = cached(Weights("config.json", role="folder", hub=name, revision=revision))
    if kept is not None and _holds_weights(kept):
        return kept
    folder = Path()
    # Where no safetensors were published, the pickled file, which is read without running what is in it.
    for file in ("model.safetensors", "pytorch_model.bin"):
        try:
            folder = fetch(card, Weights(file, role="folder", hub=name, revision=revision))
        except Unavailable as bad:
            text = str(bad).removesuffix(": give it with --checkpoint")
            raise Unavailable(f"--tower {spec}: {text}: give a folder that holds the model") from bad
        if _holds_weights(folder):
            break
    return folder


def _holds_weights(folder: Path) -> bool:
    return index_in(folder) is not None or bool(weight_files(folder))


def _check_sizes(config: Mapping[str, Any], path: Path) -> None:
    parts = [config, *(v for v in config.values() if isinstance(v, Mapping))]
    for part in parts:
        for name, most in MOST.items():
            value = part.get(name)
            numbers = value if isinstance(value, list) else [] if value is None else [value]
            if any(isinstance(n, bool) or not isinstance(n, int) or n > most for n in numbers):
                raise VtbenchError(f"{path / 'config.json'} states {name} {value!r}: wanted a number up to {most}")


def library() -> Any:
    """transformers, of a release whose modules are known."""
    try:
        import transformers
    except ImportError as absent:
        raise MissingExtra("transformers", "hub", "reading a tower") from absent
    version = str(transformers.__version__)
    if not version.startswith(f"{MAJOR}."):
        raise VtbenchError(
            f"reducers are attached to the modules of transformers {MAJOR} (tried on {TRIED}), and {version} is "
            f"installed: pip install 'transformers>={MAJOR},<{MAJOR + 1}'"
        )
    return transformers


def configuration(files: ModelFiles, cls: Any) -> Any:
    """The configuration as an object of its class, which refuses what it does not know."""
    try:
        return cls.from_dict(dict(files.config))
    except RAISED as bad:
        raise VtbenchError(
            f"{files.folder / 'config.json'} is no configuration of such a model ({cause(bad)})"
        ) from bad


def _refuse_larger(files: ModelFiles, cls: Any, config: Any, held: int, more: Mapping[str, Any]) -> None:
    """What a configuration states beyond the weights would be drawn at random first, however much memory it takes."""
    import torch

    with torch.device("meta"):
        stated = sum(parameter.numel() for parameter in cls(config, **more).parameters())
    if stated > 2 * held + SLACK:
        raise VtbenchError(
            f"{files.folder / 'config.json'} states a model of {stated} parameters, and its weights hold {held}: they "
            "do not belong together"
        )


def build(files: ModelFiles, cls: Any, config: Any, dtype: str, attention: str, **more: Any) -> tuple[Any, list[str]]:
    """(the network with all its weights in it, names in the file that it does not have). Raises VtbenchError where a
    parameter has none, or one of another shape: transformers itself would draw it at random and say so in a warning."""
    import torch
    from transformers.utils import logging as library_logging

    tensors = files.tensors()
    # Its bar and its tables of names: what matters of them is said below.
    said: Any = library_logging
    said.disable_progress_bar()
    said.set_verbosity_error()
    try:
        _refuse_larger(files, cls, config, sum(tensor.numel() for tensor in tensors.values()), more)
        network, info = cls.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            output_loading_info=True,
            # So that it is listed below, instead of a table for a terminal.
            ignore_mismatched_sizes=True,
            **more,
        )
    except VtbenchError:
        raise
    except RAISED as bad:
        raise VtbenchError(
            f"{files.folder} cannot be loaded as {cls.__name__} ({cause(bad)}): its config.json and its weights do not "
            "belong together"
        ) from bad
    lacking = sorted(info["missing_keys"])
    other = sorted(str(one[0]) for one in info.get("mismatched_keys", ()))
    for names, what in ((lacking, "lacks"), (other, "holds in another shape than its config.json says")):
        if names:
            more_of_them = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise VtbenchError(
                f"{files.folder} {what} {names[0]}{more_of_them} of {cls.__name__}: its config.json and its weights do "
                "not belong together"
            )
    return network.eval().requires_grad_(False), sorted(info["unexpected_keys"])
