"""The interfaces that every model implements: Tokenizer, ClosedSystem, Generator.

Images between functions are float32 RGB (B, 3, H, W) in [0, 1]; the adapter converts to what its network wants.
One seed an image, derived by the runner from the run's seed and the item's hash: a batch of four equals four of one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from vtbench.types.cards import Card
    from vtbench.types.tokens import Tokens


class Model(ABC):  # noqa: B024
    """What Tokenizer, ClosedSystem and Generator share: a card, resolved options, loading."""

    notes: Sequence[str] = ()
    """Sentences on what was loaded that a user should read; the record keeps them."""

    def __init__(self, card: Card, options: Mapping[str, Any] | None = None) -> None:
        """`options` are resolved already: every option of the card, each of its default's type."""
        self.card = card
        self.options: dict[str, Any] = {**card.options, **(options or {})}
        self.device = "cpu"
        self.dtype = "float32"

    def load(self, files: Mapping[str, Path], device: str = "cpu", dtype: str = "float32") -> None:  # noqa: B027
        """Builds the network on `device` in `dtype` from `files`, {role: path}; the core has found and verified them.

        Import heavy libraries here, never at the top of the file. A codec has nothing to load.
        """

    def parameter_count(self) -> int | None:
        """Number of parameters that inference uses; None where the word has no meaning."""
        return None


class Tokenizer(Model):
    """encode: images -> tokens; decode: tokens -> images; nothing passes from one to the other but the tokens."""

    takes_budget: bool = False
    """True if `encode` understands `budget`; its value comes from the option that the card calls its knob."""

    @abstractmethod
    def encode(self, images: torch.Tensor, seeds: Sequence[int], budget: float | None = None) -> Tokens:
        """images float32 (B, 3, H, W) in [0, 1], H and W as the card's `sizes` allow; returns B images' tokens."""

    @abstractmethod
    def decode(self, tokens: Tokens, seeds: Sequence[int]) -> torch.Tensor:
        """float32 (B, 3, H, W); values outside [0, 1] are clamped by the runner, NaN is an error.

        Where the card says `no_pixels`: the features that the tokens stand for, float32 (B, …).
        """

    def cost(self) -> Mapping[str, float]:
        """Of the last `decode`: network evaluations an image (`nfe`) where the decoder is a sampler; may be empty."""
        return {}


class ClosedSystem(Model):
    """Image in, image out, no tokens (an API): its rate is unknown, never invented."""

    @abstractmethod
    def reconstruct(self, images: torch.Tensor, seeds: Sequence[int]) -> list[torch.Tensor | str]:
        """For every image either float32 (3, H, W) in [0, 1], or the reason why there is none."""


@dataclass(frozen=True)
class Prompt:
    """One thing to generate: a text, or a class label, with what its scorer needs to know."""

    id: str
    text: str | None = None
    label: int | None = None
    rewritten: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Generator(Model):
    """prompts or labels -> images."""

    classes: int | None = None
    """How many it knows once it is loaded, labelled from 0; None where it has no classes, or does not say."""

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], seeds: Sequence[int]) -> torch.Tensor:
        """One image a prompt and seed, float32 (B, 3, H, W) in [0, 1]; sampler options are `self.options`."""

    def cost(self) -> Mapping[str, float]:
        """Of the last `generate`: network evaluations an image (`nfe`; a batch doubled for
        guidance counts once), `acceptance` of drafts, … ; may be empty."""
        return {}
