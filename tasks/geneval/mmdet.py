"""The reference's own detector: mmdet's Mask2Former (Swin-S, COCO instances), in transformers' Mask2Former.

Architecture and numbers: open-mmlab/mmdetection, configs/mask2former/mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco.py
and the files that it is based on. Names of parameters are those of mmdet 3 and, where they differ, of mmdet 2
(mmdet/models/: backbones/swin.py, layers/msdeformattn_pixel_decoder.py, dense_heads/mask2former_head.py,
layers/transformer/detr_layers.py). Three things are stored otherwise: queries, keys and values of Swin's attention in
one matrix, those of the decoder's self-attention too, and the columns that merge four patches by channel rather than by
patch.

A released file is known by the first eight digits of its sha256, which stand in its name as mmdet's
tools/model_converters/publish_model.py writes it, in the address of GenEval's own evaluation/download_models.sh: that
of mmdet 2 since its commit c04898e (July 2024), that of mmdet 3 before, of one training (20220504_001756).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtbench.tasks.geneval.vocabulary import COCO
from vtbench.types.errors import MissingExtra, VtbenchError

if TYPE_CHECKING:
    import numpy as np
    import torch

FILE = "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth"
FILE_OF_MMDET_3 = "mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco_20220504_001756-c9d0c4f2.pth"
RELEASED = tuple(name.removesuffix(".pth").rpartition("-")[2] for name in (FILE, FILE_OF_MMDET_3))
"""The first digits of their sha256."""
SWIN = {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7}
SHORT, LONG, MULTIPLE = 800, 1333, 32
"""Sides in pixels that a picture is scaled to fit, and what both are padded to a multiple of."""
MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

_BLOCK = r"backbone\.stages\.(\d+)\.blocks\.(\d+)\."
_HF_BLOCK = r"model.pixel_level_module.encoder.swin.encoder.layers.\1.blocks.\2."
_ENCODER = r"panoptic_head\.pixel_decoder\.encoder\.layers\.(\d+)\."
_HF_ENCODER = r"model.pixel_level_module.decoder.encoder.layers.\1."
_DECODER = r"panoptic_head\.transformer_decoder\.layers\.(\d+)\."
_HF_DECODER = r"model.transformer_module.decoder.layers.\1."
_PIXELS, _HF_PIXELS = r"panoptic_head\.pixel_decoder\.", "model.pixel_level_module.decoder."
_HF_SWIN = "model.pixel_level_module.encoder.swin."
_HF_NORMS = "model.pixel_level_module.encoder.hidden_states_norms"
_HF_MASKS = "model.transformer_module.decoder.mask_predictor.mask_embedder"
_FIRST, _SECOND = r"ffns?(?:\.0)?\.layers\.0\.0\.(\w+)", r"ffns?(?:\.0)?\.layers\.1\.(\w+)"
NAMES = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (r"backbone\.patch_embed\.projection\.(\w+)", _HF_SWIN + r"embeddings.patch_embeddings.projection.\1"),
        (r"backbone\.patch_embed\.norm\.(\w+)", _HF_SWIN + r"embeddings.norm.\1"),
        (_BLOCK + r"norm1\.(\w+)", _HF_BLOCK + r"layernorm_before.\3"),
        (_BLOCK + r"norm2\.(\w+)", _HF_BLOCK + r"layernorm_after.\3"),
        (
            _BLOCK + r"attn\.w_msa\.relative_position_bias_table",
            _HF_BLOCK + "attention.relative_position_bias.relative_position_bias_table",
        ),
        (_BLOCK + r"attn\.w_msa\.proj\.(\w+)", _HF_BLOCK + r"attention.o_proj.\3"),
        (_BLOCK + _FIRST, _HF_BLOCK + r"mlp.fc1.\3"),
        (_BLOCK + _SECOND, _HF_BLOCK + r"mlp.fc2.\3"),
        (
            r"backbone\.stages\.(\d+)\.downsample\.(norm|reduction)\.(\w+)",
            _HF_SWIN + r"encoder.layers.\1.downsample.\2.\3",
        ),
        (_PIXELS + r"input_convs\.(\d+)\.conv\.(\w+)", _HF_PIXELS + r"input_projections.\1.0.\2"),
        (_PIXELS + r"input_convs\.(\d+)\.gn\.(\w+)", _HF_PIXELS + r"input_projections.\1.1.\2"),
        (_ENCODER + r"(?:self_attn|attentions\.0)\.(\w+)\.(\w+)", _HF_ENCODER + r"self_attn.\2.\3"),
        (_ENCODER + r"norms\.0\.(\w+)", _HF_ENCODER + r"self_attn_layer_norm.\2"),
        (_ENCODER + r"norms\.1\.(\w+)", _HF_ENCODER + r"final_layer_norm.\2"),
        (_ENCODER + _FIRST, _HF_ENCODER + r"fc1.\2"),
        (_ENCODER + _SECOND, _HF_ENCODER + r"fc2.\2"),
        (_PIXELS + r"level_encoding\.weight", _HF_PIXELS + "level_embed"),
        (_PIXELS + r"lateral_convs\.0\.conv\.(\w+)", _HF_PIXELS + r"adapter_1.0.\1"),
        (_PIXELS + r"lateral_convs\.0\.gn\.(\w+)", _HF_PIXELS + r"adapter_1.1.\1"),
        (_PIXELS + r"output_convs\.0\.conv\.(\w+)", _HF_PIXELS + r"layer_1.0.\1"),
        (_PIXELS + r"output_convs\.0\.gn\.(\w+)", _HF_PIXELS + r"layer_1.1.\1"),
        (_PIXELS + r"mask_feature\.(\w+)", _HF_PIXELS + r"mask_projection.\1"),
        (_DECODER + r"(?:cross_attn|attentions\.0)\.attn\.(in_proj_\w+|out_proj\.\w+)", _HF_DECODER + r"cross_attn.\2"),
        (_DECODER + r"(?:self_attn|attentions\.1)\.attn\.out_proj\.(\w+)", _HF_DECODER + r"self_attn.out_proj.\2"),
        (_DECODER + r"norms\.0\.(\w+)", _HF_DECODER + r"cross_attn_layer_norm.\2"),
        (_DECODER + r"norms\.1\.(\w+)", _HF_DECODER + r"self_attn_layer_norm.\2"),
        (_DECODER + r"norms\.2\.(\w+)", _HF_DECODER + r"final_layer_norm.\2"),
        (_DECODER + _FIRST, _HF_DECODER + r"fc1.\2"),
        (_DECODER + _SECOND, _HF_DECODER + r"fc2.\2"),
        (r"panoptic_head\.transformer_decoder\.post_norm\.(\w+)", r"model.transformer_module.decoder.layernorm.\1"),
        (r"panoptic_head\.query_embed\.weight", "model.transformer_module.queries_embedder.weight"),
        (r"panoptic_head\.query_feat\.weight", "model.transformer_module.queries_features.weight"),
        (r"panoptic_head\.level_embed\.weight", "model.transformer_module.level_embed.weight"),
        (r"panoptic_head\.cls_embed\.(\w+)", r"class_predictor.\1"),
        *((rf"backbone\.norm{stage}\.(\w+)", rf"{_HF_NORMS}.stage{stage + 1}.\1") for stage in range(4)),
        # Every other layer of mmdet's sequence is a ReLU.
        *((rf"panoptic_head\.mask_embed\.{2 * layer}\.(\w+)", rf"{_HF_MASKS}.{layer}.0.\1") for layer in range(3)),
    )
)
"""mmdet's names -> transformers' names, of tensors that are stored alike (columns of `downsample` aside)."""
SPLIT = (
    (re.compile(_BLOCK + r"attn\.w_msa\.qkv\.(weight|bias)"), _HF_BLOCK + r"attention.{}_proj.\3"),
    (
        re.compile(_DECODER + r"(?:self_attn|attentions\.1)\.attn\.in_proj_(weight|bias)"),
        _HF_DECODER + r"self_attn.{}_proj.\2",
    ),
)
"""mmdet's names of tensors that hold queries, keys and values one below the other."""
_COMPUTED = re.compile(r"backbone\..*\.relative_position_index|data_preprocessor\..*")
"""Constants that each side computes for itself."""
UNUSED = (_HF_SWIN + "layernorm.weight", _HF_SWIN + "layernorm.bias", "criterion.empty_weight")
"""transformers' parameters that no output depends on: the norm behind a backbone that has one for each stage, and the
weights of the loss."""
_BEFORE_5 = (
    (".encoder.swin.", ".encoder."),
    (".attention.relative_position_bias.", ".attention.self."),
    (".attention.q_proj.", ".attention.self.query."),
    (".attention.k_proj.", ".attention.self.key."),
    (".attention.v_proj.", ".attention.self.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)
"""Swin's names in transformers 5 -> those before it."""


@dataclass(frozen=True)
class Checkpoint:
    """A file of mmdet's weights: its tensors, its name and its sha256."""

    state: Mapping[str, torch.Tensor]
    file: str
    sha256: str

    @property
    def official(self) -> bool:
        """Whether it is a file that the reference downloads, by the digits of its hash that are published."""
        return self.sha256.startswith(RELEASED)


def to_transformers(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """mmdet's tensors under transformers' names and in its layout. Raises VtbenchError for a name that is none."""
    out: dict[str, torch.Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        if _COMPUTED.fullmatch(name):
            continue
        if fused := _renamed(SPLIT, name):
            out |= {fused.format(part): rows for part, rows in zip("qkv", tensor.chunk(3), strict=True)}
        elif key := _renamed(NAMES, name):
            out[key] = _by_patch(tensor) if ".downsample." in key else tensor
        else:
            unknown.append(name)
    if unknown:
        raise VtbenchError(
            f"{len(unknown)} names are none of mmdet's Mask2Former with a Swin backbone, such as {unknown[0]}: give "
            f"{FILE}, or the folder of a Mask2Former of transformers as --detector"
        )
    return out


def _renamed(table: Iterable[tuple[re.Pattern[str], str]], name: str) -> str | None:
    """What the first pattern of a table makes of a name; None where none is meant."""
    return next((match.expand(target) for pattern, target in table if (match := pattern.fullmatch(name))), None)


def _by_patch(tensor: torch.Tensor) -> torch.Tensor:
    """The last axis, (channel, row, column) of 2 x 2 patches as torch's Unfold has them, as (column, row, channel)."""
    return tensor.unflatten(-1, (-1, 2, 2)).movedim((-3, -2, -1), (-1, -2, -3)).flatten(-3)


def build(**more: Any) -> Any:
    """transformers' Mask2Former in mmdet's configuration, unfilled; more: of its config, for smaller ones."""
    try:
        from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
    except ImportError:
        raise MissingExtra("transformers", "hub", "GenEval's detector") from None
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone: dict[str, Any] = {"image_size": 224, "out_features": stages, **SWIN, **more.pop("swin", {})}
    # Sizes of the head are transformers' own defaults: 256 channels, 8 heads, 100 queries, 6 and 9 layers.
    sizes: dict[str, Any] = {"num_labels": len(COCO), **more}
    return Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=SwinConfig(**backbone), **sizes))


def fill(network: Any, checkpoint: Checkpoint) -> Any:
    """The network with the checkpoint's tensors in it. Raises VtbenchError unless names and shapes are one to one."""
    tensors = in_version(to_transformers(checkpoint.state), network.state_dict())
    theirs = {name: tuple(tensor.shape) for name, tensor in needed(network).items()}
    ours = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if ours != theirs:
        wrong = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        raise VtbenchError(
            f"{checkpoint.file} is no mask2former_swin-s of mmdet: {len(wrong)} tensors are missing, too many or of "
            f"other shapes, such as {wrong[0]}: give {FILE}"
        )
    network.load_state_dict(tensors, strict=False)
    return network


def in_version(tensors: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the transformers that is installed."""
    if any(".encoder.swin." in name for name in present):
        return dict(tensors)
    out = {}
    for name, tensor in tensors.items():
        for new, old in _BEFORE_5 if ".encoder.swin." in name else ():
            name = name.replace(new, old)
        out[name] = tensor
    return out


def needed(network: Any) -> dict[str, torch.Tensor]:
    """The network's tensors that an output depends on and that it does not compute for itself."""
    present = network.state_dict()
    unused = in_version(dict.fromkeys(UNUSED), present)
    return {k: v for k, v in present.items() if k not in unused and not k.endswith(".relative_position_index")}


def prepare(rgb: np.ndarray[Any, Any]) -> tuple[torch.Tensor, tuple[int, int]]:
    """uint8 (H, W, 3) -> float32 (1, 3, h, w) as mmdet's test pipeline makes it, and the size without its padding.

    Scaled to fit 1333 x 800 by OpenCV's bilinear interpolation of bytes, normalised, padded with zeros on the right and
    at the bottom (Resize, Normalize, Pad).
    """
    import cv2
    import numpy as np
    import torch

    height, width = rgb.shape[:2]
    scale = min(LONG / max(height, width), SHORT / min(height, width))
    size = (int(width * scale + 0.5), int(height * scale + 0.5))
    scaled = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    normal = (scaled - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    rows, columns = normal.shape[:2]
    padded = np.pad(normal, ((0, -rows % MULTIPLE), (0, -columns % MULTIPLE), (0, 0)))
    return torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[None], (rows, columns)
