"""Prompt suites: what generators are asked for, as manifests with an id, a text or label, and what a scorer needs.

A manifest is JSONL: a header {"prompts", "version", "title", "licence"}, then one prompt a line
{"id", "text" | "label", "rewritten"?, "metadata"?}. A header's "language" is that of the text that the images should
hold, unless a prompt's metadata state another; metadata's "quote" is that text itself. GenEval's own file (one {"tag",
"include", "prompt", …} a line, djghosh13/geneval prompts/evaluation_metadata.jsonl) is read as it is. `classes:1000` or
`classes:0-9` are class labels.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vtbench.images import web
from vtbench.images.jsonl import numbered_objects
from vtbench.images.limits import read_regular
from vtbench.images.manifests import licence_of
from vtbench.results.cache_files import write_cache
from vtbench.types.adapter import Prompt
from vtbench.types.environment import cache_dir, offline, package_folder
from vtbench.types.errors import Unavailable, VtbenchError, near
from vtbench.types.foreign import cause
from vtbench.types.shortage import refuse_shortage

FOLDER = package_folder("vtbench.tasks.prompts")
GENEVAL_URL = "https://raw.githubusercontent.com/djghosh13/geneval/main/prompts/evaluation_metadata.jsonl"
GENEVAL_PROMPTS = 553
MOST_CLASSES = 100_000
"""Of one range: more than any data set of images has."""
GENEVAL_LARGEST = 10_000_000
"""Bytes that are read at most."""


@dataclass(frozen=True)
class PromptSuite:
    """Prompts with a name, a licence and the sha256 of all that decides an image."""

    name: str
    prompts: tuple[Prompt, ...]
    licence: str | None = None
    version: str = "1"

    @property
    def hash(self) -> str:
        digest = hashlib.sha256()
        for p in self.prompts:
            line = [p.id, p.text, p.label, p.rewritten, dict(p.metadata)]
            digest.update((json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n").encode())
        return digest.hexdigest()

    @property
    def conditioning(self) -> str:
        """`text` or `class`; a suite is never both."""
        return "text" if self.prompts[0].text is not None else "class"


def builtin_prompts() -> list[str]:
    """Names of the prompt suites that vtbench carries."""
    return sorted(p.stem for p in FOLDER.glob("*.jsonl"))


def open_prompts(spec: str, *, rewritten: bool = False) -> PromptSuite:
    """A built-in suite, `geneval`, `classes:N`, `classes:A-B`, or a path to a manifest (ours or GenEval's).

    rewritten: the caller's pipeline rewrites prompts before it draws; every prompt is marked so.
    """
    suite = _open(spec)
    if rewritten:
        suite = replace(suite, prompts=tuple(replace(p, rewritten=True) for p in suite.prompts))
    return suite


def _open(spec: str) -> PromptSuite:
    if spec.startswith("classes:"):
        return _classes(spec)
    if spec == "geneval":
        return _parsed(_geneval(), GENEVAL_URL, "geneval")
    path = FOLDER / f"{spec}.jsonl"
    if "/" not in spec and path.is_file():
        return _read(path, spec)
    path = Path(spec).expanduser()
    if path.is_file():
        return _read(path, path.stem)
    names = [*builtin_prompts(), "geneval"]
    raise VtbenchError(
        f"there is no prompt suite {spec!r}{near(spec, names)}: give {', '.join(names)}, classes:N, or a .jsonl file"
    )


def _classes(spec: str) -> PromptSuite:
    match = re.fullmatch(r"classes:(?:(\d{1,9})-)?(\d{1,9})", spec)
    if not match:
        raise VtbenchError(f"{spec!r} is no range of class labels: give classes:1000 (0 to 999) or classes:0-9")
    first, last = (int(match[1]), int(match[2])) if match[1] is not None else (0, int(match[2]) - 1)
    if last - first >= MOST_CLASSES:
        raise VtbenchError(f"{spec!r} holds more than {MOST_CLASSES} classes: give classes:1000 (0 to 999)")
    if last < first:
        raise VtbenchError(f"{spec!r} holds no class: give classes:1000 (0 to 999) or classes:0-9")
    return PromptSuite(spec, tuple(Prompt(f"class-{k:04d}", label=k) for k in range(first, last + 1)))


def _geneval() -> str:
    """The reference's prompts: fetched once from their official place, never part of vtbench."""
    path = cache_dir() / "prompts" / "geneval.jsonl"
    # Counted again: a file that was cut in the cache is fetched anew.
    if _is_file(path) and _count(text := _text(path)) == GENEVAL_PROMPTS:
        return text
    if offline():
        raise Unavailable(
            f"GenEval's prompts are not here and VTBENCH_OFFLINE forbids the network: fetch {GENEVAL_URL} "
            "and give its path as --suite"
        )
    try:
        data = web.fetch(web.Question(GENEVAL_URL), seconds=60, most=GENEVAL_LARGEST)
        text = data.decode()
    except (web.Refused, UnicodeDecodeError) as bad:
        raise Unavailable(
            f"GenEval's prompts could not be fetched ({bad}): get {GENEVAL_URL} and give its path as --suite"
        ) from bad
    if _count(text) != GENEVAL_PROMPTS:
        raise VtbenchError(
            f"{GENEVAL_URL} holds {_count(text)} prompts, wanted {GENEVAL_PROMPTS}: give a path as --suite"
        )
    write_cache(path, [data])
    return text


def _is_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def _count(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def _text(path: Path) -> str:
    try:
        return read_regular(path, str(path)).decode()
    except (OSError, UnicodeDecodeError) as bad:
        refuse_shortage(bad, path)
        raise VtbenchError(f"{path} cannot be read as prompts ({cause(bad)}): give a JSONL file") from bad


def _read(path: Path, name: str) -> PromptSuite:
    return _parsed(_text(path), str(path), name)


def _parsed(text: str, path: str, name: str) -> PromptSuite:
    head: dict[str, Any] = {}
    prompts: list[Prompt] = []
    for number, entry in numbered_objects(text, path, "one prompt, a JSON object, a line"):
        if "prompts" in entry and not prompts and not head:
            head = entry
            continue
        prompts.append(_prompt(entry, len(prompts), f"{path} line {number}", _language(head, path)))
    return PromptSuite(name, checked(prompts, path), licence_of(head, path), str(head.get("version", "1")))


def _language(head: Mapping[str, Any], path: str) -> dict[str, Any]:
    """What a header states of the language of every prompt's text."""
    language = head.get("language")
    if language is not None and not (isinstance(language, str) and language.strip()):
        raise VtbenchError(f"{path} states the language {language!r}: give a tag such as en, de or zh-Hant")
    return {} if language is None else {"language": language}


def _prompt(entry: Mapping[str, Any], index: int, where: str, of_all: Mapping[str, Any]) -> Prompt:
    """of_all: metadata that the header states of every prompt."""
    if "tag" in entry and "prompt" in entry and "id" not in entry:
        # The reference's own format; its folders are numbered by line from 00000.
        if not isinstance(entry["prompt"], str) or not entry["prompt"].strip():
            raise VtbenchError(f"{where}: the prompt is empty")
        return Prompt(f"{index:05d}", text=entry["prompt"], metadata=dict(entry))
    identifier, text, label = entry.get("id"), entry.get("text"), entry.get("label")
    if not isinstance(identifier, str) or not re.fullmatch(r"[A-Za-z0-9][\w.\-]{0,99}", identifier):
        raise VtbenchError(f"{where}: the id is {identifier!r}; wanted letters, digits, '-', '_' and '.'")
    if (text is None) == (label is None):
        raise VtbenchError(f"{where}: prompt {identifier} needs either a text or a label")
    if text is not None and (not isinstance(text, str) or not text.strip()):
        raise VtbenchError(f"{where}: the text of prompt {identifier} is empty")
    if label is not None and (not isinstance(label, int) or isinstance(label, bool) or label < 0):
        raise VtbenchError(f"{where}: the label of prompt {identifier} is {label!r}; wanted a whole number from 0")
    metadata = entry.get("metadata", {})
    if not isinstance(metadata, dict):
        raise VtbenchError(f"{where}: the metadata of prompt {identifier} is no object")
    return Prompt(identifier, text, label, bool(entry.get("rewritten", False)), {**of_all, **metadata})


def checked(prompts: Sequence[Prompt], where: str) -> tuple[Prompt, ...]:
    """The prompts, unless there are none, two of one id, or texts beside labels."""
    if not prompts:
        raise VtbenchError(f"{where} holds no prompt: one JSON object a line")
    seen: set[str] = set()
    for p in prompts:
        if p.id in seen:
            raise VtbenchError(f"{where} has the prompt {p.id!r} twice: every id must be its own")
        seen.add(p.id)
    if len({p.text is None for p in prompts}) > 1:
        raise VtbenchError(f"{where} mixes texts and labels: give them in two files")
    return tuple(prompts)


def manifest(name: str, title: str, licence: str, prompts: Iterable[Prompt]) -> str:
    """The JSONL of a suite of ours."""
    lines: list[dict[str, Any]] = [{"prompts": name, "version": "1", "title": title, "licence": licence}]
    for prompt in prompts:
        line: dict[str, Any] = {"id": prompt.id}
        line |= {"text": prompt.text} if prompt.text is not None else {"label": prompt.label}
        if prompt.rewritten:
            line["rewritten"] = True
        if prompt.metadata:
            line["metadata"] = dict(prompt.metadata)
        lines.append(line)
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
