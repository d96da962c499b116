"""A vision-language model as a subject: one question on one picture, answered with all visual tokens and with fewer, or
on the picture and on another in its place.

Answers are greedy: the likeliest token each time, from the model's own distribution, whatever its
generation_config.json says of temperature or penalties; both sides are asked alike. The prompt, the way of positions
and the length of an answer are part of a run's question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from vtbench.images.questions import fitting, question_of
from vtbench.images.rounding import to_uint8
from vtbench.models.attach_decoder import Prefilled
from vtbench.models.cutting import layers_of
from vtbench.models.devices import check_device
from vtbench.models.downloads import sha256_file
from vtbench.models.language_files import BESIDE, OPTIONS, QUESTION, image_token, loaded, options_of, template_of
from vtbench.models.llm_stage import rules_of
from vtbench.models.picture_tokens import Pictured, reduced, reduced_inside, row_of, too_many, whole
from vtbench.models.sequence_cuts import Policy, Row
from vtbench.models.tower_files import ModelFiles, library
from vtbench.models.tower_reading import schedule
from vtbench.types.errors import RAISED, VtbenchError
from vtbench.types.foreign import cause
from vtbench.types.item import Item
from vtbench.types.questions import Answer
from vtbench.types.reading import Point, Rate, Reading, Subject
from vtbench.types.reduction import Needs, Reducer, Reduction, Stage

if TYPE_CHECKING:
    from torch import Tensor

REMEMBERED = 1 << 27
"""Numbers of the full model's answers that are kept (512 MB as float32): 4,000 questions of a vocabulary of 32,000."""


@dataclass(frozen=True)
class _Known:
    """What the full model says: its text, logits (vocabulary,) of its first token, bytes of its cache."""

    text: str
    logits: Tensor
    cache: int


