"""What a run's records say of the machine and its user, taken out before they leave: absolute paths, user names, keys.

A path becomes its last part (`/home/alice/runs/mine.pt` is `mine.pt`), a user's name and a key become `…`. Facts that a
run's id speaks of cannot be changed: where one of them holds such a thing, the run is refused by the name of the fact.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vtbench.types.errors import VtbenchError
from vtbench.types.readable import readable
from vtbench.types.secrets import secret

GONE = "…"
BEGIN = r"(?<![\w./~\\-])(?:file:/{0,2}(?=/))?"
"""Before a path: nothing that would make it a part of a relative one, or of a URL."""
ROOTS = r"(?:(?:~[\w.-]*)?/(?![/\s])|[A-Za-z]:[\\/]+|\\\\(?=\w))"
HOMES = r"(?:/home|/Users|/var/home|[A-Za-z]:[\\/]+Users)[\\/]+"
IN_SENTENCE = re.compile(rf"{BEGIN}{ROOTS}(?:Users[\\/]+[^\\/:\n]+[\\/])?[^\s\"'<>|,;()\[\]{{}}]*")
"""A path among other words: it ends at a space, except within a Windows user's name."""
IN_WORD = re.compile(rf"{BEGIN}{ROOTS}[^,\n]*")
"""A path in a word of a command, or in a field that holds one: up to the next of a list."""
OWNER = re.compile(rf"{HOMES}([^\\/\s:\"',]+)")
ITS_OWN = frozenset(("root", "user", "users", "runner", "ubuntu", "admin", "shared", "public", "home", "vtbench"))
"""Names of accounts that are nobody's."""
SHORTEST = 3
"""Characters of a user's name that is looked for."""
KEYS = re.compile(
    r"hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}"
    r"|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|glpat-[\w-]{16,}"
    r"|(?<=://)[^/\s@]+:[^/\s@]+(?=@)"
    r"|(?i:(?<=api_key=)|(?<=api-key=)|(?<=apikey=)|(?<=token=)|(?<=password=)|(?<=secret=)|(?<=bearer ))[^\s&'\",]{8,}"
)
"""What the services of the field give out as keys, and what stands in their place in addresses and options."""
SECRET_NAMES = re.compile(r"(?i)(?:key|token|secret|password|passwd)$")
PATHS = frozenset(("spec", "checkpoint", "rescored", "tokenizer_checkpoint", "images", "suite_spec"))
"""Fields that hold a path, or a name."""
OF_OTHERS = frozenset(("item", "file", "packages", "python"))
"""Fields whose names the user did not choose, or that are looked at elsewhere: a picture may be called like anybody."""
FREE = frozenset(
    ("command", "notes", "note", "failure", "why", "why_not_ranked", "warning", "unavailable", "platform", "missing")
)
"""Fields whose words decide nothing: a user's name in them is taken out."""


class Scrubber:
    """Of one run. names: of users, beside those that this machine and the paths of the records themselves tell."""

    def __init__(self, texts: Iterable[str], names: Iterable[str] = ()) -> None:
        seen = {match[1] for text in texts for match in OWNER.finditer(text)}
        known = {name for name in (*seen, *names, *own_names()) if len(name) >= SHORTEST}
        self.names = sorted(name for name in known if name.lower() not in ITS_OWN)
        self._names = re.compile(rf"(?i)(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, self.names))})(?![A-Za-z0-9])")
        _hide_secrets()

    def record(self, value: Any, where: str, key: str = "", place: str = "") -> Any:
        """The JSON value with every text scrubbed; VtbenchError where a user's name stands in a fact. where: the file
        that it is of."""
        if isinstance(value, Mapping):
            # In a map of reasons every value is one.
            return {
                name: self.record(part, where, key if key in FREE else str(name), f"{place}.{name}".strip("."))
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [self.record(part, where, key, place) for part in value]
        if not isinstance(value, str):
            return value
        text = self.text(value, key)
        if not self.names or key in OF_OTHERS or not self._names.search(text):
            return text
        if key in FREE:
            return self._names.sub(GONE, text)
        raise VtbenchError(
            f"{where}: {place} is {text!r}, which holds a user's name ({self._names.search(text)[0]}): rename "  # type: ignore[index]
            "what it is called by, and evaluate again"
        )

    def text(self, text: str, key: str = "") -> str:
        """A text without keys and absolute paths; `key`: the field that holds it."""
        text = KEYS.sub(GONE, readable(text))
        if key == "command":
            return _command(text)
        return (IN_WORD if key in PATHS else IN_SENTENCE).sub(lambda match: last_part(match[0]), text)

    def unmoved(self, value: Any, where: str, place: str) -> None:
        """Refuses a fact that would have to be changed and must not."""
        for name, text in _texts(value, place):
            if self.text(text) != text:
                raise VtbenchError(
                    f"{where}: {name} is {self.text(text)!r} behind a path or a key, and the run's id "
                    "is made of it: give a relative name, and evaluate again"
                )


def own_names() -> list[str]:
    """What the user of this machine is called here."""
    names = [Path.home().name]
    # In a container an account may have no name.
    with contextlib.suppress(OSError, KeyError, ImportError):
        names.append(getpass.getuser())
    return [name for name in names if name]


def _hide_secrets() -> None:
    """Whatever this process's environment calls a key is written as the name of its variable from now on."""
    for variable in os.environ:
        if SECRET_NAMES.search(variable):
            secret(variable)


def last_part(path: str) -> str:
    """The name at the end of an absolute path; `…` where that is a user's folder, or the root of a disk."""
    parts = [part for part in re.split(r"[\\/]+", path) if part]
    if len(parts) < 2 or re.fullmatch(rf"(?:file:/*)?{HOMES}[^\\/]+[\\/]*", path):
        return GONE
    return parts[-1]


def _command(text: str) -> str:
    """A command line, word by word: a word may hold spaces."""
    try:
        words = shlex.split(text)
    except ValueError:
        return IN_SENTENCE.sub(lambda match: last_part(match[0]), text)
    clean = [IN_WORD.sub(lambda match: last_part(match[0]), word) for word in words]
    return text if clean == words else shlex.join(clean)


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(part, f"{place}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, place)
    elif isinstance(value, str):
        yield place, value
