"""Checkpoints as they come: every container, hostile pickles, damage."""

from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vtbench.models import checkpoint, weights
from vtbench.types.cards import Card, Weights
from vtbench.types.errors import VtbenchError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def same(tensors: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor] = TENSORS) -> bool:
    return set(tensors) == set(wanted) and all(torch.equal(tensors[n].float(), wanted[n]) for n in wanted)


@pytest.mark.parametrize("key", ["state_dict", "model", "ema", "model_ema_state_dict", None])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".bin"])
def test_containers(tmp_path: Path, key: str | None, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    torch.save({key: TENSORS, "epoch": 3} if key else TENSORS, path)
    assert same(checkpoint.read(path))


def test_the_card_chooses_the_container(tmp_path: Path) -> None:
    other = {n: t + 1 for n, t in TENSORS.items()}
    torch.save({"model": TENSORS, "ema": other}, tmp_path / "x.pt")
    assert same(checkpoint.read(tmp_path / "x.pt", ("ema", "model")), other)
    assert same(checkpoint.read(tmp_path / "x.pt", ("model",)))
    torch.save({"trainer": {"unitok": TENSORS}, "args": 1}, tmp_path / "y.pt")
    assert same(checkpoint.read(tmp_path / "y.pt", ("trainer/unitok",)))


def test_module_prefix_half_precision_and_old_format(tmp_path: Path) -> None:
    torch.save({"model": {f"module.{n}": t.half() for n, t in TENSORS.items()}}, tmp_path / "x.pt")
    assert same(checkpoint.read(tmp_path / "x.pt"))
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(checkpoint.read(tmp_path / "old.pth"))


def test_safetensors_and_shards(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "one.safetensors")
    assert same(checkpoint.read(tmp_path / "one.safetensors"))
    folder = tmp_path / "sharded"
    folder.mkdir()
    save_file({"a.weight": TENSORS["a.weight"]}, folder / "m-1.safetensors")
    save_file({"a.bias": TENSORS["a.bias"]}, folder / "m-2.safetensors")
    index = folder / "m.safetensors.index.json"
    index.write_text('{"weight_map": {"a.weight": "m-1.safetensors", "a.bias": "m-2.safetensors"}}')
    assert same(checkpoint.read(folder))
    (folder / "m-2.safetensors").unlink()
    with pytest.raises(VtbenchError, match="is missing"):
        checkpoint.read(folder)
    index.write_text('{"weight_map": {"a.weight": "../one.safetensors"}}')
    with pytest.raises(VtbenchError, match="refused"):
        checkpoint.read(folder)


class Trainer:
    """Stands for a class that the reader of a checkpoint does not have."""

    def __init__(self) -> None:
        self.options = {"lr": 1.0}


@pytest.mark.parametrize("new", [True, False])
def test_unknown_classes_become_stubs(tmp_path: Path, new: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_trainer_nobody_has")
    module.Trainer = Trainer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_trainer_nobody_has", module)
    monkeypatch.setattr(Trainer, "__module__", "a_trainer_nobody_has")
    torch.save({"state_dict": TENSORS, "trainer": Trainer()}, tmp_path / "x.ckpt", _use_new_zipfile_serialization=new)
    monkeypatch.delitem(sys.modules, "a_trainer_nobody_has")
    assert same(checkpoint.read(tmp_path / "x.ckpt"))


def test_a_whole_pickled_module_gives_its_tensors(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2))
    torch.save(module, tmp_path / "module.pkl")
    tensors = checkpoint.read(tmp_path / "module.pkl")
    wanted = {n: t for n, t in module.state_dict().items()}
    assert set(tensors) == set(wanted)
    assert all(torch.equal(tensors[n], wanted[n]) for n in wanted)


class Bomb:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("new", [True, False])
def test_nothing_in_a_checkpoint_runs(tmp_path: Path, new: bool) -> None:
    marker = tmp_path / "ran"
    torch.save(
        {"state_dict": TENSORS, "x": Bomb(f"touch {marker}")}, tmp_path / "x.pt", _use_new_zipfile_serialization=new
    )
    assert same(checkpoint.read(tmp_path / "x.pt"))
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Bomb(f"touch {marker}")))
    with pytest.raises(VtbenchError):
        checkpoint.read(tmp_path / "bare.pt")
    assert not marker.exists()


