"""Layers of the native networks: against the formula, against torch's own layer, and by hand."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from small_networks import random_tensor

from vtbench.adapters.networks.parts import styled, vit
from vtbench.adapters.networks.parts.conv import Attention, Down, Norm, nominal_levels
from vtbench.models.made_weights import fill_


def test_attention_is_the_formula() -> None:
    for fused in (False, True):
        layer = Attention(32, groups=32, eps=1e-6, fused=fused).double()
        x = random_tensor(2, 32, 3, 5).double()
        with torch.no_grad():
            h = F.group_norm(x, 32, layer.norm.weight, layer.norm.bias, 1e-6)
            if fused:
                q, k, v = layer.qkv(h).flatten(2).chunk(3, dim=1)
            else:
                q, k, v = (conv(h).flatten(2) for conv in (layer.q, layer.k, layer.v))
            weights = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / 32**0.5, dim=2)
            wanted = x + layer.proj_out(torch.einsum("bij,bcj->bci", weights, v).reshape(x.shape))
            assert torch.allclose(layer(x), wanted, atol=1e-12)


def test_halving_pads_below_and_right() -> None:
    """TensorFlow's SAME: max((ceil(n / s) - 1) s + k - n, 0) = 1 in all for k 3, s 2, even n; less of it first."""
    layer = Down(1)
    layer.weight.data = torch.tensor([[[[0.0, 0, 0], [0, 0, 0], [0, 0, 1.0]]]])
    layer.bias.data.zero_()
    with torch.no_grad():
        out = layer(torch.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    assert out.tolist() == [[10.0, 0.0], [0.0, 0.0]]


def test_the_memory_layout_does_not_decide_how_exact_a_norm_is() -> None:
    """torch's channels-last kernel errs by some 4e-5 on this; over NCHW it is below 2e-6."""
    x = random_tensor(1, 32, 256, 256) * 3 + 1
    exact = F.group_norm(x.double(), 32)
    layer = Norm(32, 32, eps=1e-5)
    with torch.no_grad():
        error = (layer(x.contiguous(memory_format=torch.channels_last)) - exact).abs().max()
    assert float(error) < 2e-6


def test_nominal_levels_round_as_upstream_rounds() -> None:
    assert nominal_levels(256, 5, (16,), down=True) == (4,)
    assert nominal_levels(60, 3, (15, 60), down=True) == (0, 2)
    # 30 -> 15 -> 7 downwards; 7 -> 14 -> 28 upwards.
    assert nominal_levels(30, 3, (15,), down=True) == (1,)
    assert nominal_levels(30, 3, (15, 14), down=False) == (1,)


def test_depth_to_space_counts_rows_columns_channels() -> None:
    layer = styled.DepthToSpace(2)
    with torch.no_grad():
        layer.conv1.weight.zero_()
        # Channel k of the convolution's 8 is the constant k.
        layer.conv1.bias.copy_(torch.arange(8.0))
        out = layer(torch.zeros(1, 2, 3, 5))
    assert out.shape == (1, 2, 6, 10)
    for row in range(2):
        for column in range(2):
            for channel in range(2):
                wanted = (row * 2 + column) * 2 + channel
                assert (out[0, channel, row::2, column::2] == wanted).all()


def test_style_norm_takes_the_unbiased_deviation() -> None:
    layer = styled.StyleNorm(2, 32, groups=32, eps=1e-6)
    x, code = (
        random_tensor(1, 32, 2, 3),
        torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 1.0]).reshape(1, 1, 2, 3).repeat(1, 2, 1, 1),
    )
    with torch.no_grad():
        layer.gamma.weight.copy_(torch.ones(32, 2))
        layer.gamma.bias.zero_()
        layer.beta.weight.zero_()
        layer.beta.bias.zero_()
        out = layer(x, code)
    # Four +1 and two -1: the squares sum to 16/3, over 5 and not over 6.
    scale = 2 * math.sqrt(16 / 3 / 5)
    flat = x.reshape(32, 6)
    wanted = (flat - flat.mean(1, keepdim=True)) / flat.std(1, unbiased=False, keepdim=True) * scale
    assert torch.allclose(out.reshape(32, 6), wanted, atol=1e-4)


def test_transformer_block_is_torchs() -> None:
    """The same weights in torch's own pre-norm layer; LayerScale only multiplies what the two halves add."""
    width, heads, hidden = 24, 3, 40
    ours = vit.Block(width, heads, hidden, eps=1e-6, layer_scale=True)
    fill_(ours)
    theirs = torch.nn.TransformerEncoderLayer(
        width, heads, hidden, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    ).eval()
    names = {
        "attn.qkv.weight": "self_attn.in_proj_weight",
        "attn.qkv.bias": "self_attn.in_proj_bias",
        "attn.proj": "self_attn.out_proj",
        "mlp.fc1": "linear1",
        "mlp.fc2": "linear2",
    }
    state = {name: tensor for name, tensor in ours.state_dict().items() if ".gamma" not in name}
    for one, other in names.items():
        state = {name.replace(one, other): tensor for name, tensor in state.items()}
    for half, last in ((ours.ls1, "self_attn.out_proj"), (ours.ls2, "linear2")):
        state[f"{last}.weight"] = state[f"{last}.weight"] * half.gamma.detach()[:, None]
        state[f"{last}.bias"] = state[f"{last}.bias"] * half.gamma.detach()
    theirs.load_state_dict(state)
    x = random_tensor(2, 5, width)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-6)
