"""What `vtbench identify` prints can be pasted into a shell and works: options, quoting, folders, averaged copies."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support import command, cuts

from vtbench import registry
from vtbench.cli.options import options_of
from vtbench.models.arch import changes, option_text, with_options
from vtbench.models.identify import identify_file
from vtbench.models.made_weights import fill_
from vtbench.models.network import build_network

TAMING = {
    "ch": "32",
    "ch_mult": "1:1",
    "num_res_blocks": "1",
    "codebook_size": "64",
    "embed_dim": "8",
    "z_channels": "8",
    "attn_resolutions": "empty",
}
"""A VQGAN of taming-transformers without attention, whose list of resolutions has no element."""


def state(family: str, options: dict[str, str]) -> dict[str, torch.Tensor]:
    one = registry.family(family)
    arch = one.cards[0].arch
    assert arch is not None
    network = fill_(build_network(one, with_options(arch, options), random=False))
    return {n: t.clone() for n, t in network.state_dict().items()}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return state("vqgan", TAMING)


def printed(path: Path) -> tuple[str, list[list[str]]]:
    """What identify prints, and the commands in it as a shell splits them."""
    code, out, _ = command("identify", path)
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    return out, [shlex.split(line)[1:] for line in lines if line.startswith("vtbench evaluate ")]


def test_a_command_works_as_it_is_printed_from_a_path_with_spaces_and_quotes(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder = tmp_path / "my user's $files"
    folder.mkdir()
    torch.save({"state_dict": {**weights, "loss.logvar": torch.ones(1)}}, folder / "last (1).ckpt")
    out, commands = printed(folder / "last (1).ckpt")
    assert "attn_resolutions=empty" in out
    words = next(words for words in commands if "family:vqgan" in words)
    assert words[-1] == str(folder / "last (1).ckpt")
    images = cuts(tmp_path / "images", 1, ((32, 32),))
    more = ["--images", images, "--view", "native", "--task", "reconstruction", "--out", tmp_path / "out"]
    code, _, said = command(*words, *more)
    assert code == 0, said
    (record,) = (tmp_path / "out").glob("*/run.json")
    model = json.loads(record.read_text())["model"]
    assert model["weights"]["copies"] == [
        {
            "role": "model",
            "file": "last (1).ckpt",
            "key": "state_dict",
            "prefix": "",
            "averaged": False,
            "wrappers": [],
            "by": "the only copy that fits",
            "beside": [],
        }
    ]


def test_the_command_reads_what_identify_saw_and_names_what_stands_beside(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    other = {n: t + 1 if t.is_floating_point() else t for n, t in weights.items()}
    torch.save({"params": weights, "params_ema": other}, tmp_path / "two.pth")
    match = next(m for m in identify_file(tmp_path / "two.pth") if m.name == "family:vqgan")
    assert (match.key, match.prefix, match.beside, match.undecided) == ("params", "", ("params_ema.",), False)
    assert match.command(
        tmp_path / "two.pth",
    ).endswith(f"--checkpoint {tmp_path / 'two.pth'}")  # type: ignore[union-attr]
    torch.save({"a b": weights, "c": other}, tmp_path / "undecided.pth")
    match = next(m for m in identify_file(tmp_path / "undecided.pth") if m.name == "family:vqgan")
    assert match.undecided
    assert shlex.split(str(match.command(tmp_path / "undecided.pth")))[-2:] == ["--prefix", "a b."]
    folder = tmp_path / "two steps"
    folder.mkdir()
    for name, tensors in (("step_1.safetensors", weights), ("step_2.safetensors", other)):
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / name)
    match = next(m for m in identify_file(folder) if m.name == "family:vqgan")
    assert match.beside == ("step_2.safetensors",)
    assert shlex.split(str(match.command(folder)))[-2:] == ["--checkpoint", str(folder / "step_1.safetensors")]


def test_prefixes_and_wrappers_are_no_obstacle(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """The same reader as evaluate's: identify knows what it can read, and says nothing about what it cannot."""
    wrapped = {f"module.first_stage_model.{n.replace('.', '._orig_mod.', 1)}": t for n, t in weights.items()}
    save_file({**wrapped, "module.model.out": torch.ones(2)}, tmp_path / "x.safetensors")
    match = next(m for m in identify_file(tmp_path / "x.safetensors") if m.name == "family:vqgan")
    assert (match.key, match.prefix) == (None, "module.first_stage_model.")
    torch.save({n: (t * 10).to(torch.int8) for n, t in weights.items()}, tmp_path / "int8.pt")
    assert not [m for m in identify_file(tmp_path / "int8.pt") if m.how != "near"]


def test_a_part_of_a_model_is_loaded_from_its_folder(tmp_path: Path) -> None:
    entry = registry.model("taesd")
    assert entry.card.arch is not None
    network = fill_(build_network(entry.family, entry.card.arch, random=False))
    encoder, decoder = (w.file for w in entry.card.weights)
    torch.save(network.get_submodule("encoder").state_dict(), tmp_path / encoder)
    out, commands = printed(tmp_path / encoder)
    assert not [words for words in commands if "taesd" in words]
    assert f"it is loaded from a folder with {encoder}, {decoder}" in out
    torch.save(network.get_submodule("decoder").state_dict(), tmp_path / decoder)
    _, commands = printed(tmp_path / encoder)
    assert ["evaluate", "taesd", "--checkpoint", str(tmp_path)] in commands


def test_every_arch_that_is_released_can_be_typed_as_options_of_its_family() -> None:
    """What option_text writes, the command line reads back, for every difference between two cards of a family."""
    told_apart = 0
    for family in registry.families().values():
        archs = [card.arch for card in family.cards if card.arch is not None]
        for arch in archs[1:]:
            options = changes(archs[0], arch)
            flat = set(changes({}, archs[0]))
            if any(key not in flat and key not in {f.rsplit(".", 1)[-1] for f in flat} for key in options):
                # Another kind of network: its entries are not the first one's, and no option names them.
                continue
            texts = [f"{key}={option_text(value)}" for key, value in options.items()]
            read = {key: values[0] for key, values in options_of(texts).items()}
            assert all(len(values) == 1 for values in options_of(texts).values()), texts
            rebuilt = with_options(archs[0], read)
            assert {k: v for k, v in changes(rebuilt, arch).items()} == {}, (family.name, texts)
            told_apart += bool(options)
    assert told_apart > 20
