"""A folder of weights: shards of both formats, an index, and several files of which one is the model's.

Written with the libraries that people use, and read back; what must come out are the numbers that went in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_weights import OTHER, WANTED, State, read, same

from vtbench.types.errors import VtbenchError


def shards(folder: Path, save: Callable[[State, Path], Any], suffix: str, stem: str) -> Path:
    folder.mkdir()
    names = list(WANTED)
    table = {}
    for number, part in enumerate((names[:5], names[5:]), 1):
        file = f"{stem}-{number:05d}-of-00002{suffix}"
        save({n: WANTED[n] for n in part}, folder / file)
        table |= dict.fromkeys(part, file)
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    return folder


def test_shards_of_both_formats(tmp_path: Path) -> None:
    both = shards(tmp_path / "bin", torch.save, ".bin", "pytorch_model")
    assert same(read(both), WANTED)
    assert same(read(both / "pytorch_model.bin.index.json"), WANTED)
    save_all = shards(tmp_path / "safe", save_file, ".safetensors", "model")
    assert same(read(save_all), WANTED)
    # Of two indexes the safetensors' is read.
    for file in save_all.iterdir():
        (both / file.name).write_bytes(file.read_bytes())
    network = read(both)
    assert same(network, WANTED)
    assert network.read_from[0]["file"] == "model.safetensors.index.json"  # type: ignore[index, union-attr]
    assert network.read_from[0]["beside"] == ["the file pytorch_model.bin.index.json"]  # type: ignore[index, union-attr]
    # A whole file beside shards: of the same kind it is their twin, of another kind another set of weights.
    torch.save(OTHER, save_all / "pytorch_model.bin")
    network = read(save_all)
    assert same(network, WANTED)
    assert network.read_from[0]["beside"] == ["the file pytorch_model.bin"]  # type: ignore[index, union-attr]
    save_file(OTHER, save_all / "ema.safetensors")
    with pytest.raises(VtbenchError, match=r"twice, with other numbers: in model\.safetensors\.index\.json and in ema"):
        read(save_all)
    (save_all / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(VtbenchError, match="is missing"):
        read(save_all)
    (save_all / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../bin/x.bin"}}')
    with pytest.raises(VtbenchError, match="not beside it: refused"):
        read(save_all)


FOLDERS: dict[str, tuple[dict[str, State], str | None]] = {
    "two complete files": ({"ema.safetensors": OTHER, "model.safetensors": WANTED}, None),
    "two steps": ({"step_10000.safetensors": WANTED, "step_9000.safetensors": OTHER}, None),
    "two epochs of Lightning": ({"epoch=1.ckpt": WANTED, "last.ckpt": OTHER}, None),
    "a model and its discriminator": (
        {"model.safetensors": WANTED, "model_1.safetensors": {"main.w": torch.ones(3)}},
        "model.safetensors",
    ),
    "safetensors and its pickled twin": (
        {"model.safetensors": WANTED, "pytorch_model.bin": OTHER},
        "model.safetensors",
    ),
    "whole and half precision": ({"model.safetensors": WANTED, "model.fp16.safetensors": OTHER}, "model.safetensors"),
    "half precision only": (
        {"model.fp16.safetensors": WANTED, "optimizer.bin": {"exp_avg": torch.ones(3)}},
        "model.fp16.safetensors",
    ),
    "the same twice": ({"best.safetensors": WANTED, "last.safetensors": WANTED}, "best.safetensors"),
}


@pytest.mark.parametrize("how", FOLDERS)
def test_folders_with_several_files(how: str, tmp_path: Path) -> None:
    files, taken = FOLDERS[how]
    for name, tensors in files.items():
        (save_file if name.endswith("safetensors") else torch.save)(tensors, tmp_path / name)
    if taken is None:
        with pytest.raises(VtbenchError, match=r"twice, with other numbers: in .* and in ") as caught:
            read(tmp_path)
        assert all(name in str(caught.value) for name in files)
        return
    network = read(tmp_path)
    assert same(network, WANTED)
    assert network.read_from[0]["file"] == taken  # type: ignore[index, union-attr]


def test_two_variants_without_a_whole_file_are_refused(tmp_path: Path) -> None:
    for variant in ("fp16", "bf16"):
        save_file(WANTED, tmp_path / f"model.{variant}.safetensors")
    with pytest.raises(VtbenchError, match=r"the variants model\.bf16\.safetensors and model\.fp16\.safetensors"):
        read(tmp_path)


def test_shards_without_an_index_are_joined(tmp_path: Path) -> None:
    names = list(WANTED)
    save_file({n: WANTED[n] for n in names[:4]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({n: WANTED[n] for n in names[4:]}, tmp_path / "model-00002-of-00002.safetensors")
    assert same(read(tmp_path), WANTED)
