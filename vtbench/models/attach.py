"""Image towers of transformers 5, and what happens between their blocks: the file that knows their modules' names.

CLIP, SigLIP, DINOv2 (with registers or without) and ViT are sequences of blocks of one shape. `Blocks` sends a batch
through them as the model itself would, looks at what a reducer needs by hooks on q_proj, k_proj and the attention, and
cuts tokens before a block or between its attention and its MLP. Tried on transformers 5.24 (modeling_clip.py,
modeling_siglip.py, modeling_dinov2.py, modeling_dinov2_with_registers.py, modeling_vit.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vtbench.models.tower_pixels import Preparation
from vtbench.types.errors import VtbenchError
from vtbench.types.reduction import Needs

if TYPE_CHECKING:
    from torch import Tensor, nn

BICUBIC, BILINEAR = 3, 2
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Family:
    """Where a family keeps its parts, by dotted names below its vision model and below one block.

    cls: whether it has a CLS token. takes_size: whether `embeddings` must be told to interpolate its positions.
    prepared: how transformers' image processor of the family prepares pictures where nothing is stated.
    """

    blocks: str
    last_norm: str
    attention: str
    norms: tuple[str, str]
    prepared: Preparation
    first_norm: str | None = None
    scales: tuple[str, str] | None = None
    cls: bool = True
    takes_size: bool = True
    norm_of_pooled: bool = False
    """Whether the last norm is that of the CLS token alone, so that the tower's output stands before it."""


_CLIP = Family(
    "encoder.layers",
    "post_layernorm",
    "self_attn",
    ("layer_norm1", "layer_norm2"),
    Preparation(224, None, (224, 224), BICUBIC, CLIP_MEAN, CLIP_STD),
    first_norm="pre_layrnorm",
    norm_of_pooled=True,
)
_SIGLIP = Family(
    "encoder.layers",
    "post_layernorm",
    "self_attn",
    ("layer_norm1", "layer_norm2"),
    Preparation(None, (224, 224), None, BICUBIC, HALF, HALF),
    cls=False,
)
_DINO = Family(
    "encoder.layer",
    "layernorm",
    "attention",
    ("norm1", "norm2"),
    Preparation(256, None, (224, 224), BICUBIC, IMAGENET_MEAN, IMAGENET_STD),
    scales=("layer_scale1", "layer_scale2"),
    takes_size=False,
)
_VIT = Family(
    "layers",
    "layernorm",
    "attention",
    ("layernorm_before", "layernorm_after"),
    Preparation(None, (224, 224), None, BILINEAR, HALF, HALF),
)
Pool = Callable[[Any, Any, "Tensor", int], "Tensor"]
"""(network, vision model, the tower's output (B, L, C), tokens before the patches) -> (B, …)."""


def _first(network: Any, vision: Any, x: Tensor, prefix: int) -> Tensor:
    return x[:, 0]


def _first_normed(network: Any, vision: Any, x: Tensor, prefix: int) -> Tensor:
    pooled: Tensor = vision.post_layernorm(x[:, 0, :])
    return pooled


def _projected(network: Any, vision: Any, x: Tensor, prefix: int) -> Tensor:
    pooled: Tensor = network.visual_projection(_first_normed(network, vision, x, prefix))
    return pooled


def _attended(network: Any, vision: Any, x: Tensor, prefix: int) -> Tensor:
    pooled: Tensor = vision.head(x)
    return pooled


def _mean(network: Any, vision: Any, x: Tensor, prefix: int) -> Tensor:
    return x[:, prefix:, :].mean(dim=1)


def _first_and_mean(network: Any, vision: Any, x: Tensor, prefix: int) -> Tensor:
    import torch

    return torch.cat([x[:, 0], x[:, prefix:].mean(dim=1)], dim=1)


@dataclass(frozen=True)
class Architecture:
    """A class of transformers: its configuration's class, where its vision model lies, what it pools, and what its
    classifier reads. texts: it has a text model beside, which names classes."""

    config: str
    family: Family
    pool: Pool
    vision: str = ""
    classifies: Pool | None = None
    texts: bool = False
    build: Mapping[str, Any] = field(default_factory=dict)


ARCHITECTURES: Mapping[str, Architecture] = {
    "CLIPModel": Architecture("CLIPConfig", _CLIP, _projected, "vision_model", texts=True),
    "CLIPVisionModel": Architecture("CLIPVisionConfig", _CLIP, _first_normed),
    "CLIPVisionModelWithProjection": Architecture("CLIPVisionConfig", _CLIP, _projected, "vision_model"),
    "CLIPForImageClassification": Architecture("CLIPConfig", _CLIP, _first_normed, "vision_model", _mean),
    "SiglipModel": Architecture("SiglipConfig", _SIGLIP, _attended, "vision_model", texts=True),
    "SiglipVisionModel": Architecture("SiglipVisionConfig", _SIGLIP, _attended),
    "SiglipForImageClassification": Architecture("SiglipConfig", _SIGLIP, _attended, "vision_model", _mean),
    "Dinov2Model": Architecture("Dinov2Config", _DINO, _first),
    "Dinov2ForImageClassification": Architecture("Dinov2Config", _DINO, _first, "dinov2", _first_and_mean),
    "Dinov2WithRegistersModel": Architecture("Dinov2WithRegistersConfig", _DINO, _first),
    "Dinov2WithRegistersForImageClassification": Architecture(
        "Dinov2WithRegistersConfig", _DINO, _first, "dinov2_with_registers", _first_and_mean
    ),
    # The pooler of ViT is untrained in most checkpoints, and in many not there: the CLS token itself is taken.
    "ViTModel": Architecture("ViTConfig", _VIT, _first, build={"add_pooling_layer": False}),
    "ViTForImageClassification": Architecture("ViTConfig", _VIT, _first, "vit", _first),
}
DEFAULT = {
    "clip": "CLIPModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipModel",
    "siglip_vision_model": "SiglipVisionModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "vit": "ViTModel",
}
"""model_type of a configuration to the class that is built where it names none of ours; the image towers there are."""
PATCH_READERS: tuple[Pool, ...] = (_attended, _mean, _first_and_mean)
"""What reads the patches of a tower's output, not its CLS token alone."""


