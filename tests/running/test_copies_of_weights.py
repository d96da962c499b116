"""Which copy of the weights a result is of: chosen, recorded, part of the question, and found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import command, cuts

import vtbench
from vtbench import registry
from vtbench.models.again import again
from vtbench.models.arch import with_options
from vtbench.models.build import build
from vtbench.models.load import load
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network
from vtbench.results.record import Run
from vtbench.types.errors import VtbenchError

OPTIONS = {
    "encoder_ch_mult": "1:1",
    "decoder_ch_mult": "1:1",
    "z_channels": "16",
    "codebook_size": "64",
    "embed_dim": "4",
    "ch": "32",
    "num_res_blocks": "1",
}
TINY = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def two() -> tuple[State, State]:
    """Two sets of weights of one network, whose pictures differ."""
    family = registry.family("llamagen")
    arch = family.cards[0].arch
    assert arch is not None
    state = fill_(build_network(family, with_options(arch, OPTIONS), random=False)).state_dict()
    raw = {n: t.clone() for n, t in state.items()}
    return raw, {n: t * 0.5 if t.is_floating_point() and t.ndim > 1 else t.clone() for n, t in raw.items()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuts(tmp_path_factory.mktemp("images"), 2, ((32, 32),))


def run(checkpoint: Path, images: Path, out: Path, **more: Any) -> Run:
    result = vtbench.evaluate(
        "family:llamagen",
        options=OPTIONS,
        checkpoint=checkpoint,
        images=images,
        view="native",
        tasks=["reconstruction"],
        out=out,
        **more,
    )
    assert not result.failures, result.failures
    return result.runs[0]


def psnr(one: Run) -> float:
    score = one.score("psnr")
    assert score is not None
    assert score.value is not None
    return score.value


def test_a_run_is_of_the_copy_that_its_record_names(two: tuple[State, State], images: Path, tmp_path: Path) -> None:
    raw, averaged = two
    torch.save({"params": raw, "params_ema": averaged}, tmp_path / "both.pth")
    for name, state in (("raw", raw), ("averaged", averaged)):
        torch.save(state, tmp_path / f"{name}.pth")
    alone = {name: psnr(run(tmp_path / f"{name}.pth", images, tmp_path / name)) for name in ("raw", "averaged")}
    assert alone["raw"] != alone["averaged"]
    out = tmp_path / "out"
    chosen = run(tmp_path / "both.pth", images, out)
    copy = chosen.info.model.weights.copies[0]
    assert (copy.key, copy.averaged, copy.beside) == ("params_ema", True, ["params. (raw)"])
    assert "beside: params. (raw)" in str(chosen.info.model.weights.note)
    assert psnr(chosen) == alone["averaged"]
    asked = run(tmp_path / "both.pth", images, out, prefix="params")
    assert asked.info.id != chosen.info.id
    assert asked.info.model.prefix == "params"
    copy = asked.info.model.weights.copies[0]
    assert (copy.key, copy.averaged, copy.by) == ("params", False, "--prefix")
    assert psnr(asked) == alone["raw"]
    # Asked again, each is answered by its own folder.
    assert psnr(run(tmp_path / "both.pth", images, out)) == alone["averaged"]
    assert len(list(out.glob("*/run.json"))) == 2
    # A run's own model is loaded with the copy that made it.
    found_again = again(asked, from_model=True)
    assert found_again.weights["copies"][0]["key"] == "params"
    stated = json.loads((asked.path / "run.json").read_text())["model"]
    assert stated["weights"]["copies"][0]["key"] == "params"


def test_the_command_line_chooses_too_and_says_what_was_read(
    two: tuple[State, State], images: Path, tmp_path: Path
) -> None:
    raw, averaged = two
    wrapped = {f"module.vqmodel.{n.replace('.', '._orig_mod.', 1)}": t.contiguous() for n, t in raw.items()}
    save_file({**wrapped, **{f"ema.{n}": t.contiguous() for n, t in averaged.items()}}, tmp_path / "x.safetensors")
    words = ["evaluate", "family:llamagen", *TINY, "--checkpoint", tmp_path / "x.safetensors", "--images", images]
    words += ["--view", "native", "--task", "compression", "--out", tmp_path / "out"]
    code, out, said = command(*words, "--prefix", "module.vqmodel.")
    assert code == 0, said
    assert "weights: read from module.vqmodel. (raw; --prefix); beside: ema. (averaged)" in out
    (record,) = (tmp_path / "out").glob("*/run.json")
    (copy,) = json.loads(record.read_text())["model"]["weights"]["copies"]
    assert (copy["prefix"], copy["wrappers"]) == ("module.vqmodel.", ["_orig_mod"])
    code, _, said = command(*words, "--prefix", "nothing")
    assert code == 2
    assert "no weights of this model under --prefix 'nothing'" in said


def test_where_prefix_has_no_meaning_it_is_refused(images: Path, tmp_path: Path) -> None:
    class Mine(torch.nn.Module):
        def encode(self, x: torch.Tensor) -> Any: ...

        def decode(self, x: Any) -> Any: ...

    for spec, words in (
        ("jpeg", "code of its own"),
        ("kmeans-vq", "code of its own"),
        (f"folder:{images}", "no --option, --checkpoint or --prefix"),
        (Mine(), "no --checkpoint and no --prefix"),
    ):
        with pytest.raises(VtbenchError, match=words):
            load(spec, prefix="ema")
    with pytest.raises(VtbenchError, match="code of its own"):
        vtbench.evaluate("jpeg", images=images, prefix="ema", tasks=["compression"], out=tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_accelerate_is_read(name: str, two: tuple[State, State], tmp_path: Path) -> None:
    """What save_state writes: the model, optimizer, scheduler, random states and custom objects."""
    raw, averaged = two
    state = {n: t.contiguous() for n, t in raw.items()}
    (save_file if name.endswith("s") else torch.save)(state, tmp_path / name)
    moments = {"state": {i: {"exp_avg": t, "step": torch.tensor(3.0)} for i, t in enumerate(raw.values())}}
    torch.save(moments, tmp_path / "optimizer.bin")
    for file in ("scheduler.bin", "sampler.bin", "scaler.pt", "random_states_0.pkl"):
        torch.save({"state": torch.ones(3), "numbers": [1, 2]}, tmp_path / file)
    loaded = load("family:llamagen", OPTIONS, checkpoint=tmp_path)
    assert torch.equal(loaded.model.network.state_dict()["encoder.conv_in.weight"], raw["encoder.conv_in.weight"])
    # A registered average in a file of its own is another set of these weights: which one is meant is said.
    torch.save({n: t for n, t in averaged.items()}, tmp_path / "custom_checkpoint_0.pkl")
    with pytest.raises(VtbenchError, match=f"twice, with other numbers: in custom_checkpoint_0.pkl and in {name}"):
        load("family:llamagen", OPTIONS, checkpoint=tmp_path)
    # One without names is beside it.
    torch.save({"shadow_params": list(averaged.values())}, tmp_path / "custom_checkpoint_0.pkl")
    copies = load("family:llamagen", OPTIONS, checkpoint=tmp_path).weights["copies"]
    assert copies[0]["file"] == name
    assert copies[0]["beside"][0].startswith("shadow_params in custom_checkpoint_0.pkl (a list of ")


def test_folders_without_weights_say_where_they_are(two: tuple[State, State], tmp_path: Path) -> None:
    for step in (1000, 2000):
        (tmp_path / f"checkpoint-{step}").mkdir()
        torch.save(two[0], tmp_path / f"checkpoint-{step}" / "pytorch_model.bin")
    with pytest.raises(VtbenchError, match="checkpoint-1000, checkpoint-2000 in it hold weights: give one of these"):
        load("family:llamagen", OPTIONS, checkpoint=tmp_path)
    (tmp_path / "dcp").mkdir()
    (tmp_path / "dcp" / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(VtbenchError, match="dcp_to_torch"):
        load("family:llamagen", OPTIONS, checkpoint=tmp_path / "dcp")


def test_a_generator_of_own_sizes_is_a_generator_everywhere(tmp_path: Path) -> None:
    """Both verbs take it; what is missing here, offline, is its tokenizer."""
    sizes = ["-o", "num_classes=10", "-o", "dim=64", "-o", "n_layer=1", "-o", "n_head=2"]
    for words in (
        ["evaluate", "family:llamagen-gpt", *sizes, "--task", "generation", "--out", tmp_path / "e"],
        ["generate", "family:llamagen-gpt", *sizes, "--suite", "classes:2", "--out", tmp_path / "g"],
    ):
        code, _, said = command(*words)
        assert code != 0
        assert "draws tokens of llamagen-vq-ds16-c2i, which cannot be loaded" in said
    with pytest.raises(VtbenchError, match="n_head is 0"):
        build("family:llamagen-gpt", {"dim": "64", "n_head": "0"})
    with pytest.raises(VtbenchError, match="dim 64 over 7 heads"):
        build("family:llamagen-gpt", {"dim": "64", "n_head": "7"})
    with pytest.raises(VtbenchError, match="has no entry 'num_klasses'"):
        build("family:llamagen-gpt", {"num_klasses": "7"})
    code, _, said = command("evaluate", "family:llamagen-gpt", "--images", "starter-natural", "--task", "compression")
    assert code == 2
    assert "is a generator" in said


def test_a_generator_of_own_sizes_draws(tmp_path: Path) -> None:
    """Ten classes, one layer, 4 x 4 tokens of a tiny tokenizer: what its own training would leave."""
    from vtbench.types.adapter import Prompt

    gpt, vq = registry.family("llamagen-gpt"), registry.family("llamagen")
    sizes = {"num_classes": "10", "dim": "64", "n_layer": "1", "n_head": "2", "block_size": "16", "vocab_size": "64"}
    assert gpt.cards[0].arch is not None
    assert vq.cards[0].arch is not None
    network = fill_(build_network(gpt, with_options(gpt.cards[0].arch, sizes), random=False))
    torch.save({"model": {f"module.{n}": t for n, t in network.state_dict().items()}}, tmp_path / "gpt.pt")
    sixteen = {"encoder_ch_mult": "1:1:1:1:1", "decoder_ch_mult": "1:1:1:1:1"}
    arch = with_options(vq.cards[0].arch, OPTIONS | sixteen)
    torch.save(fill_(build_network(vq, arch, random=False)).state_dict(), tmp_path / "vq.pt")
    loaded = load(
        "family:llamagen-gpt",
        sizes | {"top_k": "0"},
        checkpoint=tmp_path / "gpt.pt",
        tokenizer_checkpoint=tmp_path / "vq.pt",
    )
    assert "num_classes=10" in loaded.identity["name"]
    assert [copy["role"] for copy in loaded.weights["copies"]] == ["model", "tokenizer: model"]
    assert loaded.weights["copies"][0]["prefix"] == "module."
    assert loaded.generator.generate([Prompt("a", label=9)], [0]).shape[:2] == (1, 3)
    with pytest.raises(VtbenchError, match=r"outside 0\.\.9"):
        loaded.generator.generate([Prompt("a", label=10)], [0])
