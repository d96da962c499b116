"""SEED's tokenizer: 32 causal queries over EVA-CLIP, coded, and an embedding from the codes (arXiv:2307.08041).

AILab-CVC/SEED @ 93b3cf4: models/seed_qformer/{qformer_quantizer, blip2, eva_vit, qformer_causual, vit}.py. Pictures
come from another model, a diffusion that reads the embedding; they are no part of this network.

arch: in_channels, image_size, pixel_mean, pixel_std, queries, causal_queries (true for 32 queries and no other number),
vit {type, patch_size, width, layers, heads, mlp, norm_eps}, ln_vision_eps, qformer {width, layers, heads, mlp,
cross_attention_every, norm_eps}, quantizer {type, codebook_size, embed_dim, l2_norm (false)}, decoder {layers, heads,
mlp_ratio, norm_eps, image_head ("three linears" or "reverse q-former"), image_features, pixels (in words)}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtbench.adapters.networks.parts import archs, infer, statistics
from vtbench.adapters.networks.parts.beit import Tower
from vtbench.adapters.networks.parts.config import Config
from vtbench.adapters.networks.parts.conv import check_exactly
from vtbench.adapters.networks.parts.quantizers import nearest, one_book
from vtbench.adapters.networks.parts.transformer import check_heads, heads_of, merged
from vtbench.adapters.networks.parts.vit import Block
from vtbench.models.network import Encoded
from vtbench.types.errors import VtbenchError

_CAUSAL = 32
"""The number of queries at which upstream's attention is causal (qformer_causual.py:813)."""
_EVA = "eva-clip g (BEiT style, q and v bias only, no final norm)"
_LINEARS, _REVERSE = "three linears", "reverse q-former"
_DOWN = (256, 128, 32)
"""Channels of a query after each of the three linears."""


class _Attention(nn.Module):
    """BERT's attention to itself or, with `source` channels, to something else; its output is normed with the sum."""

    def __init__(self, width: int, heads: int, eps: float, source: int | None = None) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        layers = {"query": width, "key": source or width, "value": source or width}
        self.add_module("self", nn.ModuleDict({name: nn.Linear(wide, width) for name, wide in layers.items()}))
        self.output = _Output(width, width, eps)

    def forward(self, x: Tensor, source: Tensor | None = None, *, causal: bool = False) -> Tensor:
        seen, own = (x if source is None else source), self.get_submodule("self")
        pairs = (("query", x), ("key", seen), ("value", seen))
        q, k, v = (heads_of(own.get_submodule(name)(rows), self.heads) for name, rows in pairs)
        out: Tensor = self.output(merged(F.scaled_dot_product_attention(q, k, v, is_causal=causal)), x)
        return out


class _Output(nn.Module):
    """LayerNorm(dense(x) + what came in)."""

    def __init__(self, wide: int, width: int, eps: float) -> None:
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(wide, width), nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dense(x) + before)
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int, eps: float, source: int | None) -> None:
        super().__init__()
        self.attention = _Attention(width, heads, eps)
        self.crossattention = None if source is None else _Attention(width, heads, eps, source)
        self.intermediate_query = nn.ModuleDict({"dense": nn.Linear(width, hidden)})
        self.output_query = _Output(hidden, width, eps)

    def forward(self, x: Tensor, source: Tensor, *, causal: bool) -> Tensor:
        x = self.attention(x, causal=causal)
        if self.crossattention is not None:
            x = self.crossattention(x, source)
        out: Tensor = self.output_query(F.gelu(self.intermediate_query["dense"](x)), x)
        return out


class _QFormer(nn.Module):
    """Queries (B, n, width) that look at a source (B, m, channels) in every so-manieth layer, the first included."""

    def __init__(self, sizes: Mapping[str, Any], source: int) -> None:
        super().__init__()
        width, heads, hidden, eps = (sizes[key] for key in ("width", "heads", "mlp", "norm_eps"))
        embeddings = nn.ModuleDict({"LayerNorm": nn.LayerNorm(width, eps=eps)})
        layers = nn.ModuleList(
            _Layer(width, heads, hidden, eps, None if i % sizes["every"] else source) for i in range(sizes["layers"])
        )
        self.bert = nn.ModuleDict({"embeddings": embeddings, "encoder": nn.ModuleDict({"layer": layers})})

    def forward(self, queries: Tensor, source: Tensor, *, causal: bool) -> Tensor:
        x: Tensor = self.bert.get_submodule("embeddings.LayerNorm")(queries)
        for layer in self.bert.get_submodule("encoder.layer").children():
            x = layer(x, source, causal=causal)
        return x


