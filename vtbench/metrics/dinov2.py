"""Fréchet distance on DINOv2 features (Stein et al. 2023, arXiv:2306.04675, dgm-eval): agrees better with people.

Features: the class token of DINOv2 ViT-L/14 after the last norm (1,024), on images resized to 224 x 224 by Pillow's
bicubic on float channels (dgm-eval's resizer follows clean-fid), scaled to [0, 1] and normalised by ImageNet's mean and
standard deviation. The network is timm's `vit_large_patch14_dinov2.lvd142m`; its weights come from the metric weights,
verified by sha256.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vtbench.metrics import weights
from vtbench.metrics._precision import full_float32
from vtbench.metrics.frechet import frechet, interval
from vtbench.metrics.moments import Statistics
from vtbench.types.errors import MissingExtra, VtbenchError
from vtbench.types.metric import Extractor, MetricCard, SetMetric, SetValue

WEIGHTS = "dinov2-vit-l14"
MODEL = "vit_large_patch14_dinov2.lvd142m"
SIZE, DIM = 224, 1024
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def prepare(images: Any) -> Any:
    """uint8 RGB (B, 3, H, W) -> float32 (B, 3, 224, 224), normalised."""
    import numpy as np
    import torch
    from PIL import Image

    planes = [
        np.asarray(Image.fromarray(plane).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        for image in images.cpu().float().numpy()
        for plane in image
    ]
    pixels = np.stack(planes).clip(0, 255).reshape(len(images), 3, SIZE, SIZE) / 255
    scaled = (pixels - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    return torch.from_numpy(scaled.astype(np.float32))


class DinoFeatures(Extractor):
    """uint8 RGB (B, 3, H, W) -> float32 (B, 1024). A path given explicitly is accepted and marked unverified."""

    dim = DIM

    def __init__(self, path: Path | None = None, model: str = MODEL) -> None:
        self.path, self._model = path, model
        self._net: Any = None

    @property
    def id(self) -> str:  # type: ignore[override]
        """Names network, weights and preprocessing: what a cached feature depends on."""
        own = weights.unverified_mark(WEIGHTS, self.path)
        return f"{WEIGHTS}{own}/{self._model}/bicubic-224/class-token"

    def unverified(self) -> str | None:
        """The sentence that marks numbers made with a file that is not the released one; None if all is well."""
        return weights.unverified(WEIGHTS, self.path)

    def load(self, device: str = "cpu") -> None:
        path = weights.find(WEIGHTS, self.path)
        try:
            import timm
        except ImportError as absent:
            raise MissingExtra("timm", "hub", "fd-dinov2") from absent
        state = weights.load_state(WEIGHTS, self.path)
        net = timm.create_model(self._model, pretrained=False, num_classes=0, img_size=SIZE, dynamic_img_size=False)
        # timm's filter maps Facebook's names and resamples the position embedding from 518 to 224 pixels.
        from timm.models.vision_transformer import checkpoint_filter_fn

        try:
            net.load_state_dict(checkpoint_filter_fn(dict(state), net))  # type: ignore[arg-type]
        except RuntimeError as bad:
            raise VtbenchError(f"{path.name} is not a state dict of {self._model} ({str(bad)[:200]})") from bad
        self._net = net.to(device).requires_grad_(False).eval()
        self._device = device

    def extract(self, images: Any) -> Any:
        import torch

        if self._net is None:
            self.load()
        with torch.inference_mode(), full_float32():
            return self._net(prepare(images).to(self._device)).float().cpu().numpy()


class DinoFrechet(SetMetric):
    """fd-dinov2."""

    card = MetricCard(
        name="fd-dinov2",
        title="Fréchet distance, DINOv2",
        version=1,
        unit="",
        better="lower",
        source="Stein et al. 2023 (dgm-eval): DINOv2 ViT-L/14 class token, bicubic 224",
        bounds=(0.0, None),
        kind="set",
        needs=(WEIGHTS,),
        reduction="Fréchet distance of the two sets",
        paired=False,
    )

    def __init__(self, path: Path | None = None, model: str = MODEL) -> None:
        self._extractor = DinoFeatures(path, model)

    def extractor(self) -> Extractor:
        return self._extractor

    def load(self, device: str = "cpu") -> None:
        self._extractor.load(device)

    def finish(self, reference: Any, candidate: Any) -> SetValue:
        n = candidate.n if isinstance(candidate, Statistics) else len(candidate)
        if n is not None and n < 2:
            return SetValue(None, n=n, why="a covariance needs at least two images")
        spread = interval(reference, candidate, paired=False)
        warnings = [w for w in (self._extractor.unverified(),) if w]
        if n is not None and n < 10_000:
            warnings.append(f"{n} images are too few for a Fréchet distance (10,000 wanted): its bias depends on n")
        return SetValue(
            frechet(reference, candidate),
            None if spread is None or spread.low is None else max(0.0, spread.low),
            None if spread is None else spread.high,
            n,
            warning="; ".join(warnings) or None,
            details={"extractor": self._extractor.id},
        )


METRICS = (DinoFrechet,)
