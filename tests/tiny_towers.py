"""Tiny image towers with random weights, saved as transformers saves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.utils import logging

SIZES: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 24,
    "patch_size": 4,
}
"""36 tokens a picture."""
NAMES = {"id2label": {0: "red", 1: "green", 2: "blue"}, "label2id": {"red": 0, "green": 1, "blue": 2}}


def _saved(model: Any, folder: Path) -> Path:
    said: Any = logging
    said.set_verbosity_error()
    said.disable_progress_bar()
    # Weights of tiny models are near 0 where they are drawn: attention would be flat, and every score a tie.
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj.weight" in name or "fc" in name:
                weight.mul_(8)
    model.save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    config = CLIPVisionConfig(**SIZES, intermediate_size=64, projection_dim=16)
    return _saved(CLIPVisionModelWithProjection(config), folder)


def siglip(folder: Path) -> Path:
    return _saved(SiglipVisionModel(SiglipVisionConfig(**SIZES, intermediate_size=64)), folder)


def dinov2(folder: Path) -> Path:
    return _saved(Dinov2ForImageClassification(Dinov2Config(**SIZES, mlp_ratio=2, **NAMES)), folder)


def registers(folder: Path) -> Path:
    config = Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, num_register_tokens=2)
    return _saved(Dinov2WithRegistersModel(config), folder)


def vit(folder: Path) -> Path:
    return _saved(ViTForImageClassification(ViTConfig(**SIZES, intermediate_size=64, **NAMES)), folder)


def worded(folder: Path) -> Path:
    """A CLIP with its text model, and a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    words = ["<pad>", "<end>", "<unk>", "a", "photo", "of", ".", "red", "green", "blue"]
    tokenizer = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text |= {"vocab_size": len(words), "max_position_embeddings": 20, "eos_token_id": 1, "pad_token_id": 0}
    config = CLIPConfig(
        text_config=text,
        vision_config={**SIZES, "intermediate_size": 64},
        projection_dim=16,
        logit_scale_init_value=3.0,
    )
    _saved(CLIPModel(config), folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>").save_pretrained(folder)
    return folder


MAKERS: Mapping[str, Callable[[Path], Path]] = {
    "clip": clip,
    "siglip": siglip,
    "dinov2": dinov2,
    "registers": registers,
    "vit": vit,
}


def made_tower(kind: str, folder: Path, seed: int = 0) -> Path:
    """The folder of a tower, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (worded if kind == "worded" else MAKERS[kind])(folder)
