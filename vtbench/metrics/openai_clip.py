"""OpenAI's CLIP: its released files, and the images that it looks at, by open_clip's network and transform.

The released files (ViT-B-32.pt, ViT-L-14.pt, ViT-L-14-336px.pt) are TorchScript archives: code with its tensors. Only
the tensors are read, of the released file as of any other, and the code in them never runs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from vtbench.metrics import weights
from vtbench.models.pickles import is_script, read_script
from vtbench.types.errors import VtbenchError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the images that OpenAI trained on (openai/CLIP clip/clip.py)."""
SIZES = ("input_resolution", "context_length", "vocab_size")
"""Numbers that the released files keep beside the network's tensors."""


def open_model(model: str, weights_name: str, path: Path | None, device: str) -> tuple[Any, Any, int]:
    """(network in eval mode, tokenizer of texts, side of its images in pixels).

    path: a file of the user's, else the released one, or that of the variable. Raises VtbenchError if it is none of
    this model's, Unavailable if there is none.
    """
    import open_clip

    file = weights.find(weights_name, path)
    try:
        net = _network(model, file, path, device)
    except (RuntimeError, ValueError, KeyError) as bad:
        raise VtbenchError(f"{file.name} is not the weights of {model} ({str(bad)[:200]})") from bad
    side = net.visual.image_size
    side = side if isinstance(side, int) else int(side[0])
    return net.eval().requires_grad_(False), open_clip.get_tokenizer(model), side


def _network(model: str, file: Path, path: Path | None, device: str) -> Any:
    import open_clip

    # OpenAI's weights were trained with quick_gelu; a file of another training says by the model's name what it is.
    gelu = {"force_quick_gelu": True}
    if is_script(file):
        net = empty_network(model)
        net.load_state_dict(tensors_of(file))
        return net.to(device)
    return open_clip.create_model(
        model, pretrained=str(file), precision="fp32", device=device, **({} if path is not None else gelu)
    )


def empty_network(model: str) -> Any:
    """open_clip's network, float32, as OpenAI's weights want it, which are read into it next."""
    import open_clip

    before = logging.root.manager.disable
    # It warns that the network has no weights yet.
    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(model, pretrained=None, force_quick_gelu=True)
    finally:
        logging.disable(before)


def tensors_of(file: Path) -> dict[str, Any]:
    """The network's tensors in a TorchScript archive, float32 where they are floats; none of its code runs."""
    return {n: t.float() if t.is_floating_point() else t for n, t in read_script(file).items() if n not in SIZES}


def prepare(images: Any, side: int) -> Any:
    """uint8 (B, 3, H, W) -> float32 (B, 3, side, side), equal to open_clip's own transform for inference: Pillow's
    bicubic to the shorter side, torchvision's centre crop, CLIP's mean and deviation."""
    import numpy as np
    import torch
    from PIL import Image

    height, width = int(images.shape[2]), int(images.shape[3])
    short = min(height, width)
    # As torchvision's Resize and CenterCrop: the longer side cut to whole pixels, the margins rounded.
    size = tuple(side if length == short else int(side * length / short) for length in (width, height))
    left, top = (round((length - side) / 2) for length in size)
    out = []
    for image in images.permute(0, 2, 3, 1).contiguous().cpu().numpy():
        picture = Image.fromarray(image)
        picture = picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)  # type: ignore[arg-type]
        out.append(np.asarray(picture.crop((left, top, left + side, top + side))))
    pixels = torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (pixels - mean) / std
