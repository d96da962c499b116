"""Between which layers of a language model a method cuts: its own numbers, or an option's."""

from __future__ import annotations

from vtbench.types.errors import VtbenchError


def layers_of(text: str, name: str) -> list[int]:
    """The layers of an option such as "8+16+24", ascending; none of an empty one."""
    try:
        layers = [int(word) for word in text.split("+")] if text.strip() else []
    except ValueError:
        layers = [-1]
    if any(layer < 0 for layer in layers) or sorted(set(layers)) != layers:
        raise VtbenchError(f"{name}'s layers {text!r}: give ascending numbers from 0, such as layers=8+16+24")
    return layers


def quarters(depth: int) -> list[int]:
    """A quarter, a half and three quarters of the layers, each once and none of them the first."""
    return sorted({max(1, depth * k // 4) for k in (1, 2, 3)})
