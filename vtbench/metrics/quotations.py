"""What a prompt quotes: the strings between its quotation marks, or why they cannot be told for certain.

Quotation marks are read in every form that prompts use: straight and curly, single and double, angular, German,
Swedish, Chinese and Japanese ones, backticks, and marks that were escaped. What looks like a mark and is none is left
alone: apostrophes (don't, the dogs' bowl, rock 'n' roll, '90s), and feet and inches (12", 5'10"). A mark inside a
quotation belongs to it.

A wrong truth would be a wrong number, so that whatever can be read in two ways is not read at all: a mark without its
partner, a quotation that may end at one of two marks, a string that is quoted twice and may be meant once, words in
single marks beside words in double ones (a 'vintage' sign that says "OPEN").
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vtbench.metrics._strings import normalise, unsegmented, visible

NO_QUOTE = "the prompt quotes no string"
_REMEDY = "state the string as the prompt's metadata.quote"

_CLOSERS = {
    "\N{LEFT DOUBLE QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{LEFT SINGLE QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{DOUBLE LOW-9 QUOTATION MARK}": '\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"',
    "\N{SINGLE LOW-9 QUOTATION MARK}": "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}'",
    "\N{DOUBLE HIGH-REVERSED-9 QUOTATION MARK}": "\N{RIGHT DOUBLE QUOTATION MARK}",
    "\N{SINGLE HIGH-REVERSED-9 QUOTATION MARK}": "\N{RIGHT SINGLE QUOTATION MARK}",
    "«": "»",
    "»": "«»",
    "‹": "›",
    "›": "‹›",
    "「": "」",
    "『": "』",
    "﹁": "﹂",
    "﹃": "﹄",
    "｢": "｣",
    "《": "》",
    "〈": "〉",
    "〝": "〞〟",
    "❝": "❞",
    "❛": "❜",
}
"""Opening marks that do not look like their closing ones. Guillemets are used both ways round."""
_ALIKE = "\"'´\N{RIGHT DOUBLE QUOTATION MARK}\N{FULLWIDTH QUOTATION MARK}\N{FULLWIDTH APOSTROPHE}"
"""Marks that open and close alike, as do runs of backticks and two apostrophes."""
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}\N{FULLWIDTH APOSTROPHE}"
_INSIDE = f"{_APOSTROPHES}\N{LEFT SINGLE QUOTATION MARK}`´"
"""What stands for an apostrophe between two letters."""
_SINGLE = f"{_APOSTROPHES}\N{LEFT SINGLE QUOTATION MARK}\N{SINGLE LOW-9 QUOTATION MARK}´❛"
"""Marks that set words apart as often as they quote them."""
_MEASURES = ("'", '"', "''", "\N{RIGHT SINGLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}")
"""Marks that are feet or inches behind a number."""
_EVERY = "".join({*_ALIKE, *_APOSTROPHES, *_CLOSERS, *"".join(_CLOSERS.values())})
_MARK = re.compile(rf"(?<!\\)(\\*)(`+|''|[{re.escape(_EVERY)}])")
_BACKSLASHES, _MORE = re.compile(r"\\*"), re.compile(r"\s+\w")
_ELISION = re.compile(r"\d\ds?\b|(?:n|til|till|em|twas|tis|cause|cuz|bout|round|neath|tude|nuff|ello)\b", re.IGNORECASE)
"""Words that begin with an apostrophe."""
_AND = re.compile(rf"(?<=\w )[{_INSIDE}]n[{_INSIDE}](?= \w)", re.IGNORECASE)
"""rock 'n' roll."""
_PLAIN = set(string.ascii_letters) - set("sSxXzZ")
"""Letters behind which an apostrophe is rare: it is no genitive there."""
_HEBREW = re.compile("[\u05d0-\u05ea]")
"""Letters between which a straight mark is part of an abbreviation."""


_ENTITY = re.compile(
    r"&(?:quot|apos|[lr][sd]quo|[sb]dquo|[lr]aquo|[lr]saquo|#(?:34|39|171|187|x2[27]|xab|xbb|82[12]\d|x201[89a-f]));",
    re.I,
)
"""Quotation marks as HTML writes them, and as JSON escapes them."""
_CODE = re.compile(r"\\+u(00(?:22|27|ab|bb)|20(?:1[89a-f]|39|3a)|30(?:0[c-f]|1[d-f]))", re.I)
_DOUBLED = re.compile(r'(?<!["\w])("{2,3})(?=[^"\s])([^"]+)(?<=[^"\s])\1(?!["\w])')
"""Marks that a table or a program has doubled: ""OPEN\""."""


class Unclear(Exception):
    """Why the quotations of a prompt cannot be told for certain."""


@dataclass(frozen=True)
class Quotation:
    """The normalised string that an image should hold, "" with `why` where there is none."""

    text: str
    why: str | None = None


def quotation(meta: Mapping[str, object] | None) -> Quotation:
    """meta["quote"] (a string, or several in a list), else what meta["prompt"] quotes; several joined by spaces, in
    the order of the prompt."""
    stated = (meta or {}).get("quote")
    if stated is not None:
        several = stated if isinstance(stated, list | tuple) else [stated]
        if not all(isinstance(s, str | int | float) and s is not True and s is not False for s in several):
            return Quotation("", f"metadata.quote is a {type(stated).__name__}: wanted a string, or several in a list")
        text = normalise(" ".join(map(str, several)))
        return Quotation(text, None if text else "metadata.quote holds nothing that can be seen")
    try:
        strings = [normalise(s) for s in quoted(str((meta or {}).get("prompt") or ""))]
    except Unclear as why:
        return Quotation("", f"{why}: {_REMEDY}")
    if not strings:
        return Quotation("", NO_QUOTE)
    if not all(strings):
        return Quotation("", f"the prompt quotes a string in which nothing can be seen: {_REMEDY}")
    if len(set(strings)) < len(strings):
        again = next(s for s in strings if strings.count(s) > 1)
        return Quotation("", f"the prompt quotes {_short(again)} more than once, and may mean it once: {_REMEDY}")
    return Quotation(normalise(" ".join(strings)))


def quoted(prompt: str) -> list[str]:
    """The quoted strings, as they stand, in order. Raises Unclear where the marks can be read in two ways or none."""
    prompt = _as_meant(visible(prompt).strip())
    marks = _marks(prompt)
    out: list[str] = []
    stray: list[_Mark] = []
    opened: list[_Mark] = []
    here = 0
    while here < len(marks):
        mark = marks[here]
        end = _end(prompt, marks, here)
        if end is None:
            # The dogs' bowl, or the end of a quotation that was never opened: which it is tells the rest of the prompt.
            stray += [mark] if mark.apostrophe and mark.closes and mark.before in _PLAIN else []
            here += 1
            continue
        inside = prompt[mark.end : marks[end].start]
        if mark.start == 0 and marks[end].end == len(prompt) and len(_marks(inside)) > 1:
            raise Unclear("the whole prompt stands in quotation marks, and there are further ones in it")
        # Marks that were escaped inside marks that were not are part of the string.
        out.append(inside if mark.escaped else re.sub(r"\\+([\"'`])", r"\1", inside))
        opened.append(mark)
        here = end + 1
    single = [mark.sign in _SINGLE or mark.sign == "`" for mark in opened]
    if any(single) and not all(single):
        raise Unclear("the prompt quotes in single and in double marks, and may mean only the one to be written")
    if stray and any(mark.apostrophe for mark in opened):
        raise Unclear(f"the prompt holds the mark {stray[0].sign} without its partner ({_around(prompt, stray[0])})")
    return out


def _as_meant(prompt: str) -> str:
    """The prompt with the marks that a page, a table or a program wrote in its own way."""
    plain = _ENTITY.sub(lambda m: html.unescape(m[0]), prompt)
    plain = _CODE.sub(lambda m: chr(int(m[1], 16)), plain)
    return _DOUBLED.sub(r'"\2"', plain)


@dataclass(frozen=True)
class _Mark:
    """A mark from `start` (where its backslashes begin) to `end`, and the characters beside it."""

    sign: str
    start: int
    end: int
    escaped: bool
    before: str
    after: str

    @property
    def opens(self) -> bool:
        """As it stands: text follows, and no word ends here."""
        return bool(self.after.strip()) and not _word(self.before)

    @property
    def closes(self) -> bool:
        """As it stands: text ends here, and no word begins."""
        return bool(self.before.strip()) and not _word(self.after)

    @property
    def apostrophe(self) -> bool:
        return self.sign in _APOSTROPHES


def _word(character: str) -> bool:
    """A letter or digit of a script that writes spaces between its words."""
    return character.isalnum() and not unsegmented(character)


def _marks(prompt: str) -> list[_Mark]:
    """Every mark, without apostrophes inside words."""
    elided = {place for m in _AND.finditer(prompt) for place in range(*m.span())}
    out = []
    for m in _MARK.finditer(prompt):
        behind = _BACKSLASHES.match(prompt, m.end())
        after = prompt[behind.end() : behind.end() + 1] if behind else ""
        mark = _Mark(m[2], m.start(), m.end(), bool(m[1]), prompt[max(0, m.start() - 1) : m.start()], after)
        inner = mark.sign in _INSIDE and _word(mark.before) and _word(mark.after)
        inner = inner or all(map(_HEBREW.match, (mark.before, mark.after)))
        if not inner and m.start(2) not in elided:
            out.append(mark)
    return out


def _end(prompt: str, marks: Sequence[_Mark], here: int) -> int | None:
    """The mark that closes the one at `here`, which stands outside every quotation; None if that is an apostrophe, or
    feet or inches. Raises Unclear."""
    mark, around = marks[here], _around(prompt, marks[here])
    if mark.sign in _CLOSERS:
        candidates = _partners(prompt, marks, here)
    else:
        before = prompt[max(0, mark.start - 4) : mark.start].rstrip()
        if mark.sign in _MEASURES and before[-1:].isnumeric() and not mark.opens:
            return None
        if mark.sign == "\N{RIGHT SINGLE QUOTATION MARK}":
            # It opens in Swedish only, where it cannot be told from an apostrophe: unless it stands before a word, and
            # one behind a word follows.
            if mark.opens and not _ELISION.match(prompt, mark.end) and _likenesses(prompt, marks, here):
                raise Unclear(f"the prompt may quote between two {mark.sign}, or hold two apostrophes ({around})")
            return None
        if mark.apostrophe and mark.closes and mark.before.isalpha() and not mark.opens:
            return None
        if (mark.sign not in _ALIKE and mark.sign[0] not in "`'") or (mark.closes and not mark.opens):
            raise Unclear(f"the prompt holds the mark {mark.sign} without its partner ({around})")
        candidates = _likenesses(prompt, marks, here)
    weak = [c for c in candidates if _weak(prompt, marks[c])]
    elided = mark.sign in _INSIDE and _ELISION.match(prompt, mark.end) is not None
    if elided and (not candidates or candidates[0] in weak):
        return None
    if not candidates:
        raise Unclear(f"the prompt opens {mark.sign[:3]} and never closes it ({around})")
    if candidates[0] in weak and len(candidates) > 1:
        one, other = (_short(prompt[mark.end : marks[c].start]) for c in candidates[:2])
        raise Unclear(f"the prompt quotes {one} or {other}, which its marks do not tell")
    return candidates[0]


def _around(prompt: str, mark: _Mark) -> str:
    """The mark and what stands beside it, short."""
    return repr(prompt[max(0, mark.start - 12) : mark.start + 12])


def _short(text: str) -> str:
    """For a sentence."""
    return repr(text if len(text) <= 40 else f"{text[:39]}…")


def _weak(prompt: str, mark: _Mark) -> bool:
    """Whether what may close here may be an apostrophe, or feet or inches, instead: more text follows."""
    measure = mark.sign in _MEASURES and mark.before.isnumeric()
    apostrophe = mark.apostrophe and mark.before in ("s", "S")
    return (measure or apostrophe) and _MORE.match(prompt, mark.end) is not None


def _likenesses(prompt: str, marks: Sequence[_Mark], here: int) -> list[int]:
    """Where a quotation may end whose marks open and close alike: up to the next mark that can only open another."""
    first, out = marks[here], []
    for number in range(here + 1, len(marks)):
        mark = marks[number]
        same = mark.sign == first.sign or (first.sign == "``" and mark.sign == "''")
        if not same or mark.escaped != first.escaped:
            continue
        if mark.opens and not mark.closes:
            if mark.sign in _INSIDE and _ELISION.match(prompt, mark.end):
                continue
            break
        out.append(number)
        # " so ": the first that opens nothing. Between letters, or signs, the next may belong to another quotation.
        if not first.after.strip() or mark.opens or not mark.closes:
            break
    return out


def _partners(prompt: str, marks: Sequence[_Mark], here: int) -> list[int]:
    """Where a quotation may end whose marks differ; opening marks of its kind inside it are counted."""
    closers, depth, out = _CLOSERS[marks[here].sign], 1, list[int]()
    for number in range(here + 1, len(marks)):
        mark = marks[number]
        if mark.sign not in closers:
            depth += mark.sign == marks[here].sign
        elif _weak(prompt, mark):
            out.append(number)
        else:
            depth -= 1
            if depth == 0:
                return [*out, number]
    return out if depth == 1 else []
