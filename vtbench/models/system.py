"""What is measured: a model, a closed system, a generator, or pictures that somebody has."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.images.serving import serve
from vtbench.models.clocks import Clock
from vtbench.models.devices import turn
from vtbench.models.layouts import Layouts
from vtbench.models.macs import counting
from vtbench.models.outputs import Output, check_decoded, check_features, check_tokens, kind_of
from vtbench.types.adapter import ClosedSystem, Generator, Tokenizer
from vtbench.types.cards import Card, Kind
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.opened import Opened, noting
from vtbench.types.tokens import Tokens, counted

if TYPE_CHECKING:
    import torch

    from vtbench.images.serving import Service
    from vtbench.images.suite import Suite
    from vtbench.images.views import View


class System(ABC):
    """Gives candidates for originals. Nothing is set on it from outside, and asking it changes nothing of it."""

    card: Card
    options: Mapping[str, Any]
    device: str = "cpu"
    """Where it takes images; those that lie elsewhere it fetches."""
    states_kind: bool = True
    """False for an object of a training loop, whose card is a placeholder: its tokens say of what kind it is."""
    notes: Sequence[str] = ()
    """Sentences that a user should read: pictures that were left out of a folder."""
    opened: Opened | None = None
    """What it opens while it works, of somebody's own code."""

    dim: int | None = None
    """How many features it pools of a picture, where it reads pictures; None where it does not."""

    @abstractmethod
    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        """Candidates for the originals of one batch.

        images: float32 (B, 3, H, W) in [0, 1], the task's view, on whatever device: the candidates come back there.
        seeds: one an image. items: theirs, in order.
        count_macs: count multiply-accumulates, where the system has any; the times then mean nothing.
        """

    def served(self, fit: str) -> System:
        """The same system, its model served by another rule where an image's size does not fit."""
        return self

    def facts(self, items: Sequence[Item]) -> dict[str, str]:
        """What decides its candidates for these items beside what identifies its model, in plain values: how that is
        served, which pictures or tokens there are. Reads what it does not know yet."""
        return {}

    def parameter_count(self) -> int | None:
        return None

    def check(self, items: Sequence[Item], suite: Suite, view: View) -> None:  # noqa: B027
        """Refuses a question that makes no sense, before anything is written."""


