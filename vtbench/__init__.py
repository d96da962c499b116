"""vtbench: measures image tokenizers and the generators built on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vtbench.types.version import VERSION as __version__

if TYPE_CHECKING:
    from vtbench.api import check, evaluate, score

__all__ = ["__version__", "check", "evaluate", "score"]


def __getattr__(name: str) -> Any:
    # Lazily, so that `vtbench --help` and `vtbench list` import nothing heavy.
    if name in {"evaluate", "score", "check"}:
        from vtbench import api

        return getattr(api, name)
    raise AttributeError(f"module 'vtbench' has no attribute {name!r}")
