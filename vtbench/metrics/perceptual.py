"""DISTS, and the cosine similarity of CLIP and of DINOv2 features. All need weights: see vtbench.metrics.weights.

dists     1 - sum of structure and texture similarities of VGG-16 stages (Ding et al. 2020), piq's module, which first
          shrinks images whose shorter side is over 256 to 256 (bilinear, no antialias)
clip-sim  cosine of image embeddings, OpenAI CLIP ViT-B/32 (open_clip), 224 x 224 bicubic, squashed
dino-sim  cosine of class tokens, DINOv2 ViT-S/14 (timm), 224 x 224 bicubic, squashed
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtbench.metrics import weights
from vtbench.metrics._precision import full_float32
from vtbench.metrics.dinov2 import MEAN, STD, DinoFeatures, prepare
from vtbench.metrics.openai_clip import MEAN as CLIP_MEAN
from vtbench.metrics.openai_clip import STD as CLIP_STD
from vtbench.metrics.openai_clip import empty_network, tensors_of
from vtbench.models.pickles import is_script
from vtbench.types.errors import VtbenchError
from vtbench.types.metric import Batch, ImageMetric, MetricCard, Value

DISTS_CHANNELS = [3, 64, 128, 256, 512, 512]
DINO_MODEL = "vit_small_patch14_dinov2.lvd142m"
PIXELS_AT_ONCE = 2**17
"""Pixels that pass VGG-16 together."""


def _unverified(needs: Sequence[str]) -> str | None:
    sentences = [w for w in (weights.unverified(n) for n in needs) if w]
    return "; ".join(sentences) or None


@functools.lru_cache(maxsize=2)
def _dists(vgg: Path, alpha_beta: Path, device: str) -> Any:
    """piq's DISTS, built without its downloads: VGG-16 and the weights are the verified files."""
    import piq
    import torch
    from piq.perceptual import IMAGENET_MEAN, IMAGENET_STD, VGG16_LAYERS
    from torchvision.models import vgg16

    backbone = weights.load_state("vgg16", vgg)
    shares = weights.load_state("dists", alpha_beta)
    for name in ("alpha", "beta"):
        if name not in shares or shares[name].numel() != sum(DISTS_CHANNELS):
            raise VtbenchError(f"{alpha_beta} has no {name} of {sum(DISTS_CHANNELS)} values: give the weights of DISTS")
    with torch.device("meta"):
        features = vgg16().features
    state = {k.removeprefix("features."): v for k, v in backbone.items() if k.startswith("features.")}
    features.load_state_dict(state, assign=True)
    model = piq.DISTS.__new__(piq.DISTS)
    torch.nn.Module.__init__(model)
    # What piq's ContentLoss.__init__ sets, which would fetch both files.
    model.model = model.replace_pooling(features).requires_grad_(False).eval().to(device)
    model.layers = [VGG16_LAYERS[name] for name in ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")]
    model.weights = [
        part for name in ("alpha", "beta") for part in torch.split(shares[name].reshape(1, -1, 1, 1), DISTS_CHANNELS, 1)
    ]
    model.mean = torch.tensor(IMAGENET_MEAN).view(1, -1, 1, 1)
    model.std = torch.tensor(IMAGENET_STD).view(1, -1, 1, 1)
    model.normalize_features, model.reduction = False, "none"
    return model


class DISTS(ImageMetric):
    card = MetricCard(
        name="dists",
        title="DISTS",
        version=1,
        unit="",
        better="lower",
        bounds=(0.0, None),
        min_size=32,
        source="Ding et al. 2020 (arXiv:2004.07728); piq.DISTS",
        needs=("vgg16", "dists"),
    )

    def __init__(self) -> None:
        self.unverified: str | None = None
        self._model: Any = None
        self._device = "cpu"

    def load(self, device: str = "cpu") -> None:
        files = [weights.find(n) for n in self.card.needs]
        self.unverified = _unverified(self.card.needs)
        self._model, self._device = _dists(files[0], files[1], device), device

    def measure(self, batch: Batch) -> Sequence[Value]:
        import torch

        if self._model is None:
            self.load()
        out: list[float] = []
        pixels = int(batch.candidate.shape[2] * batch.candidate.shape[3])
        step = max(1, PIXELS_AT_ONCE // pixels)
        with torch.inference_mode(), full_float32():
            for start in range(0, len(batch), step):
                x, y = (
                    side[start : start + step].to(self._device).float() / 255
                    for side in (batch.reference.images, batch.candidate)
                )
                out += self._model(x, y).double().cpu().tolist()
        return [Value(v) for v in out]


def _cosines(left: Any, right: Any) -> list[Value]:
    """Cosine of paired feature rows, float32 (B, dim) each."""
    import numpy as np

    a, b = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return [
        Value(float(dot / length)) if length > 0 else Value(None, why="a feature vector is zero")
        for dot, length in zip((a * b).sum(axis=1), lengths, strict=True)
    ]


class _Similarity(ImageMetric):
    """Cosine of features; those of the originals are computed once for all candidates."""

    def __init__(self) -> None:
        self.unverified: str | None = None
        self._extract: Any = None

    def load(self, device: str = "cpu") -> None:
        file = weights.find(self.card.needs[0])
        self.unverified = _unverified(self.card.needs)
        self._extract = self._build(file, device)

    def _build(self, file: Path, device: str) -> Any:
        """A function of uint8 (B, 3, H, W) -> float32 (B, dim)."""
        raise NotImplementedError

    def measure(self, batch: Batch) -> Sequence[Value]:
        if self._extract is None:
            self.load()
        left = batch.reference.once(("features", self.card.name), lambda: self._extract(batch.reference.images))
        return _cosines(left, self._extract(batch.candidate))


@functools.lru_cache(maxsize=2)
def _dino(file: Path, device: str) -> Any:
    features = DinoFeatures(file, DINO_MODEL)
    features.load(device)
    return features.extract


class DinoSimilarity(_Similarity):
    card = MetricCard(
        name="dino-sim",
        title="Similarity of DINOv2 features",
        version=1,
        unit="",
        better="higher",
        source="cosine of DINOv2 ViT-S/14 class tokens (Oquab et al. 2023), Pillow bicubic to 224 x 224; timm",
        bounds=(-1.0, 1.0),
        needs=("dinov2-vit-s14",),
    )

    def _build(self, file: Path, device: str) -> Any:
        return _dino(file, device)


@functools.lru_cache(maxsize=2)
def _clip(file: Path, device: str) -> Any:
    import numpy as np
    import torch

    state = tensors_of(file) if is_script(file) else weights.load_state("clip-vit-b32-openai", file)
    model = empty_network("ViT-B-32")
    try:
        model.load_state_dict(state)
    except RuntimeError as bad:
        raise VtbenchError(f"{file.name} is not a state dict of CLIP ViT-B/32 ({str(bad)[:200]})") from bad
    model.requires_grad_(False).eval().to(device)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    # `prepare` normalises by ImageNet's numbers: back to [0, 1], then CLIP's own.
    imagenet_mean, imagenet_std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))

    def extract(images: Any) -> Any:
        with torch.inference_mode(), full_float32():
            x = (prepare(images) * imagenet_std + imagenet_mean - mean) / std
            return np.asarray(model.encode_image(x.to(device)).float().cpu().numpy())

    return extract


class ClipSimilarity(_Similarity):
    card = MetricCard(
        name="clip-sim",
        title="Similarity of CLIP features",
        version=1,
        unit="",
        better="higher",
        source="cosine of image embeddings of OpenAI CLIP ViT-B/32 (Radford et al. 2021), Pillow bicubic to 224 x 224; "
        "open_clip",
        bounds=(-1.0, 1.0),
        needs=("clip-vit-b32-openai",),
    )

    def _build(self, file: Path, device: str) -> Any:
        return _clip(file, device)


METRICS = (DISTS, ClipSimilarity, DinoSimilarity)
