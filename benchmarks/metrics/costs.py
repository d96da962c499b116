"""Operations of a reduced tower and of a language model that sees: torch's counter against products counted by hand.

What a clock shows is nobody's definition; which parts are timed is held by a clock that counts the layers' passes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.metrics.comparison import Comparison, relative, version
from benchmarks.metrics.understanding import BLOCK, DEPTH, INNER, KEEP, PATCH, SIDE, TOKENS, WIDTH, Drawn, tower
from vtbench.models.answering import VisionLanguage
from vtbench.models.language_operations import language_costs
from vtbench.models.language_seconds import language_seconds
from vtbench.models.operations import costs
from vtbench.models.tower_files import model_files
from vtbench.types.item import Item
from vtbench.types.reading import Point
from vtbench.types.reduction import Cut, Needs

HIDDEN, SHARED, GATED, LAYERS, CUT = 24, 12, 28, 4, 2
"""Of a LLaMA: channels, those of keys and values (two heads of four), of its MLP; layers, and where tokens are cut."""
WORDS = ("<unk>", "<s>", "</s>", "<image>", "what", "is", "it", "?")


class Attended(Drawn):
    """Reads a row of attention, as rules do that rank tokens by it."""

    needs = Needs(rows=(-1,))


def product(rows: int, inner: int, columns: int) -> int:
    """Operations of one matrix product, two a multiply-add."""
    return 2 * rows * inner * columns


def block(tokens: int) -> int:
    """q, k, v and what joins the heads; scores and their sums, over all heads; an MLP of two matrices."""
    own = 4 * product(tokens, WIDTH, WIDTH)
    scores = product(tokens, WIDTH, tokens) + product(tokens, tokens, WIDTH)
    return own + scores + product(tokens, WIDTH, INNER) + product(tokens, INNER, WIDTH)


def layer(tokens: int, keys: int) -> int:
    """A layer of LLaMA's: q and what joins the heads, shared k and v, scores and sums, an MLP of three matrices."""
    own = 2 * product(tokens, HIDDEN, HIDDEN) + 2 * product(tokens, HIDDEN, SHARED)
    scores = product(tokens, HIDDEN, keys) + product(tokens, keys, HIDDEN)
    return own + scores + 2 * product(tokens, HIDDEN, GATED) + product(tokens, GATED, HIDDEN)


def cost_comparisons() -> list[Comparison]:
    return [*of_towers(), *of_answers(), *of_seconds()]


def of_towers() -> list[Comparison]:
    import torch

    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    patches, row = product(TOKENS, 3 * PATCH**2, WIDTH), product(1, WIDTH, TOKENS + 1)
    # With the CLS token, which is cut nowhere.
    whole = patches + DEPTH * block(TOKENS + 1)
    cut = patches + BLOCK * block(TOKENS + 1) + (DEPTH - BLOCK) * block(KEEP + 1)
    gap = 0.0
    with tower() as subject:
        for stage, network in (("vit", cut), ("tower", whole)):
            point: Any = Point(Attended(), KEEP, stage, BLOCK if stage == "vit" else None)
            ours = costs(subject, point, image, [0], [])
            wanted = {"flops": network + row, "flops-full": whole, "flops-score": row}
            gap = max(gap, *(relative(ours[name], value) for name, value in wanted.items()))
    on = f"a CLIP tower of {DEPTH} blocks, {KEEP} of {TOKENS} tokens kept before block {BLOCK} and behind the tower"
    how = "the matrix products written out, eager attention"
    return [Comparison("flops, flops-full, flops-score", how, on, gap, 0, "integers", True)]


class Between(Attended):
    """The same before a layer of the language model, where it has one."""

    needs = Needs(rows=(CUT - 1,))

    def schedule(self, depth: int, n: int, budget: int) -> list[tuple[int, Cut]]:
        return [(CUT, lambda view: self.reduce(view, budget, view.seed))]


@contextmanager
def answering() -> Iterator[VisionLanguage]:
    """A LLaVA of transformers with random weights, a word a token."""
    import tokenizers
    import torch
    import transformers as t

    rest = {"num_attention_heads": 2, "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": DEPTH}
    vision = t.CLIPVisionConfig(**rest, image_size=SIDE, patch_size=PATCH)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": HIDDEN // 4, "vocab_size": len(WORDS)}
    sizes = {"hidden_size": HIDDEN, "intermediate_size": GATED, "num_hidden_layers": LAYERS}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = t.LlavaConfig(
        vision_config=vision,
        text_config=t.LlamaConfig(**sizes, **heads, **ends),
        image_token_id=WORDS.index("<image>"),
    )
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "extra_special_tokens": ["<image>"]}
    processor = t.LlavaProcessor(
        t.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}),
        t.PreTrainedTokenizerFast(tokenizer_object=words, **marks),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    with tempfile.TemporaryDirectory(prefix="vtbench-") as name, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        t.LlavaForConditionalGeneration(config).save_pretrained(Path(name))
        processor.save_pretrained(Path(name))
        options = {"attention": "sdpa", "prompt": "<s> <image> {question}"}
        yield VisionLanguage(model_files(name), "cpu", "float32", options)


