"""Vision-language models of transformers 5: the picture's way from the processor to the language model's input.

This file knows what LLaVA, LLaVA-NeXT, Qwen2-VL and Qwen2.5-VL call their parts (modeling_llava.py,
modeling_llava_next.py, modeling_qwen2_vl.py, modeling_qwen2_5_vl.py of 5.24). The models refuse a prompt whose
placeholders do not match the tower's features, so that fewer features cannot be handed to them: the embeddings that
they would build are built here, with the picture's tokens that go on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from vtbench.models.attach import ARCHITECTURES, Blocks, Seen
from vtbench.models.attach_decoder import LanguageModel
from vtbench.models.attach_qwen_tower import received_by_merged
from vtbench.types.errors import VtbenchError
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
    def longest(self) -> int:
        """Tokens of the longest sequence that the language model was made for."""
        return int(self.decoder.decoder.config.max_position_embeddings)

    def stops(self) -> tuple[int, ...]:
        """Token ids that end an answer."""
        stated = getattr(self.model.generation_config, "eos_token_id", None)
        if stated is None:
            stated = getattr(self.decoder.decoder.config, "eos_token_id", None)
        return tuple(stated) if isinstance(stated, list | tuple) else () if stated is None else (int(stated),)


class Llava(Attached):
    """LLaVA-1.5's way: one tower, one projector, every token of one layer."""

    shrinks: Shrinks = "pixels"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        tower = model.model.vision_tower
        known = ARCHITECTURES.get(type(tower).__name__)
        if known is None or not isinstance(model.config.vision_feature_layer, int):
            raise VtbenchError(
                f"the vision tower is a {type(tower).__name__} read at layer {model.config.vision_feature_layer}: "
                "wanted CLIP or SigLIP, read at one layer"
            )
        self.family = known.family
        self.blocks = Blocks(tower, known.family, int(tower.config.num_attention_heads))
        self.prefix = int(known.family.cls)
        if self.prefix and model.config.vision_feature_select_strategy != "default":
            raise VtbenchError(
                "the model gives its CLS token to the language model (vision_feature_select_strategy "
                f"{model.config.vision_feature_select_strategy}): wanted one that leaves it out (default)"
            )
        if not self.prefix and model.config.vision_feature_select_strategy == "default":
            raise VtbenchError(
                "the model drops the first token of a tower without a CLS token (vision_feature_select_strategy "
                "default): wanted full"
            )

    def pixels(self, inputs: Mapping[str, Any]) -> Tensor:
        """(tiles, 3, H, W) of the picture."""
        out: Tensor = inputs["pixel_values"]
        return out

    def refuse(self, needs: Needs) -> None:
        if self.prefix == 0 and (needs.cls or needs.rows):
            raise VtbenchError("the method reads a CLS token, and this tower has none: give a CLIP tower")

    def look(self, inputs: Mapping[str, Any], needs: Needs, seed: int) -> list[TowerView]:
        self.refuse(needs)
        pixels, blocks, depth = self.pixels(inputs), self.blocks, len(self.blocks)
        states, seen = self._through(pixels, needs, native=True)
        rows = {j: blocks.row(seen[j % depth]) for j in needs.rows}
        received = {j: _there(seen[j % depth].attention).mean(dim=(1, 2)) for j in needs.received}
        keys = {j: _there(seen[j % depth].k) for j in needs.keys}
        queries = {j: _there(seen[j % depth].q) for j in needs.queries}
        features = states[self._read_at]
        side = self.model.config.vision_config.image_size // self.side()
        views = []
        for tile in range(len(pixels)):
            views.append(
                TowerView(
                    features[tile, self.prefix :],
                    (side, side),
                    prefix=self.prefix,
                    rows={j: row[tile] for j, row in rows.items()},
                    received={j: one[tile] for j, one in received.items()},
                    keys={j: one[tile] for j, one in keys.items()},
                    queries={j: one[tile] for j, one in queries.items()},
                    hidden={j: states[j % depth + 1][tile] for j in needs.hidden},
                    lead=features[tile, : self.prefix],
                    tiles=((side, side),) * len(pixels) if len(pixels) > 1 else (),
                    seed=seed,
                )
            )
        return views

    @property
    def _read_at(self) -> int:
        """Which of the tower's hidden states goes on, the embeddings counted as the first."""
        return int(self.model.config.vision_feature_layer) % (len(self.blocks) + 1)

    @property
    def tower_depth(self) -> int:
        return len(self.blocks)

    def _through(self, pixels: Tensor, needs: Needs, *, native: bool) -> tuple[list[Tensor], dict[int, Seen]]:
        """Hidden states before the first block and behind each, and what was seen in it."""
        x = self.blocks.embedded(pixels, native=native)
        states, seen = [x], dict[int, Seen]()
        for number in range(len(self.blocks)):
            x, seen[number] = self.blocks.through(number, x, _of_block(needs, number, len(self.blocks)))
            states.append(x)
        return states, seen

    def side(self) -> int:
        return int(self.model.config.vision_config.patch_size)

    def small(self, inputs: Mapping[str, Any], size: tuple[int, int]) -> Tensor:
        from torch.nn.functional import interpolate

        pixels = self.pixels(inputs)
        target = size[0] * self.side(), size[1] * self.side()
        less = interpolate(pixels.float(), target, mode="bicubic", antialias=True).to(pixels.dtype)
        states, _ = self._through(less, Needs(), native=tuple(pixels.shape[2:]) == target)
        return self.project(states[self._read_at][0, self.prefix :])

    @property
    def projector(self) -> Any:
        return self.model.model.multi_modal_projector

    def project(self, rows: Tensor) -> Tensor:
        out: Tensor = self.projector(rows[None])[0]
        return out


