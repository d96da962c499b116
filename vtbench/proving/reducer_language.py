"""What the checks of reducers ask of a language model that sees: its first word's distribution, whole and reduced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.models.answering import VisionLanguage, rate_of
from vtbench.models.llm_stage import cut_of
from vtbench.models.picture_tokens import Pictured, row_of, whole
from vtbench.models.sequence_cuts import LayerView, Row, SequenceCut, SequenceRule, shortened
from vtbench.models.tower_reading import TowerSubject
from vtbench.proving.reducer_towers import ExaminedTower
from vtbench.proving.reducer_trial import SPOILT, Examined, Seen, Trial, Watched, rows_into
from vtbench.types.errors import VtbenchError
from vtbench.types.item import Item
from vtbench.types.reading import Point, Rate, Reading, Subject
from vtbench.types.reduction import Reduction

if TYPE_CHECKING:
    from torch import Tensor


class ExaminedLanguage(Examined):
    """A language model that sees; `Reading.logits` are those of the first token of its answer."""

    def __init__(self, subject: VisionLanguage) -> None:
        self.subject, self.attached, self.decoder = subject, subject.attached, subject.attached.decoder
        self.opening = {
            "spec": subject.files.spec,
            "device": subject.device,
            "dtype": subject.dtype,
            "options": subject.options,
        }

    def check(self, point: Point, items: Sequence[Item]) -> None:
        self.subject.check(point, items)

    def tokens(self, image: Tensor, item: Item) -> int:
        """Of that picture, unreduced."""
        import torch

        with torch.inference_mode():
            return whole(self.attached, self.subject.inputs(image, item), 0).of

    def read(self, images: Tensor, point: Point, seeds: Sequence[int], items: Sequence[Item]) -> Reading:
        """The full model is asked where everything is kept alone: it costs as much again."""
        import torch

        said: list[list[Reduction]] = [[] for _ in items]
        with torch.inference_mode():
            each = list(zip(images, items, seeds, said, strict=True))
            cut = [self._cut(image, item, seed, point, heard) for image, item, seed, heard in each]
            full = None
            if point.keep is None:
                full = self.decoder.prefill([self._whole(image, item) for image, item, *_ in each]).logits
            state = self.decoder.prefill([row for _, row in cut])
        parts = zip(cut, state.image_tokens, said, strict=True)
        rates = [rate_of(picture, counts, len(row.embeds), heard) for (picture, row), counts, heard in parts]
        return Reading(
            rates,
            logits=None if full is None else full.float().cpu(),
            reduced_logits=state.logits.float().cpu(),
        )

    def _whole(self, image: Tensor, item: Item) -> Row:
        inputs = self.subject.inputs(image, item)
        return row_of(self.attached, inputs, whole(self.attached, inputs, 0), 0)

    def _cut(self, image: Tensor, item: Item, seed: int, point: Point, heard: list[Reduction]) -> tuple[Pictured, Row]:
        inputs = self.subject.inputs(image, item)
        if point.stage == "input":
            return self.subject.shrunk(inputs, image, item, seed, point)
        picture, row = self.subject.cut_row(inputs, point, seed, heard)
        if not isinstance(point.reducer, Watched):
            return picture, row
        reducer = point.reducer
        return picture, replace(row, rules={layer: _watched(rule, reducer) for layer, rule in row.rules.items()})

    @contextmanager
    def lengths(self, item: Item, image: Tensor) -> Iterator[list[int]]:
        counted = list[int]()
        ids = self.subject.inputs(image, item)["input_ids"]
        words = int((ids != self.attached.placeholder).sum())
        with rows_into(self.decoder.layers) as rows:
            try:
                yield counted
            finally:
                counted += [length - words for length in rows]

    def recorded(self, rate: Rate, depth: int) -> list[int]:
        return list(rate.by_layer) or [rate.tokens] * depth

    def masked(self, trial: Trial) -> list[Tensor] | str:
        import torch

        seen, point = trial.each()[0][1], trial.point
        if point.stage not in ("tower", "projector", "llm") or not seen:
            return "no tokens are chosen behind the tower: a picture or a tower that does less is no mask"
        if any(one.reduction.values is not None for one in seen):
            return "tokens are merged, which no mask does"
        with torch.inference_mode():
            full = self._whole(trial.images[0], trial.items[0])
            again = replace(point, reducer=trial.watched())
            picture, row = self._cut(trial.images[0], trial.items[0], trial.seeds[0], again, [])
            left = torch.cat([*_around(full.image, picture.kept)])
            stays = {0: (left, row.places)}
            for one in seen:
                if one.sequence is not None:
                    cut, places = self._behind(one)[1:]
                    left = left[cut.sources]
                    stays[one.sequence.layer] = (left, places)
            if any(bool((kept.diff() <= 0).any()) for kept, _ in stays.values()):
                return "tokens go on twice or in an order of their own, which no mask does"
            return [self.decoder.masked(full, stays).float().cpu()]

    def _behind(self, one: Seen) -> tuple[Tensor, SequenceCut, Tensor]:
        """(states, the cut, positions) behind one cut, of the sequence as it was before."""
        at = one.sequence
        assert at is not None
        cut = cut_of(one.reduction, one.before, at, self.subject.policy)
        states, places, *_ = shortened(cut, at.hidden, at.places, at.image, 0)
        return states, cut, places

    def sent(self, trial: Trial, number: int) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        import torch

        seen = trial.each()[number][1]
        if not seen:
            return None
        with torch.inference_mode():
            if seen[-1].sequence is not None:
                layer = seen[-1].sequence.layer
                states, _, places = self._behind(seen[-1])
            else:
                # The same answers once more, on tokens that nobody has written into since.
                point = replace(trial.point, reducer=trial.watched(answers=[one.reduction for one in seen]))
                _, row = self._cut(trial.images[number], trial.items[number], trial.seeds[number], point, [])
                states, places, layer = row.embeds, row.places, 0
        # A tensor of inference mode cannot be written by safetensors while it is a view.
        return {"rows": states.clone(), "places": places.clone().contiguous()}, {"layer": layer}

    def resumed(self, sent: Mapping[str, Tensor], where: Mapping[str, Any]) -> list[Tensor]:
        import torch

        with torch.inference_mode():
            rows, places = (sent[name].to(self.subject.device) for name in ("rows", "places"))
            return [self.decoder.resumed(where["layer"], rows, places).float().cpu()]


def _watched(rule: SequenceRule, reducer: Watched) -> SequenceRule:
    """The rule, whose last answer is kept with the sequence as it was; dropped tokens are spoilt, if wanted."""

    def of(at: LayerView) -> SequenceCut:
        before = replace(at, hidden=at.hidden.clone())
        cut = rule(at)
        reducer.seen[-1] = replace(reducer.seen[-1], sequence=before)
        if reducer.spoil:
            gone = at.image.clone()
            gone[cut.sources[cut.sources >= 0]] = False
            at.hidden.masked_fill_(gone[:, None], SPOILT)
        return cut

    return of


def _around(image: Tensor, kept: Tensor) -> Iterator[Tensor]:
    """Places of a sequence: what stands before the picture, those of its tokens that are kept, what stands behind."""
    import torch

    places = image.nonzero().flatten()
    first, last = int(places[0]), int(places[-1])
    yield torch.arange(first)
    yield first + kept.to(places.device)
    yield torch.arange(last + 1, len(image))


def examined(subject: Subject) -> Examined:
    """A loaded model, as the checks look into it."""
    if isinstance(subject, TowerSubject):
        return ExaminedTower(subject)
    if isinstance(subject, VisionLanguage):
        return ExaminedLanguage(subject)
    raise VtbenchError(f"{subject.name} is a {subject.kind} whose tokens no check can follow", code=1)
