"""Languages of text: EasyOCR's own choice of reader, null where it has none or its file is not here; what cannot be
seen, by Unicode's own property."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import regex
import torch
from PIL import Image

from vtbench import registry
from vtbench.images.manifests import open_manifest
from vtbench.images.prompts import open_prompts
from vtbench.images.reading import rgb_sha256
from vtbench.metrics import _strings, ocr, weights
from vtbench.metrics.languages import MODELS, reading_model, unreadable
from vtbench.types.errors import Unavailable, VtbenchError
from vtbench.types.item import Item
from vtbench.types.metric import Batch, Reference

PLACES = weights.places


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTBENCH_CACHE", str(tmp_path / "cache"))


def test_what_unicode_lets_be_ignored_is_not_seen() -> None:
    """Every code point of the planes that are in use, by the property of another library's tables."""
    ignorable = regex.compile(r"\p{Default_Ignorable_Code_Point}")
    for number in (*range(0x32000), *range(0xE0000, 0xE1100)):
        character = chr(number)
        if ignorable.fullmatch(character):
            assert _strings.normalise(f"a{character}b") == "ab", hex(number)
        elif unicodedata.category(character)[0] in "LNPS" and character not in "\u2800\N{IDEOGRAPHIC SPACE}":
            assert _strings.visible(character) == character, hex(number)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("Hello\u200b World", "Hello World"),
        ("soft\u00adware\ufeff \u202eWorld\u202c", "software World"),
        ("I \u2764\ufe0f NY", "I \u2764 NY"),
        ("e\u200d\u0301", "é"),
        ("می\u200cخواهم", "میخواهم"),
        ("a\u2800b\u00a0\u3000c", "a b c"),
        ("你好 世界", "你好世界"),
        ("你好 OPEN", "你好 OPEN"),
        ("สวัสดี ครับ", "สวัสดี ครับ"),
    ],
)
def test_what_can_be_seen(text: str, seen: str) -> None:
    assert _strings.normalise(text) == unicodedata.normalize("NFKC", seen)
    assert _strings.normalise(_strings.normalise(text)) == _strings.normalise(text)


def test_readers_are_easyocrs_own() -> None:
    """Names, languages, files, md5s and addresses against the installed package's config."""
    from easyocr import config

    characters = Path(str(sys.modules["easyocr"].__file__)).parent / "character"
    for model in MODELS:
        facts = config.recognition_models[f"gen{model.generation}"][model.name]
        file = weights.TABLE[model.weights]
        assert file.file == facts["filename"]
        if model.name != "english_g2":
            assert (file.md5, file.url) == (facts["md5sum"], facts["url"])
        assert set(model.codes) <= set(config.all_lang_list)
        assert all((characters / f"{code}_char.txt").is_file() for code in model.codes)
    known = {code for model in MODELS for code in model.codes}
    assert set(config.all_lang_list) - known == {"sa", "bgc", "mni"}  # without a list of characters in the package


@pytest.mark.parametrize(
    ("tag", "name", "code"),
    [
        ("en-GB", "english_g2", "en"),
        ("de", "latin_g2", "de"),
        ("pt_BR", "latin_g2", "pt"),
        ("zh", "zh_sim_g2", "ch_sim"),
        ("zh-Hant-TW", "zh_tra_g1", "ch_tra"),
        ("ch_tra", "zh_tra_g1", "ch_tra"),
        ("JA", "japanese_g2", "ja"),
        ("sr-Latn", "latin_g2", "rs_latin"),
        ("nb", "latin_g2", "no"),
        ("uk", "cyrillic_g2", "uk"),
        ("fa-IR", "arabic_g1", "fa"),
    ],
)
def test_tags(tag: str, name: str, code: str) -> None:
    assert (reading_model(tag)[0].name, reading_model(tag)[1]) == (name, code)


def test_a_language_without_a_reader() -> None:
    for tag in ("el", "he", "xx", "zz-Latn"):
        with pytest.raises(Unavailable, match="no reader of the language"):
            reading_model(tag)


def test_what_a_reader_never_writes() -> None:
    assert unreadable("Café 5 µm, 3 kΩ!", frozenset({"latin"})) is None
    assert "this text is cyrillic" in str(unreadable("Privet, мир", frozenset({"latin"})))
    assert "this text is greek" in str(unreadable("Γειά", frozenset({"latin"})))
    assert unreadable("営業中 OPEN オープン", reading_model("ja")[0].scripts) is None


def page(text: str, **meta: Any) -> Batch:
    """A blank page whose one line is said to hold the text."""
    pixels = np.full((40, 200, 3), 255, np.uint8)
    item = Item("p", "p", None, rgb_sha256(pixels), {"lines": [{"text": text, "box": [0, 0, 200, 40]}], **meta})
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    return Batch(Reference(images, [item], [rgb_sha256(pixels)]), images)


