"""Tables of results as LaTeX (booktabs) and as Markdown; names may hold anything, and stay names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vtbench.reporting.export import Cell, Column, Line, Table
from vtbench.types.readable import one_line

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    '"': r"\textquotedbl{}",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "→": r"$\rightarrow$",
    "\u202f": r"\,",
    "\u00a0": "~",
}
"""Characters that LaTeX would take for orders or ligatures, or that its fonts lack."""
LATIN = re.compile("[\u00c0-\u00ff\u0100-\u017f]")
"""Letters that every LaTeX with T1 fonts writes."""
ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}
PLAIN_ARROWS = {"higher": "↑", "lower": "↓"}
MARKDOWN = re.compile(r"([\\`*_\[\]#|~$])|^(?=[-+=>])")
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;", "://": "&#58;//", "www.": "www&#46;"}
"""What begins HTML, mentions somebody, or becomes a link by itself."""


def latex_text(text: str) -> str:
    """A text of anybody's for LaTeX with T1 fonts; a character that these lack is written as its number."""
    # Two hyphens would become a dash.
    return "".join(_latex_character(c) for c in one_line(text)).replace("--", "-{}-")


def _latex_character(c: str) -> str:
    if c in LATEX:
        return LATEX[c]
    return c if c.isascii() or LATIN.fullmatch(c) else f"[U+{ord(c):04X}]"


def markdown_text(text: str) -> str:
    """A text of anybody's within a cell of a Markdown table."""
    text = one_line(text)
    for plain, written in HTML.items():
        text = text.replace(plain, written)
    # An entity's own number sign stays what it is.
    return re.sub(r"&\\#(\d+);", r"&#\1;", MARKDOWN.sub(lambda match: "\\" + (match[1] or ""), text))


def latex(tables: Sequence[Table]) -> str:
    """A `table` environment each; the preamble that they need stands in a comment on top."""
    head = "% \\usepackage[T1]{fontenc} \\usepackage{textcomp} \\usepackage{booktabs}\n"
    return head + "\n".join(_latex(table) for table in tables)


def _latex(table: Table) -> str:
    columns = "l" + "r" * len(table.columns)
    caption = " ".join([*table.caption, "Bold: best; underlined: not told apart from it."])
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(caption)}}}", rf"\begin{{tabular}}{{{columns}}}"]
    lines += [r"\toprule", " & ".join(["System", *(_latex_head(c) for c in table.columns)]) + r" \\"]
    for title, members in table.parts:
        lines.append(r"\midrule")
        if len(table.parts) > 1:
            lines.append(rf"\multicolumn{{{len(table.columns) + 1}}}{{l}}{{\textit{{{latex_text(title)}}}}} \\")
        lines += [_latex_line(line, table.columns) for line in members]
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [rf"\textsuperscript{{{k}}} {latex_text(f'Not ranked: {why}.')}" for k, why in enumerate(table.notes, 1)]
    if notes:
        lines += [r"\par\smallskip\footnotesize", r"\par ".join(notes)]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_head(column: Column) -> str:
    unit = f" ({latex_text(column.unit)})" if column.unit else ""
    arrow = ARROWS.get(str(column.better))
    return latex_text(column.title) + unit + (f" {arrow}" if arrow else "")


def _latex_line(line: Line, columns: Sequence[Column]) -> str:
    note = rf"\textsuperscript{{{line.note}}}" if line.note else ""
    cells = [latex_text(line.title) + note]
    for cell, column in zip(line.cells, columns, strict=True):
        marks = {"best": r"\textbf{%s}", "tie": r"\underline{%s}", None: "%s"}
        text = "---" if cell.value is None else marks[cell.mark] % number(cell.value, column)
        cells.append(text.replace("-", "$-$", 1) if text.startswith("-") and cell.value is not None else text)
        if (span := interval(cell, column)) is not None:
            cells[-1] += rf" {{\scriptsize {span.replace('-', '$-$')}}}"
    return " & ".join(cells) + r" \\"


def markdown(tables: Sequence[Table]) -> str:
    """A heading, a table and its caption each."""
    return "\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    heads = ["System", *(_markdown_head(c) for c in table.columns)]
    lines = [f"### {markdown_text(table.title)}", "", _row(heads), _row(["---", *("---:" for _ in table.columns)])]
    for title, members in table.parts:
        if len(table.parts) > 1:
            lines.append(_row([f"*{markdown_text(title)}*", *("" for _ in table.columns)]))
        lines += [_row(_markdown_cells(line, table.columns)) for line in members]
    caption = " ".join([*table.caption, "Bold: best; italic: not told apart from it."])
    lines += ["", markdown_text(caption), ""]
    lines += [f"<sup>{k}</sup> {markdown_text(f'Not ranked: {why}.')}\n" for k, why in enumerate(table.notes, 1)]
    return "\n".join(lines)


def _markdown_head(column: Column) -> str:
    unit = f" ({markdown_text(column.unit)})" if column.unit else ""
    arrow = PLAIN_ARROWS.get(str(column.better))
    return markdown_text(column.title) + unit + (f" {arrow}" if arrow else "")


def _markdown_cells(line: Line, columns: Sequence[Column]) -> list[str]:
    cells = [markdown_text(line.title) + (f"<sup>{line.note}</sup>" if line.note else "")]
    for cell, column in zip(line.cells, columns, strict=True):
        marks = {"best": "**%s**", "tie": "*%s*", None: "%s"}
        text = "—" if cell.value is None else marks[cell.mark] % number(cell.value, column)
        span = interval(cell, column)
        cells.append(text if span is None else f"{text} {span}")
    return cells


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float, column: Column) -> str:
    """A number with the digits of its column; one that these would show as 0 has two of its own."""
    if value and abs(value) < 0.5 * 10**-column.digits:
        return f"{value:.1e}"
    return f"{value:.{column.digits}f}"


def interval(cell: Cell, column: Column) -> str | None:
    """[low, high], or None where there is none."""
    if cell.value is None or cell.low is None or cell.high is None:
        return None
    return f"[{number(cell.low, column)}, {number(cell.high, column)}]"