def part(module: Any, name: str) -> Any:
    """The module of a dotted name; the module itself for the empty one."""
    for word in filter(None, name.split(".")):
        module = getattr(module, word)
    return module


@dataclass(frozen=True)
class Seen:
    """What was looked at in one block, of a batch: q, k (B, L, D), attention (B, heads, L, L) where it was asked for
    and eager, out (B, L, C) behind the block."""

    q: Tensor | None = None
    k: Tensor | None = None
    attention: Tensor | None = None
    out: Tensor | None = None


class Blocks:
    """The blocks of one vision model, one after the other."""

    def __init__(self, vision: nn.Module, family: Family, heads: int) -> None:
        self.vision, self.family, self.heads = vision, family, heads
        self.blocks: Sequence[Any] = list(part(vision, family.blocks))

    def __len__(self) -> int:
        return len(self.blocks)

    def first(self, count: int) -> Blocks:
        """So many of them, as if there were no more."""
        out = Blocks(self.vision, self.family, self.heads)
        out.blocks = self.blocks[:count]
        return out

    def embedded(self, pixels: Tensor, native: bool) -> Tensor:
        """(B, L, C) in front of the first block. native: whether the pictures have the size of the configuration."""
        more = {"interpolate_pos_encoding": True} if self.family.takes_size and not native else {}
        x = part(self.vision, "embeddings")(pixels, **more)
        out: Tensor = x if self.family.first_norm is None else part(self.vision, self.family.first_norm)(x)
        return out

    def finished(self, x: Tensor) -> Tensor:
        """The tower's output, of what stands behind the last block."""
        out: Tensor = x if self.family.norm_of_pooled else part(self.vision, self.family.last_norm)(x)
        return out

    def through(self, number: int, x: Tensor, needs: Needs, bias: Tensor | None = None) -> tuple[Tensor, Seen]:
        """One block. bias: (B, 1, 1, L), added to the scores of the keys before the softmax."""
        block = self.blocks[number]
        with self._looking(block, needs) as seen:
            out = block(x, bias)
        return out, Seen(seen.get("q"), seen.get("k"), seen.get("attention"), out)

    def attended(self, number: int, x: Tensor, needs: Needs, bias: Tensor | None = None) -> tuple[Tensor, Seen]:
        """The first half of a block: (B, L, C) behind its attention and the first residual sum."""
        block = self.blocks[number]
        with self._looking(block, needs) as seen:
            y = part(block, self.family.attention)(part(block, self.family.norms[0])(x), attention_mask=bias)[0]
        if self.family.scales is not None:
            y = part(block, self.family.scales[0])(y)
        out = x + y
        return out, Seen(seen.get("q"), seen.get("k"), seen.get("attention"), out)

    def widened(self, number: int, x: Tensor) -> Tensor:
        """The second half: its MLP and the second residual sum."""
        block = self.blocks[number]
        y = block.mlp(part(block, self.family.norms[1])(x))
        if self.family.scales is not None:
            y = part(block, self.family.scales[1])(y)
        out: Tensor = x + y
        return out

    def row(self, seen: Seen, bias: Tensor | None = None) -> Tensor:
        """(B, heads, L): the first token's attention after the softmax, from q and k of the block."""
        assert seen.q is not None
        assert seen.k is not None
        q, k = (t.reshape(*t.shape[:2], self.heads, -1).transpose(1, 2) for t in (seen.q[:, :1], seen.k))
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        if bias is not None:
            scores = scores + bias
        out: Tensor = scores.float().softmax(dim=-1)[:, :, 0].to(q.dtype)
        return out

    @contextlib.contextmanager
    def _looking(self, block: Any, needs: Needs) -> Iterator[dict[str, Tensor]]:
        """A table that holds what was asked for once the block has run."""
        seen: dict[str, Tensor] = {}
        attention = part(block, self.family.attention)

        def keep(name: str) -> Callable[..., None]:
            def hook(module: Any, inputs: Any, output: Any) -> None:
                seen[name] = output[1] if name == "attention" else output

            return hook

        wanted: list[tuple[Any, str]] = []
        if needs.rows or needs.queries:
            wanted.append((attention.q_proj, "q"))
        if needs.rows or needs.keys:
            wanted.append((attention.k_proj, "k"))
        if needs.received:
            wanted.append((attention, "attention"))
        hooks = [module.register_forward_hook(keep(name)) for module, name in wanted]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()
        if needs.received and seen.get("attention") is None:
            raise VtbenchError(
                "a whole attention map is needed, which only eager attention gives: pass attention=eager"
            )