@pytest.mark.parametrize(
    ("text", "meta", "why"),
    [
        ("营业中", {"language": "zh"}, "zh_sim_g2.pth (md5 b601"),
        ("Grüße", {"language": "de"}, "latin_g2.pth (md5 4698"),
        ("营业中", {}, "this text is han"),
        ("營業中", {"script": "han"}, "this text is han"),
        ("Γειά", {"language": "el"}, "EasyOCR has no reader of the language 'el'"),
    ],
)
def test_null_where_nobody_reads_it(text: str, meta: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "places", lambda entry: iter(()) if entry.reads else PLACES(entry))
    for name in ("cer", "wer"):
        metric = registry.metric(name)
        metric.load()
        value = metric.measure(page(text, **meta))[0]
        assert value.value is None
        assert why in str(value.why)


def test_the_reader_of_the_language_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random network in latin_g2's shape under its name: German asks for it, English does not."""
    from easyocr import config
    from easyocr.model.vgg_model import Model

    facts = config.recognition_models["gen2"]["latin_g2"]
    torch.manual_seed(0)
    network = Model(1, 256, 256, len(facts["characters"]) + 1)
    file = tmp_path / "cache" / "metrics" / "latin_g2.pth"
    file.parent.mkdir(parents=True)
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, file)
    metric = registry.metric("cer")
    metric.load()
    # Another file than the released one is refused by its hash.
    assert "wanted md5 4698" in str(metric.measure(page("Grüße", language="de"))[0].why)
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setitem(facts, "md5sum", md5)
    name = "easyocr-latin-g2"
    monkeypatch.setitem(weights.TABLE, name, dataclasses.replace(weights.TABLE[name], md5=md5))
    assert metric.measure(page("Grüße", language="de"))[0].value is not None
    german = ocr.engine("easyocr", "cpu", "de")
    assert name in german.id
    assert german.id.endswith("/de")
    assert german.of_language("en") is ocr.engine("easyocr")
    assert name not in ocr.engine("easyocr").id
    ocr._loaded.cache_clear()


@pytest.mark.parametrize("name", ["wer", "word-accuracy"])
def test_no_words_without_spaces(name: str) -> None:
    """By what stands there, or by the language that is stated, were it only Latin letters that were drawn."""
    cases = (
        ("สวัสดี ครับ", "th", "thai"),
        ("营业中", "th", "thai"),
        ("OPEN now", "th", "thai"),
        ("营业中", "en", "this text"),
    )
    for text, language, what in cases:
        metric = registry.metric(name)
        metric._reader = _Any()
        value = metric.measure(page(text, language=language))[0]
        assert value.value is None
        assert str(value.why).startswith(f"{what} is written without spaces")


class _Any(ocr.Engine):
    name, scripts, id = "any", frozenset({"latin", "han", "thai"}), "any-1"

    def load(self, device: str) -> None: ...

    def lines(self, image: Any, boxes: Any) -> list[str]:
        return ["x" for _ in boxes]


def test_rows_from_the_right() -> None:
    boxes = [((0, 0, 10, 10), "a"), ((20, 0, 30, 10), "b"), ((0, 20, 10, 30), "c")]
    assert [t for _, t in ocr.reading_order(boxes)] == ["a", "b", "c"]
    assert [t for _, t in ocr.reading_order(boxes, right_to_left=True)] == ["b", "a", "c"]


def test_a_header_states_the_language_of_all(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    lines = [
        {"item": n, "file": "a.png", "sha256_file": digest, "meta": m}
        for n, m in (("a", {}), ("b", {"language": "ja"}))
    ]
    suite = tmp_path / "suite.jsonl"

    def write(head: dict[str, Any], rest: list[dict[str, Any]]) -> Path:
        suite.write_text("".join(json.dumps(line) + "\n" for line in (head, *rest)))
        return suite

    items = open_manifest(write({"suite": "s", "language": "zh"}, lines)).items
    assert [i.meta["language"] for i in items] == ["zh", "ja"]
    asked = [{"id": "a", "text": "x"}, {"id": "b", "text": "y", "metadata": {"language": "ja"}}]
    prompts = open_prompts(str(write({"prompts": "p", "language": "zh"}, asked))).prompts
    assert [p.metadata["language"] for p in prompts] == ["zh", "ja"]
    with pytest.raises(VtbenchError, match=r"states the language \['zh'\]"):
        open_manifest(write({"suite": "s", "language": ["zh"]}, lines))
    with pytest.raises(VtbenchError, match="states the language ''"):
        open_prompts(str(write({"prompts": "p", "language": ""}, asked)))
