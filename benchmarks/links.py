"""Every link inside a built site leads to a file, and to a place in it that exists; nothing outside is asked.

python -m benchmarks.links build/docs
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """A page's links (href and src) and its anchors (id, and name of `a`)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")


def broken(site: Path) -> list[str]:
    """`page: link` of every link that leads nowhere inside the site, or out of it by a path."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    out = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            anchor = unquote(parts.fragment)
            inside = target.is_relative_to(site.resolve()) and target.is_file()
            if not inside or (anchor and target in pages and anchor not in pages[target].anchors):
                out.append(f"{path.relative_to(site.resolve())}: {link}")
    return out


def main() -> None:
    site = Path(sys.argv[1])
    count = len(list(site.rglob("*.html")))
    if not count:
        raise SystemExit(f"{site} holds no page: build it first (make docs)")
    wrong = broken(site)
    if wrong:
        raise SystemExit("links that lead nowhere:\n" + "\n".join(wrong))
    print(f"{count} pages, every link inside them leads somewhere")


if __name__ == "__main__":
    main()
