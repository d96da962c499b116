"""DISTS, CLIP and DINOv2 similarity with seeded random weights, which show the arithmetic and mean nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from vtbench.metrics import perceptual, weights
from vtbench.types.errors import Unavailable
from vtbench.types.metric import Batch, Reference

CAT = data.chelsea()
XS = [CAT[:70, 20:90], CAT[100:170, 200:270]]
YS = [
    np.clip(x.astype(int) + np.random.default_rng(k).integers(-30, 30, x.shape), 0, 255).astype(np.uint8)
    for k, x in enumerate(XS)
]


def stack(images: Any) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.ascontiguousarray(i)).permute(2, 0, 1) for i in images])


def batch_of(xs: Any, ys: Any) -> Batch:
    return Batch(Reference(stack(xs), [None] * len(xs), [""] * len(xs)), stack(ys))  # type: ignore[list-item]


def give(monkeypatch: pytest.MonkeyPatch, **files: Path) -> None:
    named = os.pathsep.join(f"{name.replace('_', '-')}={path}" for name, path in files.items())
    monkeypatch.setenv(weights.VARIABLE, named)


def test_dists_is_piqs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import piq
    import torchvision

    with torch.device("meta"):
        whole = torchvision.models.vgg16()
    generator = torch.Generator().manual_seed(0)
    backbone = {
        k: torch.randn(v.shape, generator=generator) * ((2 / v[0].numel()) ** 0.5 if v.ndim == 4 else 0.05)
        for k, v in whole.state_dict().items()
        if k.startswith("features.")
    }
    shares = torch.rand(2, 1475, generator=generator)
    shares /= shares.sum()
    alpha_and_beta = {"alpha": shares[0].view(1, -1, 1, 1), "beta": shares[1].view(1, -1, 1, 1)}
    torch.save(backbone, tmp_path / "vgg.pth")
    torch.save(alpha_and_beta, tmp_path / "dists.pth")
    give(monkeypatch, vgg16=tmp_path / "vgg.pth", dists=tmp_path / "dists.pth")
    metric = perceptual.DISTS()
    metric.load()
    assert "dists" in (metric.unverified or "")
    assert "vgg16" in (metric.unverified or "")
    ours = [v.value for v in metric.measure(batch_of(XS, YS))]

    def no_download(**_: Any) -> Any:
        with torch.device("meta"):
            model = torchvision.models.vgg16()
        features = {k.removeprefix("features."): v for k, v in backbone.items()}
        model.features.load_state_dict(features, assign=True)
        return model

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: alpha_and_beta)
    monkeypatch.setattr("piq.perceptual.vgg16", no_download)
    with torch.inference_mode():
        wanted = piq.DISTS(reduction="none")(stack(XS).float() / 255, stack(YS).float() / 255).tolist()
    # Both float32 in one order of operations; the batches are cut alike.
    assert ours == pytest.approx(wanted, abs=1e-6)
    assert min(wanted) > 1e-3
    assert metric.measure(batch_of(XS, XS))[0].value == pytest.approx(0, abs=1e-6)


def test_dino_similarity_is_timms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    torch.manual_seed(0)
    model = timm.create_model(perceptual.DINO_MODEL, pretrained=False, num_classes=0, img_size=224).eval()
    for name, parameter in model.named_parameters():
        # Layer scale starts at 1e-5: an untrained class token would see nothing of the image.
        if name.endswith("gamma"):
            torch.nn.init.ones_(parameter)
        elif parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.08)
    torch.save(model.state_dict(), tmp_path / "dino.pth")
    give(monkeypatch, dinov2_vit_s14=tmp_path / "dino.pth")
    metric = perceptual.DinoSimilarity()
    ours = [v.value for v in metric.measure(batch_of(XS, YS))]

    def features(image: Any) -> torch.Tensor:
        enlarged = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC)) / 255
        x = (enlarged - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        with torch.inference_mode():
            return model(torch.from_numpy(x).float().permute(2, 0, 1)[None])[0]

    wanted = [float(torch.cosine_similarity(features(x), features(y), dim=0)) for x, y in zip(XS, YS, strict=True)]
    # Pillow rounds the enlarged bytes where ours stays in floats.
    assert ours == pytest.approx(wanted, abs=2e-3)
    assert max(wanted) < 0.99
    assert metric.measure(batch_of(XS, XS))[0].value == pytest.approx(1, abs=1e-6)


def test_clip_similarity_is_open_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real code path on a narrow ViT: OpenAI's size would take longer to make than to test."""
    import open_clip
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": 224, "layers": 2, "width": 64, "head_width": 32, "patch_size": 32}
    text = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1}
    options_of: dict[str, Any] = {}

    def small(name: str, **options: Any) -> Any:
        options_of[name] = options
        return CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text, quick_gelu=options["force_quick_gelu"])

    model = small("ViT-B-32", force_quick_gelu=True).eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    monkeypatch.setattr(open_clip, "create_model", small)
    give(monkeypatch, clip_vit_b32_openai=tmp_path / "clip.pt")
    metric = perceptual.ClipSimilarity()
    ours = [v.value for v in metric.measure(batch_of(XS, YS))]
    assert options_of["ViT-B-32"] == {"pretrained": None, "force_quick_gelu": True}
    transform = open_clip.image_transform(224, is_train=False, mean=perceptual.CLIP_MEAN, std=perceptual.CLIP_STD)
    with torch.inference_mode():
        x, y = (
            model.encode_image(torch.stack([transform(Image.fromarray(i)) for i in side]))  # type: ignore[operator]
            for side in (XS, YS)
        )
    # Square images: open_clip's resize and crop is a plain bicubic resize, rounded to bytes.
    assert ours == pytest.approx(torch.cosine_similarity(x, y).tolist(), abs=2e-3)


@pytest.mark.parametrize("kind", [perceptual.DISTS, perceptual.ClipSimilarity, perceptual.DinoSimilarity])
def test_without_weights(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TORCH_HOME", "VTBENCH_CACHE", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    with pytest.raises(Unavailable, match=r"is not here, and VTBENCH_OFFLINE.*vtbench fetch --metrics"):
        kind().load()
