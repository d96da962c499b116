"""Folders in diffusers' own format: which weights in them are read, and a model of the library from them.

The library reads `diffusion_pytorch_model.safetensors`, or of a folder without it one variant (fp16, bf16, non_ema).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.types.errors import MissingExtra, VtbenchError, near
from vtbench.types.foreign import read_object, reading

WEIGHTS = re.compile(
    r"^(?:diffusion_pytorch_model|model)(?:\.(?P<variant>\w+))??(?:-\d+-of-\d+)?(?:\.(?P<sharded>\w+)-\d+-of-\d+)?\.safetensors$"
)
"""Names of files of weights: whole, in shards, and of a variant, in diffusers' older and newer spelling."""
NUMBERS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""safetensors' names of dtypes that hold one number an element; integers and packed ones are quantized."""


@dataclass(frozen=True)
class Chosen:
    """The variant that is read (None: none), its files, and those of other variants beside them."""

    variant: str | None
    files: tuple[str, ...]
    beside: tuple[str, ...]

    def record(self, folder: Path, whole: Path) -> dict[str, Any]:
        """For the record of a run: the file, and what stood beside it: variants, a folder of averaged weights."""
        inside = folder.relative_to(whole).as_posix() if folder.is_relative_to(whole) else folder.name
        place = "" if inside == "." else f"{inside}/"
        averaged = [f"the folder {p.name}" for p in sorted(folder.parent.glob(f"{folder.name}_ema")) if place]
        beside = [*(f"the file {place}{name}" for name in self.beside), *averaged]
        file = f"{place}{self.files[0]}" if self.files else place
        record = {"role": "folder", "file": file, "by": "variant" if self.variant else "whole", "beside": beside}
        if self.variant or beside:
            record["note"] = f"read from {file}" + (f"; beside: {', '.join(beside)}" if beside else "")
        return record


def weights_of(folder: Path) -> Chosen:
    """What is read of a folder's own files: the whole weights, else its one variant; several variants are refused."""
    names: dict[str | None, list[str]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        match = WEIGHTS.match(path.name)
        if match is not None:
            names.setdefault(match["variant"] or match["sharded"], []).append(path.name)
    variants = sorted(variant for variant in names if variant is not None)
    if None not in names and len(variants) > 1:
        raise VtbenchError(
            f"{folder} holds the variants {' and '.join(variants)} and no whole weights: leave one of them"
        )
    variant = None if None in names or not variants else variants[0]
    beside = [name for other, files in names.items() if other != variant for name in files]
    return Chosen(variant, tuple(names.get(variant, ())), tuple(beside))


def weights_of_pipeline(folder: Path) -> tuple[str | None, list[dict[str, Any]]]:
    """(the variant of which parts of a pipeline have nothing else, or None where each has whole weights; the file of
    every part, for the record)."""
    parts = {path.parent for path in folder.glob("*/*.safetensors")}
    chosen = {part.name: weights_of(part) for part in sorted(parts)}
    for part, weights in chosen.items():
        check_dtypes(folder / part, weights.files)
    variants = {weights.variant for weights in chosen.values()} - {None}
    if len(variants) > 1:
        raise VtbenchError(
            f"the parts of {folder} are of the variants {' and '.join(sorted(map(str, variants)))}: give one"
        )
    records = [weights.record(folder / part, folder) for part, weights in chosen.items()]
    return next(iter(variants), None), [{**record, "role": part} for record, part in zip(records, chosen, strict=True)]


def check_dtypes(folder: Path, files: Sequence[str]) -> None:
    """Refuses quantized weights: a library would copy their integers into its layers as if they were the numbers."""
    from safetensors import safe_open

    for name in files:
        path = folder / name
        with (
            reading(path, "a whole safetensors file", "fetch it again"),
            safe_open(str(path), framework="np") as file,
        ):
            dtypes = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        packed = [key for key, dtype in dtypes.items() if dtype not in NUMBERS and not key.endswith(COUNTERS)]
        if packed:
            raise VtbenchError(
                f"{folder / name}: the weights {packed[0]} are {dtypes[packed[0]]}, quantized or packed, and the model "
                "takes floating numbers: give the weights as they were before"
            )


COUNTERS = ("num_batches_tracked", "position_ids")
"""Entries that are integers in every model."""


def find_folder(folder: Path, inner: str) -> Path:
    """The folder with config.json: `folder` itself, the card's place in a pipeline, or a pipeline's usual ones."""
    for place in (folder, (folder / inner).parent, folder / "vae", folder / "vqvae", folder / "movq"):
        if (place / "config.json").is_file():
            return place
    raise VtbenchError(f"{folder} holds no config.json: give a folder that a library's save_pretrained wrote")


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dictionary."""
    return read_object(folder / "config.json", "fetch the folder again")


def load_model(folder: Path, dtype: str, known: Sequence[str], whole: Path) -> tuple[Any, str]:
    """(the library's model in eval mode on the CPU, the name of its class); strict, safetensors only.

    known: the only classes that a config may name. whole: the folder that the caller gave, in which `folder` lies. The
    model's `read_from` says for the record which file was read, and what stood beside it.
    """
    import torch

    name = str(read_config(folder).get("_class_name"))
    if name not in known:
        raise VtbenchError(
            f"{folder / 'config.json'} names the class {name!r}{near(name, known)}; known are {', '.join(known)}"
        )
    try:
        import diffusers
    except ImportError:
        raise MissingExtra("diffusers", "hub", name) from None
    model_class = getattr(diffusers, name, None)
    if model_class is None:
        raise VtbenchError(f"diffusers {diffusers.__version__} has no {name}: pip install -U diffusers")
    if not any(folder.glob("*.safetensors")):
        raise VtbenchError(f"{folder} holds no .safetensors file: convert the weights, pickled files are not opened")
    chosen = weights_of(folder)
    check_dtypes(folder, chosen.files)
    try:
        model, loading = model_class.from_pretrained(
            str(folder),
            torch_dtype=getattr(torch, dtype),
            use_safetensors=True,
            variant=chosen.variant,
            local_files_only=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except Exception as bad:
        text = " ".join(str(bad).split())[:300]
        raise VtbenchError(f"{name} in {folder} could not be loaded ({type(bad).__name__}: {text})") from bad
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        entries = [str(e) for e in loading.get(what) or ()]
        if entries:
            raise VtbenchError(
                f"the weights in {folder} do not fit its config: {len(entries)} {what.replace('_', ' ')}, "
                f"such as {', '.join(entries[:3])}; fetch the folder again"
            )
    broken = [n for n, t in model.state_dict().items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if broken:
        raise VtbenchError(f"{len(broken)} weights in {folder} hold NaN or infinity ({broken[0]}): fetch it again")
    model.read_from = [chosen.record(folder, whole)]
    return model.eval().requires_grad_(False), name
