"""Metrics of answers, each computed a second time: by scikit-learn, by SciPy, by the rules written again."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.metrics.comparison import FLOATS, Comparison, largest, version
from benchmarks.metrics.understanding import shares, values
from vtbench import registry
from vtbench.models.answering import divergence
from vtbench.models.attach_decoder import LanguageModel
from vtbench.models.sequence_cuts import LayerView, Row, SequenceCut
from vtbench.models.tower_files import library
from vtbench.types.item import Item
from vtbench.types.questions import Answer
from vtbench.types.reading import Rate, Reading

QUESTIONS, VOCABULARY = 300, 500
SAID = (
    "Yes",
    "yes.",
    "No",
    "no, it is not",
    "No. Yes",
    "A dog",
    "",
    " NO!",
    "There is no cat",
    "Not  here",
    "yes and no",
)
SPLITS = ("adversarial", "popular", "random")
PEOPLE = ("red", "a red", "Red.", "the blue", "blue", "two", "2")
RULES = "the rules written again as regular expressions"


def answer_comparisons() -> list[Comparison]:
    return [*of_yes_and_no(), *of_people(), *of_layers()]


# -- what is said ------------------------------------------------------------------------------------------------------


def no_of_pope(answer: str) -> bool:
    """LLaVA's reading at c121f04, eval_pope.py: No, not or no between blanks of the first sentence."""
    sentence = re.match(r"[^.]*", answer)
    return re.search(r"(^| )(No|not|no)( |$)", (sentence[0] if sentence else "").replace(",", "")) is not None


def unread(answer: str) -> bool:
    """Neither yes nor no, or both."""
    yes, no = (re.search(rf"(?<![a-z])({w})(?![a-z])", answer.lower()) is not None for w in ("yes", "no|not"))
    return yes == no


def bare(answer: str) -> str:
    """But for case, spaces and marks at the ends."""
    ends = f"[{re.escape(string.punctuation)} ]"
    return re.sub(rf"^{ends}+|{ends}+$", "", re.sub(r"\s+", " ", answer.lower()))


def reading_of(answers: Sequence[Answer]) -> Reading:
    return Reading([Rate(1, 1)] * len(answers), answers=answers)


def of_yes_and_no() -> list[Comparison]:
    """Answers as POPE's questions get them, of a full model that is mostly right and of a reduced one."""
    import torch
    from scipy.special import rel_entr, softmax
    from sklearn import metrics

    rng = np.random.default_rng(5)
    labels = rng.choice(["yes", "no"], QUESTIONS)
    full = [str(label if rng.random() < 0.7 else rng.choice(SAID)) for label in labels]
    less = [text if rng.random() < 0.6 else str(rng.choice(SAID)) for text in full]
    logits = rng.normal(size=(2, QUESTIONS, VOCABULARY)) * 3
    kl = divergence(*(torch.from_numpy(x) for x in logits))
    answers = [Answer(f, t, k) for f, t, k in zip(full, less, kl, strict=True)]
    more = {"question": "?", "evaluator": "pope", "evaluator_version": 1}
    items = [
        Item(f"{k}", None, meta={**more, "answers": [str(labels[k])], "split": SPLITS[k % 3]}) for k in range(QUESTIONS)
    ]
    true = labels == "yes"
    said, before = (np.array([not no_of_pope(text) for text in texts]) for texts in (less, full))
    wanted: Mapping[str, Sequence[float]] = {
        "answer-score": (said == true).astype(float).tolist(),
        "answer-score-full": (before == true).astype(float).tolist(),
        "answer-unparsed": [float(unread(text)) for text in less],
        "answer-unparsed-full": [float(unread(text)) for text in full],
        "answer-agreement": [float(bare(a) == bare(b)) for a, b in zip(full, less, strict=True)],
    }
    ours = {name: values(name, reading_of(answers), items) for name in (*wanted, "answer-kl")}
    on = f"{QUESTIONS} answers to questions of yes and no, {len(SAID)} forms"
    gap = max(largest(ours[name], v) for name, v in wanted.items())
    out = [Comparison(", ".join(wanted), RULES, on, gap, 0, "counts")]
    p, q = (softmax(x, axis=1) for x in logits)
    gap = largest(ours["answer-kl"], rel_entr(p, q).sum(axis=1).tolist())
    how = version("scipy") + " rel_entr of softmax"
    out.append(Comparison("answer-kl", how, f"{QUESTIONS} x {VOCABULARY} logits", gap, 1e-11, FLOATS))
    rows = [{"item": f"{k}", "values": {n: v[k] for n, v in ours.items()}, "why": {}} for k in range(QUESTIONS)]
    f1 = registry.metric("answer-f1").finish(rows, items).value
    gap = abs(f1 - float(np.mean([metrics.f1_score(true[k::3], said[k::3]) for k in range(3)])))
    how = version("scikit-learn") + " f1_score of each split"
    out.append(Comparison("answer-f1", how, on, gap, 1e-12, FLOATS))
    pair = [np.asarray(wanted[name]) for name in ("answer-score", "answer-score-full")]
    return [*out, *shares("answer-retained", registry.metric("answer-retained").finish(rows, items), *pair, on)]