class ModelSystem(System):
    """A loaded Tokenizer or ClosedSystem, served by the task's rule where the image's size does not fit."""

    def __init__(
        self,
        model: Tokenizer | ClosedSystem,
        fit: str,
        *,
        states_kind: bool = True,
        one_at_a_time: threading.Lock | None = None,
        opened: Opened | None = None,
    ) -> None:
        """fit: "resize" or "tiles", as `images.serve` takes it. states_kind: the card says which kind it is; that of an
        object from a training loop does not, its tokens do. one_at_a_time: the model's lock, shared by all who ask it:
        metrics of stability do so from their own thread. opened: notes the files that it opens while it works."""
        self.model, self.card, self.fit = model, model.card, fit
        self.options: Mapping[str, Any] = dict(model.options)
        self.device, self.notes = model.device, tuple(model.notes)
        self.states_kind = states_kind
        self.opened = opened
        self._layouts = Layouts(model.card.name)
        self._one_at_a_time = one_at_a_time or threading.Lock()

    def served(self, fit: str) -> ModelSystem:
        return ModelSystem(
            self.model, fit, states_kind=self.states_kind, one_at_a_time=self._one_at_a_time, opened=self.opened
        )

    def facts(self, items: Sequence[Item]) -> dict[str, str]:
        return {"fit": self.fit}

    def parameter_count(self) -> int | None:
        return self.model.parameter_count()

    def kind_of(self, tokens: Tokens | None) -> Kind:
        """What the system is: by its card, or by its tokens where the card does not say."""
        return self.card.kind if self.states_kind else kind_of(tokens) or self.card.kind

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        import torch

        service = serve(self.card.sizes, int(images.shape[2]), int(images.shape[3]), self.fit)
        # The device first: a metric that asks the model again has its turn on the device already.
        with turn(self.device), self._one_at_a_time, torch.no_grad(), noting(self.opened):
            if isinstance(self.model, ClosedSystem):
                return self._reconstruct(self.model, images, seeds, service)
            return self._encode_and_decode(self.model, images, seeds, service, count_macs)

    def _reconstruct(self, model: ClosedSystem, images: torch.Tensor, seeds: Sequence[int], service: Service) -> Output:
        import torch

        fitted = service.to_model(self._fetched(images))
        start = time.perf_counter()
        answers = model.reconstruct(fitted, list(seeds))
        seconds = time.perf_counter() - start
        blank = torch.zeros_like(images[0])
        return Output(
            torch.stack([blank if isinstance(a, str) else service.from_model(a[None])[0].to(blank) for a in answers]),
            encode_seconds=seconds,
            failed={i: a for i, a in enumerate(answers) if isinstance(a, str)},
            record=service.record,
            ceiling=_ceiling(service, fitted, images),
            kind=self.card.kind,
        )

    def _encode_and_decode(
        self, model: Tokenizer, images: torch.Tensor, seeds: Sequence[int], service: Service, count_macs: bool
    ) -> Output:
        import torch

        fitted = service.to_model(self._fetched(images))
        # Tiles of one image share its seed.
        tiles = fitted.shape[0] // images.shape[0]
        tile_seeds = [s for s in seeds for _ in range(tiles)] if tiles > 1 else list(seeds)
        size = int(fitted.shape[2]), int(fitted.shape[3])
        self._layouts.learn(size, self.device, lambda grey: self._encode(model, grey, [0]))
        clock = Clock(self.device)
        start = clock.mark()
        with counting(count_macs) as encoding:
            sent = self._ask(model, fitted, tile_seeds)
        middle = clock.mark()
        tokens = check_tokens(sent, self.card.name, fitted.shape)
        self._layouts.check(tokens)
        # A copy of its own: what a decoder does to its tokens moves no rate.
        received = counted(tokens)
        begin = clock.mark()
        with counting(count_macs) as decoding:
            decoded = model.decode(received, tile_seeds)
        decoded = decoded.detach() if isinstance(decoded, torch.Tensor) else decoded
        end = clock.mark()
        no_pixels = self.card.no_pixels
        if no_pixels is None:
            check_decoded(decoded, self.card.name, fitted.shape)
            pictures = service.from_model(decoded.to(images.device, torch.float32))
        else:
            check_features(decoded, self.card.name, len(fitted))
            pictures = torch.zeros_like(images)
        return Output(
            pictures,
            tokens,
            encode_seconds=clock.between(start, middle),
            decode_seconds=clock.between(begin, end),
            record=marked(service.record, no_pixels),
            ceiling=_ceiling(service, fitted, images) if no_pixels is None else None,
            macs=(encoding() / images.shape[0], decoding() / images.shape[0]) if count_macs else None,
            kind=self.kind_of(tokens),
            cost={name: float(value) * tiles for name, value in model.cost().items()},
            no_pixels=no_pixels,
        )

    def _fetched(self, images: torch.Tensor) -> torch.Tensor:
        """The images where the model takes them. What is no CUDA device fetches for itself, as it always has."""
        cuda = self.device.startswith("cuda")
        return images.to(self.device) if cuda or images.device.type == "cuda" else images

    def _ask(self, model: Tokenizer, images: torch.Tensor, seeds: Sequence[int]) -> Any:
        """What `encode` returns, with the budget of the options where it takes one."""
        if model.takes_budget and self.card.knob:
            return model.encode(images, seeds, self.options[self.card.knob])
        return model.encode(images, seeds)

    def _encode(self, model: Tokenizer, images: torch.Tensor, seeds: Sequence[int]) -> Tokens:
        return check_tokens(self._ask(model, images, seeds), self.card.name, images.shape)


def marked(record: Mapping[str, Any], no_pixels: str | None) -> dict[str, Any]:
    """How an image was served, for its row, with why it has no pixels: its set metrics are null for that."""
    return {**record, **({} if no_pixels is None else {"no_pixels": no_pixels})}


def _ceiling(service: Service, fitted: torch.Tensor, images: torch.Tensor) -> torch.Tensor | None:
    return service.from_model(fitted).to(images.device) if service.resizes else None


class GeneratorSystem(System):
    """A loaded Generator: it draws from prompts, so it has facts for the record and reconstructs nothing."""

    def __init__(self, generator: Generator, opened: Opened | None = None) -> None:
        self.generator, self.card, self.opened = generator, generator.card, opened
        self.options: Mapping[str, Any] = dict(generator.options)

    def parameter_count(self) -> int | None:
        return self.generator.parameter_count()

    def produce(
        self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item], *, count_macs: bool = False
    ) -> Output:
        raise VtbenchError(f"{self.card.name} is a generator: it reconstructs nothing", code=1)
