"""A task: suites x view x metrics, as data, with a version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vtbench.types.errors import VtbenchError
from vtbench.types.field_types import check_types


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

    def __post_init__(self) -> None:
        kinds: dict[str, Any] = dict.fromkeys(("name", "title", "view"), str)
        kinds |= dict.fromkeys(("version", "order", "per_prompt"), int)
        kinds |= dict.fromkeys(("suites", "metrics", "prompts", "default_for"), (tuple, list))
        check_types(f"the task {self.name}", self, kinds)
        if self.fit not in ("resize", "tiles"):
            raise VtbenchError(f"the task {self.name}: fit is {self.fit!r}; wanted resize or tiles")

    def runs_by_default(self, images_given: bool) -> bool:
        """True if the task runs where nobody names one: on its own suites, or on images that the user gave."""
        return not self.off_by_default and ("images" if images_given else "suites") in self.default_for
