"""What keeps a number of a set from being compared with published ones, said beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from vtbench.images.profiles import IN_WORDS
from vtbench.results.record import Score

PROTOCOL_N = 50_000
"""Images that the field's protocol for FID wants."""
NOT_COMPARABLE = "not comparable"
NEEDS_ICC = "; --icc srgb needs ICC profiles"


def remarks(n: int, labels: Sequence[int] | None = None, black: Sequence[str] = ()) -> list[str]:
    """Sentences on a set of `n` images, with their class labels and the names of those that are all black."""
    out = []
    if n != PROTOCOL_N:
        out.append(f"{NOT_COMPARABLE}: {n} images, the protocol wants {PROTOCOL_N}")
    if labels:
        counts = Counter(labels)
        if len(set(counts.values())) > 1:
            low, high = min(counts.values()), max(counts.values())
            out.append(f"{NOT_COMPARABLE}: classes are not balanced ({low} to {high} images a class)")
    if black:
        out.append(f"{len(black)} images are all black (a safety checker?): {', '.join(black[:3])}")
    return out


def marked(score: Score, sentences: Sequence[str]) -> Score:
    """The score with these warnings, each once, and one "not comparable" at most."""
    known = score.warning or ""
    fresh = [s for s in sentences if s not in known and not (s.startswith(NOT_COMPARABLE) and NOT_COMPARABLE in known)]
    return score.model_copy(update={"warning": "; ".join([*filter(None, [known]), *fresh]) or None})


def differing_profiles(differing: Mapping[str, int], n: int) -> list[str]:
    """The sentence on pairs whose sides state different colour profiles, if there are any. differing: how many by what
    they state, as "Display P3 and none"; n: pairs in all."""
    if not differing:
        return []
    both = max(differing, key=lambda pair: differing[pair])
    remedy = NEEDS_ICC if any(_in_words(pair.split(" and ")) for pair in differing) else ": give --icc srgb"
    count = sum(differing.values())
    return [f"{count} of {n} pairs state different colour profiles ({both}), which are not applied{remedy}"]


def stated_profiles(stated: Mapping[str, int], n: int, what: str = "images") -> list[str]:
    """The sentence on pictures that state a colour profile which was not applied, if there are any. stated: how many by
    the profile's name; n: pictures in all; what: they are."""
    if not stated:
        return []
    names = ", ".join(sorted(stated)[:3])
    remedy = NEEDS_ICC if _in_words(stated) else ": --icc srgb does"
    return [f"{sum(stated.values())} of {n} {what} state a colour profile that was not applied ({names}){remedy}"]


def _in_words(names: Iterable[str]) -> bool:
    """Whether any is stated without an ICC profile."""
    return any(IN_WORDS.fullmatch(name) for name in names)


def bad_references(unread: Mapping[str, str]) -> list[str]:
    """The sentence on reference images that could not be read, if there are any."""
    return [f"{len(unread)} reference images could not be read: {next(iter(unread))}"] if unread else []
