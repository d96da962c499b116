"""identify asks the cache what released networks need; its answers are those without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vtbench import registry
from vtbench.models import identify, kept_names
from vtbench.models.names import needed
from vtbench.models.network import on_meta

MODELS = ("llamagen-vq-ds16-c2i", "coda-flux-65536", "maskbit-generator-10bit")
"""A network as most are, one in two files, and one whose names come under others too, which is code."""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Families whose networks were made, where these models are all that there are and the cache is empty."""
    families: list[str] = []

    def counted(family: Any, arch: Any) -> Any:
        families.append(family.name)
        return on_meta(family, arch)

    few = [registry.model(name) for name in MODELS]
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "entries", lambda: few)
    monkeypatch.setattr(identify, "on_meta", counted)
    identify._released.cache_clear()
    yield families
    identify._released.cache_clear()


def again(networks: list[str]) -> tuple[list[tuple[str, Any, Any]], list[str]]:
    """(what a new process would know of released models, the families whose networks it made for that)."""
    identify._released.cache_clear()
    networks.clear()
    known = [(entry.card.name, what, weight) for entry, what, weight in identify._released()]
    return known, list(networks)


def without_code(known: list[tuple[str, Any, Any]]) -> list[Any]:
    return [(name, what.shapes, what.optional, what.parameters, weight) for name, what, weight in known]


def test_networks_are_made_once_and_their_names_are_the_same(networks: list[str]) -> None:
    first, families = again(networks)
    second, later = again(networks)
    assert without_code(second) == without_code(first)
    assert len(families) == len(MODELS)
    assert [(what.rename is None) for _, what, _ in second] == [(what.rename is None) for _, what, _ in first]
    renaming = {registry.model(name).family.name for name, what, _ in first if what.rename is not None}
    assert set(later) == renaming
    entry = registry.model(MODELS[0])
    assert second[0][1] == needed(on_meta(entry.family, entry.card.arch))  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["cut", "other", "none", "code"])
def test_what_cannot_be_trusted_is_made_anew(
    damage: str, networks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, families = again(networks)
    (path,) = (tmp_path / "cache" / kept_names.FOLDER).iterdir()
    text = path.read_bytes()
    if damage == "code":
        monkeypatch.setattr(kept_names.provenance, "code_digest", lambda: "of other code")
    elif damage == "none":
        path.unlink()
    else:
        path.write_bytes(text[:-9] if damage == "cut" else text.replace(b"[512", b"[513", 1))
        assert path.read_bytes() != text
    second, later = again(networks)
    assert without_code(second) == without_code(first)
    assert later == families
