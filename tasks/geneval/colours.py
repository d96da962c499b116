"""GenEval's colour classifier: which of ten colours an object has, by CLIP ViT-L/14 (OpenAI) and three templates.

The object stands on #999, cut to its box, as in the reference (djghosh13/geneval evaluation/evaluate_images.py, commit
16f1681).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.metrics import weights
from vtbench.metrics.openai_clip import open_model
from vtbench.tasks.geneval.detector import Instance
from vtbench.tasks.geneval.vocabulary import COLORS

if TYPE_CHECKING:
    import numpy as np

CLIP, CLIP_WEIGHTS = "ViT-L-14", "clip-vit-l14-openai"
BACKGROUND = "#999"
TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")


class Colours:
    """CLIP's zero-shot answer to which of ten colours an object has."""

    def __init__(self, device: str = "cpu", path: Path | None = None, model: str = CLIP) -> None:
        import open_clip

        self.network, self.texts, side = open_model(model, CLIP_WEIGHTS, path, device)
        self.prepare: Callable[[Any], Any] = open_clip.image_transform(side, is_train=False)
        self.device = device
        self.record = {
            "model": model,
            "sha256": weights.sha256(weights.find(CLIP_WEIGHTS, path)),
            "unverified": weights.unverified(CLIP_WEIGHTS, path),
            "templates": list(TEMPLATES),
            "background": BACKGROUND,
        }
        self._heads: dict[str, Any] = {}

    def head(self, name: str) -> Any:
        """(10, dim): the mean of a colour's normalised templates, normalised again (clip_benchmark's classifier)."""
        import torch
        import torch.nn.functional as F

        if name not in self._heads:
            rows = []
            for color in COLORS:
                texts = self.texts([t.format(color=color, name=name) for t in TEMPLATES]).to(self.device)
                mean = F.normalize(self.network.encode_text(texts).float(), dim=-1).mean(dim=0)
                rows.append(mean / mean.norm())
            self._heads[name] = torch.stack(rows)
        return self._heads[name]

    def ask(self, rgb: np.ndarray[Any, Any], objects: Sequence[Instance], name: str) -> list[str]:
        """The colour of every object."""
        import torch
        import torch.nn.functional as F

        crops = [self.prepare(crop(rgb, one)) for one in objects]
        with torch.inference_mode():
            seen = self.network.encode_image(torch.stack(crops).to(self.device)).float()
            answers = (F.normalize(seen, dim=-1) @ self.head(name).T).argmax(dim=1)
        return [COLORS[i] for i in answers.tolist()]


def crop(rgb: np.ndarray[Any, Any], one: Instance) -> Any:
    """The object on #999, cut to its box: a Pillow image."""
    from PIL import Image

    image = Image.fromarray(rgb)
    blank = Image.new("RGB", image.size, color=BACKGROUND)
    return Image.composite(image, blank, Image.fromarray(one.mask)).crop(one.detection.box)  # type: ignore[arg-type]
