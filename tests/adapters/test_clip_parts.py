"""CLIP's blocks and text encoder, against torch's and open_clip's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, TextTransformer
from small_networks import random_tensor
from torch import nn

from vtbench.adapters.networks.parts import clip
from vtbench.models import checkpoint
from vtbench.models.made_weights import fill_
from vtbench.models.names import check_names
from vtbench.types.errors import VtbenchError


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_torchs(masked: bool) -> None:
    theirs = fill_(nn.MultiheadAttention(24, 4, batch_first=True)).double().eval()
    ours = clip.Attention(24, 4).double()
    ours.load_state_dict(theirs.state_dict())
    x = random_tensor(3, 7, 24).double()
    seen = torch.ones(7, 7, dtype=torch.bool).tril() if masked else None
    with torch.no_grad():
        wanted = theirs(x, x, x, need_weights=False, attn_mask=None if seen is None else ~seen)[0]
        assert torch.allclose(ours(x, seen), wanted, atol=1e-12)


@pytest.mark.parametrize("layer_scale", [False, True])
def test_a_block_is_open_clips(layer_scale: bool) -> None:
    theirs = ResidualAttentionBlock(24, 3, mlp_ratio=2.0, ls_init_value=0.1 if layer_scale else None)
    theirs = fill_(theirs).double().eval()
    ours = clip.Block(24, 3, 48, layer_scale=layer_scale).double()
    ours.load_state_dict(theirs.state_dict())
    x = random_tensor(2, 5, 24).double()
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-12)


def test_a_block_without_mlp_has_none() -> None:
    names = set(clip.Block(8, 2, 0).state_dict())
    assert names == {
        "ln_1.weight",
        "ln_1.bias",
        "attn.in_proj_weight",
        "attn.in_proj_bias",
        "attn.out_proj.weight",
        "attn.out_proj.bias",
    }


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(VtbenchError, match="5 heads do not divide a width of 24"):
        clip.Attention(24, 5)


def _theirs() -> TextTransformer:
    """A small text encoder of open_clip."""
    text = TextTransformer(width=64, heads=2, layers=2, output_dim=16, act_layer=QuickGELU)
    filled: TextTransformer = fill_(text).eval()
    return filled


def test_texts_are_read_as_open_clip_reads_them() -> None:
    """All positions after ln_final, as TA-TiTok takes them."""
    theirs = _theirs()
    ours = clip.TextTower(width=64, layers=2, heads=2)
    ours.load_state_dict({n: t for n, t in theirs.state_dict().items() if n in ours.state_dict()})
    texts = ["A photo of a jay.", "", "word " * 200]
    with torch.no_grad():
        x = theirs.token_embedding(SimpleTokenizer()(texts)) + theirs.positional_embedding
        wanted = theirs.ln_final(theirs.transformer(x, attn_mask=theirs.attn_mask))
        read = ours.read(texts)
    assert read.shape == (3, 77, 64)
    assert torch.allclose(read, wanted, atol=1e-5)


def test_the_text_encoder_is_read_out_of_a_whole_clip_in_torchscript(tmp_path: Path) -> None:
    """OpenAI's file is a TorchScript archive in half precision, with the image tower beside it."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = nn.Linear(3, 4)
            self.logit_scale = nn.Parameter(torch.ones([]))
            self.text_projection = nn.Parameter(torch.ones(64, 16))
            for name, child in fill_(clip.TextTower(width=64, layers=2, heads=2)).named_children():
                self.add_module(name, child)
            self.positional_embedding = nn.Parameter(torch.full((77, 64), 0.5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.ln_final(self.token_embedding(x) + self.positional_embedding)
            return out

    whole = Whole().half()
    path = tmp_path / "clip.pt"
    torch.jit.trace(whole, torch.zeros(1, 77, dtype=torch.int64), check_trace=False).save(str(path))
    read = checkpoint.read(path)
    tower = clip.TextTower(width=64, layers=2, heads=2)
    check_names(tower, read, "the file", None)
    for name in tower.state_dict():
        assert torch.equal(read[name], whole.state_dict()[name]), name
