"""CSpD, speculative decoding of continuous tokens, as a family without models, so that its fixtures can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError


def _build(card: Card, options: Mapping[str, Any]) -> Any:
    raise VtbenchError(
        "cspd holds a way to decode and no model: use a MAR generator with --option decoding=speculative"
    )


FAMILY = Family(
    name="cspd",
    title="Speculative decoding of continuous tokens (CSpD)",
    cards=(),
    build=_build,
    network="vtbench.adapters.networks.speculative_continuous:Cspd",
    fixtures=("cspd",),
)