class Seed(nn.Module):
    """pre_quant and quantized are (B, queries, embed_dim); `decode` gives embeddings (B, image_features)."""

    value_range = (0.0, 1.0)
    channel_axis = 2
    downsample: int | None = None
    optional = ("pos_embed", "blocks.")
    """What training decoded to the queries' own features."""
    int_buffers = ("Qformer.bert.embeddings.position_ids", "Reverse_Qformer.bert.embeddings.position_ids")
    no_pixels = archs.TO_AN_EMBEDDING

    @staticmethod
    def infer_arch(shapes: infer.Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
        """The arch of a checkpoint of these shapes; heads keep their width."""
        if "query_tokens" not in shapes or "visual_encoder.cls_token" not in shapes:
            return None
        arch = copy.deepcopy(dict(like))
        vit, former, decoder = arch["vit"], arch["qformer"], arch["decoder"]
        layer, base = "Qformer.bert.encoder.layer", like["qformer"]["width"] // like["qformer"]["heads"]
        width, arch["in_channels"], patch, _ = shapes["visual_encoder.patch_embed.proj.weight"]
        vit.update(
            patch_size=patch,
            width=width,
            layers=infer.count(shapes, "visual_encoder.blocks.{i}."),
            heads=max(1, width // (like["vit"]["width"] // like["vit"]["heads"])),
            mlp=shapes["visual_encoder.blocks.0.mlp.fc1.weight"][0],
        )
        _, arch["queries"], inner = shapes["query_tokens"]
        arch["image_size"] = math.isqrt(shapes["visual_encoder.pos_embed"][1] - 1) * patch
        arch["causal_queries"] = arch["queries"] == _CAUSAL
        layers = infer.count(shapes, f"{layer}.{{i}}.")
        crossed = [i for i in range(layers) if f"{layer}.{i}.crossattention.self.query.weight" in shapes]
        former.update(
            width=inner,
            layers=layers,
            heads=max(1, inner // base),
            mlp=shapes[f"{layer}.0.intermediate_query.dense.weight"][0],
            cross_attention_every=crossed[1] if len(crossed) > 1 else layers,
        )
        infer.book(shapes, arch["quantizer"], "quantize.embedding.weight")
        decoder.update(
            layers=infer.count(shapes, "blocks_image.{i}."),
            mlp_ratio=shapes["blocks_image.0.mlp.fc1.weight"][0] / inner,
            image_head=_REVERSE if "reverse_tokens" in shapes else _LINEARS,
            image_features=shapes["distill_image_proj.weight"][0],
        )
        return arch

    def __init__(self, arch: Mapping[str, Any]) -> None:
        super().__init__()
        c = Config(arch, "arch")
        colours, side, self.positions = c.integer("in_channels"), c.integer("image_size"), c.integer("queries")
        if (pixels := statistics.of_arch(c, colours)) is None:
            raise VtbenchError("arch.pixel_mean and arch.pixel_std are null, but this network cannot do without them")
        self.statistics, self.fixed_size = pixels, side
        self.causal = c.choice("causal_queries", (self.positions == _CAUSAL,))
        source = self._vision(c.sub("vit"), colours, side)
        self.ln_vision = nn.LayerNorm(source, eps=c.number("ln_vision_eps"))
        f, q = c.sub("qformer"), c.sub("quantizer")
        sizes: dict[str, Any] = {key: f.integer(key) for key in ("width", "layers", "heads", "mlp")}
        sizes |= {"every": f.integer("cross_attention_every"), "norm_eps": f.number("norm_eps")}
        width = sizes["width"]
        self.Qformer = _QFormer(sizes, source)
        self.query_tokens = nn.Parameter(torch.zeros(1, self.positions, width))
        q.choice("type", ("vq",))
        q.choice("l2_norm", (False,))
        size, dim = q.integer("codebook_size"), q.integer("embed_dim")
        self.quantize = nn.ModuleDict({"embedding": nn.Embedding(size, dim)})
        self.alphabets = (size,)
        self.encode_task_layer = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, dim))
        self.decode_task_layer = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, width))
        self._head(c.sub("decoder"), sizes)
        for part in (f, q, c):
            part.done()

    def _vision(self, v: Config, colours: int, side: int) -> int:
        """Builds the image tower; its width."""
        v.choice("type", (_EVA,))
        width, patch = v.integer("width"), v.integer("patch_size")
        if side % patch:
            raise VtbenchError(f"arch.image_size {side} is no multiple of vit.patch_size {patch}")
        self.visual_encoder = Tower(
            colours,
            width=width,
            layers=v.integer("layers"),
            heads=v.integer("heads"),
            hidden=v.integer("mlp"),
            patch=patch,
            native=side // patch,
            eps=v.number("norm_eps"),
        )
        v.done()
        return width

    def _head(self, d: Config, sizes: Mapping[str, Any]) -> None:
        width, heads, eps = sizes["width"], d.integer("heads"), d.number("norm_eps")
        hidden, layers, features = int(width * d.number("mlp_ratio")), d.integer("layers"), d.integer("image_features")
        self.pos_embed_image = nn.Parameter(torch.zeros(1, self.positions, width))
        self.blocks_image = nn.ModuleList(Block(width, heads, hidden, eps=eps) for _ in range(layers))
        self.reverse = d.choice("image_head", (_LINEARS, _REVERSE)) == _REVERSE
        d.any("pixels")
        d.done()
        if self.reverse:
            self.reverse_tokens = nn.Parameter(torch.zeros(1, 1, width))
            self.Reverse_Qformer = _QFormer(sizes, width)
            self.distill_image_proj = nn.Linear(width, features)
            return
        first, second, last = _DOWN
        self.image_down = nn.Sequential(
            nn.Linear(width, first, bias=False),
            nn.ReLU(),
            nn.Linear(first, second, bias=False),
            nn.ReLU(),
            nn.Linear(second, last, bias=False),
        )
        self.distill_image_proj = nn.Linear(self.positions * last, features)

    def encode(self, x: Tensor) -> Encoded:
        """x: (B, colours, side, side) in [0, 1]."""
        check_exactly((x.shape[2], x.shape[3]), (self.fixed_size, self.fixed_size))
        image = self.ln_vision(self.visual_encoder(self.statistics.into(x)))
        queries = self.Qformer(self.query_tokens.expand(len(x), -1, -1), image, causal=self.causal)
        latent = self.encode_task_layer(queries)
        book = self.quantize.get_parameter("embedding.weight")
        tokens = nearest(latent.flatten(0, 1), book).reshape(len(x), -1)
        return Encoded(tokens, pre_quant=latent, quantized=book[tokens])

    def decode(self, latent: Tensor, *, size: tuple[int, int], stage: str | None = None) -> Tensor:
        """latent: tokens (B, queries); stage "latent" is what there is: embeddings (B, image_features)."""
        check_exactly(size, (self.fixed_size, self.fixed_size))
        tokens = one_book(latent)
        if tokens.shape[1] != self.positions:
            raise VtbenchError(f"there are {tokens.shape[1]} tokens, but an image has {self.positions}")
        if stage not in (None, "latent"):
            raise VtbenchError(f"stage is {stage!r}, but {self.no_pixels}")
        queries = self.decode_task_layer(self.quantize["embedding"](tokens)) + self.pos_embed_image
        for block in self.blocks_image:
            queries = block(queries)
        if self.reverse:
            read = self.reverse_tokens.expand(len(tokens), -1, -1)
            last = self.Reverse_Qformer(read, queries, causal=False)[:, 0]
        else:
            last = self.image_down(queries).flatten(1)
        out: Tensor = self.distill_image_proj(last)
        return out
