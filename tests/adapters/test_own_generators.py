"""Generators in sizes of one's own: identified from their shapes, drawn from, and refused beyond their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_diffusers as tiny
import torch
from typer.testing import CliRunner

from vtbench import registry
from vtbench.cli import app
from vtbench.images.prompts import open_prompts
from vtbench.models.arch import base_card, option_text, with_options
from vtbench.models.identify import identify, identify_file
from vtbench.models.load import load
from vtbench.models.made_weights import fill_
from vtbench.models.names import needed
from vtbench.models.network import build_network, on_meta
from vtbench.running.draw import Order, draw
from vtbench.types.adapter import Prompt
from vtbench.types.errors import VtbenchError

diffusers = pytest.importorskip("diffusers", reason="NOT TESTED: diffusers is not installed (extra hub)")

_SMALL = {"n_layer": "2", "n_head": "2", "dim": "128"}
_HEADS = {"encoder_num_heads": "2", "decoder_num_heads": "2"}
OWN = [
    ("llamagen-gpt", {"num_classes": "10"}),
    ("llamagen-gpt", {**_SMALL, "multiple_of": "352", "vocab_size": "64", "num_classes": "10"}),
    ("llamagen-gpt", {"model_type": "t2i", "n_layer": "2", "caption_dim": "64"}),
    ("nar", {**_SMALL, "num_classes": "10"}),
    ("var-gen", {"num_classes": "10", "depth": "2", "embed_dim": "128", "num_heads": "2"}),
    ("mar", {"class_num": "10", "img_size": "128", "encoder_depth": "2", "diffloss_d": "2", "diffloss_w": "64"}),
    (
        "rar",
        {"condition_num_classes": "10", "hidden_size": "128", "num_attention_heads": "4"},
    ),
    (
        "xar",
        {"encoder_embed_dim": "128", "decoder_embed_dim": "128", **_HEADS},
    ),
    ("maskbit-gen", {"nclass": "10", "hidden_dim": "128", "depth": "2", "heads": "2", "img_size": "128"}),
    ("maskgit-titok", {"condition_num_classes": "10", "hidden_size": "128", "num_attention_heads": "2"}),
    ("maskgit-titok", {"model_type": "UViT", "condition_num_classes": "10", "num_hidden_layers": "4"}),
    ("pixelflow", {"num_classes": "10", "depth": "2", "num_attention_heads": "2"}),
]


def arch_of(family: str, options: Mapping[str, str]) -> dict[str, Any]:
    one = registry.family(family)
    return with_options(base_card(one, options).arch or {}, options)


@pytest.mark.parametrize(("family", "options"), OWN, ids=lambda v: v if isinstance(v, str) else "-".join(v)[:30])
def test_own_sizes_are_identified(family: str, options: dict[str, str]) -> None:
    arch = arch_of(family, options)
    matches = [m for m in identify(needed(on_meta(registry.family(family), arch)).shapes) if m.family == family]
    assert (matches[0].name, matches[0].how) == (f"family:{family}", "own")
    # What it says to type builds the same network.
    assert arch_of(family, {k: option_text(v) for k, v in matches[0].options.items()}) == arch


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A LlamaGen of ten classes and 4 x 4 tokens."""
    options = {**_SMALL, "multiple_of": "352", "num_classes": "10", "block_size": "16"}
    path = tmp_path_factory.mktemp("own") / "gpt.pt"
    network = fill_(build_network(registry.family("llamagen-gpt"), arch_of("llamagen-gpt", options), random=False))
    torch.save({"model": network.state_dict()}, path)
    return path, options


class _Tokenizer:
    """A grey square for every token; stands in for LlamaGen's of 70 million parameters."""

    notes = ()

    def __init__(self) -> None:
        self.card = registry.model("llamagen-vq-ds16-c2i").card

    def decode(self, tokens: Any, seeds: Any) -> torch.Tensor:
        grey = tokens.indices.reshape(len(tokens), 1, *tokens.grids[0]) / 16384
        return torch.nn.functional.interpolate(grey, size=tokens.size).expand(-1, 3, -1, -1)


