"""GenEval's detector and colour classifier: images -> cases that the scorer judges.

The reference (djghosh13/geneval evaluation/evaluate_images.py, commit 16f1681) takes mmdet's Mask2Former Swin-S; here
it is transformers' Mask2Former: the same architecture, other trained weights. The score is therefore named `geneval-hf`
and does not stand beside a published GenEval. From the network's output on (at most 100 instances, score = class x mean
mask, boxes around the masks) the steps are mmdet's (models/seg_heads/panoptic_fusion_heads/maskformer_fusion_head.py,
instance_postprocess; core/mask/utils.py, mask2bbox). Colours: CLIP ViT-L/14 (OpenAI), three templates, the mask laid on
#999 and cropped to its box. Colours are asked only of the objects that a clause with a colour will look at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtbench.tasks import geneval
from vtbench.tasks.geneval import COLORS, Detection
from vtbench.tasks.geneval_prompts import COCO
from vtbench.types.environment import offline
from vtbench.types.errors import MissingExtra, VtbenchError

if TYPE_CHECKING:
    import numpy as np

NAME = "geneval-hf"
DETECTOR = "facebook/mask2former-swin-small-coco-instance"
CLIP, CLIP_WEIGHTS = "ViT-L-14", "clip-vit-l14-openai"
MAX_INSTANCES = 100
BACKGROUND = "#999"
TEMPLATES = ("a photo of a {color} {name}", "a photo of a {color}-colored {name}", "a photo of a {color} object")


@dataclass(frozen=True)
class Found:
    """detection, and its mask (H, W) bool on the whole picture."""

    detection: Detection
    mask: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Picture:
    """An image of a prompt: a file and the prompt's metadata in the reference's format."""

    path: Path
    metadata: Mapping[str, Any]


class Detector:
    """Mask2Former with 80 COCO classes, from a folder or the hub; safetensors only."""

    def __init__(self, source: str = DETECTOR, revision: str | None = None, device: str = "cpu") -> None:
        try:
            import torch
            from transformers import AutoConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor
        except ImportError:
            raise MissingExtra("transformers", "hub", "GenEval's detector") from None
        here: dict[str, Any] = {"local_files_only": offline() or Path(source).is_dir(), "revision": revision}
        try:
            config = AutoConfig.from_pretrained(source, **here)
            if config.model_type != "mask2former" or config.num_labels != len(COCO):
                raise VtbenchError(
                    f"{source} is {config.model_type} with {config.num_labels} classes: GenEval's detector is a "
                    f"mask2former with COCO's {len(COCO)} classes in their order"
                )
            self.processor = Mask2FormerImageProcessor.from_pretrained(source, **here)
            made = Mask2FormerForUniversalSegmentation.from_pretrained(source, use_safetensors=True, **here)
        except VtbenchError:
            raise
        except Exception as bad:
            text = " ".join(str(bad).split())[:200]
            raise VtbenchError(
                f"the detector {source} cannot be loaded ({type(bad).__name__}: {text}): give the folder of a "
                "Mask2Former with --detector"
            ) from bad
        self.network: Any = torch.nn.Module.to(made, device=device, dtype=torch.float32).eval().requires_grad_(False)
        self.device = device
        self.record = {
            "source": source, "revision": getattr(config, "_commit_hash", None) or revision,
            "sha256": state_hash(self.network.state_dict()), "max_instances": MAX_INSTANCES,
        }  # fmt: skip

    def detect(self, rgb: np.ndarray[Any, Any]) -> list[Found]:
        """uint8 (H, W, 3) -> instances, best first."""
        import torch
        import torch.nn.functional as F

        given = self.processor(images=rgb, return_tensors="pt")
        pixels = given["pixel_values"].to(self.device)
        with torch.inference_mode():
            out = self.network(pixel_values=pixels, pixel_mask=given["pixel_mask"].to(self.device))
            masks = out.masks_queries_logits.float()
            masks = F.interpolate(masks, size=pixels.shape[-2:], mode="bilinear", align_corners=False)
            # The padding is cut off before the masks go back to the picture's own size.
            rows, columns = (int(given["pixel_mask"][0].any(dim=axis).sum()) for axis in (1, 0))
            masks = F.interpolate(masks[..., :rows, :columns], size=rgb.shape[:2], mode="bilinear", align_corners=False)
            classes = out.class_queries_logits[0].float().softmax(dim=-1)[:, :-1]
        return instances(classes.cpu(), masks[0].cpu())


def instances(classes: Any, masks: Any) -> list[Found]:
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
        out.append(Found(Detection(name, box, score * mean), inside.numpy()))
    return sorted(out, key=lambda f: -f.detection.score)


class Colours:
    """CLIP's zero-shot answer to which of ten colours an object has."""

    def __init__(self, device: str = "cpu", path: Path | None = None, model: str = CLIP) -> None:
        import open_clip

        from vtbench.metrics import weights
        from vtbench.metrics.clip_set import open_model

        self.network, self.texts, side = open_model(model, CLIP_WEIGHTS, path, device)
        self.prepare: Callable[[Any], Any] = open_clip.image_transform(side, is_train=False)
        self.device = device
        self.record = {
            "model": model, "sha256": weights.sha256(weights.find(CLIP_WEIGHTS, path)),
            "unverified": weights.unverified(CLIP_WEIGHTS, path), "templates": list(TEMPLATES),
            "background": BACKGROUND,
        }  # fmt: skip
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

    def ask(self, rgb: np.ndarray[Any, Any], objects: Sequence[Found], name: str) -> list[str]:
        """The colour of every object."""
        import torch
        import torch.nn.functional as F

        crops = [self.prepare(crop(rgb, found)) for found in objects]
        with torch.inference_mode():
            seen = self.network.encode_image(torch.stack(crops).to(self.device)).float()
            answers = (F.normalize(seen, dim=-1) @ self.head(name).T).argmax(dim=1)
        return [COLORS[i] for i in answers.tolist()]


