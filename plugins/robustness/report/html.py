"""The card as one page of HTML without other files: a pure function of JSON and pictures."""

import base64
from collections.abc import Mapping
from html import escape
from types import MappingProxyType

from plugins.robustness.report.markdown import (
    CHECK_COLUMNS,
    RESULT_COLUMNS,
    SETTING_COLUMNS,
    Rows,
    chance,
    check_rows,
    result_rows,
    setting_rows,
    subtitle,
    title,
)
from plugins.robustness.report.status import COLORS

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --paper: #ffffff; --faint: #5f6c7b;
  --line: #d9dee4; --pass: #1d7a3a; --warn: #9a5b00; --fail: #b42318; --skipped: #5f6c7b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #15191e; --faint: #9aa5b1;
  --line: #364150; --pass: #5fd089; --warn: #f0b455; --fail: #ff8a80; --skipped: #9aa5b1; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; overflow-wrap: break-word; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.headline { display: inline-block; font-weight: 600; padding: .3rem .8rem; border-radius: .3rem;
  border: 2px solid; margin: .8rem 0; }
p.faint, figcaption { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th, td { white-space: nowrap; } td.text { white-space: normal; min-width: 12rem; }
td.value { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; }
dl { margin: .6rem 0 0; color: var(--faint); font-size: .85rem; }
dt { float: left; clear: left; margin-right: .5rem; font-weight: 600; } dd { margin: 0; }
th { color: var(--faint); font-weight: 500; }
.PASS { color: var(--pass); } .WARN { color: var(--warn); }
.FAIL, .ERROR { color: var(--fail); }
.SKIPPED { color: var(--skipped); } td.verdict { font-weight: 600; }
figure { margin: 1rem 0; break-inside: avoid; }
img { display: block; width: 100%; background: #ffffff; border-radius: .3rem; }
tr { break-inside: avoid; }
@media (max-width: 40rem) { table:has(td.text) th { display: none; }
  table:has(td.text) :is(tr, td.text) { display: block; border-bottom: 0; padding-right: 0; }
  table:has(td.text) tr { border-bottom: 1px solid var(--line); padding: .4rem 0; }
  table:has(td.text) td { border-bottom: 0; padding-top: 0; padding-bottom: 0; } }
@media print { body { margin: 0; max-width: none; font-size: 11px; } }
"""


def page(card: Mapping, pictures: Mapping[str, bytes]) -> str:
    """Write a page of HTML.

    Args:
        card: see ``make_card``.
        pictures: caption -> PNG file; the pictures become part of the page.
    """
    color = COLORS[card["status"]]
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title(card))}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title(card))}</h1>",
        f'<div class="headline {color}">{words(card["headline"])}</div>',
        f"<p>{words(subtitle(card))}</p>",
        "<h2>Results</h2>",
        table(RESULT_COLUMNS, result_rows(card)),
        meanings(RESULT_COLUMNS),
        f"<p>{words(chance(card))}</p>",
        *(figure(caption, png) for caption, png in pictures.items()),
        "<h2>Checks</h2>",
        table(CHECK_COLUMNS, check_rows(card)),
        meanings(CHECK_COLUMNS),
        "<h2>Settings</h2>",
        table(SETTING_COLUMNS, setting_rows(card)),
        meanings(SETTING_COLUMNS),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def table(
    columns: Mapping[str, str], rows: Rows, colors: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Write a table; a verdict has its color.

    Args:
        columns: column -> its meaning.
        rows: cells of each row.
        colors: words of the column "verdict" that are no states of a check -> the state whose color
            they have.
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = [
        "".join(cell(*pair, colors) for pair in zip(columns, row, strict=True)) for row in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def meanings(columns: Mapping[str, str]) -> str:
    """Write what each column of a table means."""
    listed = "".join(
        f"<dt>{escape(column)}:</dt><dd>{escape(meaning)}</dd>"
        for column, meaning in columns.items()
    )
    return f"<dl>{listed}</dl>"


def cell(column: str, text: str, colors: Mapping[str, str]) -> str:
    """Write one cell; only values, such as hashes and paths, may break within a word."""
    kinds = {"verdict": f"verdict {colors.get(text, text)}", "value": "value"}
    kind = kinds.get(column, "text" if column in ("question", "explanation") else "")
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def words(text: str) -> str:
    """Escape a sentence; no line breaks between a number and its percent sign."""
    return escape(text).replace(" %", "&nbsp;%")


def figure(caption: str, png: bytes) -> str:
    """Write a picture inside the page."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
