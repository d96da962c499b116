"""The arch of a generator from the shapes in its checkpoint, for sizes that nobody released.

As in `infer`: each function takes {name: shape} and an arch of the same network, and returns None where the names are
not the network's. Shapes do not show how many heads there are: a width that `like` has too has its heads, any other has
64 channels a head, as nearly all released ones do. Nor do they show the grid of a model whose positions are computed
(LlamaGen, NAR, PixelFlow), which stays that of `like`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from vtbench.adapters.networks.parts.infer import Shapes, count

HEAD = 64
"""Channels of a head where nothing says otherwise."""


def _heads(dim: int, like: Mapping[str, Any], width: str, heads: str) -> int:
    return int(like[heads]) if dim == like[width] else dim // HEAD or 1


def llama(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For parts.llama.Trunk, and NAR, whose further layers are as many as in `like`."""
    if "tok_embeddings.weight" not in shapes or "layers.0.attention.wqkv.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    classes, caption = "cls_embedding.embedding_table.weight", "cls_embedding.uncond_embedding"
    if (classes if like["model_type"] == "c2i" else caption) not in shapes:
        return None
    if like["model_type"] == "c2i":
        arch["num_classes"] = shapes[classes][0] - 1
    else:
        arch["cls_token_num"], arch["caption_dim"] = shapes[caption]
    arch["vocab_size"], arch["dim"] = shapes["tok_embeddings.weight"]
    arch["n_layer"] = count(shapes, "layers.{i}.") - like.get("medusa_attention_num", 0)
    arch["n_head"] = _heads(arch["dim"], like, "dim", "n_head")
    hidden = shapes["layers.0.feed_forward.w1.weight"][0]
    usual = int(8 * arch["dim"] / 3)
    multiple = arch["multiple_of"]
    # The width itself rounds 8/3 dim up to exactly it.
    arch["multiple_of"] = multiple if -(-usual // multiple) * multiple == hidden else hidden
    return arch


def var(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.var_gen.VarGenerator: scales are those of `like`, which must be as many tokens."""
    if "pos_1LC" not in shapes or "word_embed.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    arch["num_classes"], arch["embed_dim"] = shapes["class_emb.weight"][0] - 1, shapes["class_emb.weight"][1]
    arch["depth"] = count(shapes, "blocks.{i}.")
    scale = shapes.get("blocks.0.attn.scale_mul_1H11")
    arch["attn_l2_norm"] = scale is not None
    arch["num_heads"] = scale[1] if scale is not None else _heads(arch["embed_dim"], like, "embed_dim", "num_heads")
    arch["shared_aln"] = "shared_ada_lin.1.weight" in shapes
    arch["mlp_ratio"] = shapes["blocks.0.ffn.fc1.weight"][0] / arch["embed_dim"]
    return arch


def mar(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.mar.Mar."""
    if "fake_latent" not in shapes or "diffloss.net.input_proj.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like)) | masked_autoencoder(shapes, like, "diffusion_pos_embed_learned")
    arch["diffloss_w"] = shapes["diffloss.net.input_proj.weight"][0]
    arch["diffloss_d"] = count(shapes, "diffloss.net.res_blocks.{i}.")
    return arch


def masked_autoencoder(shapes: Shapes, like: Mapping[str, Any], output: str) -> dict[str, Any]:
    """The keys of parts.masked_autoencoder, whose table of the output is called `output`: a patch is square."""
    arch: dict[str, Any] = {"class_num": shapes["class_emb.weight"][0]}
    for side in ("encoder", "decoder"):
        dim = shapes[f"{side}_norm.weight"][0]
        arch[f"{side}_embed_dim"], arch[f"{side}_depth"] = dim, count(shapes, f"{side}_blocks.{{i}}.")
        arch[f"{side}_num_heads"] = _heads(dim, like, f"{side}_embed_dim", f"{side}_num_heads")
    arch["mlp_ratio"] = shapes["encoder_blocks.0.mlp.fc1.weight"][0] / arch["encoder_embed_dim"]
    arch["patch_size"] = math.isqrt(shapes["z_proj.weight"][1] // like["vae_embed_dim"])
    length = shapes[output][1]
    arch["img_size"] = math.isqrt(length) * like["vae_stride"] * arch["patch_size"]
    arch["buffer_size"] = shapes["encoder_pos_embed_learned"][1] - length
    return arch


def rar(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.rar.Rar."""
    if "target_aware_pos_embed" not in shapes or "lm_head.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    generator, vq = arch["model"]["generator"], arch["model"]["vq_model"]
    vq["codebook_size"], dim = shapes["lm_head.weight"]
    generator["hidden_size"], generator["num_hidden_layers"] = dim, count(shapes, "blocks.{i}.")
    generator["num_attention_heads"] = dim // shapes["blocks.0.attn.q_norm.weight"][0]
    generator["intermediate_size"] = shapes["blocks.0.mlp.fc1.weight"][0]
    generator["image_seq_len"] = shapes["pos_embed"][1] - 1024
    generator["condition_num_classes"] = shapes["embeddings.weight"][0] - vq["codebook_size"] - 2
    return arch


def xar(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.xar.Xar: classes, grid and clusters are fixed upstream."""
    if "mask" not in shapes or "encoder_blocks.0.mlp.fc1_g.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    for side in ("encoder", "decoder"):
        dim = shapes[f"{side}_norm.weight"][0]
        arch[f"{side}_embed_dim"], arch[f"{side}_depth"] = dim, count(shapes, f"{side}_blocks.{{i}}.")
        arch[f"{side}_num_heads"] = _heads(dim, like, f"{side}_embed_dim", f"{side}_num_heads")
        turned = shapes.get(f"{side}_blocks.0.attn.rope.freqs_cos")
        if turned is not None:
            arch[f"{side}_num_heads"] = dim // turned[1]
    return arch


def maskbit(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.maskbit_gen.MaskBitGenerator that reads bits."""
    if "transformer.layers.0.0.mha.in_proj_weight" not in shapes or "input_proj.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    arch["nclass"], arch["hidden_dim"] = shapes["class_emb.weight"][0] - 1, shapes["class_emb.weight"][1]
    arch["codebook_size"] = 2 ** shapes["input_proj.weight"][1]
    arch["img_size"] = math.isqrt(shapes["pos_emb"][1] - 1) * arch["input_stride"]
    arch["depth"] = count(shapes, "transformer.layers.{i}.")
    arch["heads"] = _heads(arch["hidden_dim"], like, "hidden_dim", "heads")
    arch["mlp_dim"] = shapes["transformer.layers.0.1.net.0.weight"][0]
    return arch


def maskgit_titok(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.maskgit_titok.MaskGit, a ViT or a U-ViT as in `like`."""
    arch = copy.deepcopy(dict(like))
    generator, vq = arch["model"]["generator"], arch["model"]["vq_model"]
    if generator["model_type"] == "ViT":
        head, hidden = "model.lm_head", "model.encoder.layer.0.intermediate.dense.weight"
        ids, positions = (f"model.embeddings.{of}_embeddings" for of in ("word", "position"))
        depth = count(shapes, "model.encoder.layer.{i}.")
    else:
        head, hidden, ids, positions = "lm_head", "mid_block.mlp.fc1.weight", "embeddings", "pos_embed"
        half, depth = count(shapes, "in_blocks.{i}."), generator["num_hidden_layers"]
        # Of an even number of layers and of the odd one above it the blocks are the same.
        depth = depth if depth // 2 == half else 2 * half
    if hidden not in shapes or f"{ids}.weight" not in shapes:
        return None
    vq["codebook_size"], dim = shapes[f"{head}.weight"]
    length = shapes[f"{positions}.weight"][0] if f"{positions}.weight" in shapes else shapes[positions][1]
    vq["num_latent_tokens"] = generator["image_seq_len"] = length - 1
    generator["num_attention_heads"] = _heads(dim, generator, "hidden_size", "num_attention_heads")
    generator["hidden_size"], generator["num_hidden_layers"] = dim, depth
    generator["intermediate_size"] = shapes[hidden][0]
    generator["condition_num_classes"] = shapes[f"{ids}.weight"][0] - vq["codebook_size"] - 2
    return arch


def pixelflow(shapes: Shapes, like: Mapping[str, Any]) -> dict[str, Any] | None:
    """For networks.pixelflow.PixelFlow: heads as wide as in `like`."""
    classes, text = "class_embedder.embedding_table.weight", "transformer_blocks.0.attn2.k_proj.weight"
    if "latent_size_embedder.linear_1.weight" not in shapes or "patch_embed.proj.weight" not in shapes:
        return None
    arch = copy.deepcopy(dict(like))
    model = arch["model"]
    if (classes if model["num_classes"] else text) not in shapes:
        return None
    if model["num_classes"]:
        model["num_classes"] = shapes[classes][0] - 1
    else:
        model["cross_attention_dim"] = shapes[text][1]
    dim, model["in_channels"], model["patch_size"] = shapes["patch_embed.proj.weight"][:3]
    model["num_attention_heads"] = dim // model["attention_head_dim"]
    model["depth"] = count(shapes, "transformer_blocks.{i}.")
    model["out_channels"] = shapes["proj_out_2.weight"][0] // model["patch_size"] ** 2
    return arch
