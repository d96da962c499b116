"""How the page writes: numbers as text, safe names for files, safe links, footnotes."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

KIND_TITLES = {
    "codec": "Codecs",
    "continuous": "Continuous tokenizers",
    "discrete": "Discrete tokenizers",
    "closed": "Closed systems",
    "generator": "Generators",
    "reducer": "Reducers, training-free",
    "trained reducer": "Reducers, trained",
    "query-aware reducer": "Reducers that read the question",
    "trained query-aware reducer": "Reducers, trained, that read the question",
}
KIND_NAMES = {
    "codec": "codec",
    "continuous": "continuous",
    "discrete": "discrete",
    "closed": "closed",
    "generator": "generator",
    "reducer": "reducer",
    "trained reducer": "trained",
    "query-aware reducer": "reads the question",
    "trained query-aware reducer": "trained, reads the question",
    "baseline": "baseline",
}
KIND_WORDS = {
    "codec": "a bitstream made to be small; headers are counted",
    "continuous": "real-valued latents, counted in the width of their dtype",
    "discrete": "indices into finite alphabets, counted under a flat prior",
    "closed": "image in, image out: nothing is known about what is sent, so the rate stays unknown",
    "generator": "images from a label or a prompt",
}
ARROWS = {"higher": "↑", "lower": "↓"}
DIRECTIONS = {"higher": "higher is better", "lower": "lower is better"}
MISSING = "—"


COUNTS = ("tokens", "bit", "parameters")
"""Units that are counted: whole numbers stay whole."""


def decimals(values: Sequence[float | None], unit: str = "") -> int:
    """Decimals for a column: about four significant digits for its largest value, so that a column lines up."""
    present = [abs(v) for v in values if v is not None]
    if not present or (unit in COUNTS and all(v == int(v) for v in present)):
        return 0
    top = max(present)
    for limit, digits in ((1000.0, 0), (10.0, 2), (1.05, 3)):
        if top >= limit:
            return digits
    return 4


def number(value: float | None, digits: int | None = None) -> str:
    """A number as read by people: a thin space between thousands, a real minus sign, a dash for nothing."""
    if value is None:
        return MISSING
    digits = decimals([value]) if digits is None else digits
    # Below 1e-9 is the rounding of float64 sums, not a quantity that any metric here resolves.
    if 1e-9 < abs(value) < 0.5 * 10**-digits:
        return f"{value:.1e}".replace("-", "−")
    text = f"{value:,.{digits}f}".replace(",", "\u202f").replace("-", "−")
    return text


def compact(value: float) -> str:
    """A count in three digits: 83.6 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}\u202f{unit}" if value < 1000 * size else f"{value / size:,.0f}\u202f{unit}"
    return number(value, 0)


def sort_key(value: float) -> str:
    """A number for the page's script: ten digits sort as all of them do."""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:.10g}"


def seconds(value: float | None) -> str:
    """A duration with the unit that fits it."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value < 1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def short(text: Any, length: int = 160) -> str:
    """At most `length` characters of a text that somebody else wrote, control characters shown as spaces."""
    clean = str(text)
    if not clean.isprintable():
        clean = "".join(c if c.isprintable() else " " for c in clean)
    clean = clean.strip()
    return clean if len(clean) <= length else clean[: length - 1] + "…"


def slug(text: str, identity: str) -> str:
    """A file name for any text: letters, digits and dashes, and twelve digits that tell equal texts apart."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48].strip("-")
    is_hash = re.fullmatch(r"[0-9a-f]{12,}", identity)
    mark = (identity if is_hash else hashlib.sha256(identity.encode()).hexdigest())[:12]
    return f"{plain}-{mark}" if plain else mark


def row_ident(identity: str) -> str:
    """The id of a run's row in a table, which plots and the page's script know it by."""
    return f"r{slug('', identity)}"


def anchor(text: str) -> str:
    """A fragment name for a metric or a section."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def link(url: Any) -> str | None:
    """The address if it is a web address, else None: a card may hold anything, and `javascript:` is an address too."""
    text = str(url or "")
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    return text if parts.scheme in ("http", "https") and parts.netloc else None


@dataclass
class Notes:
    """Footnotes of one table: equal texts share a number. `prefix` keeps the anchors of a page apart."""

    prefix: str
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> int:
        text = short(text, 400)
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1