def test_a_file_of_nothing_but_code_is_refused(tmp_path: Path) -> None:
    torch.save({"x": Bomb("true")}, tmp_path / "x.pt")
    with pytest.raises(VtbenchError, match="holds no tensors"):
        checkpoint.read(tmp_path / "x.pt")


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_truncation_is_a_sentence(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    if name.endswith("t") and name != "x.safetensors":
        torch.save({"state_dict": {"w": torch.randn(100, 100)}}, path)
    else:
        save_file({"w": torch.randn(100, 100)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(VtbenchError):
        checkpoint.read(path)


def test_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n")
    with pytest.raises(VtbenchError, match="git-lfs pointer"):
        checkpoint.read(tmp_path / "x.pt")
    (tmp_path / "y.pt").write_text("<html>404</html>")
    with pytest.raises(VtbenchError, match="not a checkpoint"):
        checkpoint.read(tmp_path / "y.pt")
    with pytest.raises(VtbenchError, match="does not exist"):
        checkpoint.read(tmp_path / "z.pt")


@pytest.mark.parametrize("new", [True, False])
def test_a_whole_module_beside_code_gives_its_tensors(tmp_path: Path, new: bool) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1))
    torch.save(
        {"model": module, "x": Bomb(f"touch {tmp_path / 'ran'}")}, tmp_path / "x.pt", _use_new_zipfile_serialization=new
    )
    tensors = checkpoint.read(tmp_path / "x.pt")
    assert {n: t.tolist() for n, t in tensors.items()} == {n: t.tolist() for n, t in module.state_dict().items()}
    assert not (tmp_path / "ran").exists()


def test_every_dtype_and_tensors_with_attributes_beside_code(tmp_path: Path) -> None:
    named = torch.nn.Parameter(torch.randn(2, 2))
    named.shards = 1  # type: ignore[attr-defined]
    tensors = {
        "float8": torch.randn(2).to(torch.float8_e4m3fn),
        "uint16": torch.ones(3, dtype=torch.uint16),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "named": named,
        "view": torch.arange(6.0).view(2, 3).t(),
    }
    torch.save({"model": tensors, "x": Bomb("true")}, tmp_path / "x.pt")
    read = checkpoint.read(tmp_path / "x.pt")
    assert {n: (t.dtype, t.tolist()) for n, t in read.items()} == {n: (t.dtype, t.tolist()) for n, t in tensors.items()}


def test_other_pickles_are_refused_in_our_words(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    import numpy as np

    bomb = Bomb(f"touch {tmp_path / 'ran'}")
    for protocol in range(6):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps({"w": bomb}, protocol=protocol))
    np.save(tmp_path / "x.npy", np.array([bomb], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", w=np.array([bomb], dtype=object))
    for path in tmp_path.iterdir():
        with pytest.raises(VtbenchError) as caught:
            checkpoint.read(path)
        assert "PyTorch 2.6" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert not recwarn.list


def test_every_file_of_a_model_is_in_its_identity(tmp_path: Path) -> None:
    files = tuple(Weights(file=f"{r}.pt", role=r, url="https://example.org", sha256="0" * 64) for r in "ab")
    card = Card(name="two", family="x", kind="continuous", title="Two files", weights=files)
    for role in "ab":
        (tmp_path / f"{role}.pt").write_text(role)
    files = weights.find(card, tmp_path)
    assert [h["role"] for h in files.hashes] == ["a", "b"]
    assert files.status == "unverified"
    assert "a.pt" in str(files.why)
