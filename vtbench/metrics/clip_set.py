"""CLIP: does the image show what the prompt says (clip-score), and do two sets look alike to CLIP (cmmd).

`clip-score`: 100 x max(cosine, 0) of image and text features of ViT-B/32 (Hessel et al. 2021, arXiv:2104.08718, with
the factor 100 of torchmetrics and GenEval's neighbours rather than 2.5). `cmmd`: 1000 x the biased squared MMD of
normalised image features with a Gaussian kernel of sigma 10 (Jayasumana et al. 2024, arXiv:2401.09603). The paper
takes ViT-L/14 at 336 pixels, and so does `cmmd`; it needs no normality and few images. Version 2 of both: images are
resized and cropped as by open_clip's own transform; version 1 was up to a pixel beside it where sides are odd.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtbench.metrics import weights
from vtbench.metrics._precision import full_float32
from vtbench.metrics.moments import Statistics
from vtbench.metrics.openai_clip import open_model, prepare
from vtbench.types.metric import Batch, Extractor, ImageMetric, MetricCard, SetMetric, SetValue, Value

B32, L14 = "clip-vit-b32-openai", "clip-vit-l14-336-openai"
SIGMA, SCALE = 10.0, 1000.0
_BLOCK = 2048


class ClipFeatures(Extractor):
    """Normalised image features (B, dim) float32."""

    def __init__(self, path: Path | None = None, model: str = "ViT-L-14-336", name: str = L14, dim: int = 768) -> None:
        self.path, self._model, self._name, self.dim = path, model, name, dim
        self._net: Any = None

    @property
    def id(self) -> str:  # type: ignore[override]
        own = weights.unverified_mark(self._name, self.path)
        return f"{self._name}{own}/{self._model}/pillow-bicubic-crop/normalised"

    def unverified(self) -> str | None:
        return weights.unverified(self._name, self.path)

    def load(self, device: str = "cpu") -> None:
        if self._net is None:
            self._net, _, self._side = open_model(self._model, self._name, self.path, device)
            self._device = device

    def extract(self, images: Any) -> Any:
        import torch

        self.load()
        with torch.inference_mode(), full_float32():
            features = self._net.encode_image(prepare(images, self._side).to(self._device), normalize=True)
        return features.float().cpu().numpy()


def mmd(reference: Any, candidate: Any, sigma: float = SIGMA) -> float:
    """Biased squared MMD of two sets (m, d), (n, d) with exp(-|x - y|^2 / (2 sigma^2)), in blocks, times 1000."""
    import numpy as np

    def mean(a: Any, b: Any) -> float:
        total = 0.0
        for i in range(0, len(a), _BLOCK):
            x = np.asarray(a[i : i + _BLOCK], dtype=np.float64)
            for j in range(0, len(b), _BLOCK):
                y = np.asarray(b[j : j + _BLOCK], dtype=np.float64)
                squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
                total += float(np.exp(-np.maximum(squared, 0) / (2 * sigma**2)).sum())
        return total / (len(a) * len(b))

    return SCALE * (mean(reference, reference) + mean(candidate, candidate) - 2 * mean(reference, candidate))


class Cmmd(SetMetric):
    """cmmd."""

    card = MetricCard(
        name="cmmd",
        title="CMMD",
        version=2,
        unit="",
        better="lower",
        source="Jayasumana et al. 2024: CLIP ViT-L/14 336, Gaussian kernel of sigma 10, times 1000",
        bounds=(0.0, None),
        kind="set",
        needs=(L14,),
        reduction="squared MMD of the two sets",
        paired=False,
    )

    def __init__(self, features: ClipFeatures | None = None) -> None:
        self._extractor = features or ClipFeatures()

    def extractor(self) -> Extractor:
        return self._extractor

    def load(self, device: str = "cpu") -> None:
        self._extractor.load(device)

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        if isinstance(reference, Statistics) or isinstance(candidate, Statistics):
            return SetValue(None, why="CMMD needs the features of both sets; a file of moments does not hold them")
        if min(len(reference), len(candidate)) < 2:
            return SetValue(None, why="CMMD needs at least two images of each set")
        details = {"extractor": self._extractor.id}
        value = mmd(reference, candidate)
        return SetValue(value, n=len(candidate), warning=self._extractor.unverified(), details=details)


class ClipScore(ImageMetric):
    """clip-score: the prompt stands in the item's meta["prompt"]."""

    card = MetricCard(
        name="clip-score",
        title="CLIP score",
        version=2,
        unit="",
        better="higher",
        source="Hessel et al. 2021: 100 x max(cosine, 0), CLIP ViT-B/32",
        bounds=(0.0, 100.0),
        needs=(B32,),
        paired=False,
    )

    def __init__(self, path: Path | None = None, model: str = "ViT-B-32") -> None:
        self.path, self._model = path, model
        self._net: Any = None

    def load(self, device: str = "cpu") -> None:
        self._net, self._texts, self._side = open_model(self._model, B32, self.path, device)
        self._device = device

    def measure(self, batch: Batch) -> Sequence[Value]:
        import torch

        if self._net is None:
            self.load()
        out = []
        for k, item in enumerate(batch.reference.items):
            prompt = (getattr(item, "meta", None) or {}).get("prompt")
            if not prompt:
                out.append(Value(None, why="this image was drawn from no text"))
                continue
            with torch.inference_mode(), full_float32():
                image = self._net.encode_image(
                    prepare(batch.candidate[k : k + 1], self._side).to(self._device), normalize=True
                )
                text = self._net.encode_text(self._texts([str(prompt)]).to(self._device), normalize=True)
            out.append(Value(100.0 * max(0.0, float((image * text).sum()))))
        return out


METRICS = (Cmmd, ClipScore)
