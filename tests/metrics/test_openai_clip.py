"""OpenAI's CLIP files are TorchScript archives: their tensors are read, their code never runs; and the images that the
network sees are those of open_clip's own transform."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch import nn

from vtbench.metrics import weights
from vtbench.metrics.clip_set import ClipFeatures, ClipScore, mmd
from vtbench.metrics.openai_clip import prepare
from vtbench.metrics.perceptual import ClipSimilarity
from vtbench.models.pickles import read_pickle, read_script
from vtbench.proving.pictures import photograph
from vtbench.tasks.geneval.colours import Colours
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Reference

FILES = {
    "ViT-B-32": ("clip-vit-b32-openai", "ViT-B-32.pt"),
    "ViT-L-14-336": ("clip-vit-l14-336-openai", "ViT-L-14-336px.pt"),
    "ViT-L-14": ("clip-vit-l14-openai", "ViT-L-14.pt"),
}
SIDES = {"ViT-B-32": 224, "ViT-L-14-336": 336, "ViT-L-14": 224}


def _narrow(side: int) -> dict[str, Any]:
    """A configuration of open_clip's with OpenAI's parts and few numbers."""
    return {
        "embed_dim": 16,
        "vision_cfg": {"image_size": side, "layers": 2, "width": 64, "head_width": 32, "patch_size": side // 7},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """OpenAI's names stand for narrow networks, and no file lies anywhere else."""
    for name, side in SIDES.items():
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, _narrow(side))
    for variable in ("TORCH_HOME", "VTBENCH_CACHE", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    return tmp_path


class Tree(nn.Module):
    """Modules that hold named tensors and compute nothing, as far as a file of weights goes."""

    def put(self, name: str, tensor: torch.Tensor) -> None:
        first, _, rest = name.partition(".")
        if not rest:
            self.register_parameter(first, nn.Parameter(tensor, requires_grad=False))
            return
        if first not in self._modules:
            self.add_module(first, Tree())
        part = self._modules[first]
        assert isinstance(part, Tree)
        part.put(rest, tensor)


def released(model: str, path: Path) -> Any:
    """Writes a TorchScript archive with OpenAI's names in half precision; returns open_clip's network of the same."""
    torch.manual_seed(0)
    net = open_clip.create_model(model, pretrained=None, force_quick_gelu=True)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((0.5 * torch.randn_like(parameter)).half().float())
    tree = Tree()
    for name, tensor in net.state_dict().items():
        if name != "attn_mask":
            tree.put(name, tensor.half() if tensor.ndim else tensor.clone())
    for number, name in enumerate(("input_resolution", "context_length", "vocab_size")):
        tree.register_buffer(name, torch.tensor(number))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(torch.jit.script(tree), str(path))  # type: ignore[no-untyped-call]
    return net.eval()


def verified(monkeypatch: pytest.MonkeyPatch, folder: Path, model: str) -> Any:
    """The same, where the released file is looked for, and its sha256 in the table."""
    entry, file = FILES[model]
    path = folder / "metrics" / file
    net = released(model, path)
    known = dataclasses.replace(weights.TABLE[entry], sha256=weights.sha256(path))
    monkeypatch.setitem(weights.TABLE, entry, known)
    return net


def by_variable(monkeypatch: pytest.MonkeyPatch, folder: Path, model: str) -> Any:
    entry, file = FILES[model]
    net = released(model, folder / "own" / file)
    monkeypatch.setenv(weights.VARIABLE, f"{entry}={folder / 'own' / file}")
    return net


WAYS: dict[str, Callable[[pytest.MonkeyPatch, Path, str], Any]] = {"verified": verified, "by variable": by_variable}
PHOTO = photograph()
CUTS = [np.ascontiguousarray(PHOTO[a : a + 151, b : b + 203]) for a, b in ((0, 0), (60, 200), (300, 100))]


def _stack(images: list[Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def features(net: Any, images: list[Any], side: int) -> torch.Tensor:
    transform = open_clip.image_transform(side, is_train=False)
    with torch.inference_mode():
        return net.encode_image(torch.stack([transform(Image.fromarray(i)) for i in images]), normalize=True)


@pytest.fixture(autouse=True)
def _no_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a TorchScript archive was about to be run")

    monkeypatch.setattr(torch.jit, "load", refuse)


@pytest.mark.parametrize("way", WAYS)
def test_clip_score_reads_the_released_file(way: str, monkeypatch: pytest.MonkeyPatch, configured: Path) -> None:
    net = WAYS[way](monkeypatch, configured, "ViT-B-32")
    prompts = ["a cat", "a photo of a rocket", "nothing"]
    items = [Item(str(k), Path(str(k)), meta={"prompt": p}) for k, p in enumerate(prompts)]
    images = _stack(CUTS)
    ours = ClipScore().measure(Batch(Reference(images, items, ["", "", ""]), images))
    with torch.inference_mode():
        text = net.encode_text(open_clip.get_tokenizer("ViT-B-32")(prompts), normalize=True)
    wanted = 100 * (features(net, CUTS, 224) * text).sum(dim=1).clamp(min=0)
    assert [v.value for v in ours] == pytest.approx(wanted.tolist(), abs=1e-3)
    assert len({round(v, 2) for v in wanted.tolist()}) > 1


@pytest.mark.parametrize("way", WAYS)
def test_cmmd_reads_the_released_file(way: str, monkeypatch: pytest.MonkeyPatch, configured: Path) -> None:
    net = WAYS[way](monkeypatch, configured, "ViT-L-14-336")
    extractor = ClipFeatures()
    ours, wanted = extractor.extract(_stack(CUTS)), features(net, CUTS, 336).numpy()
    assert ours == pytest.approx(wanted, abs=1e-5)
    assert mmd(ours[:2], ours[1:]) == pytest.approx(mmd(wanted[:2], wanted[1:]), abs=1e-5)
    assert (extractor.unverified() is None) == (way == "verified")


@pytest.mark.parametrize("way", WAYS)
def test_genevals_colours_read_the_released_file(way: str, monkeypatch: pytest.MonkeyPatch, configured: Path) -> None:
    net = WAYS[way](monkeypatch, configured, "ViT-L-14")
    colours = Colours()
    images = torch.stack([colours.prepare(Image.fromarray(i)) for i in CUTS])
    with torch.inference_mode():
        ours, wanted = (n.encode_image(images, normalize=True) for n in (colours.network, net))
    assert torch.allclose(ours, wanted, atol=1e-5)
    assert (colours.record["unverified"] is None) == (way == "verified")


@pytest.mark.parametrize("way", WAYS)
def test_clip_similarity_reads_the_released_file(way: str, monkeypatch: pytest.MonkeyPatch, configured: Path) -> None:
    net = WAYS[way](monkeypatch, configured, "ViT-B-32")
    squares = [np.asarray(Image.fromarray(i).resize((224, 224))) for i in CUTS]
    others = [np.ascontiguousarray(i[::-1]) for i in squares]
    ours = ClipSimilarity().measure(Batch(Reference(_stack(squares), [None] * 3, [""] * 3), _stack(others)))  # type: ignore[list-item]
    wanted = (features(net, squares, 224) * features(net, others, 224)).sum(dim=1)
    assert [v.value for v in ours] == pytest.approx(wanted.tolist(), abs=1e-4)


def test_a_file_of_another_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch, configured: Path) -> None:
    path = configured / "own" / "x.pt"
    released("ViT-L-14-336", path)
    monkeypatch.setenv(weights.VARIABLE, f"clip-vit-b32-openai={path}")
    for metric in (ClipScore(), ClipSimilarity()):
        with pytest.raises(VtbenchError, match=r"x\.pt is not") as refused:
            metric.load()
        assert "\n" not in str(refused.value)[:60]


@pytest.mark.parametrize("cut", [0.3, 0.7, 0.999])
def test_a_damaged_file_is_one_sentence(cut: float, monkeypatch: pytest.MonkeyPatch, configured: Path) -> None:
    path = configured / "own" / "ViT-B-32.pt"
    released("ViT-B-32", path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * cut)])
    monkeypatch.setenv(weights.VARIABLE, f"clip-vit-b32-openai={path}")
    for metric in (ClipScore(), ClipSimilarity()):
        with pytest.raises(VtbenchError):
            metric.load()


