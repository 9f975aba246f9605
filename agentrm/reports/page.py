"""The report's page: a style that suits light and dark, which the viewer shares, around sections with tables."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

LEGEND = (
    "<p class=legend><span class=scored>the reward model chooses</span><span class=baseline>no reward model</span>"
    "<span class=ceiling>the oracle chooses</span></p>"
)

STYLE = """:root {
  --page: #f8fafc; --card: #ffffff; --ink: #0f172a; --soft: #64748b; --line: #cbd5e1; --tint: #eff6ff;
  --scored: #3b82f6; --baseline: #94a3b8; --ceiling: #f59e0b;
}
@media (prefers-color-scheme: dark) {
  :root { --page: #0b1120; --card: #111a2e; --ink: #e2e8f0; --soft: #94a3b8; --line: #334155; --tint: #16233f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 2rem 1rem 4rem; }
header { display: flex; align-items: baseline; gap: 1rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.05rem; margin: 0 0 .75rem; }
header p, .caption, .notes, small { color: var(--soft); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
section { padding: 1.1rem 1.25rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
.caption { margin: .5rem 0 0; font-size: .85rem; }
.notes { margin: 0; padding-left: 1.1rem; font-size: .85rem; }
svg { max-width: 100%; height: auto; color: var(--ink); font-family: inherit; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .88rem; }
th { color: var(--soft); font-weight: 500; text-align: right; vertical-align: bottom; padding: .3rem .6rem; }
td { text-align: right; padding: .4rem .6rem; border-top: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.scored td { background: var(--tint); font-weight: 600; }
tr.scored small { font-weight: 400; }
tr.scored td:first-child { box-shadow: inset 3px 0 var(--scored); }
tr.ceiling td:first-child { box-shadow: inset 3px 0 var(--ceiling); }
tr.baseline td:first-child { box-shadow: inset 3px 0 var(--baseline); }
.legend span { margin-right: 1.25rem; color: var(--soft); font-size: .85rem; }
.legend span::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .45em; }
.legend .scored::before { background: var(--scored); }
.legend .baseline::before { background: var(--baseline); }
.legend .ceiling::before { background: var(--ceiling); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0; font-size: .88rem; }
dt { color: var(--soft); }
dd { margin: 0; }
"""

PAGE = (
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>AgentRM evaluation</title>
<style>
"""
    + STYLE
    + """</style>
</head>
<body><main>
{{body}}
</main></body>
</html>
"""
)


def section(title: str, body: str, caption: str = "") -> str:
    """A titled part of the page around HTML; title and caption are plain text."""
    below = f"<p class=caption>{html.escape(caption)}</p>" if caption else ""
    return f"<section><h2>{html.escape(title)}</h2><div class=wide>{body}</div>{below}</section>"


def bullets(notes: Iterable[str]) -> str:
    """Notes as a part of the page without a title."""
    return "<section><ul class=notes>" + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul></section>"


def tabular(headings: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table in HTML; each row comes with its class in the style."""
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(
        f"<tr class='{kind}'>" + "".join(f"<td>{_value(cell)}</td>" for cell in cells) + "</tr>" for kind, cells in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _value(cell: str) -> str:
    value, bracket, interval = html.escape(cell).partition(" [")
    return f"{value} <small>[{interval}</small>" if bracket else value


def pipes(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]
