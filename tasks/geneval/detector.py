"""GenEval's detector: images -> instances of COCO's classes with their masks.

The reference (djghosh13/geneval evaluation/evaluate_images.py, commit 16f1681) takes mmdet's Mask2Former Swin-S; here
it is transformers' Mask2Former: the same architecture, with mmdet's weights (vtbench.tasks.geneval.mmdet) prepared as
mmdet prepares pictures, or with others. From the network's output on (at most 100
instances, score = class x mean mask, boxes around the masks) the steps are mmdet's
(models/seg_heads/panoptic_fusion_heads/maskformer_fusion_head.py, instance_postprocess; core/mask/utils.py, mask2bbox).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.tasks.geneval import mmdet
from vtbench.tasks.geneval.verdicts import Detection
from vtbench.tasks.geneval.vocabulary import COCO
from vtbench.types.environment import offline
from vtbench.types.errors import MissingExtra, VtbenchError

if TYPE_CHECKING:
    import numpy as np

DETECTOR = "facebook/mask2former-swin-small-coco-instance"
MAX_INSTANCES = 100


@dataclass(frozen=True)
class Instance:
    """detection, and its mask (H, W) bool on the whole picture."""

    detection: Detection
    mask: np.ndarray[Any, Any]


class Detector:
    """Mask2Former with 80 COCO classes, from a folder or the hub (safetensors only), or mmdet's checkpoint."""

    def __init__(
        self,
        source: str = DETECTOR,
        revision: str | None = None,
        device: str = "cpu",
        checkpoint: mmdet.Checkpoint | None = None,
    ) -> None:
        import torch

        self.checkpoint = checkpoint
        network, stated = self._of_mmdet(checkpoint) if checkpoint is not None else self._of_folder(source, revision)
        network = torch.nn.Module.to(network, device=device, dtype=torch.float32)
        self.network: Any = network.eval().requires_grad_(False)
        self.device = device
        digest = state_hash(self.network.state_dict())
        self.record = {**stated, "sha256": digest, "max_instances": MAX_INSTANCES}

    @staticmethod
    def _of_mmdet(checkpoint: mmdet.Checkpoint) -> tuple[Any, dict[str, Any]]:
        stated = {"source": checkpoint.file, "sha256_file": checkpoint.sha256, "released": checkpoint.official}
        return mmdet.fill(mmdet.build(), checkpoint), stated

    def _of_folder(self, source: str, revision: str | None) -> tuple[Any, dict[str, Any]]:
        try:
            from transformers import AutoConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor
        except ImportError:
            raise MissingExtra("transformers", "hub", "GenEval's detector") from None
        where: dict[str, Any] = {"local_files_only": offline() or Path(source).is_dir(), "revision": revision}
        try:
            config = AutoConfig.from_pretrained(source, **where)
            if config.model_type != "mask2former" or config.num_labels != len(COCO):
                raise VtbenchError(
                    f"{source} is {config.model_type} with {config.num_labels} classes: GenEval's detector is a "
                    f"mask2former with COCO's {len(COCO)} classes in their order"
                )
            self.processor = Mask2FormerImageProcessor.from_pretrained(source, **where)
            network = Mask2FormerForUniversalSegmentation.from_pretrained(source, use_safetensors=True, **where)
        except VtbenchError:
            raise
        except Exception as bad:
            text = " ".join(str(bad).split())[:200]
            raise VtbenchError(
                f"the detector {source} cannot be loaded ({type(bad).__name__}: {text}): give the folder of a "
                "Mask2Former with --detector"
            ) from bad
        return network, {"source": source, "revision": getattr(config, "_commit_hash", None) or revision}

    def _prepared(self, rgb: np.ndarray[Any, Any]) -> tuple[Any, dict[str, Any], tuple[int, int]]:
        """Pixels (1, 3, h, w), what the network is told beside them, and their size without padding."""
        if self.checkpoint is not None:
            pixels, size = mmdet.prepare(rgb)
            return pixels, {}, size
        inputs = self.processor(images=rgb, return_tensors="pt")
        mask = inputs["pixel_mask"]
        rows, columns = (int(mask[0].any(dim=axis).sum()) for axis in (1, 0))
        return inputs["pixel_values"], {"pixel_mask": mask.to(self.device)}, (rows, columns)

    def detect(self, rgb: np.ndarray[Any, Any]) -> list[Instance]:
        """uint8 (H, W, 3) -> instances, best first."""
        import torch
        import torch.nn.functional as F

        pixels, beside, (rows, columns) = self._prepared(rgb)
        with torch.inference_mode():
            out = self.network(pixel_values=pixels.to(self.device), **beside)
            masks = out.masks_queries_logits.float()
            masks = F.interpolate(masks, size=pixels.shape[-2:], mode="bilinear", align_corners=False)
            # The padding is cut off before the masks go back to the picture's own size.
            masks = F.interpolate(masks[..., :rows, :columns], size=rgb.shape[:2], mode="bilinear", align_corners=False)
            classes = out.class_queries_logits[0].float().softmax(dim=-1)[:, :-1]
        return instances(classes.cpu(), masks[0].cpu())


def instances(classes: Any, masks: Any) -> list[Instance]:
    """classes (Q, 80) probabilities without "no object", masks (Q, H, W) logits -> instances, best first."""
    import torch

    count = min(MAX_INSTANCES, classes.numel())
    scores, places = classes.flatten().topk(count)
    out = []
    for score, place in zip(scores.tolist(), places.tolist(), strict=True):
        logits = masks[place // classes.shape[1]]
        inside = logits > 0
        area = float(inside.sum())
        mean = float((logits.sigmoid() * inside).sum()) / (area + 1e-6)
        box = (0.0, 0.0, 0.0, 0.0)
        if area:
            ys, xs = (torch.where(inside.any(dim=axis))[0] for axis in (1, 0))
            # mmdet's right and bottom lie outside.
            box = (float(xs[0]), float(ys[0]), float(xs[-1]) + 1, float(ys[-1]) + 1)
        name = COCO[place % classes.shape[1]]
        out.append(Instance(Detection(name, box, score * mean), inside.numpy()))
    return sorted(out, key=lambda f: -f.detection.score)


def state_hash(state: Mapping[str, Any]) -> str:
    """sha256 over names, shapes and float32 bytes of a state dict, whatever files it came from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