class VisionLanguage(Subject):
    """A vision-language model with its processor."""

    kind = "language model"
    stages: tuple[Stage, ...] = ("input", "tower", "projector", "vit", "llm")

    def __init__(self, files: ModelFiles, device: str, dtype: str, options: Mapping[str, Any]) -> None:
        """options: those of OPTIONS, each with a value. Raises VtbenchError where the files are no model of ours."""
        check_device(device, dtype)
        self.options = options_of({**OPTIONS, **options})
        self.files, self.name, self.device, self.dtype = files, files.name, device, dtype
        self.attached, self.processor, unexpected = loaded(files, device, dtype, str(self.options["attention"]))
        absent = {"input": self.attached.shrinks == "no", "vit": self.attached.inside is None}
        self.stages = tuple(stage for stage in self.stages if not absent.get(stage))
        self._known: dict[str, _Known] = {}
        self.template = template_of(self.processor, str(self.options["prompt"]), files)
        beside = {name: sha256_file(files.folder / name) for name in BESIDE if (files.folder / name).is_file()}
        asked = {**self.options, "prompt": self.template}
        self.weights = files.record()
        self.identity = {"tower": self.name, "files": files.sha256, "beside": beside, "options": asked}
        self.facts = {
            "name": self.name,
            "spec": files.spec,
            "class": type(self.attached.model).__name__,
            "layers": len(self.attached.decoder.layers),
            "sha256": files.sha256,
            "library": f"transformers {library().__version__}",
            "prompt": self.template,
            "prompt_sha256": hashlib.sha256(self.template.encode()).hexdigest(),
            "notes": _notes(self.attached.three, unexpected),
            **{name: value for name, value in self.options.items() if name != "prompt"},
        }

    def parameter_count(self) -> int | None:
        return int(sum(p.numel() for p in self.attached.model.parameters()))

    @property
    def policy(self) -> Policy | None:
        """Of positions, instead of a method's own."""
        return None if self.options["positions"] == "method" else cast(Policy, self.options["positions"])

    # -- what makes sense ----------------------------------------------------------------------------------------------

    def check(self, point: Point, items: Sequence[Item]) -> None:
        card, needs = point.reducer.card, point.reducer.needs
        if point.stage == "vit" and self.attached.inside is None:
            raise VtbenchError(
                f"{card.name} acts inside a vision tower, and of {self.name}'s no token can be cut: "
                f"{self.attached.not_inside}; give a LLaVA model, or a method that acts behind the tower"
            )
        if point.stage not in self.stages:
            raise VtbenchError(
                f"{card.name} acts at {point.stage}, and {self.name} is a language model that sees: tokens are cut at "
                f"{', '.join(self.stages)}"
            )
        if needs.maps and self.options["attention"] != "eager":
            raise VtbenchError(
                f"{card.name} reads a whole attention map, which {self.options['attention']} does not give: give "
                "--option attention=eager"
            )
        depth = self.attached.tower_depth
        absent = sorted(layer for layer in layers_of(needs) if not -depth <= layer < depth)
        if acts_before(point) or point.stage == "vit":
            self.attached.refuse(needs)
        if point.stage == "vit" and self.attached.inside is not None:
            # A budget below any picture's, so that the schedule is one.
            schedule(replace(point, keep=1), len(self.attached.inside), self.attached.tile)
        if acts_before(point) and absent:
            raise VtbenchError(f"{card.name} reads layer {absent[0]}, and the tower has {depth}, counted from 0")
        if point.keep is not None and point.keep < 1:
            raise VtbenchError(f"--keep {point.keep}: give 1 or more")
        self.check_items(items)

    def check_items(self, items: Sequence[Item]) -> None:
        self._check_evaluator(items)
        silent = next((item.id for item in items if not item.meta.get("question")), None)
        if silent is not None:
            raise VtbenchError(
                f"{self.name} answers questions, and {silent} has none: give --images QUESTIONS.jsonl, one "
                '{"id", "image", "question", "answers"} a line'
            )

    def _check_evaluator(self, items: Sequence[Item]) -> None:
        asked = str(self.options["evaluator"])
        if asked:
            own = next((item.meta.get("evaluator") for item in items if item.meta.get("answers")), None)
            fitting(asked, own, [question_of(item) for item in items if item.meta.get("question")])

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, images: Tensor, point: Point, seeds: Sequence[int], items: Sequence[Item]) -> Reading:
        import torch

        with torch.inference_mode():
            asked = [self.inputs(image, item) for image, item in zip(images, items, strict=True)]
            pairs = list(zip(asked, seeds, strict=True))
            full = [row_of(self.attached, one, whole(self.attached, one, seed), seed) for one, seed in pairs]
            said: list[list[Reduction]] = [[] for _ in items]
            if point.stage == "input":
                cut = [self.shrunk(*one, point) for one in zip(asked, images, items, seeds, strict=True)]
            else:
                cut = [self.cut_row(one, point, seed, heard) for (one, seed), heard in zip(pairs, said, strict=True)]
            less, rows = [picture for picture, _ in cut], [row for _, row in cut]
            return self._reading(self._whole(asked, full), less, rows, said)

    def compare(self, originals: Tensor, others: Tensor, items: Sequence[Item]) -> Reading:
        import torch

        with torch.inference_mode():
            asked, again = ([self.inputs(*one) for one in zip(x, items, strict=True)] for x in (originals, others))
            # Nothing is drawn where nothing is dropped.
            full = [row_of(self.attached, one, whole(self.attached, one, 0), 0) for one in asked]
            pictures = [whole(self.attached, one, 0) for one in again]
            rows = [row_of(self.attached, one, picture, 0) for one, picture in zip(again, pictures, strict=True)]
            return self._reading(self._whole(asked, full), pictures, rows, [[] for _ in items])

    def _reading(
        self, before: Sequence[_Known], less: Sequence[Pictured], rows: Sequence[Row], said: Sequence[list[Reduction]]
    ) -> Reading:
        """What is said now, against what was said before. less, rows: the pictures and prompts that are asked about."""
        import torch

        state, texts = self.answered(rows)
        kl = divergence(torch.stack([known.logits for known in before]).to(state.logits), state.logits)
        scorer = str(self.options["evaluator"])
        parts = zip(before, texts, kl, state.image_tokens, rows, strict=True)
        answers = [
            Answer(known.text, text, apart, tuple(counts), len(row.embeds), state.kv_bytes(k), known.cache, scorer)
            for k, (known, text, apart, counts, row) in enumerate(parts)
        ]
        each = zip(less, state.image_tokens, rows, said, strict=True)
        rates = [rate_of(picture, counts, len(row.embeds), heard) for picture, counts, row, heard in each]
        why = "a language model is compared by its answers"
        return Reading(
            rates,
            answers=answers,
            why={name: why for name in ("features", "logits", "coverage", "dense")},
            coverage=[None] * len(rows),
            dense=[None] * len(rows),
            labels=[None] * len(rows),
        )

    def _whole(self, asked: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[_Known]:
        """What the full model says; remembered, since every point of a table is compared with the same."""
        names = [_name(inputs) for inputs in asked]
        missing = [k for k, name in enumerate(names) if name not in self._known]
        if missing:
            state, texts = self.answered([rows[k] for k in missing])
            for number, (k, text) in enumerate(zip(missing, texts, strict=True)):
                self._known[names[k]] = _Known(text, state.logits[number].cpu(), state.kv_bytes(number))
        out = [self._known[name] for name in names]
        while sum(one.logits.numel() for one in self._known.values()) > REMEMBERED:
            self._known.pop(next(iter(self._known)))
        return out

    def shrunk(
        self, inputs: Mapping[str, Any], image: Tensor, item: Item, seed: int, point: Point
    ) -> tuple[Pictured, Row]:
        """The picture itself, smaller: the baseline that drops nothing."""
        import torch
        from torch.nn.functional import interpolate

        attached = self.attached
        (view,) = attached.look(inputs, Needs(), seed)
        count, grid = len(view), view.grid
        keep = count if point.keep is None else point.keep
        if keep > count or grid is None:
            raise too_many(keep, count)
        size = point.reducer.resized(grid, keep)
        if attached.shrinks == "pixels":
            tokens = attached.small(inputs, size)
            kept = torch.full((len(tokens),), -1, device=tokens.device)
            picture = Pictured(tokens, kept, count, policy="renumbered")
            return picture, row_of(attached, inputs, picture, seed)
        pixels = size[0] * attached.side(), size[1] * attached.side()
        less = interpolate(image[None].float(), pixels, mode="bicubic", antialias=True)[0].clamp(0, 1)
        again = self.inputs(less, item, resized=False)
        picture = whole(attached, again, seed)
        return replace(picture, of=count), row_of(attached, again, picture, seed)

    def inputs(self, image: Tensor, item: Item, *, resized: bool = True) -> dict[str, Any]:
        """The processor's tensors of one prompt with its picture; image float32 (3, H, W) in [0, 1]. resized: to the
        size that the processor chooses."""
        from PIL import Image

        picture = Image.fromarray(to_uint8(image[None])[0].permute(1, 2, 0).cpu().contiguous().numpy())
        question = str(item.meta["question"])
        mark = image_token(self.processor)
        if mark in question:
            raise VtbenchError(f"question {item.id} holds {mark}, the model's own mark of a picture: reword it", code=1)
        prompt = self.template.replace(QUESTION, question)
        try:
            more = {} if resized else {"do_resize": False}
            batch = self.processor(images=picture, text=prompt, return_tensors="pt", **more)
        except RAISED as bad:
            raise VtbenchError(
                f"the processor of {self.name} refused question {item.id} ({cause(bad)})", code=1
            ) from bad
        inputs = {name: value.to(self.device) for name, value in batch.items() if hasattr(value, "to")}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.attached.model.dtype)
        length = int(inputs["input_ids"].shape[1])
        if length + int(self.options["answer_tokens"]) > self.attached.longest:
            raise VtbenchError(
                f"question {item.id} and its answer take {length + int(self.options['answer_tokens'])} tokens, and "
                f"{self.name} reads {self.attached.longest}: give a shorter question",
                code=1,
            )
        return inputs

    def cut_row(
        self, inputs: Mapping[str, Any], point: Point, seed: int, heard: list[Reduction]
    ) -> tuple[Pictured, Row]:
        """The reduced picture, and the prompt with it and with what cuts it inside the language model. heard: gets
        every reduction that happens there."""
        reducer, keep, count = point.reducer, point.keep, 0
        if acts_before(point):
            picture = reduced(
                self.attached,
                inputs,
                reducer,
                keep=keep,
                projected=point.stage == "projector" or "tower" not in reducer.stages,
                policy=self.policy,
                seed=seed,
            )
        elif point.stage == "vit":
            picture = reduced_inside(self.attached, inputs, point, policy=self.policy, seed=seed)
        else:
            picture = whole(self.attached, inputs, seed)
        row, count = row_of(self.attached, inputs, picture, seed), len(picture.tokens)
        if keep is not None and keep > picture.of:
            raise too_many(keep, picture.of)
        if not acts_inside(point) or keep is None or keep == picture.of:
            # Where all are asked for, that is the model as it is, whatever a method's schedule is.
            return picture, row
        rules = rules_of(point, len(self.attached.decoder.layers), count, min(keep, count), self.policy, heard.append)
        return picture, replace(row, rules=rules)

    def answered(self, rows: Sequence[Row]) -> tuple[Prefilled, list[str]]:
        """The prompts' states behind the prefill, and the greedy answers."""
        decoder = self.attached.decoder
        state = decoder.prefill(rows)
        logits = state.logits
        ids = decoder.greedy(state, self.attached.embed, int(self.options["answer_tokens"]), self.attached.stops())
        state.logits = logits
        return state, [str(self.processor.tokenizer.decode(one, skip_special_tokens=True)).strip() for one in ids]


