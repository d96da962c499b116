"""The user's own checkpoint of a family, `family:NAME --option … --checkpoint FILE`: what loads, and what is refused.

One tiny LlamaGen in every container that trainers write must decode alike; what is wrong with a file is one sentence,
exit code 2, and nothing in the file runs.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vtbench import registry
from vtbench.models.arch import with_options
from vtbench.models.build import build
from vtbench.models.load import load
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.types.errors import VtbenchError

OPTIONS = {
    "encoder_ch_mult": "1:1",
    "decoder_ch_mult": "1:1",
    "z_channels": "16",
    "codebook_size": "64",
    "embed_dim": "4",
}
MASKGIT = {
    "hidden_channels": "32",
    "channel_mult": "1:1",
    "num_res_blocks": "1",
    "z_channels": "8",
    "codebook_size": "32",
    "embed_dim": "8",
}
MAGVIT2 = {
    "ch": "32",
    "ch_mult": "1:1:1",
    "num_res_blocks": "1",
    "z_channels": "6",
    "bits": "6",
    "bits_per_group": "6",
}
Weights = dict[str, torch.Tensor]


def network(family: str, options: dict[str, str]) -> Any:
    one = registry.family(family)
    arch = one.cards[0].arch
    assert arch is not None
    return fill_(build_network(one, with_options(arch, options)))


@pytest.fixture(scope="module")
def weights() -> Weights:
    return {n: t.clone() for n, t in network("llamagen", OPTIONS).state_dict().items()}


def decoded(path: Path) -> tuple[torch.Tensor, Any]:
    built = build("family:llamagen", OPTIONS, path)
    images = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    assert built.files.status == "own"
    return built.model.decode(built.model.encode(images, [0]), [0]), built.model


def _shards(weights: Weights, folder: Path) -> Path:
    folder.mkdir()
    names, half = list(weights), len(weights) // 2
    for number, part in enumerate((names[:half], names[half:])):
        save_file({n: weights[n] for n in part}, folder / f"model-{number}.safetensors")
    table = {n: f"model-{int(i >= half)}.safetensors" for i, n in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    return folder


def _saved(what: Any, path: Path, **more: Any) -> Path:
    torch.save(what, path, **more)
    return path


CONTAINERS: dict[str, Callable[[Weights, Path], Path]] = {
    "model_ema_state_dict": lambda w, d: _saved({"model_ema_state_dict": w, "epoch": 3}, d / "x.pth"),
    "ema before model, as the card says": lambda w, d: _saved(
        {"model": {n: t * 0 for n, t in w.items()}, "ema": w}, d / "x.bin"
    ),
    "module and compiled": lambda w, d: _saved(
        {"state_dict": {f"module._orig_mod.{n}": t for n, t in w.items()}}, d / "x.ckpt"
    ),
    "training leftovers": lambda w, d: _saved(
        {**w, "loss.disc.weight": torch.ones(2), "discriminator.x": torch.ones(1)}, d / "x.pt"
    ),
    "inside a larger model": lambda w, d: _saved({f"vq.{n}": t for n, t in w.items()}, d / "x.pt"),
    "old format": lambda w, d: _saved(w, d / "x.pt", _use_new_zipfile_serialization=False),
    "shards": lambda w, d: _shards(w, d / "shards"),
    "index of shards": lambda w, d: _shards(w, d / "shards") / "model.safetensors.index.json",
}


@pytest.mark.parametrize("how", CONTAINERS)
def test_every_container_is_the_same_model(how: str, weights: Weights, tmp_path: Path) -> None:
    save_file(weights, tmp_path / "plain.safetensors")
    wanted, _ = decoded(tmp_path / "plain.safetensors")
    got, model = decoded(CONTAINERS[how](weights, tmp_path))
    assert torch.equal(got, wanted)
    assert model.network.stored_as is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_said(dtype: torch.dtype, weights: Weights, tmp_path: Path) -> None:
    torch.save({n: t.to(dtype) for n, t in weights.items()}, tmp_path / "half.pt")
    loaded = load("family:llamagen", OPTIONS, checkpoint=tmp_path / "half.pt")
    assert loaded.weights["note"] == (f"the file keeps its weights in {str(dtype)[6:]}; they were widened to float32")


class Code:
    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (self.mark,)


def _truncated(weights: Weights, path: Path) -> Path:
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _code_only(path: Path) -> Path:
    path.write_bytes(pickle.dumps(Code(str(path.parent / "ran"))))
    return path


def _changed(weights: Weights, path: Path, **change: Any) -> Path:
    return _saved({**{n: t for n, t in weights.items() if n not in change}, **change}, path)


def _incomplete(weights: Weights, folder: Path) -> Path:
    (_shards(weights, folder) / "model-1.safetensors").unlink()
    return folder


BAD: dict[str, tuple[Callable[[Weights, Path], Path], str]] = {
    "truncated zip": (lambda w, d: _truncated(w, d / "x.pt"), "it is truncated"),
    "truncated safetensors": (lambda w, d: _truncated(w, d / "x.safetensors"), "it is truncated or damaged"),
    "empty": (lambda w, d: _text(d / "x.pt", ""), "is not a checkpoint (it is empty)"),
    "text": (lambda w, d: _text(d / "x.pt", "hello"), "is not a checkpoint (it starts with b'he')"),
    "pickled code alone": (lambda w, d: _code_only(d / "x.pkl"), "nothing in it was run"),
    "NaN": (
        lambda w, d: _changed(w, d / "x.pt", **{"decoder.conv_out.bias": torch.full((3,), float("nan"))}),
        "decoder.conv_out.bias hold NaN or infinity",
    ),
    "a name missing": (
        lambda w, d: _saved({n: t for n, t in w.items() if n != "quant_conv.weight"}, d / "x.pt"),
        "1 missing: quant_conv.weight): most names are right",
    ),
    "another codebook": (
        lambda w, d: _changed(w, d / "x.pt", **{"quantize.embedding.weight": torch.ones(32, 4)}),
        "this looks like family:llamagen --option encoder_ch_mult=1:1 --option decoder_ch_mult=1:1 "
        "--option z_channels=16 --option codebook_size=32 --option embed_dim=4",
    ),
    "another family": (
        lambda w, d: _saved(network("maskgit-vqgan", MASKGIT).state_dict(), d / "x.pt"),
        "this looks like family:maskgit-vqgan",
    ),
    "another model inside a larger one": (
        lambda w, d: _saved(
            {f"vq.{n}": t for n, t in network("maskgit-vqgan", MASKGIT).state_dict().items()}, d / "x.pt"
        ),
        "names that begin with 'vq.'",
    ),
    "a shard missing": (lambda w, d: _incomplete(w, d / "s"), "model-1.safetensors is missing"),
    "no such file": (lambda w, d: d / "nowhere.pt", "does not exist"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_one_sentence(what: str, weights: Weights, tmp_path: Path) -> None:
    make, said = BAD[what]
    path = make(weights, tmp_path)
    with pytest.raises(VtbenchError) as refused:
        decoded(path)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ran").exists(), "code in the file was run"


def test_code_beside_the_weights_does_not_run(weights: Weights, tmp_path: Path) -> None:
    decoded(_saved({"model": weights, "callbacks": Code(str(tmp_path / "ran"))}, tmp_path / "x.pt"))
    assert not (tmp_path / "ran").exists()


def test_the_command_says_it_with_exit_code_2(weights: Weights, tmp_path: Path) -> None:
    command = ["evaluate", "family:llamagen", "--images", "starter-natural", "--task", "compression", "--limit", "1"]
    for key, value in OPTIONS.items():
        command += ["--option", f"{key}={value}"]
    path = _changed(weights, tmp_path / "x.pt", **{"quantize.embedding.weight": torch.ones(32, 4)})
    command += ["--checkpoint", str(path), "--out", str(tmp_path / "out")]
    ran = subprocess.run([sys.executable, "-m", "vtbench", *command], capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("vtbench: x.pt as family:llamagen")
    assert "codebook_size=32" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_image_below_the_minimum_is_padded_or_refused_in_words(tmp_path: Path) -> None:
    """Two latent cells a side is the least that AdaptiveGroupNorm takes; an own configuration says so as the card."""
    path = _saved({"state_dict": network("open-magvit2", MAGVIT2).state_dict()}, tmp_path / "x.ckpt")
    model = build("family:open-magvit2", MAGVIT2, path).model
    assert (model.card.sizes.of, model.card.sizes.at_least) == (4, 8)
    with pytest.raises(VtbenchError, match="a single latent cell"):
        model.decode(model.encode(torch.rand(1, 3, 4, 4), [0]), [0])
    with pytest.raises(VtbenchError, match="the image is 3 x 5, but both sides must be multiples of 4"):
        model.encode(torch.rand(1, 3, 3, 5), [0])
