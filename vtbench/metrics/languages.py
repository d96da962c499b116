"""Languages of written text: which of EasyOCR's readers reads which, and what a reader cannot read.

A suite, a set of prompts or a single image states its language as a BCP 47 tag (`de`, `zh-Hant`) or in EasyOCR's own
codes (`ch_tra`); where none is stated, it is English. Names, files and languages of the readers are those of EasyOCR
1.7.2 (easyocr/config.py), whose own choice by language this is: its second generation where there is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vtbench.types.errors import Unavailable

ENGLISH = "en"


@dataclass(frozen=True)
class ReadingModel:
    """A recognizer of EasyOCR. name: its key in EasyOCR's config; scripts: in the words of Item.meta["script"]."""

    name: str
    generation: int
    codes: tuple[str, ...]
    scripts: frozenset[str]

    @property
    def weights(self) -> str:
        """The name of its file in the table of metric weights."""
        return f"easyocr-{self.name.replace('_', '-')}"


def _model(name: str, codes: str, *scripts: str) -> ReadingModel:
    # All of them write Latin letters too.
    return ReadingModel(name, 1 if name.endswith("_g1") else 2, tuple(codes.split()), frozenset({"latin", *scripts}))


_LATIN = (
    "af az bs cs cy da de es et fr ga hr hu id is it ku la lt lv mi ms mt nl no oc pi pl pt ro rs_latin sk sl sq sv sw "
    "tl tr uz vi"
)
_CYRILLIC = "ru rs_cyrillic be bg uk mn abq ady kbd ava dar inh che lbe lez tab tjk"
MODELS = (
    _model("english_g2", ENGLISH),
    _model("latin_g2", _LATIN),
    _model("cyrillic_g2", _CYRILLIC, "cyrillic"),
    _model("zh_sim_g2", "ch_sim", "han"),
    _model("zh_tra_g1", "ch_tra", "han"),
    _model("japanese_g2", "ja", "han", "hiragana", "katakana"),
    _model("korean_g2", "ko", "hangul"),
    _model("thai_g1", "th", "thai"),
    _model("tamil_g1", "ta", "tamil"),
    _model("telugu_g2", "te", "telugu"),
    _model("kannada_g2", "kn", "kannada"),
    _model("devanagari_g1", "hi mr ne bh mai ang bho mah sck new gom", "devanagari"),
    _model("bengali_g1", "bn as", "bengali"),
    _model("arabic_g1", "ar fa ug ur", "arabic"),
)
_BY_CODE = {code: model for model in MODELS for code in model.codes}
_RIGHT_TO_LEFT = frozenset({"arabic"})

_TAGS = {
    **dict.fromkeys(("zh", "zh-hans", "zh-cn", "zh-sg", "cmn", "cmn-hans"), "ch_sim"),
    **dict.fromkeys(("zh-hant", "zh-tw", "zh-hk", "zh-mo", "yue", "yue-hant", "cmn-hant"), "ch_tra"),
    **dict.fromkeys(("sr", "sr-cyrl"), "rs_cyrillic"),
    **{"sr-latn": "rs_latin", "nb": "no", "nn": "no", "fil": "tl", "uz-latn": "uz", "az-latn": "az"},
}
"""Tags that EasyOCR calls otherwise."""
_WORDS = {
    "LATIN": "latin",
    "CJK": "han",
    **{
        name.upper(): name
        for name in (
            *("hiragana", "katakana", "hangul", "bopomofo", "thai", "lao", "khmer", "tibetan", "cyrillic", "greek"),
            *("arabic", "hebrew", "syriac", "devanagari", "bengali", "tamil", "telugu", "kannada", "malayalam"),
            *("gujarati", "gurmukhi", "oriya", "sinhala", "georgian", "armenian", "ethiopic", "mongolian"),
        )
    },
    "MYANMAR": "burmese",
}
"""The first word of a letter's Unicode name -> its script."""


def language_of(meta: Mapping[str, Any]) -> str:
    """The language that an item's or a prompt's metadata state; English where they state none."""
    return str(meta.get("language") or ENGLISH)


def reading_model(language: str) -> tuple[ReadingModel, str]:
    """EasyOCR's reader of a language, and its code of the language. Raises Unavailable where it has none."""
    tag = language.strip().lower()
    parts = re.split(r"[-_]", tag)
    tried = [tag, *("-".join(parts[:n]) for n in range(len(parts), 0, -1))]
    code = next((c for c in (_TAGS.get(t, t) for t in tried) if c in _BY_CODE), None)
    if code is None:
        raise Unavailable(
            f"EasyOCR has no reader of the language {language!r}: state one of {', '.join(sorted(_BY_CODE))}, or a tag "
            "such as zh-Hant"
        )
    return _BY_CODE[code], code


def script_of(meta: Mapping[str, Any]) -> str:
    """The script that an item's metadata state, else that of their language, else latin."""
    if meta.get("script") is not None:
        return str(meta["script"])
    try:
        scripts = reading_model(language_of(meta))[0].scripts - {"latin"}
    except Unavailable:
        return "latin"
    return min(scripts, default="latin")


def right_to_left(model: ReadingModel) -> bool:
    return bool(model.scripts & _RIGHT_TO_LEFT)


def scripts_in(text: str) -> frozenset[str]:
    """The scripts of a text's letters, as far as they are known here."""
    names = (unicodedata.name(c, "").partition(" ")[0].partition("-")[0] for c in text if c.isalpha())
    return frozenset(_WORDS[name] for name in names if name in _WORDS)


def unreadable(text: str, scripts: frozenset[str]) -> str | None:
    """Why a reader of `scripts` cannot read a text: it holds letters that the reader never writes. None if it can.

    Single Greek letters among Latin ones are signs, such as those of units.
    """
    present = scripts_in(text)
    foreign = present - scripts - ({"greek"} if "latin" in present else set())
    if not foreign:
        return None
    return (
        f"the reader knows {', '.join(sorted(scripts))}, and this text is {', '.join(sorted(foreign))}: state the "
        'text\'s "language" in its metadata'
    )
