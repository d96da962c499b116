"""Ranges of the settings of samplers, by what the settings are called in the field, for every model alike.

A temperature of -1 or a guidance of NaN still gives pictures, of nothing that anybody meant. What a setting means is
told by its name (`top_k`, `cfg_scale`, `num_steps`); a name that says nothing here has no range. A card's own default
is always allowed: by a value outside the range some adapters mean "as the library has it".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vtbench.types.cards import Card
from vtbench.types.errors import VtbenchError


@dataclass(frozen=True)
class Range:
    """Settings whose name is `pattern`, from `low` to `high`; above: `low` itself is not one of them."""

    pattern: str
    low: float
    high: float = math.inf
    above: bool = False

    def holds(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value <= self.high and not (self.above and value == self.low)

    def words(self) -> str:
        if math.isfinite(self.high):
            return f"a number from {self.low:g} to {self.high:g}"
        return f"a finite number {'above' if self.above else 'from'} {self.low:g}{'' if self.above else ' on'}"


RANGES = (
    # 0 is the most likely token for a sampler of tokens, and no noise for one of latents.
    Range(r"temperature", 0),
    # Logits are divided by it.
    Range(r"softmax_temperature", 0, above=True),
    Range(r"(\w+_)?temperature", 0),
    # The scale of guidance: 0 is none to some samplers, 1 to others.
    Range(r"cfg|(\w+_)?cfg_scale|(\w+_)?guidance(_scale)?", 0),
    Range(r"(guidance_scale|scale|guidance_decay_scale)_pow", 0),
    Range(r"guidance_interval_(min|max)", 0, 1),
    # 0 keeps all; more than there are keeps all, too.
    Range(r"(\w+_)?top_?k", 0),
    Range(r"(\w+_)?(top|min|typical)_?p", 0, 1),
    # -1: over the whole of the sequence.
    Range(r"cfg_interval", -1),
    Range(r"num_iter|(num_)?(\w+_)?steps", 1),
    Range(r"eta|lantern_delta", 0, 1),
    Range(r"repetition_penalty", 0, above=True),
    Range(r"draft_tokens|lantern_k|size", 1),
)
"""The first whose pattern is the setting's whole name decides."""


def check_settings(card: Card, settings: Mapping[str, Any]) -> None:
    """Refuses settings that no sampler means, and numbers that are not finite.

    settings: every option of the card with its value.
    """
    for name, value in settings.items():
        if value == card.options.get(name) or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        limits = next((r for r in RANGES if re.fullmatch(r.pattern, name, re.IGNORECASE)), None)
        if limits is not None and not limits.holds(value):
            raise VtbenchError(f"{card.name}: the option {name} is {value:g}, but must be {limits.words()}")
        if not math.isfinite(value):
            raise VtbenchError(f"{card.name}: the option {name} is {value:g}, but must be a finite number")
