"""Autoencoders of diffusers and transformers handed over as they are: what the same model gives from its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_diffusers_vae as of_diffusers
import test_transformers_vq as of_transformers
import tiny_diffusers as tiny
import torch
from torch import nn

from vtbench.models.load import load
from vtbench.models.objects import measuring
from vtbench.types.errors import VtbenchError
from vtbench.types.tokens import Latents

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def answer(model: Any, images: torch.Tensor = X, **options: str) -> tuple[torch.Tensor, float]:
    """(pictures, bits of the first) of an object, as an evaluation asks it."""
    loaded = load(model, options)
    with measuring(model):
        output = loaded.system.produce(images, [5, 6], [])
    assert output.tokens is not None
    return output.images, float(output.tokens.bits()[0])


def close(ours: tuple[torch.Tensor, float], theirs: tuple[torch.Tensor, float]) -> bool:
    return torch.allclose(ours[0], theirs[0], atol=of_diffusers.CLOSE) and ours[1] == theirs[1]


def from_folder(folder: Path, images: torch.Tensor = X, spec: str = "diffusers-vae") -> tuple[torch.Tensor, float]:
    output = load(spec, {}, checkpoint=folder).system.produce(images, [5, 6], [])
    assert output.tokens is not None
    return output.images, float(output.tokens.bits()[0])


@pytest.mark.parametrize("name", of_diffusers.CONTINUOUS)
def test_an_object_of_diffusers_gives_what_its_folder_gives(name: str, tmp_path: Path) -> None:
    make, side = of_diffusers.CONTINUOUS[name]
    model = of_diffusers.saved(make, tmp_path)
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    assert close(answer(model.train(), images), from_folder(tmp_path, images))
    assert model.training


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "DataParallel": nn.DataParallel,
    "an average": torch.optim.swa_utils.AveragedModel,
}


@pytest.mark.parametrize("how", WRAPPED)
def test_wrapped_ones_too(how: str, tmp_path: Path) -> None:
    model = of_diffusers.saved(tiny.kl, tmp_path)
    assert close(answer(WRAPPED[how](model)), from_folder(tmp_path))


def test_an_option_of_the_family_is_applied(tmp_path: Path) -> None:
    model = of_diffusers.saved(tiny.kl, tmp_path)
    whole, half = answer(model, latent_dtype="float32"), answer(model, latent_dtype="float16")
    assert whole[1] == 2 * half[1]
    with pytest.raises(VtbenchError, match="has no option 'latent_type'"):
        load(model, {"latent_type": "float16"})


def test_a_class_of_somebodys_own_over_the_librarys(tmp_path: Path) -> None:
    """Without an encode of its own it is the library's; with one it says itself what it returns."""
    import diffusers

    class Mine(diffusers.AutoencoderKL):  # type: ignore[misc]
        pass

    class Own(diffusers.AutoencoderKL):  # type: ignore[misc]
        def encode(self, x: torch.Tensor) -> Latents:  # type: ignore[override]
            return Latents(super().encode(x * 2 - 1).latent_dist.mode(), (int(x.shape[2]), int(x.shape[3])))

        def decode(self, tokens: Latents) -> torch.Tensor:  # type: ignore[override]
            return (super().decode(tokens.values).sample + 1) / 2

    of_diffusers.saved(tiny.kl, tmp_path)
    true = from_folder(tmp_path)
    assert close(answer(Mine.from_pretrained(str(tmp_path))), true)
    pictures, _ = answer(Own.from_pretrained(str(tmp_path)))
    # The adapter keeps latents in float16, which has eleven bits.
    assert torch.allclose(pictures, true[0], atol=4 * 2**-11)


def test_what_of_the_library_is_no_autoencoder_of_images() -> None:
    import diffusers

    video = diffusers.AutoencoderKLLTXVideo.__new__(diffusers.AutoencoderKLLTXVideo)
    nn.Module.__init__(video)
    with pytest.raises(VtbenchError, match="AutoencoderKLLTXVideo of diffusers cannot be measured on images"):
        load(video)
    with pytest.raises(VtbenchError, match="UNet2DModel is no tokenizer"):
        load(
            diffusers.UNet2DModel(
                block_out_channels=(32, 32),
                layers_per_block=1,
                norm_num_groups=8,
                down_block_types=("DownBlock2D",) * 2,
                up_block_types=("UpBlock2D",) * 2,
            )
        )


@pytest.mark.parametrize("name", of_transformers.MADE)
def test_an_object_of_transformers_gives_what_its_folder_gives(name: str, tmp_path: Path) -> None:
    model = of_transformers.saved(name, tmp_path)
    assert close(answer(model.train()), from_folder(tmp_path, spec="transformers-vq"))
    assert model.training