def crop(rgb: np.ndarray[Any, Any], found: Found) -> Any:
    """The object on #999, cut to its box: a Pillow image."""
    from PIL import Image

    image = Image.fromarray(rgb)
    blank = Image.new("RGB", image.size, color=BACKGROUND)
    return Image.composite(image, blank, Image.fromarray(found.mask)).crop(found.detection.box)  # type: ignore[arg-type]


def case(
    rgb: np.ndarray[Any, Any], metadata: Mapping[str, Any], detector: Detector, colours: Callable[[], Colours]
) -> list[Detection]:
    """What the detector finds on one picture, with colours where a clause asks for them."""
    found = detector.detect(rgb)
    named: dict[int, str] = {}
    kept = geneval.kept([f.detection for f in found], str(metadata["tag"]))
    by_detection = {id(f.detection): k for k, f in enumerate(found)}
    for clause in metadata.get("include", ()):
        objects = kept.get(clause["class"], [])[: int(clause["count"])]
        if "color" not in clause or len(objects) < int(clause["count"]):
            continue
        places = [by_detection[id(d)] for d in objects]
        named |= dict(zip(places, colours().ask(rgb, [found[k] for k in places], clause["class"]), strict=True))
    return [replace(f.detection, color=named.get(k)) for k, f in enumerate(found)]


def pictures(folder: Path) -> list[Picture]:
    """Images with their prompts: a folder of `vtbench generate` (samples.jsonl), or one in the reference's layout
    (00000/metadata.jsonl, 00000/samples/0000.png)."""
    if not folder.is_dir():
        raise VtbenchError(f"{folder} is no folder: give what `vtbench generate --suite geneval` wrote")
    lines = folder / "samples.jsonl"
    if lines.is_file():
        from vtbench.results.files import read_lines

        made = [Picture(folder / str(r["file"]), _known(r.get("metadata"), lines)) for r in read_lines(lines)]
    else:
        made = list(_reference_layout(folder))
    if not made:
        raise VtbenchError(
            f"{folder} holds neither samples.jsonl nor 00000/metadata.jsonl with 00000/samples/0000.png: give images "
            "of GenEval's prompts"
        )
    lost = [p.path for p in made if not p.path.is_file()]
    if lost:
        raise VtbenchError(f"{lost[0]} is missing ({len(lost)} of {len(made)} images): generate it again")
    return made


def _known(metadata: Any, where: Path) -> Mapping[str, Any]:
    if not isinstance(metadata, Mapping) or "tag" not in metadata:
        raise VtbenchError(f"{where} has a prompt without GenEval's metadata (tag, include): use GenEval's prompts")
    geneval.check_metadata(metadata, str(where))
    return metadata


def _reference_layout(folder: Path) -> Iterator[Picture]:
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()):
        file = place / "metadata.jsonl"
        try:
            metadata = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as bad:
            raise VtbenchError(f"{file} cannot be read ({bad}): it should hold the prompt's metadata") from bad
        samples = place / "samples"
        names = sorted(p for p in samples.iterdir() if re.fullmatch(r"\d+\.png", p.name)) if samples.is_dir() else []
        yield from (Picture(p, _known(metadata, file)) for p in names)


def detect(
    images: Sequence[Picture], detector: Detector, colours: Callable[[], Colours],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One case a picture, in their order: what `vtbench geneval score` reads."""
    from vtbench.images.reading import decode

    for k, picture in enumerate(images, 1):
        rgb = decode(picture.path.read_bytes(), str(picture.path))
        made = case(rgb, picture.metadata, detector, colours)
        yield {
            "id": str(picture.path), "metadata": dict(picture.metadata),
            "detections": [
                {"cls": d.cls, "box": list(d.box), "score": d.score, "color": d.color} for d in made
            ],
        }  # fmt: skip
        if progress is not None:
            progress(k, len(images))


def run(
    folder: Path, out: Path, source: str, revision: str | None, device: str,
    progress: Callable[[int, int], None] | None = None,
) -> None:  # fmt: skip
    """Cases of every picture to `out`, and beside it OUT.record.json with what the detector was; both or neither."""
    from vtbench.results.files import dumps, write_atomic, write_json

    images = pictures(folder)
    detector, asked = Detector(source, revision, device), list[Colours]()

    def colours() -> Colours:
        # A set without colours needs no CLIP.
        if not asked:
            asked.append(Colours(device))
        return asked[0]

    lines = [dumps(made) + "\n" for made in detect(images, detector, colours, progress)]
    write_json(out.with_name(f"{out.name}.record.json"), record(detector, asked[0] if asked else None))
    write_atomic(out, "".join(lines))


def record(detector: Detector, colours: Colours | None) -> dict[str, Any]:
    """What a score made with them must state."""
    import platform

    import torch
    import transformers

    return {
        "name": NAME,
        "why": "transformers' Mask2Former has other weights than mmdet's: not comparable with a published GenEval",
        "detector": detector.record, "colours": None if colours is None else colours.record,
        "device": detector.device, "torch": torch.__version__, "transformers": transformers.__version__,
        "python": platform.python_version(),
        "thresholds": {
            "confidence": geneval.THRESHOLD, "counting": geneval.COUNTING_THRESHOLD,
            "max_objects": geneval.MAX_OBJECTS, "max_overlap": geneval.MAX_OVERLAP,
            "position": geneval.POSITION_THRESHOLD,
        },
    }  # fmt: skip


def state_hash(state: Mapping[str, Any]) -> str:
    """sha256 over names, shapes and float32 bytes of a state dict, whatever files it came from."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
