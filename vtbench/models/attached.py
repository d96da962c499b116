"""A vision-language model whose parts are called one by one: what every family answers in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from vtbench.models.attach import Blocks
from vtbench.models.attach_decoder import LanguageModel
from vtbench.models.cutting import Flow
from vtbench.types.reduction import Needs, TowerView

if TYPE_CHECKING:
    from torch import Tensor


Shrinks = Literal["picture", "pixels", "no"]


class Attached(ABC):
    """A vision-language model whose parts are called one by one. Every `inputs` is one prompt with one picture, as the
    model's processor gives it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.decoder = LanguageModel(model.model.language_model, model.lm_head)
        self.placeholder = int(model.config.image_token_id)

    @abstractmethod
    def refuse(self, needs: Needs) -> None:
        """Raises VtbenchError for what this tower cannot show."""

    @abstractmethod
    def look(self, inputs: Mapping[str, Any], needs: Needs, seed: int) -> list[TowerView]:
        """What the tower made of the picture, one view a tile (one in all where the model has no tiles)."""

    @abstractmethod
    def project(self, rows: Tensor) -> Tensor:
        """(M, D), tokens of the language model, of rows (M, C) of the tower's output."""

    @property
    @abstractmethod
    def projector(self) -> Any:
        """The module that makes tokens of the language model, whether `look` or `project` calls it."""

    def pack(self, inputs: Mapping[str, Any], tiles: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The picture's whole sequence (N, D) of its tiles' projected tokens, and int64 (N,): which of their tokens,
        counted through, stands at each place; -1 for a token of the model's own."""
        import torch

        return torch.cat(list(tiles)), torch.arange(sum(map(len, tiles)), device=tiles[0].device)

    def places(self, inputs: Mapping[str, Any]) -> Tensor:
        """int64 (L,), or (3, L) of M-RoPE: the positions of the whole prompt."""
        import torch

        ids = inputs["input_ids"]
        return torch.arange(ids.shape[1], device=ids.device)

    shrinks: Shrinks = "no"
    """How a smaller picture is read: as any other picture, by the processor; by shrinking what the processor gives; not
    at all (a picture of several tiles)."""

    inside: Blocks | None = None
    """The tower's blocks whose output goes on, where tokens can be cut between them."""
    not_inside: str = ""
    """Why they cannot."""

    tile: int = 0
    """Tokens of one picture or tile there."""

    def embedded(self, inputs: Mapping[str, Any]) -> list[Flow]:
        """What goes into `inside`, one a tile."""
        raise NotImplementedError

    def unread(self, x: Tensor) -> Tensor:
        """(B, L, C) through the blocks behind `inside`, which the model itself runs and does not read."""
        raise NotImplementedError

    three: bool = False
    """Whether a position is three numbers (M-RoPE)."""

    def side(self) -> int:
        """Pixels of a picture that one token stands for, along one side."""
        raise NotImplementedError

    def small(self, inputs: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
        """(height * width, D): tokens of the picture shrunk to a grid of that size, where `shrinks` is "pixels"."""
        raise NotImplementedError

    @property
    def tower_depth(self) -> int:
        """Layers of the vision tower."""
        raise NotImplementedError

    def embed(self, ids: Tensor) -> Tensor:
        """(…, D) of token ids (…,)."""
        out: Tensor = self.model.get_input_embeddings()(ids)
        return out

    @property
    def width(self) -> int:
        """Numbers of one of the language model's tokens."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the language model was made for."""
        return int(self.decoder.decoder.config.max_position_embeddings)

    def stops(self) -> tuple[int, ...]:
        """Token ids that end an answer."""
        stated = getattr(self.model.generation_config, "eos_token_id", None)
        if stated is None:
            stated = getattr(self.decoder.decoder.config, "eos_token_id", None)
        return tuple(stated) if isinstance(stated, list | tuple) else () if stated is None else (int(stated),)
