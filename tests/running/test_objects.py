"""Tokenizer objects of a training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vtbench
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents


def test_an_object_from_a_training_loop(images: Path) -> None:
    class Mine(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def encode(self, x: torch.Tensor) -> vtbench.tokens.Tokens:
            height, width = int(x.shape[2]), int(x.shape[3])
            return Latents((x * self.scale).detach().half(), (height, width))

        def decode(self, tokens: Any) -> torch.Tensor:
            return tokens.values.float() / self.scale

    made = vtbench.evaluate(Mine(), images=images, view="native", tasks=["compression"], limit=3)
    frame = made.to_pandas()
    assert float(frame.loc[frame.metric == "bpp", "value"].iloc[0]) == 48.0
    assert set(frame.weights) == {"own"}
    with pytest.raises(VtbenchError, match="no tokenizer"):
        vtbench.evaluate(object(), images=images)


def test_an_object_is_asked_again_and_left_as_it_was(images: Path, tmp_path: Path) -> None:
    class Bare:
        """No state dict; what it does changes under the same name."""

        def __init__(self) -> None:
            self.net, self.gain = torch.nn.Dropout(0.9), 1.0

        def encode(self, x: torch.Tensor) -> Latents:
            assert not torch.is_grad_enabled()
            return Latents(self.net(x).half(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Any) -> torch.Tensor:
            return tokens.values.float() * self.gain

    class Stateless:
        level = 1.0

        def encode(self, x: torch.Tensor) -> Latents:
            return Latents(x.half(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Any) -> torch.Tensor:
            return tokens.values.float() * Stateless.level

    more: dict[str, Any] = {"images": images, "view": "64", "tasks": ["reconstruction"], "limit": 2, "out": tmp_path}
    thing = Bare()
    first = vtbench.evaluate(thing, **more)
    assert thing.net.training
    # float16 keeps bytes exactly; dropout would not.
    assert first.runs[0].score("psnr")["why"].startswith("lossless")  # type: ignore[index]
    assert first.runs[0].info["model"]["kind"] == "continuous"
    thing.gain = 0.5
    assert vtbench.evaluate(thing, **more).value("psnr") is not None
    assert vtbench.evaluate(Stateless(), **more).runs[0].score("psnr")["value"] is None  # type: ignore[index]
    Stateless.level = 0.5
    assert vtbench.evaluate(Stateless(), **more).value("psnr") is not None


def test_multiply_accumulates_of_a_network_are_counted(tmp_path: Path) -> None:
    """Known layers: 3 x 3 from 3 to 5 channels at stride 2, and 2 x 2 back; the same in inference mode."""

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.down = torch.nn.Conv2d(3, 5, 3, stride=2, padding=1)
            self.up = torch.nn.ConvTranspose2d(5, 3, 2, stride=2)

        def encode(self, images: torch.Tensor) -> Latents:
            return Latents(self.down(images), (int(images.shape[2]), int(images.shape[3])))

        def decode(self, tokens: Latents) -> torch.Tensor:
            with torch.inference_mode():
                return self.up(tokens.values).sigmoid()

    for i in range(3):
        Image.fromarray(np.full((32, 48, 3), 60 * i, np.uint8)).save(tmp_path / f"{i}.png")

    def scored(batch: int) -> dict[str, Any]:
        run = vtbench.evaluate(
            Small(),
            tasks=["reconstruction"],
            images=tmp_path,
            view="native",
            batch_size=batch,
            out=tmp_path.parent / f"{tmp_path.name}-{batch}",
        )
        return dict(run.runs[0].score("macs") or {})

    found = scored(2)
    assert found["value"] == 16 * 24 * 5 * 27 + 16 * 24 * 5 * 12
    assert found["details"]["encode"] == 16 * 24 * 5 * 27
    assert found["unit"] == "MAC/image"
    alone = scored(3)
    assert alone["value"] is None
    assert "run of one batch" in alone["why"]
