"""A tokenizer object from inside somebody's training loop, taken as a model; and what identifies it."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from vtbench.types.adapter import ClosedSystem, Tokenizer
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import VtbenchError


class TrainingLoopModel(Tokenizer):
    """An object with encode(images) and decode(tokens); seeds are handed over if it takes them.

    stated: it has a `card` of its own. Otherwise its card is a placeholder, whose kind means nothing.
    """

    def __init__(self, tokenizer: Any) -> None:
        card = getattr(tokenizer, "card", None)
        self.stated = isinstance(card, Card)
        name = type(tokenizer).__name__
        placeholder = Card(name=name.lower(), family="object", kind="discrete", title=name, sizes=Multiple(1))
        super().__init__(card if isinstance(card, Card) else placeholder)
        self.tokenizer = tokenizer

    def parameter_count(self) -> int | None:
        counts = {id(p): p.numel() for m in _modules(self.tokenizer) for p in m.parameters()}
        return sum(counts.values()) if counts else None

    def encode(self, images: Any, seeds: Sequence[int], budget: float | None = None) -> Any:
        parameter = next((p for m in _modules(self.tokenizer) for p in m.parameters()), None)
        images = images if parameter is None else images.to(parameter.device)
        return _call(self.tokenizer.encode, images, seeds)

    def decode(self, tokens: Any, seeds: Sequence[int]) -> Any:
        return _call(self.tokenizer.decode, tokens, seeds)


def _call(method: Callable[..., Any], first: Any, seeds: Sequence[int]) -> Any:
    """`method(first, seeds)`, or without seeds where it has one required parameter only."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(method).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind in by_position]
    return method(first, seeds) if len(required) > 1 else method(first)


def as_model(tokenizer: Any) -> Tokenizer | ClosedSystem:
    """The object itself where it is a model of vtbench, else a TrainingLoopModel around it."""
    if isinstance(tokenizer, Tokenizer | ClosedSystem):
        return tokenizer
    if callable(getattr(tokenizer, "encode", None)) and callable(getattr(tokenizer, "decode", None)):
        return TrainingLoopModel(tokenizer)
    raise VtbenchError(
        f"{type(tokenizer).__name__} is no tokenizer: give a registered name, or an object with encode and decode"
    )


def weights_digest(tokenizer: Any, options: Mapping[str, Any]) -> tuple[str, bool]:
    """(sha256 of an object's class, options, plain attributes and state dicts, whether it has a state dict).

    Without one, nothing says whether this is the object of the last call: the digest is then another every time, so
    that results are never taken from disk.
    """
    import torch

    digest = hashlib.sha256(repr((type(tokenizer).__qualname__, dict(options), _settings(tokenizer))).encode())
    states = _states(tokenizer)
    for part, state in states.items():
        for name, tensor in state.items():
            digest.update(f"{part}.{name}".encode())
            if callable(getattr(tensor, "detach", None)):
                plain = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(plain.view(torch.uint8).numpy().tobytes())
    if not states:
        digest.update(uuid.uuid4().bytes)
    return digest.hexdigest(), bool(states)


def _modules(tokenizer: Any) -> list[Any]:
    """The object itself and what it holds, as far as they are torch modules."""
    from torch import nn

    return [m for m in (tokenizer, *getattr(tokenizer, "__dict__", {}).values()) if isinstance(m, nn.Module)]


def _states(tokenizer: Any) -> dict[str, Mapping[str, Any]]:
    """The state dicts that identify an object's weights: its own, or those of the modules that it holds."""
    if callable(getattr(tokenizer, "state_dict", None)):
        return {"": tokenizer.state_dict()}
    held = getattr(tokenizer, "__dict__", {}).items()
    return {n: m.state_dict() for n, m in held if callable(getattr(m, "state_dict", None))}


def _settings(tokenizer: Any) -> list[tuple[str, Any]]:
    """Plain attributes, which decide results as weights do: a number of steps, a temperature."""
    attributes = getattr(tokenizer, "__dict__", {}).items()
    return sorted((n, v) for n, v in attributes if not n.startswith("_") and n != "training" and _is_plain(v))


def _is_plain(value: Any) -> bool:
    simple = (bool, int, float, str, type(None))
    return isinstance(value, simple) or (isinstance(value, tuple | list) and all(isinstance(v, simple) for v in value))


@contextlib.contextmanager
def evaluating(tokenizer: Any) -> Iterator[None]:
    """An object's modules in eval mode, and back as they were: a training loop goes on untouched.

    A name in place of an object is left alone.
    """
    if isinstance(tokenizer, str):
        yield
        return
    modes = [(part, part.training) for module in _modules(tokenizer) for part in module.modules()]
    try:
        for module in _modules(tokenizer):
            module.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training