def of_people() -> list[Comparison]:
    """TextVQA's accuracy as its paper has it: the mean over the people of the accuracy against the nine others."""
    rng = np.random.default_rng(6)

    def plain(text: str) -> str:
        words = [w for w in text.lower().rstrip(".").split() if w not in ("a", "an", "the")]
        return " ".join({"two": "2"}.get(w, w) for w in words)

    items, answers, wanted = [], [], []
    for k in range(QUESTIONS):
        people, text = [str(rng.choice(PEOPLE)) for _ in range(10)], str(rng.choice(PEOPLE))
        each = [sum(plain(o) == plain(text) for o in people[:i] + people[i + 1 :]) for i in range(10)]
        wanted.append(float(np.mean([min(1, n / 3) for n in each])))
        meta = {"question": "?", "answers": people, "evaluator": "textvqa", "evaluator_version": 1}
        items.append(Item(f"{k}", None, meta=meta))
        answers.append(Answer(text, text, 0.0))
    gap = max(
        largest(values(name, reading_of(answers), items), wanted) for name in ("answer-score", "answer-score-full")
    )
    on = f"{QUESTIONS} answers of {len(PEOPLE)} forms, ten people each (textvqa)"
    how = "the leave-one-out mean written out"
    return [Comparison("answer-score, answer-score-full", how, on, gap, 1e-12, FLOATS)]


# -- what goes in ------------------------------------------------------------------------------------------------------


def of_layers() -> list[Comparison]:
    """The picture's tokens in the layers of a language model that cuts them before the third, and its cache."""
    import torch

    transformers = library()

    sizes = {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20}
    depth, cut, keep, picture = 4, 2, 5, 12
    lengths = (19, 17)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(0)
        model = transformers.Qwen2Model(
            transformers.Qwen2Config(**sizes, num_hidden_layers=depth, vocab_size=11)
        ).eval()
        language = LanguageModel(model, torch.nn.Linear(16, 11))
        rows = [_row(torch.randn(n, 16), picture, cut, keep) for n in lengths]
        seen: list[int] = []
        hooks = [layer.register_forward_hook(lambda _m, _in, out: seen.append(_length(out))) for layer in model.layers]
        state = language.prefill(rows)
        for hook in hooks:
            hook.remove()
        whole = [language.prefill([Row(r.embeds, r.places, r.image, r.following)]).kv_bytes(0) for r in rows]
        own = [_cache(model, row.embeds[None]) for row in rows]
    answers = [
        Answer("", "", 0.0, tuple(counts), cache=state.kv_bytes(k), full_cache=whole[k])
        for k, counts in enumerate(state.image_tokens)
    ]
    ours = {n: values(n, reading_of(answers)) for n in ("visual-tokens-prefill", "visual-tokens-last", "cache-kept")}
    # The longest of the batch is as long as the batch: its other tokens are text.
    text = max(lengths) - picture
    on = f"{len(lengths)} prompts in a Qwen2 of {depth} layers, {keep} of {picture} tokens kept before layer {cut}"
    gap = max(
        largest(ours["visual-tokens-prefill"], [float(seen[0] - text)] * 2),
        largest(ours["visual-tokens-last"], [float(seen[-1] - text)] * 2),
    )
    how = version("transformers")
    out = [
        Comparison("visual-tokens-prefill, visual-tokens-last", f"{how}'s layers, rows counted", on, gap, 0, "counts")
    ]
    # Keys and values of float32: of every layer 2 heads of 4 numbers.
    gone = (depth - cut) * (picture - keep) * 2 * (2 * 4) * 4
    wanted = [100 * (full - gone) / full for full in own]
    gap = largest(ours["cache-kept"], wanted)
    return [*out, Comparison("cache-kept", f"{how}'s own cache less the dropped rows", on, gap, 1e-12, "bytes")]


def _row(embeds: Any, picture: int, cut: int, keep: int) -> Row:
    """A prompt whose picture begins behind two tokens of text."""
    import torch

    image = torch.zeros(len(embeds), dtype=torch.bool)
    image[2 : 2 + picture] = True

    def rule(view: LayerView) -> SequenceCut:
        places = torch.arange(len(view.hidden))
        return SequenceCut(places[(places < 2 + keep) | (places >= 2 + picture)])

    return Row(embeds, torch.arange(len(embeds)), image, len(embeds), rules={cut: rule})


def _length(out: Any) -> int:
    return int((out[0] if isinstance(out, tuple) else out).shape[1])


def _cache(model: Any, embeds: Any) -> int:
    """Bytes of the keys and values that transformers itself keeps of one prompt."""
    layers = model(inputs_embeds=embeds, use_cache=True).cache.layers
    return sum(t.numel() * t.element_size() for layer in layers for t in (layer.keys, layer.values))
