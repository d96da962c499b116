"""Tiny vision-language models in the official format of transformers: random weights, real files, real loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = [
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<image>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "USER",
    ":",
    "ASSISTANT",
    "is",
    "there",
    "a",
    "cat",
    "dog",
    "in",
    "the",
    "picture",
    "?",
    "what",
    "colour",
    "yes",
    "no",
    "red",
    "green",
    "blue",
    "one",
    "two",
]
TEMPLATE = (
    "{% for message in messages %}USER : {% for part in message['content'] %}{% if part['type'] == 'image' %}MARK "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}ASSISTANT :"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}


def tokenizer(mark: str) -> Any:
    """One word, one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [w for w in WORDS if w.startswith("<")]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        extra_special_tokens=special[4:],
        chat_template=TEMPLATE.replace("MARK", mark),
    )


def save(folder: Path, model: Any, processor: Any, seed: int, scale: float = 6.0) -> Path:
    """Random weights of a spread that makes attention uneven, in a folder as `save_pretrained` writes it."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        # What is drawn anew in every process otherwise; norms and biases begin as ones and zeros.
        if parameter.dim() > 1 or name.endswith(("class_embedding", "image_newline")):
            drawn = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
            parameter.data.copy_(drawn * (scale if "q_proj" in name else 1.0))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def llava(folder: Path, *, seed: int = 0, layers: int = 4, tower_layers: int = 3) -> Path:
    """LLaVA on CLIP: 6 x 6 patches of 4 pixels, `tower_layers` in the tower, `layers` in LLaMA."""
    import transformers as t

    side = 24
    vision = t.CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=tower_layers,
        num_attention_heads=2,
        image_size=side,
        patch_size=4,
    )
    config = t.LlavaConfig(
        vision_config=vision,
        text_config=t.LlamaConfig(**{**TEXT, "num_hidden_layers": layers}),
        image_token_id=WORDS.index("<image>"),
        vision_feature_layer=-2,
    )
    pictures = t.CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = t.LlavaProcessor(
        pictures,
        tokenizer("<image>"),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("MARK", "<image>"),
    )
    return save(folder, t.LlavaForConditionalGeneration(config), processor, seed)


def llava_next(folder: Path, *, seed: int = 0) -> Path:
    """LLaVA-NeXT on the same tower: up to 2 x 2 tiles beside the whole picture."""
    import transformers as t

    vision = t.CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=16, patch_size=4
    )
    points = [[16, 32], [32, 16], [32, 32]]
    config = t.LlavaNextConfig(
        vision_config=vision,
        text_config=t.LlamaConfig(**TEXT),
        image_token_id=WORDS.index("<image>"),
        image_grid_pinpoints=points,
        vision_feature_layer=-2,
    )
    pictures = t.LlavaNextImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, image_grid_pinpoints=points
    )
    processor = t.LlavaNextProcessor(
        pictures,
        tokenizer("<image>"),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("MARK", "<image>"),
    )
    return save(folder, t.LlavaNextForConditionalGeneration(config), processor, seed)


def qwen(folder: Path, *, version: str = "2", seed: int = 0) -> Path:
    """Qwen2-VL or Qwen2.5-VL (version "2.5"): patches of 14 pixels merged by four, positions of three numbers."""
    import transformers as t

    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}}
    common = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "depth": 3, "num_heads": 2}
    marks = {
        "image_token_id": WORDS.index("<|image_pad|>"),
        "video_token_id": WORDS.index("<|video_pad|>"),
        "vision_start_token_id": WORDS.index("<|vision_start|>"),
        "vision_end_token_id": WORDS.index("<|vision_end|>"),
    }
    if version == "2":
        vision = t.models.qwen2_vl.configuration_qwen2_vl.Qwen2VLVisionConfig(
            embed_dim=16, hidden_size=32, mlp_ratio=2, **common
        )
        text = t.models.qwen2_vl.configuration_qwen2_vl.Qwen2VLTextConfig(**TEXT, **rope)
        config: Any = t.Qwen2VLConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), **marks)
        model: Any = t.Qwen2VLForConditionalGeneration(config)
    else:
        vision = t.models.qwen2_5_vl.configuration_qwen2_5_vl.Qwen2_5_VLVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            out_hidden_size=32,
            window_size=56,
            fullatt_block_indexes=[1],
            **common,
        )
        text = t.models.qwen2_5_vl.configuration_qwen2_5_vl.Qwen2_5_VLTextConfig(**TEXT, **rope)
        config = t.Qwen2_5_VLConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), **marks)
        model = t.Qwen2_5_VLForConditionalGeneration(config)
    words = tokenizer("<|vision_start|> <|image_pad|> <|vision_end|>")
    limits = {"shortest_edge": 56 * 56, "longest_edge": 112 * 140}
    pictures = t.Qwen2VLImageProcessor(patch_size=14, merge_size=2, temporal_patch_size=2, size=limits)
    video = t.Qwen2VLVideoProcessor(patch_size=14, merge_size=2, temporal_patch_size=2)
    kind = t.Qwen2VLProcessor if version == "2" else t.Qwen2_5_VLProcessor
    processor = kind(pictures, words, video, chat_template=words.chat_template)
    return save(folder, model, processor, seed)


def questions(folder: Path, count: int = 4) -> Path:
    """A file of yes-or-no questions and its pictures, of two shapes."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for k in range(count):
        shape = (40, 56, 3) if k % 2 else (48, 48, 3)
        pixels = np.random.default_rng(k).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
        text = "is there a cat in the picture ?" if k % 2 else "what colour is the dog ?"
        lines.append({"id": f"q{k}", "image": f"{k}.png", "question": text, "answers": ["yes" if k % 2 else "red"]})
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
