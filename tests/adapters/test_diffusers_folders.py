"""Which weights of a folder in diffusers' format are read: variants, quantized ones, averages beside, ten classes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_diffusers as tiny
import torch
from safetensors.torch import load_file, save_file

from vtbench.models.fill import read_from
from vtbench.models.load import load
from vtbench.types.errors import VtbenchError

NAME = "diffusion_pytorch_model"


def vae(folder: Path, seed: int = 0, variant: str | None = None) -> Path:
    torch.manual_seed(seed)
    tiny.kl().save_pretrained(folder, variant=variant)
    return folder


def weights(folder: Path) -> torch.Tensor:
    """The first weights of the network that is loaded from a folder."""
    tensor: torch.Tensor = load("diffusers-vae", checkpoint=folder).model.model.encoder.conv_in.weight
    return tensor.detach()


def stored(file: Path) -> torch.Tensor:
    return load_file(file)["encoder.conv_in.weight"]


@pytest.mark.parametrize("variant", ["fp16", "bf16", "non_ema"])
def test_a_folder_with_one_variant_only_is_read(variant: str, tmp_path: Path) -> None:
    folder = vae(tmp_path / "vae", variant=variant)
    assert torch.equal(weights(folder), stored(folder / f"{NAME}.{variant}.safetensors"))
    loaded = load("diffusers-vae", checkpoint=folder)
    (copy,) = read_from(loaded.model)
    assert (copy["file"], copy["by"]) == (f"{NAME}.{variant}.safetensors", "variant")
    assert f"{NAME}.{variant}.safetensors" in loaded.weights["note"]
    assert loaded.weights["copies"][0]["file"] == f"{NAME}.{variant}.safetensors"


def test_sharded_variants_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny.kl().save_pretrained(tmp_path, variant="fp16", max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert weights(tmp_path).shape == (8, 3, 3, 3)


def test_the_whole_weights_come_before_variants_which_the_record_names(tmp_path: Path) -> None:
    folder = vae(tmp_path / "vae")
    vae(folder, 1, variant="fp16")
    assert torch.equal(weights(folder), stored(folder / f"{NAME}.safetensors"))
    loaded = load("diffusers-vae", checkpoint=folder)
    assert loaded.weights["copies"][0]["beside"] == [f"the file {NAME}.fp16.safetensors"]
    # A file of it that would not be the one that is read is refused, not replaced.
    with pytest.raises(VtbenchError, match=f"beside {NAME}.fp16.safetensors there lies {NAME}.safetensors"):
        load("diffusers-vae", checkpoint=folder / f"{NAME}.fp16.safetensors")
    (folder / f"{NAME}.safetensors").unlink()
    assert torch.equal(
        load("diffusers-vae", checkpoint=folder / f"{NAME}.fp16.safetensors").model.model.encoder.conv_in.weight,
        stored(folder / f"{NAME}.fp16.safetensors"),
    )
    vae(folder, 2, variant="bf16")
    with pytest.raises(VtbenchError, match="the variants bf16 and fp16 and no whole weights"):
        weights(folder)


def test_an_average_in_the_folder_beside_is_named(tmp_path: Path) -> None:
    """What diffusers' training scripts leave: the model, and EMAModel's copy in a folder of its own."""
    vae(tmp_path / "run" / "vae")
    vae(tmp_path / "run" / "vae_ema", 1)
    loaded = load("diffusers-vae", checkpoint=tmp_path / "run")
    raw, averaged = (stored(tmp_path / "run" / name / f"{NAME}.safetensors") for name in ("vae", "vae_ema"))
    assert torch.equal(loaded.model.model.encoder.conv_in.weight, raw)
    (copy,) = loaded.weights["copies"]
    assert (copy["file"], copy["beside"]) == (f"vae/{NAME}.safetensors", ["the folder vae_ema"])
    assert torch.equal(weights(tmp_path / "run" / "vae_ema"), averaged)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_quantized_weights_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    file = vae(tmp_path) / f"{NAME}.safetensors"
    save_file({n: (t * 10).to(dtype) for n, t in load_file(file).items()}, file)
    with pytest.raises(VtbenchError, match="quantized or packed"):
        weights(tmp_path)


def test_float8_is_read_as_the_numbers_that_it_holds(tmp_path: Path) -> None:
    file = vae(tmp_path) / f"{NAME}.safetensors"
    save_file({n: t.to(torch.float8_e4m3fn) for n, t in load_file(file).items()}, file)
    assert torch.equal(weights(tmp_path), stored(file).float())


def test_prefix_has_no_meaning_for_a_folder_that_a_library_reads(tmp_path: Path) -> None:
    with pytest.raises(VtbenchError, match="code of its own"):
        load("diffusers-vae", checkpoint=vae(tmp_path), prefix="ema")


@pytest.mark.parametrize("classes", [10, 2000])
def test_guidance_of_other_class_counts_takes_their_own_class_for_none(classes: int, tmp_path: Path) -> None:
    """With 10 classes there is no class 1000; with 2000 it is somebody's class, and its numbers would be wrong."""
    from vtbench.types.adapter import Prompt

    folder = tiny.dit(tmp_path, classes)
    guided = load("diffusers-pipeline", {"steps": "1"}, checkpoint=folder).generator
    assert guided.notes == (f"the class for none of its guidance is {classes}, the one behind its own classes",)
    generator = load("diffusers-pipeline", {"steps": "1", "guidance": "1"}, checkpoint=folder).generator
    assert generator.generate([Prompt("a", label=classes - 1)], [0]).shape[1] == 3
    with pytest.raises(
        VtbenchError, match=rf"the class label {classes} of the prompt a lies outside 0\.\.{classes - 1}"
    ):
        generator.generate([Prompt("a", label=classes)], [0])


def test_a_pipeline_of_one_variant_is_read(tmp_path: Path) -> None:
    folder = tiny.dit(tmp_path / "p", 1000, "fp16")
    generator = load("diffusers-pipeline", {"steps": "1"}, checkpoint=folder).generator
    stored_file = folder / "vae" / f"{NAME}.fp16.safetensors"
    assert torch.equal(generator.pipe.vae.encoder.conv_in.weight, stored(stored_file))  # type: ignore[attr-defined]
    assert [copy["file"] for copy in read_from(generator)] == [
        f"{part}/{NAME}.fp16.safetensors" for part in ("transformer", "vae")
    ]
    shutil.move(folder / "vae" / f"{NAME}.fp16.safetensors", folder / "vae" / f"{NAME}.bf16.safetensors")
    with pytest.raises(VtbenchError, match="of the variants bf16 and fp16"):
        load("diffusers-pipeline", {"steps": "1"}, checkpoint=folder)