def _notes(three: bool, unexpected: Sequence[str]) -> list[str]:
    out = [f"the weights hold {unexpected[0]} and others that the model does not read"] if unexpected else []
    if three:
        out.append("tokens that are chosen before the language model keep their positions of three numbers")
    return out


def _name(inputs: Mapping[str, Any]) -> str:
    """sha256 of all that the processor gives of one prompt."""
    digest = hashlib.sha256()
    for name in sorted(inputs):
        digest.update(name.encode() + inputs[name].cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def acts_before(point: Point) -> bool:
    """Whether the reducer acts on the tower's output at this point."""
    return point.stage in ("tower", "projector") or (together(point.reducer) and point.stage == "llm")


def acts_inside(point: Point) -> bool:
    """Whether the reducer cuts between layers of the language model at this point."""
    return point.stage == "llm" or together(point.reducer)


def together(reducer: Reducer) -> bool:
    """Whether a method acts at the tower's output and inside the language model both (VScan)."""
    return "llm" in reducer.stages and bool(getattr(reducer, "together", False))


def divergence(full: Tensor, reduced: Tensor) -> list[float]:
    """KL(full || reduced) of logits (B, K), nats, by float64 softmax."""
    import torch

    one, two = (torch.log_softmax(x.double(), dim=-1) for x in (full, reduced))
    return [max(0.0, float(v)) for v in (one.exp() * (one - two)).sum(dim=-1)]


def rate_of(picture: Pictured, by_layer: Sequence[int], prompt: int, said: Sequence[Reduction]) -> Rate:
    """Counted on what went into the layers, of a prompt of so many tokens."""
    doubled = max([picture.duplicates, *(r.duplicates for r in said)])
    notes = tuple(dict.fromkeys((*picture.fallbacks, *(note for r in said for note in r.fallbacks))))
    cut = tuple(by_layer) if len({*by_layer}) > 1 or (said and by_layer[0] != picture.of) else ()
    return Rate(by_layer[-1] if said else by_layer[0], picture.of, doubled, cut, prompt, notes)