def _there(seen: Tensor | None) -> Tensor:
    """What a block was asked to show; `Blocks` refuses what it cannot."""
    if seen is None:
        raise VtbenchError("a block did not show what a reducer reads", code=1)
    return seen


def _of_block(needs: Needs, number: int, depth: int) -> Needs:
    """What of the needs concerns one block."""

    def here(layers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(j for j in layers if j % depth == number)

    return Needs(here(needs.rows), here(needs.received), here(needs.keys), here(needs.queries))


class LlavaNext(Llava):
    """Several tiles, laid on their grid, unpadded, a token of the model's own behind each of its rows."""

    shrinks: Shrinks = "no"

    def pixels(self, inputs: Mapping[str, Any]) -> Tensor:
        out: Tensor = inputs["pixel_values"][0]
        height, width = self._tiles(inputs)
        return out[: 1 + height * width]

    def _tiles(self, inputs: Mapping[str, Any]) -> tuple[int, int]:
        from transformers.models.llava_next import modeling_llava_next

        config = self.model.config
        size = inputs["image_sizes"][0]
        shape: Any = modeling_llava_next.get_anyres_image_grid_shape
        height, width = shape(size, config.image_grid_pinpoints, config.vision_config.image_size)
        return int(height), int(width)

    def pack(self, inputs: Mapping[str, Any], tiles: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        import torch

        def packed(parts: Tensor, newline: Tensor) -> Tensor:
            whole, _ = self.model.model.pack_image_features(
                [parts], inputs["image_sizes"], vision_feature_select_strategy="default", image_newline=newline
            )
            out: Tensor = whole[0]
            return out

        features = torch.stack(list(tiles))
        # Their own numbers through the model's own packing say where each token went.
        numbers = torch.arange(features.shape[0] * features.shape[1], device=features.device, dtype=torch.float64)
        sources = packed(numbers.reshape(*features.shape[:2], 1), numbers.new_tensor([-1.0]))
        return packed(features, self.model.model.image_newline), sources[:, 0].long()


class Qwen(Attached):
    """Qwen2-VL's and Qwen2.5-VL's way: pictures of any size, four patches merged to a token, positions of three
    numbers."""

    shrinks: Shrinks = "picture"
    three = True

    def side(self) -> int:
        return int(self.model.config.vision_config.patch_size) * int(self.model.model.visual.spatial_merge_size)

    @property
    def tower_depth(self) -> int:
        return len(self.model.model.visual.blocks)

    def _merged(self, inputs: Mapping[str, Any]) -> tuple[int, int]:
        frames, height, width = inputs["image_grid_thw"][0].tolist()
        if frames != 1:
            raise VtbenchError(f"the prompt holds {frames} frames: give one picture", code=1)
        merge = int(self.model.model.visual.spatial_merge_size)
        return height // merge, width // merge

    def refuse(self, needs: Needs) -> None:
        lacking = [n for n in ("rows", "keys", "queries", "hidden") if getattr(needs, n)]
        if needs.cls or lacking:
            raise VtbenchError(
                f"the method reads {'a CLS token' if needs.cls else lacking[0]} of the tower, and Qwen's has no CLS "
                "token and merges its patches by four: give a LLaVA model, or a method that reads the tokens themselves"
            )

    def look(self, inputs: Mapping[str, Any], needs: Needs, seed: int) -> list[TowerView]:
        self.refuse(needs)
        visual: Any = self.model.model.visual
        received: dict[int, Tensor] = {}
        grid = self._merged(inputs)
        if needs.received:
            features, received = received_by_merged(visual, inputs, needs.received)
        else:
            out = visual(inputs["pixel_values"].to(visual.dtype), grid_thw=inputs["image_grid_thw"])
            features = out.pooler_output
        patches = int(inputs["image_grid_thw"][0].prod())
        return [TowerView(features, grid, received=received, seed=seed, extra={"queries": patches})]

    @property
    def projector(self) -> Any:
        return self.model.model.visual.merger

    def project(self, rows: Tensor) -> Tensor:
        return rows

    def places(self, inputs: Mapping[str, Any]) -> Tensor:
        places, _ = self.model.model.get_rope_index(
            inputs["input_ids"],
            inputs["mm_token_type_ids"],
            image_grid_thw=inputs["image_grid_thw"],
            attention_mask=inputs.get("attention_mask"),
        )
        out: Tensor = places[:, 0]
        return out


FAMILIES: Mapping[str, tuple[str, Callable[[Any], Attached]]] = {
    "llava": ("LlavaForConditionalGeneration", Llava),
    "llava_next": ("LlavaNextForConditionalGeneration", LlavaNext),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", Qwen),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", Qwen),
}
"""model_type of a configuration: the class of transformers, and how it is attached."""
