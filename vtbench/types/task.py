"""A task: suites x view x metrics, as data, with a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Task:
    """`view`: default view ("256", "512", "native"). `fit`: how a model whose size does not fit is served:
    "resize" (there and back, for fixed sizes) or "tiles"; sides that must be multiples are always reached by
    reflection padding. Every change of a field that can move a number needs a new `version`.

    A task with `prompts` is for generators, any other for tokenizers. Whether it runs where nobody names a task stands
    in `default_for`: a task that says nothing runs on its own suites."""

    name: str
    title: str
    version: int
    suites: tuple[str, ...]
    view: str
    metrics: tuple[str, ...]
    fit: Literal["resize", "tiles"] = "resize"
    off_by_default: bool = False
    """Runs only where it is named, whatever `default_for` says."""
    note: str = ""
    prompts: tuple[str, ...] = ()
    """What generators are asked: prompt suites, of which the first that fits the generator's condition is taken."""
    per_prompt: int = 1
    """Images a prompt, unless the user says otherwise."""
    default_for: tuple[Literal["suites", "images"], ...] = ("suites",)
    """"suites": runs by default on its own suites. "images": also on images that come without a task, which it must be
    able to judge without any truth beside the pixels (true lines of text, exact patterns)."""
    order: int = 100
    """Its place among the tasks that run by default, the lowest first; equal ones by name."""

    def runs_by_default(self, images_given: bool) -> bool:
        """True if the task runs where nobody names one: on its own suites, or on images that the user gave."""
        return not self.off_by_default and ("images" if images_given else "suites") in self.default_for
