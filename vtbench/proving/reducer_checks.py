"""What `vtbench check` asks of a reducer of tokens, through the attachment that measures it.

1. All tokens kept are the unreduced model, to the bit. 2. A fresh process that gets only the rows that go on comes to
the same. 3. Tokens that were dropped are as good as masked from there on. 4. What becomes of a dropped token afterwards
changes nothing. 5. A picture's tokens do not depend on the pictures beside it. 6. Where a reducer claims not to look at
places, other places change nothing. And what goes on is counted where the next stage takes its input.
2 and 4 catch a method whose dropped tokens are still read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vtbench.proving.checks import Verdict
from vtbench.proving.reducer_trial import Trial, apart, changed, outputs
from vtbench.types.reduction import TowerView

if TYPE_CHECKING:
    from torch import Tensor

SHARE = 1e-4
"""How far features may lie apart, as a share of the greatest: float32 sums are ordered by the number of tokens."""


# -- the checks --------------------------------------------------------------------------------------------------------


def keeps_all(trial: Trial) -> Verdict:
    """(1)"""
    import torch

    reading = trial.read(range(len(trial.images)), keep=None)
    pairs = [(reading.features, reading.reduced_features), (reading.logits, reading.reduced_logits)]
    compared = [(a, b) for a, b in pairs if a is not None and b is not None]
    if any(rate.tokens != rate.of for rate in reading.rates):
        return "failed", f"asked for all tokens, {reading.rates[0].tokens} of {reading.rates[0].of} go on"
    if not compared:
        return "not checked", "this model gives nothing that could be compared"
    if not all(torch.equal(a, b) for a, b in compared):
        return "failed", "with all tokens kept the model comes to something else than without a reducer"
    return "passed", f"all {reading.rates[0].of} tokens kept are the unreduced model, to the bit"


def touches_nothing(trial: Trial) -> Verdict:
    """What a reducer is shown stays as it was, and one that selects hands on what it was shown. (2), where the model is
    the same one: rows that go on are those of an untouched view."""
    for _, seen in trial.each():
        for one in seen:
            written = changed(one.before, one.left)
            if written is not None:
                return "failed", (
                    f"it writes into the {written} that it is shown, so that what goes on holds more than its "
                    "answer says: copy before changing"
                )
            if trial.point.reducer.card.output == "select" and one.reduction.values is not None:
                return "failed", (
                    "its card says that it selects, and it hands on rows of its own: return kept alone, or state "
                    "output='merge'"
                )
    return "passed", "what it is shown stays as it was"


def forgets(trial: Trial) -> Verdict:
    """(4)"""
    reading, seen = trial.each()[0]
    if not seen or not outputs(reading):
        return "not checked", "no cut was seen whose result this model shows"
    again = trial.read([0], trial.watched(spoil=True))
    if apart(outputs(again), outputs(reading)) > 0:
        return "failed", "a dropped token that is overwritten afterwards changes the result: it is still read"
    return "passed", "what becomes of dropped tokens afterwards changes nothing"


def stands_alone(trial: Trial) -> Verdict:
    """(5)"""
    count = len(trial.images)
    for order in (range(count), range(count - 1, -1, -1)):
        together = trial.read(order)
        for place, number in enumerate(order):
            alone = trial.each()[number][0]
            if together.rates[place] != alone.rates[0]:
                here, there = together.rates[place], alone.rates[0]
                return "failed", (
                    f"of an image {here.tokens} tokens go on in a batch of {count}, and {there.tokens} alone"
                )
            one = together.one(place)
            if outputs(alone) and apart(outputs(one), outputs(alone)) > SHARE:
                return "failed", (
                    f"an image comes to something else in a batch of {count} than alone: something depends on the "
                    "batch, or is kept from one image to the next"
                )
    return "passed", f"a batch of {count}, in either order, equals {count} images alone"


def counts(trial: Trial) -> Verdict:
    """Tokens by layer as the network's own modules get them, and no more than were asked for unless the answer says
    why."""
    with trial.model.lengths(trial.items[0], trial.images[0]) as counted:
        rate = trial.read([0]).rates[0]
    keep, stated = trial.point.keep, trial.model.recorded(rate, len(counted))
    if counted and stated not in ([], counted):
        return "failed", f"recorded are {stated} tokens by layer, the layers get {counted}"
    for one in trial.each()[0][1]:
        rows = one.reduction.rows_of(one.before.features)
        if len(rows) != len(one.reduction):
            return "failed", f"its answer says {len(one.reduction)} tokens, and {len(rows)} go on"
    if keep is not None and rate.tokens > keep and not rate.fallbacks:
        return "failed", f"asked for {keep} tokens, {rate.tokens} go on, and its answer does not say why (fallbacks)"
    return "passed", f"{rate.tokens} of {rate.of} tokens go on, as counted where they are read"


def is_as_masked(trial: Trial) -> Verdict:
    """(3), where tokens are selected, between the blocks of a tower, from its output for a language model, or in it."""
    masked = trial.model.masked(trial)
    if isinstance(masked, str):
        return "not checked", masked
    far = apart(outputs(trial.each()[0][0]), masked)
    if far > SHARE:
        return "failed", f"the same model with the dropped tokens masked comes to something else (by {far:.1e} of it)"
    return "passed", f"the same model with the dropped tokens masked comes to the same (to {far:.0e} of it)"


def looks_at_no_place(trial: Trial) -> Verdict:
    """(6)"""
    import torch

    if not trial.point.reducer.equivariant:
        return "not checked", "it does not claim that places are nothing to it"
    for _, seen in trial.each():
        for one in seen:
            view, count = one.before, len(one.before)
            order = torch.randperm(count, generator=torch.Generator().manual_seed(7))
            moved = permuted(view, order)
            with torch.inference_mode():
                answer = trial.watched().reduce(moved, one.budget, view.seed)
            first, second = one.reduction.rows_of(view.features), answer.rows_of(moved.features)
            if first.shape != second.shape or apart([_sorted(second)], [_sorted(first)]) > SHARE:
                return "failed", "it claims that places are nothing to it, and tokens at other places change its answer"
    return "passed", "the same tokens at other places are the same to it"


def _sorted(rows: Tensor) -> Tensor:
    """Rows in an order of their own."""
    return rows[rows.double().sum(dim=1).argsort()]


def permuted(view: TowerView, order: Tensor) -> TowerView:
    """The picture's tokens in another order, and all that is known of them."""
    import torch

    inner = view.prefix + order
    ends = torch.arange(view.prefix), torch.arange(view.prefix + len(view), view.prefix + len(view) + view.suffix)
    whole = torch.cat([ends[0], inner, ends[1]])
    parts: dict[str, Any] = {
        name: {layer: value[..., whole] for layer, value in getattr(view, name).items()}
        for name in ("rows", "received")
    }
    parts |= {name: {k: v[whole] for k, v in getattr(view, name).items()} for name in ("keys", "queries", "hidden")}
    sizes = None if view.sizes is None else view.sizes[order]
    return replace(view, features=view.features[order], sizes=sizes, **parts)


CHECKS: tuple[tuple[str, str, Callable[[Trial], Verdict]], ...] = (
    ("keeps all", "rows that are made anew where none is dropped", keeps_all),
    ("tokens", "a count that is stated, not taken", counts),
    ("view", "tokens that are changed in place", touches_nothing),
    ("masked", "positions that are off by the tokens before the picture", is_as_masked),
    ("dropped", "tokens that are dropped in name alone", forgets),
    ("batch", "a number that is taken over the batch, or kept from one image to the next", stands_alone),
    ("places", "a rule that reads places", looks_at_no_place),
)
"""(name, the usual mistake, check); the check of a fresh process stands in `reducer_process`."""
