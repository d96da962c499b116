"""What is measured: a model, a closed system, or pictures that somebody has. All give candidates for originals."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.images.pairing import check_pairs as check_pairs
from vtbench.images.pairing import pair_names as pair_names
from vtbench.images.pairing import stem as stem
from vtbench.images.seeds import image_seed as image_seed
from vtbench.speed import counting
from vtbench.types.adapter import ClosedSystem, Tokenizer
from vtbench.types.cards import Card, Fixed, Multiple
from vtbench.types.errors import VtbenchError, near
from vtbench.types.tokens import Tokens

if TYPE_CHECKING:
    import torch

    from vtbench.images import Service, View
    from vtbench.suite import Suite
    from vtbench.types.item import Item


@dataclass
class Produced:
    """Candidates of a batch of one size: float32 (B, 3, H, W), or uint8 where pictures were read.

    failed: {position in the batch: reason} for images that have no candidate; theirs is black and never scored.
    """

    images: torch.Tensor
    tokens: Tokens | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    ceiling: torch.Tensor | None = None
    """Where images were resized for the model and back: the same without the model, float32 (B, 3, H, W)."""


class Subject(ABC):
    card: Card
    options: Mapping[str, Any]

    @abstractmethod
    def produce(self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item]) -> Produced:
        """images: float32 (B, 3, H, W) in [0, 1], the task's view."""

    def parameter_count(self) -> int | None:
        return None

    def check(self, items: Sequence[Item], suite: Suite, view: View) -> None:  # noqa: B027
        """Refuses a question that makes no sense, before anything is written."""


