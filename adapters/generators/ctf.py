"""CTF (arXiv:2503.16194), a family without models: built from its paper, as neither code nor weights can be had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError


def _build(card: Card, options: Mapping[str, Any]) -> Any:
    raise VtbenchError("ctf is built from its paper, without released weights: there is no model of it to draw with")


FAMILY = Family(
    name="ctf",
    title="CTF, coarse-to-fine token prediction (no upstream to compare)",
    cards=(),
    build=_build,
    network="vtbench.adapters.networks.coarse_to_fine:CoarseToFine",
)