def of_answers() -> list[Comparison]:
    """A whole model, cut before a layer and behind the tower."""
    import torch

    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    item = Item("q", None, meta={"question": "what is it ?"})
    long, short = TOKENS + 5, KEEP + 5
    head = product(1, HIDDEN, len(WORDS))
    gap, bytes_gap = 0.0, 0.0
    with answering() as subject:
        cache = subject.attached.model(**subject.inputs(image[0], item), use_cache=True).cache
        own = sum(t.numel() * t.element_size() for one in cache.layers for t in (one.keys, one.values))
        for stage, lengths in (("llm", [long] * CUT + [short] * (LAYERS - CUT)), ("tower", [short] * LAYERS)):
            reducer = Between() if stage == "llm" else Attended()
            stage_point: Any = Point(reducer, KEEP, stage)
            ours = language_costs(subject, stage_point, image, [0], [item])
            projected = product(1, WIDTH, HIDDEN) + product(1, HIDDEN, HIDDEN)
            # Between layers q and k are computed again, for the scores of the last token.
            again = product(long, HIDDEN, HIDDEN) + product(long, HIDDEN, SHARED) + product(1, HIDDEN, long)
            parts = {
                "flops-tower": product(TOKENS, 3 * PATCH**2, WIDTH) + DEPTH * block(TOKENS + 1),
                "flops-projector": (TOKENS if stage == "llm" else KEEP) * projected,
                "flops-score": again if stage == "llm" else product(1, WIDTH, TOKENS + 1),
                "flops-prefill": head + sum(layer(n, n) for n in lengths),
            }
            wanted = {
                **parts,
                "flops": sum(parts.values()),
                "flops-tower-full": parts["flops-tower"],
                "flops-projector-full": TOKENS * projected,
                "flops-prefill-full": head + LAYERS * layer(long, long),
                "flops-full": parts["flops-tower"] + TOKENS * projected + head + LAYERS * layer(long, long),
                "flops-decoded-token": head + sum(layer(1, n + 1) for n in lengths),
                "flops-decoded-token-full": head + LAYERS * layer(1, long + 1),
            }
            gap = max(gap, *(relative(ours[name], value) for name, value in wanted.items()))
            kept = own - 2 * SHARED * 4 * (LAYERS * long - sum(lengths))
            bytes_gap = max(bytes_gap, abs(ours["kv-bytes"] - kept), abs(ours["kv-bytes-full"] - own))
    on = f"a LLaVA of {LAYERS} layers, {KEEP} of {TOKENS} tokens kept before layer {CUT} and behind the tower"
    how = "the matrix products written out, eager attention"
    names = ", ".join(
        name + side
        for name in ("flops-tower", "flops-projector", "flops-prefill", "flops-decoded-token")
        for side in ("", "-full")
    )
    reference = f"{version('transformers')}'s own cache less the dropped rows"
    return [
        Comparison(f"flops, flops-full, flops-score, {names}", how, on, gap, 0, "integers", True),
        Comparison("kv-bytes, kv-bytes-full", reference, on, bytes_gap, 0, "bytes"),
    ]


def of_seconds() -> list[Comparison]:
    """Of the same model, by a clock of which a layer's pass takes a second, and half a one under sdpa: prompt and
    answer are each one pass of all layers, the reduced model's under its own attention."""
    import torch

    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    item = Item("q", None, meta={"question": "what is it ?"})
    passed = [0.0]

    def now() -> float:
        return passed[0]

    with answering() as subject, mock.patch("vtbench.models.clocks.time.perf_counter", now):
        decoder = subject.attached.decoder
        seconds = {"sdpa": 0.5, "eager": 1.0}
        for one in decoder.layers:
            one.register_forward_hook(lambda *_: passed.__setitem__(0, passed[0] + seconds[decoder.kind]))
        point: Any = Point(Attended(), KEEP, "tower")
        ours = language_seconds(subject, point, image, [0], [item])
        each = {"": LAYERS * seconds[decoder.kind], "-full": LAYERS * seconds["sdpa"]}
    wanted = {part + side: each[side] for part in ("seconds-prefill", "seconds-decoded-token") for side in each}
    gap = max(abs(ours[name] - value) for name, value in wanted.items())
    how = "a clock that counts the layers' passes, half as long under sdpa"
    on = f"a LLaVA of {LAYERS} layers, {KEEP} of {TOKENS} tokens kept behind the tower"
    return [Comparison(", ".join(wanted), how, on, gap, 0, "counts of passes")]