def synchronize(device: str) -> None:
    """Waits for the device, so that a clock read afterwards means something."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(torch.device(device))
    elif device.startswith("mps"):
        import torch

        torch.mps.synchronize()


class ModelSubject(Subject):
    """A loaded Tokenizer or ClosedSystem, served by the task's rule where the image's size does not fit."""

    def __init__(self, model: Tokenizer | ClosedSystem, fit: str) -> None:
        self.model, self.card, self.fit = model, model.card, fit
        self.options = dict(model.options)
        self.device = model.device
        self._one_at_a_time = threading.Lock()
        self.counts = False
        """Set by the runner for a batch whose time does not count: its multiply-accumulates are counted."""
        self.macs: tuple[float, float] | None = None
        """Of encoding and of decoding one image, of the last batch that was counted."""

    def parameter_count(self) -> int | None:
        return self.model.parameter_count()

    def produce(self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item]) -> Produced:
        # Metrics of stability ask the model again from their own thread; one batch at a time goes through it.
        import torch

        with self._one_at_a_time, torch.no_grad():
            made = self._produce(images, seeds)
            # An object from a training loop states no card: what it is shows in its tokens.
            self.card = self.model.card
            return made

    def _produce(self, images: torch.Tensor, seeds: Sequence[int]) -> Produced:
        import torch

        from vtbench.images import serve

        height, width = int(images.shape[2]), int(images.shape[3])
        service = serve(self.card.sizes, height, width, self.fit)
        given = service.to_model(images)
        if isinstance(self.model, ClosedSystem):
            start = time.perf_counter()
            made = self.model.reconstruct(given, list(seeds))
            took = time.perf_counter() - start
            blank = torch.zeros_like(images[0])
            failed = {i: m for i, m in enumerate(made) if isinstance(m, str)}
            whole = [blank if isinstance(m, str) else service.from_model(m[None])[0] for m in made]
            return Produced(torch.stack(whole), None, took, None, failed, service.record, self._ceiling(service, given))
        each = given.shape[0] // images.shape[0]
        many = [s for s in seeds for _ in range(each)] if each > 1 else list(seeds)
        budget = self.options[self.card.knob] if self.model.takes_budget and self.card.knob else None
        synchronize(self.device)
        start = time.perf_counter()
        with counting(self.counts) as encoding:
            tokens = self.model.encode(given, many) if budget is None else self.model.encode(given, many, budget)
        synchronize(self.device)
        middle = time.perf_counter()
        if not isinstance(tokens, Tokens):
            raise VtbenchError(
                f"{self.card.name}: encode returned {type(tokens).__name__}; return Codes, Latents or Bitstream", code=1
            )
        if len(tokens) != given.shape[0]:
            raise VtbenchError(
                f"{self.card.name}: encode made tokens of {len(tokens)} images out of {len(given)}", code=1
            )
        with counting(self.counts) as decoding:
            out = self.model.decode(tokens, many)
        if self.counts:
            self.macs = encoding() / images.shape[0], decoding() / images.shape[0]
        out = out.detach() if isinstance(out, torch.Tensor) else out
        synchronize(self.device)
        end = time.perf_counter()
        self._refuse(out, given)
        out = service.from_model(out.to("cpu", torch.float32))
        return Produced(out, tokens, middle - start, end - middle, record=service.record,
                        ceiling=self._ceiling(service, given))  # fmt: skip

    def _ceiling(self, service: Service, given: torch.Tensor) -> torch.Tensor | None:
        return service.from_model(given) if service.resizes else None

    def _refuse(self, out: Any, given: torch.Tensor) -> None:
        """What an adapter may not return, each with the mistake that it usually means."""
        import torch

        name = self.card.name
        if not isinstance(out, torch.Tensor) or not out.is_floating_point():
            kind = str(out.dtype) if isinstance(out, torch.Tensor) else type(out).__name__
            raise VtbenchError(f"{name}: decode returned {kind}; wanted a float tensor in [0, 1]", code=1)
        if tuple(out.shape) != tuple(given.shape):
            raise VtbenchError(
                f"{name}: decode returned shape {tuple(out.shape)} for images of {tuple(given.shape)}: "
                "return (B, 3, H, W) of the size in tokens.size, and state the sizes that fit on the card",
                code=1,
            )
        check_range(out, name)


def check_range(out: torch.Tensor, name: str) -> None:
    """Refuses NaN, and pictures that are plainly in another value range; an honest network overshoots only a little."""
    from vtbench.images import extremes

    low, high = extremes(out)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise VtbenchError(f"{name}: decode returned NaN or infinity: check the dtype and the weights", code=1)
    if high > 16 and low > -16 and float(out.median()) > 4:
        raise VtbenchError(
            f"{name}: decode returned values up to {high:.0f}: divide by 255, images are in [0, 1]", code=1
        )
    if -1.5 <= low < -0.5 and high <= 1.5 and float((out < -0.1).float().mean()) > 0.3:
        raise VtbenchError(
            f"{name}: decode returned values from {low:.2f} to {high:.2f}, which looks like [-1, 1]: "
            "return (x + 1) / 2, images are in [0, 1]",
            code=1,
        )


class FolderSubject(Subject):
    """`folder:DIR`: pictures that someone already has, paired with the originals by relative path without suffix."""

    def __init__(self, folder: Path, *, partial: bool = False) -> None:
        """partial: pictures that are missing are named in the rows (those of a run of which some images failed)."""
        from vtbench.suite import open_suite

        if not folder.is_dir():
            raise VtbenchError(f"folder:{folder} is not a folder: give the folder of the reconstructed images")
        self.suite = open_suite(str(folder))
        self.items = pair_names(self.suite.items, str(folder))
        self.folder, self.partial = folder, partial
        self.card = Card(
            name=f"folder:{folder.name}", family="folder", kind="closed", title=f"Images in {folder.name}",
            sizes=Multiple(1), note="images that somebody made elsewhere; their rate is unknown",
        )  # fmt: skip
        self.options = {}

    def check(self, items: Sequence[Item], suite: Suite, view: View) -> None:
        """Refuses folders that do not pair; sizes are read from headers alone."""
        if not self.partial:
            wanted = None if view.size is None else (view.size, view.size)
            check_pairs(suite, self.suite, str(self.folder), items=items, size_wanted=wanted)

    def produce(self, images: torch.Tensor, seeds: Sequence[int], items: Sequence[Item]) -> Produced:
        import numpy as np
        import torch

        out, failed = [], {}
        wanted = (int(images.shape[2]), int(images.shape[3]))
        for position, item in enumerate(items):
            found = self.items.get(stem(item.id))
            blank = np.zeros((*wanted, 3), np.uint8)
            if found is None:
                failed[position] = f"no image for {item.id}{near(stem(item.id), self.items)}"
                out.append(blank)
                continue
            try:
                rgb = self.suite.load(found)
            except VtbenchError as bad:
                failed[position] = str(bad)
                out.append(blank)
                continue
            if rgb.shape[:2] != wanted:
                failed[position] = f"{found.id} is {rgb.shape[1]}x{rgb.shape[0]}, the original {wanted[1]}x{wanted[0]}"
                rgb = blank
            out.append(rgb)
        return Produced(torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).contiguous(), failed=failed)


def sizes_text(card: Card) -> str:
    """The card's sizes in words."""
    if isinstance(card.sizes, Fixed):
        return f"{card.sizes.size} x {card.sizes.size}"
    least = f", at least {card.sizes.at_least}" if card.sizes.at_least > 1 else ""
    return f"multiples of {card.sizes.of}{least}" if card.sizes.of > 1 or least else "any"