def test_an_archives_names_are_its_state_dicts(tmp_path: Path) -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
            self.scale = nn.Parameter(torch.tensor(2.0))
            self.steps = 7

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x) * self.scale * self.steps

    net = torch.jit.script(nn.ModuleList([Part(), Part()])[0])
    torch.jit.save(net, str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
    read, wanted = read_script(tmp_path / "net.pt"), net.state_dict()
    assert read.keys() == wanted.keys()
    assert all(torch.equal(read[name], wanted[name]) for name in wanted)
    # As a checkpoint too, torch's own reader is not asked.
    read_pickle(tmp_path / "net.pt")
    torch.jit.save(torch.jit.script(nn.ReLU()), str(tmp_path / "none.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(VtbenchError, match="without tensors"):
        read_script(tmp_path / "none.pt")


SIZES = [
    (37, 61),
    (61, 37),
    (1, 40),
    (223, 224),
    (225, 224),
    (500, 333),
    (333, 500),
    (448, 449),
    (337, 336),
    (224, 224),
]


@pytest.mark.parametrize("side", [224, 336, 97])
@pytest.mark.parametrize("size", SIZES)
def test_the_images_are_those_of_open_clips_transform(size: tuple[int, int], side: int) -> None:
    """Bit for bit: odd margins are rounded, not cut off, and the longer side is cut to whole pixels."""
    rng = np.random.default_rng(size[0])
    images = [np.asarray(Image.fromarray(PHOTO).resize((size[1], size[0]))), rng.integers(0, 256, (*size, 3), np.uint8)]
    transform = open_clip.image_transform(side, is_train=False)
    wanted = torch.stack([transform(Image.fromarray(image)) for image in images])
    assert torch.equal(prepare(_stack(images), side), wanted)
