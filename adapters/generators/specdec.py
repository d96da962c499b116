"""Acceptance rules of speculative decoding, as a family without models, so that their fixtures can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError


def _build(card: Card, options: Mapping[str, Any]) -> Any:
    raise VtbenchError("specdec holds rules and no model: use a LlamaGen generator with --option decoding=speculative")


FAMILY = Family(
    name="specdec",
    title="Acceptance rules of speculative decoding (plain, LANTERN, GSD)",
    cards=(),
    build=_build,
    network="vtbench.adapters.networks.speculative:AcceptanceRules",
    fixtures=("specdec",),
)
