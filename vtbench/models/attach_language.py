"""Vision-language models of transformers 5: the picture's way from the processor to the language model's input.

This file knows what LLaVA, LLaVA-NeXT, Qwen2-VL and Qwen2.5-VL call their parts (modeling_llava.py,
modeling_llava_next.py, modeling_qwen2_vl.py, modeling_qwen2_5_vl.py of 5.24). The models refuse a prompt whose
placeholders do not match the tower's features, so that fewer features cannot be handed to them: the embeddings that
they would build are built here, with the picture's tokens that go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vtbench.models.attach import ARCHITECTURES, Blocks, Seen
from vtbench.models.attach_qwen_tower import received_by_merged
from vtbench.models.attached import Attached, Shrinks
from vtbench.models.cutting import Flow, started
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Needs, TowerView

if TYPE_CHECKING:
    from torch import Tensor


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
        self.inside = self.blocks.first(self._read_at)
        self.tile = self.tile_grid[0] * self.tile_grid[1]
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
        views = []
        for tile in range(len(pixels)):
            views.append(
                TowerView(
                    features[tile, self.prefix :],
                    self.tile_grid,
                    prefix=self.prefix,
                    rows={j: row[tile] for j, row in rows.items()},
                    received={j: one[tile] for j, one in received.items()},
                    keys={j: one[tile] for j, one in keys.items()},
                    queries={j: one[tile] for j, one in queries.items()},
                    hidden={j: states[j % depth + 1][tile] for j in needs.hidden},
                    lead=features[tile, : self.prefix],
                    tiles=(self.tile_grid,) * len(pixels) if len(pixels) > 1 else (),
                    seed=seed,
                )
            )
        return views

    def embedded(self, inputs: Mapping[str, Any]) -> list[Flow]:
        return started(self.blocks.embedded(self.pixels(inputs), native=True), self.prefix, self.tile_grid)

    def unread(self, x: Tensor) -> Tensor:
        for number in range(self._read_at, len(self.blocks)):
            x, _ = self.blocks.through(number, x, Needs())
        return x

    @property
    def tile_grid(self) -> tuple[int, int]:
        side = int(self.model.config.vision_config.image_size) // self.side()
        return side, side

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
    not_inside = "its merger joins four neighbours of the whole grid to a token, so that none may be missing before it"

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
