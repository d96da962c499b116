"""Networks of metrics with seeded weights, in the official names: their numbers mean nothing."""

from __future__ import annotations

from pathlib import Path

import torch


def random_backbone(net: str, folder: Path) -> Path:
    """A seeded random backbone of LPIPS under torchvision's names."""
    import torchvision

    make = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}[net]
    with torch.device("meta"):
        model = getattr(torchvision.models, make)()
    generator = torch.Generator().manual_seed(5)
    state = {}
    for key, tensor in model.state_dict().items():
        if key.startswith("features."):
            fan = tensor[0].numel() if tensor.ndim == 4 else 1
            scale = (2 / fan) ** 0.5 if tensor.ndim == 4 else 0.1
            state[key] = torch.randn(tensor.shape, generator=generator) * scale
    path = folder / f"{net}.pth"
    torch.save(state, path)
    return path
