"""VA-pi, a post-training of LlamaGen, as a family without models, so that its objective can be checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vtbench.types.cards import Card, Family
from vtbench.types.errors import VtbenchError


def _build(card: Card, options: Mapping[str, Any]) -> Any:
    raise VtbenchError(
        "va-pi trains LlamaGen's generator and released no weights: give yours by --checkpoint to a LlamaGen model of "
        "its size, such as llamagen-c2i-xxl-384"
    )


FAMILY = Family(
    name="va-pi",
    title="VA-pi's post-training objective",
    cards=(),
    build=_build,
    network="vtbench.adapters.networks.va_pi:Objective",
    fixtures=("va-pi",),
)
