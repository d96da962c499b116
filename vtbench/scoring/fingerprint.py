"""Fingerprints: 16 hexadecimal digits over all that decides a number. Numbers of one fingerprint may be compared."""

from __future__ import annotations

import hashlib
import json

from vtbench import registry
from vtbench.images.protocols import ORIGINALS, Protocol
from vtbench.images.views import View
from vtbench.types.conditions import Rounding


def fingerprint(view: str, metric: str, version: int, rounding: Rounding = "round", reference: str = ORIGINALS) -> str:
    """16 hexadecimal digits over a view's fingerprint, rounding, reference set, metric and its version."""
    text = json.dumps(
        {"view": view, "rounding": rounding, "reference": reference, "metric": metric, "version": version},
        sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_under(protocol: Protocol, size: int | None, metric: str) -> str:
    """The fingerprint of what `protocol` calls `metric`, at a view of `size` pixels a side (None: native)."""
    ours = protocol.means(metric)
    view = View.parse("native" if size is None else str(size), protocol.name)
    version = registry.card_of(registry.metrics().get(ours)).version
    return fingerprint(view.fingerprint(), ours, version, protocol.rounding, protocol.reference)
