"""A tokenizer object from inside somebody's training loop, taken as a model."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtbench import registry
from vtbench.models import object_state
from vtbench.models.devices import check_device
from vtbench.models.holding import held_modules, in_eval_mode, outermost
from vtbench.models.wrappers import gathering, name_of, unwrapped
from vtbench.types.adapter import ClosedSystem, Generator, Tokenizer
from vtbench.types.cards import Card, Multiple
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.outside import outside


class TrainingLoopModel(Tokenizer):
    """An object with encode(images) and decode(tokens); seeds are handed over if it takes them, and images where its
    tensors lie.

    stated: it has a `card` of its own. Otherwise its card is a placeholder, whose kind means nothing.
    """

    def __init__(self, tokenizer: Any) -> None:
        card = getattr(tokenizer, "card", None)
        self.stated = isinstance(card, Card)
        name = name_of(tokenizer)
        placeholder = Card(name=name.lower(), family="object", kind="discrete", title=name, sizes=Multiple(1))
        super().__init__(card if isinstance(card, Card) else placeholder)
        self.tokenizer = tokenizer
        self._parameters: int | None = None

    def count(self, modules: Sequence[Any]) -> None:
        """Takes the parameters of these modules as its own."""
        counts = {id(p): p.numel() for module in modules for p in module.parameters()}
        self._parameters = sum(counts.values()) if counts else None

    def parameter_count(self) -> int | None:
        return self._parameters

    def encode(self, images: Any, seeds: Sequence[int], budget: float | None = None) -> Any:
        return _call(self.tokenizer.encode, images.to(self.device), seeds)

    def decode(self, tokens: Any, seeds: Sequence[int]) -> Any:
        return _call(self.tokenizer.decode, tokens, seeds)


def _call(method: Callable[..., Any], first: Any, seeds: Sequence[int]) -> Any:
    """`method(first, seeds)`, or without seeds where it has one required parameter only."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(method).parameters.values()
    required = [p for p in parameters if p.default is p.empty and p.kind in by_position]
    return method(first, seeds) if len(required) > 1 else method(first)


@dataclass(frozen=True)
class ObjectModel:
    """An object as a model, with what is true of it: where it lies, what it computes in, the sha256 of its tensors
    (None: it has none, so that nothing identifies its weights)."""

    model: Tokenizer | ClosedSystem
    device: str
    dtype: str
    sha256: str | None

    @property
    def stated(self) -> bool:
        """False where the card is a placeholder."""
        return self.model.stated if isinstance(self.model, TrainingLoopModel) else True


def of_object(
    tokenizer: Any, options: Mapping[str, str], device: str | None = None, dtype: str | None = None
) -> ObjectModel:
    """The object as a model: itself where it is one of vtbench, a library's by the family that knows it, else what has
    encode and decode.

    device, dtype: what the caller asked for; the object is left where and as it is, so anything else is refused.
    """
    if device is not None:
        check_device(device, "float32")
    modules = held_modules(tokenizer)
    model = model_of(tokenizer, options)
    name = name_of(getattr(model, "tokenizer", unwrapped(tokenizer)))
    object_state.refuse_unready(name, modules)
    own = object_state.own_modules(unwrapped(tokenizer), modules)
    lies, computes = object_state.device_of(own), object_state.dtype_of(own)
    _check_asked(name, model, lies, computes, device, dtype)
    if isinstance(model, TrainingLoopModel):
        model.device, model.dtype = lies or device or "cpu", computes or "float32"
        model.count(own)
    digest = object_state.digest_of(unwrapped(tokenizer), outermost(modules))
    return ObjectModel(model, lies or device or "cpu", computes or "float32", digest)


def model_of(tokenizer: Any, options: Mapping[str, str]) -> Tokenizer | ClosedSystem:
    """What an object is asked by; refuses a class, a generator, and what has no encode and decode."""
    if isinstance(tokenizer, type):
        raise VtbenchError(f"{tokenizer.__name__} is a class: give an object of it, {tokenizer.__name__}(…)")
    inner = unwrapped(tokenizer)
    adopting = registry.adopting(inner)
    if adopting is not None:
        adoption, card = adopting
        chosen = {**card.options, **registry.parse_options(card, options)}
        model: Tokenizer = adoption.adopt(inner, card, chosen)
        return model
    if isinstance(inner, Generator):
        raise VtbenchError(f"{name_of(inner)} is a generator object: register it, and evaluate it by its name")
    if options:
        raise VtbenchError(
            f"{name_of(inner)} is loaded already: it takes no --option; set {', '.join(options)} on the object itself"
        )
    if isinstance(inner, Tokenizer | ClosedSystem):
        return inner
    if callable(getattr(inner, "encode", None)) and callable(getattr(inner, "decode", None)):
        return TrainingLoopModel(inner)
    raise VtbenchError(f"{name_of(inner)} is no tokenizer: give a registered name, or an object with encode and decode")


def _check_asked(
    name: str, model: Any, lies: str | None, computes: str | None, device: str | None, dtype: str | None
) -> None:
    """Refuses a device or dtype that is not the object's own: nothing is moved or converted under a training loop."""
    if device is not None and lies is not None and not object_state.same_device(device, lies):
        raise VtbenchError(f"{name} lies on {lies}: move it to {device} yourself, or leave out device=")
    if device is not None and lies is None and device != "cpu" and not isinstance(model, TrainingLoopModel):
        raise VtbenchError(f"{name} holds no tensors that could lie on {device}: leave out device=")
    if dtype is not None and dtype != (computes or "float32"):
        has = f"computes in {computes}" if computes else "holds no parameters, so images reach it in float32"
        raise VtbenchError(f"{name} {has}: convert it to {dtype} yourself, or leave out dtype=")


@contextlib.contextmanager
def measuring(tokenizer: Any) -> Iterator[None]:
    """An object while it is measured: its modules in eval mode and their sharded weights gathered, and afterwards as
    they were. A name in place of an object is left alone."""
    if isinstance(tokenizer, str):
        yield
        return
    modules = held_modules(tokenizer)
    with contextlib.ExitStack() as stack:
        with asking(tokenizer):
            stack.enter_context(in_eval_mode(modules))
            stack.enter_context(gathering(modules))
        yield


@contextlib.contextmanager
def asking(tokenizer: Any) -> Iterator[None]:
    """Around what an object is asked before it is measured: whatever it raises or prints, it is named for."""
    try:
        with outside():
            yield
    except VtbenchError:
        raise
    except RAISED as bad:
        name = type(tokenizer).__name__
        raise VtbenchError(f"{name} cannot be taken as a model: it raised {type(bad).__name__}: {bad}", code=1) from bad
