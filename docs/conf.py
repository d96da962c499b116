"""Settings of Sphinx for these pages. `make docs` builds them into build/docs, without a network and strictly."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pygments.lexers import JsonLexer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from vtbench.types.version import VERSION  # noqa: E402

REPOSITORY = "https://github.com/vtbench/vtbench/blob/main/"

project, author, release = "vtbench", "The vtbench authors", VERSION
copyright = "The vtbench authors"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["schema"]
html_theme = "furo"
html_static_path, html_css_files = ["_static"], ["commands.css"]
html_title = f"vtbench {VERSION}"
# Sources are in the repository; copies of them beside every page are of no use.
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
# Of other projects' names (torch, pathlib, …) nothing is known without a network; ours must all be there.
nitpick_ignore_regex = [("py:.*", r"(?!vtbench\b).*")]


def _of_the_repository(app: Any, page: str, source: list[str]) -> None:
    """Links to files beside docs/ lead to the repository; one to a file that is not there is left, and fails."""

    def link(match: re.Match[str]) -> str:
        path = match[1].partition("#")[0]
        return f"]({REPOSITORY}{match[1]})" if (ROOT / path).exists() else match[0]

    source[0] = re.sub(r"\]\(\.\./([^)\s]+)\)", link, source[0])


def _every_page(app: Any, page: str, source: list[str]) -> None:
    """A page that index.md does not list yet stands at the end of its guides."""
    if page == "index":
        listed = {"index", *re.findall(r"^\w+$", source[0], re.MULTILINE)}
        rest = "".join(f"{path.stem}\n" for path in sorted(app.srcdir.glob("*.md")) if path.stem not in listed)
        source[0] = re.sub(r"(```\{toctree\}.*?)(?=```)", rf"\g<1>{rest}", source[0], count=1, flags=re.DOTALL)


def _plain_docstring(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Our docstrings are plain text with `code` in backticks, not reStructuredText."""
    parts = re.split(r"(`[^`]+`)", "\n".join(lines))
    words = [
        f"`{part}`\\ " if part.startswith("`") and part.endswith("`") else re.sub(r"([\\*|_])", r"\\\1", part)
        for part in parts
    ]
    lines[:] = "".join(words).split("\n")


def _without_signature(app: Any, what: str, name: str, *_: Any) -> tuple[str, None] | None:
    """Records are read, not made: their fields stand in the schemas."""
    return ("", None) if what == "class" and name.startswith("vtbench.results.record.") else None


def setup(app: Any) -> None:
    app.connect("source-read", _of_the_repository)
    app.connect("source-read", _every_page)
    app.connect("autodoc-process-docstring", _plain_docstring)
    app.connect("autodoc-process-signature", _without_signature)
    app.add_lexer("jsonl", JsonLexer)
