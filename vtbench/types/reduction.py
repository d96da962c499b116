"""What is stated of a reducer of visual tokens, and its rules. Standard library only.

A reducer drops or merges the tokens that a vision transformer or a vision-language model reads. Its rule is a function
of what the model computed (attention, keys, hidden states) that says which tokens stay, or what stands for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Stage = Literal["input", "tower", "projector", "vit", "llm"]
"""Where tokens are dropped: pictures before the model, the tower's output, behind the projector, between blocks of the
vision transformer, between layers of the language model."""
Training = Literal["training-free", "trained"]
Rule = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
"""(input tensors, parameters, weights by name) -> outputs: tensors, or plain numbers and lists."""


@dataclass(frozen=True, repr=False)
class ReducerCard:
    """Everything stated about one method. A fact stands once, here; numbers without a source are not stated.

    query_aware: the rule reads the question as well, so that it stands in no one ranking with those that do not.
    positions: what becomes of a kept token's position in the next stage. code: upstream's repository; commit: that of
    the facts. deviates: where upstream's code differs from its paper; the rule follows the code. no_code: why there is
    no rule here ("no code to compare"). rules: by the method's name in parity fixtures.
    """

    name: str
    title: str
    stages: tuple[Stage, ...]
    output: Literal["select", "merge", "select and merge", "new tokens", "resize"]
    training: Training = "training-free"
    query_aware: bool = False
    needs: tuple[str, ...] = ()
    positions: str | None = None
    knob: str | None = None
    licence: str | None = None
    paper: str | None = None
    code: str | None = None
    commit: str | None = None
    deviates: str | None = None
    note: str | None = None
    no_code: str | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<ReducerCard {self.name}: {self.title}>"
