"""Every command on every page of docs/, in blocks and in sentences, is one that can be given; `cli/test_readme.py` runs
README's, the tutorial's among them, and `test_contributing.py` the recipes."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, parsed

PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
LAUNCHERS = ("torchrun", "srun")
"""What starts a command of ours many times: its own words are not ours to check."""
OTHERS = ("ray start", "ray stop", "git clone", "git add", "git commit", "pre-commit install", "cp ", "hf upload")
"""Commands of other programs."""
BLOCK = re.compile(r"^```(?:sh|console)\b[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`((?:vtbench|python|make|pip) [^`]+)`(?!`)")


def commands_of(path: Path) -> Iterator[tuple[str, bool]]:
    """(command, does a sentence name it?) of a page; of a recorded session what was typed."""
    text = path.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        console = block[0].startswith("```console")
        for line in block[1].replace("\\\n", " ").splitlines():
            if line.startswith("$ ") or (not console and line.strip()):
                yield line.removeprefix("$ ").split(" #")[0].strip(), False
    for span in SPAN.finditer(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield " ".join(span[1].split()), True


COMMANDS = sorted({(path.name, command, said) for path in PAGES for command, said in commands_of(path)})


@pytest.mark.parametrize(("page", "command", "said"), COMMANDS)
def test_a_command_can_be_given(page: str, command: str, said: bool) -> None:
    words = shlex.split(re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command).split(" > ")[0])
    if words[0] in LAUNCHERS:
        words = words[words.index("vtbench") :]
    if words[0] == "vtbench":
        taken(words[1:], said)
    elif words[0] == "python":
        written(words[1:])
    elif words[0] == "make":
        assert set(words[1:]) <= TARGETS
    elif words[0] == "pip":
        assert words[1] == "install" or words[1:3] == ["download", "--no-deps"]
        assert set(re.findall(r"[\w,]+(?=\])", command.partition("[")[2])) <= EXTRAS
    else:
        assert command.startswith(OTHERS), f"{page}: who takes this?"


def taken(words: list[str], said: bool) -> None:
    """A verb of ours takes these words; a sentence may name the verb alone, or only show its help."""
    if {"--help", "--version"} & set(words):
        words = [word for word in words if word not in ("--help", "--version")]
        said = True
    if not words:
        return
    try:
        parsed(*words)
    except Exception as bad:
        # By its name: typer may bring a click of its own.
        if not (said and type(bad).__name__ == "MissingParameter"):
            raise


def written(words: list[str]) -> None:
    """The script or module is there, and so is every option."""
    path = ROOT / (words[1].replace(".", "/") if words[0] == "-m" else words[0])
    files = [path.with_suffix(".py")] if not path.is_dir() else sorted(path.glob("*.py"))
    text = "".join(file.read_text() for file in files)
    assert "__main__" in text or (path / "__main__.py").is_file()
    # As it is written, or its name in a table of options.
    options = [word for word in words if word.startswith("--")]
    assert [one for one in options if f'"{one}"' not in text and f'"{one[2:]}"' not in text] == []
