"""A task: suites x view x metrics, as data, with a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Task:
    """`view`: default view ("256", "512", "native"). `fit`: how a model whose size does not fit is served:
    "resize" (there and back, for fixed sizes) or "tiles"; sides that must be multiples are always reached by
    reflection padding. Every change of a field that can move a number needs a new `version`."""

    name: str
    title: str
    version: int
    suites: tuple[str, ...]
    view: str
    metrics: tuple[str, ...]
    fit: Literal["resize", "tiles"] = "resize"
    off_by_default: bool = False
    note: str = ""
    prompts: tuple[str, ...] = ()
    """What generators are asked: prompt suites, of which the first that fits the generator's condition is taken."""
    per_prompt: int = 1
    """Images a prompt, unless the user says otherwise."""
