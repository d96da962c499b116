"""The names and shapes of released checkpoints, computed from upstream's classes at full size, against our networks."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from vtbench import registry
from vtbench.models.names import TRAINING_ONLY, compare_names, is_optional, names_of
from vtbench.models.network import on_meta


def _manifests(shared: Path) -> list[dict[str, Any]]:
    """Those of the families that are registered with a native network."""
    native = {name for f in registry.families().values() if f.network for name in f.fixtures}
    read = [json.loads(p.read_text()) for p in sorted((shared / "official").glob("*.json"))]
    return [m for m in read if m["family"] in native]


@functools.cache
def _network(family: str, arch: str) -> Any:
    """On the meta device; arch: JSON. Both tests that ask for all of them share them, and so do models of one arch."""
    return on_meta(registry.family(family), json.loads(arch))


def _network_of(m: dict[str, Any]) -> Any:
    return _network(m["family"], json.dumps(m["arch"], sort_keys=True))


def test_every_released_checkpoint_would_load(shared: Path) -> None:
    manifests = _manifests(shared)
    assert len(manifests) >= 40
    wrong = {}
    for m in manifests:
        problems = compare_names(names_of(_network_of(m)), m["state_dict"], m["optional"])
        if problems:
            wrong[m["name"]] = problems
    assert not wrong


def test_every_manifest_has_its_card(shared: Path) -> None:
    """Under the manifest's own name, with its arch, range, tokens and codebook."""
    for m in _manifests(shared):
        entry = registry.model(m["name"])
        card = entry.card
        assert m["family"] in entry.family.fixtures, m["name"]
        assert card.arch == m["arch"], m["name"]
        assert list(card.value_range) == m["input"]["value_range"], m["name"]
        # Some manifests put a remark behind the number; tokens without a grid have none, and VidTok's files, of videos,
        # say nothing of a frame's grid.
        if "downsample" in m and m["family"] != "vidtok":
            wanted = None if m["downsample"] is None else int(str(m["downsample"]).split()[0])
            assert card.downsample == wanted, m["name"]
        assert card.weights, m["name"]


def test_what_upstream_needs_not_is_named_on_the_network(shared: Path) -> None:
    """Training-only entries of official files are left out by the network's own list or the loader's rule."""
    for m in _manifests(shared):
        network = _network_of(m)
        optional = (*getattr(network, "optional", ()), *TRAINING_ONLY)
        ours = network.state_dict()
        for name in m["state_dict"]:
            assert name in ours or is_optional(name, optional), (m["name"], name)
        for name in m["int_buffers"]:
            assert name in ours or name in getattr(network, "int_buffers", ()) or is_optional(name, optional)


def test_every_released_file_is_identified(shared: Path) -> None:
    """From its names and shapes alone, among the models that share them; an exact answer comes first."""
    from vtbench.models.identify import identify

    wrong: dict[str, list[str]] = {}
    seen: dict[str, Any] = {}
    for m in _manifests(shared):
        key = json.dumps(m["state_dict"], sort_keys=True)
        matches = seen[key] = seen[key] if key in seen else identify(m["state_dict"])
        if (
            not matches
            or matches[0].how != "exact"
            or registry.model(m["name"]).card.name not in {match.name for match in matches}
        ):
            wrong[m["name"]] = [match.text() for match in matches]
    assert not wrong
