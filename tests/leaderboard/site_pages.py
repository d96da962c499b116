"""What the tests of the page share: a reader of its HTML, and hostile text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {"meta", "link", "img", "input", "br"}
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Reader(HTMLParser):
    """Elements with their attributes, the text, the ids; complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def pages(folder: Path) -> dict[str, Reader]:
    return {p.relative_to(folder).as_posix(): Reader(p.read_text()) for p in sorted(folder.rglob("*.html"))}


NATURAL = "Reconstruction on starter-natural, 256"
"""The accessible name of the table of `made_runs`' first suite, on the page of its task."""


def task_page(folder: Path, task: str = "reconstruction") -> str:
    """The page of a task in the site at `folder`."""
    return (folder / "task" / f"{task}.html").read_text()


def table_of(page: str, table: str) -> str:
    """The markup inside the table whose accessible name is `table`."""
    return page.split(f'aria-label="{table}"', 1)[1].split("</table>", 1)[0]


def row_of(page: str, title: str, table: str) -> str:
    """The markup of one row of the table whose accessible name is `table`."""
    return next(r for r in table_of(page, table).split("<tr")[1:] if f">{title}</a>" in r)


def data_of(folder: Path, name: str) -> Any:
    """What a script of the site's data holds under its name."""
    text = (folder / "data" / f"{name}.js").read_text()
    return json.loads(text.split(" = ", 1)[1].removesuffix(";\n"))


def block_of(page: str, run: str) -> str:
    """The markup of one run's block on its model's page."""
    return page.split(f'id="r-{run[:12]}"', 1)[1].split('class="of-run"', 1)[0]


SCRIPT = re.compile(r"(\.\./)*(assets|data)/[a-z0-9-]+\.js")


def check_only_own_scripts(name: str, page: Reader) -> None:
    """No script but files of the site by their plain names, no handler in the markup, nothing that a style could do."""
    for tag, attributes in page.elements:
        assert not any(key.startswith("on") or key == "style" for key in attributes), (name, tag, attributes)
        assert tag != "style", name
        if tag == "script":
            assert set(attributes) <= {"src", "defer"}, (name, attributes)
            assert SCRIPT.fullmatch(attributes.get("src") or ""), (name, attributes)
    policies = [a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1, name
    assert policies[0].startswith("default-src 'none'; "), name
    assert "unsafe" not in policies[0], name