def test_own_sizes_through_load_and_draw(
    own: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vtbench.models import build

    path, options = own
    monkeypatch.setattr(build, "_attach", lambda built, *rest: built.model.attach(_Tokenizer()))
    loaded = load("family:llamagen-gpt", {**options, "cfg_scale": "2", "top_k": "20"}, checkpoint=path, generator=True)
    assert (loaded.generator.classes, loaded.system.card.sizes.size) == (10, 64)  # type: ignore[union-attr]
    drawn = draw(loaded, Order(open_prompts("classes:8-9"), batch_size=2), tmp_path / "out")
    assert [row["size"] for row in drawn.rows] == [[64, 64]] * 2
    for spec, label in (("classes:11", 10), ("classes:10-12", 10), ("classes:1000-1000", 1000)):
        with pytest.raises(VtbenchError, match=f"has 10 classes, 0 to 9, and {spec} asks for the class {label}: give"):
            draw(loaded, Order(open_prompts(spec)), tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert identify_file(path)[0].options["num_classes"] == 10
    with pytest.raises(VtbenchError, match="draws from 64 codes, and its tokenizer llamagen-vq-ds16-c2i has 16384"):
        load("family:llamagen-gpt", {**options, "vocab_size": "64"}, checkpoint=_cut(path, tmp_path))


def test_a_tokenizer_of_its_own_too(own: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Its sizes are read off its checkpoint: 64 codes, cells of 2 x 2 pixels."""
    sizes = {"ch": "32", "encoder_ch_mult": "1:1", "decoder_ch_mult": "1:1", "num_res_blocks": "1"}
    arch = arch_of("llamagen", {**sizes, "codebook_size": "64", "z_channels": "32"})
    torch.save(fill_(build_network(registry.family("llamagen"), arch, random=False)).state_dict(), tmp_path / "vq.pt")
    options = {**own[1], "vocab_size": "64", "top_k": "5"}
    few = _cut(own[0], tmp_path)
    loaded = load("family:llamagen-gpt", options, checkpoint=few, tokenizer_checkpoint=tmp_path / "vq.pt")
    assert loaded.identity["tokenizer"]["name"].startswith("family:llamagen,ch=32,codebook_size=64")
    assert loaded.system.card.sizes.size == 8  # type: ignore[union-attr]
    drawn = draw(loaded, Order(open_prompts("classes:2"), batch_size=2), tmp_path / "out")
    assert [row["size"] for row in drawn.rows] == [[8, 8]] * 2
    (tmp_path / "torn.pt").write_bytes(b"torn")
    with pytest.raises(VtbenchError, match="draws tokens of llamagen-vq-ds16-c2i, which cannot be loaded"):
        load("family:llamagen-gpt", options, checkpoint=few, tokenizer_checkpoint=tmp_path / "torn.pt")


def _cut(path: Path, folder: Path) -> Path:
    """The same checkpoint with 64 codes."""
    state = torch.load(path, weights_only=True)["model"]
    few = {k: v[:64].clone() if k in ("tok_embeddings.weight", "output.weight") else v for k, v in state.items()}
    torch.save({"model": few}, folder / "few.pt")
    return folder / "few.pt"


def test_every_path_speaks_of_the_tokenizer_that_is_missing(own: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Own sizes reach evaluate and generate alike: what is missing offline is the released tokenizer alone."""
    path, options = own
    flags = [word for k, v in options.items() for word in ("-o", f"{k}={v}")]
    for verb in (
        ["evaluate", "family:llamagen-gpt", "--task", "generation"],
        ["generate", "family:llamagen-gpt", "--suite", "classes:2"],
    ):
        done = CliRunner().invoke(app, [*verb, *flags, "--checkpoint", str(path), "--out", str(tmp_path / "o")])
        assert "draws tokens of llamagen-vq-ds16-c2i, which cannot be loaded" in f"{done.exception} {done.output}"
    with pytest.raises(VtbenchError, match="has no entry 'number_of_classes'"):
        load("family:llamagen-gpt", {"number_of_classes": "10"}, checkpoint=path)


def test_a_text_model_of_its_own_is_asked_with_texts() -> None:
    family = registry.family("llamagen-gpt")
    assert base_card(family, {"model_type": "t2i"}).conditioning == "text"
    assert base_card(family, {"num_classes": "10"}).conditioning == "class"


def test_a_pipeline_of_ten_classes_has_its_own_null_class(tmp_path: Path) -> None:
    """The library's pipeline with the same weights in a table of a thousand classes, whose null row is the tenth."""
    loaded = load("diffusers-pipeline", {"steps": "2"}, checkpoint=tiny.dit(tmp_path / "ten", classes=10))
    ours = loaded.generator.generate([Prompt("a", label=3)], [11])
    assert loaded.generator.classes == 10
    assert "the class for none of its guidance is 10" in loaded.generator.notes[0]
    few = diffusers.DiTPipeline.from_pretrained(tmp_path / "ten")
    many = diffusers.DiTPipeline.from_pretrained(tiny.dit(tmp_path / "many", classes=1000))
    state = few.transformer.state_dict()
    for name in [n for n in state if "embedding_table" in n]:
        table = torch.zeros_like(many.transformer.state_dict()[name])
        table[:10], table[1000] = state[name][:10], state[name][10]
        state[name] = table
    many.transformer.load_state_dict(state)
    many.vae.load_state_dict(few.vae.state_dict())
    theirs = many(
        class_labels=[3], generator=torch.Generator().manual_seed(11), num_inference_steps=2, output_type="np"
    )
    assert torch.equal(ours[0], torch.from_numpy(theirs.images[0]).permute(2, 0, 1))
    for label in (10, 999, 1000):
        with pytest.raises(VtbenchError, match=r"lies outside 0\.\.9"):
            loaded.generator.generate([Prompt("a", label=label)], [0])
    with pytest.raises(VtbenchError, match="has 10 classes, 0 to 9, and classes:1000 asks for the class 10"):
        draw(loaded, Order(open_prompts("classes:1000")), tmp_path / "out")


def test_the_null_class_is_no_class(tmp_path: Path) -> None:
    loaded = load("diffusers-pipeline", {"steps": "1"}, checkpoint=tiny.dit(tmp_path / "dit"))
    with pytest.raises(VtbenchError, match="has 1000 classes, 0 to 999, and classes:1000-1000 asks for the class 1000"):
        draw(loaded, Order(open_prompts("classes:1000-1000")), tmp_path / "out")
    assert not loaded.generator.notes
