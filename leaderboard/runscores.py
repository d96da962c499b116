"""The scores of one run as HTML, written here rather than in a template: five hundred systems have 40,000 of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

HEAD = (
    '<thead><tr><th scope="col" class="sys">Metric</th><th scope="col" class="num">Value</th>'
    '<th scope="col" class="num">95 % interval</th><th scope="col">Unit</th><th scope="col" class="num">n</th>'
    '<th scope="col" class="num">missing</th><th scope="col" class="num">version</th><th scope="col">Remarks</th></tr>'
    "</thead>"
)


def scores_markup(lines: Sequence[Mapping[str, Any]], title: str, root: str) -> Markup:
    """The table. lines: as runpage.facts gives them; `root`: what leads from the page to the site's folder."""
    name = escape(title)
    return Markup(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">\n<table class="scores plain">\n'
        f'<caption class="vh">{name}</caption>\n{HEAD}\n<tbody>\n{"".join(_line(line, root) for line in lines)}'
        "</tbody></table></div>\n"
    )


@functools.lru_cache(maxsize=4096)
def _escaped(text: str) -> str:
    """Of what many runs say alike: titles, units, reasons."""
    return str(escape(text))


def _line(line: Mapping[str, Any], root: str) -> str:
    numbers = (line["n"], line["missing"], line["version"])
    counts = "".join(f'<td class="num">{escape(number)}</td>' for number in numbers)
    return (
        f'<tr><th scope="row" class="sys">{_title(line, root)}</th>\n'
        f'<td class="num">{escape(line["value"])}</td><td class="num">{escape(line["interval"])}</td>'
        f"<td>{_escaped(line['unit'])}</td>{counts}\n"
        f'<td class="remarks">{_remarks(line)}</td></tr>\n'
    )


def _title(line: Mapping[str, Any], root: str) -> str:
    title = _escaped(line["title"])
    link = f'<a href="{root}{_escaped(line["href"])}">{title}</a>' if line["href"] else title
    if line["arrow"]:
        link += (
            f' <span class="arrow" title="{line["direction"]}" aria-hidden="true">{line["arrow"]}</span>'
            f'<span class="vh"> ({line["direction"]})</span>'
        )
    return f"{link}<small>{_escaped(line['metric'])}</small>"


def _remarks(line: Mapping[str, Any]) -> str:
    out = f"<p>{_escaped(line['why'])}</p>" if line["why"] else ""
    if line["warning"]:
        out += f'<p class="warn">⚠ {_escaped(line["warning"])}</p>'
    if line["details"]:
        terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in line["details"])
        out += f"<details><summary>details</summary><dl>{terms}</dl></details>"
    return out
