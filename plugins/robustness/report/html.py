"""The card as one page of HTML without other files: a pure function of JSON and pictures."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from plugins.robustness.report.markdown import (
    CHECK_COLUMNS,
    RESULT_COLUMNS,
    SETTING_COLUMNS,
    Rows,
    check_rows,
    result_rows,
    setting_rows,
    subtitle,
    title,
)

STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --paper: #ffffff; --faint: #5f6c7b;
  --line: #d9dee4; --pass: #1d7a3a; --warn: #9a5b00; --fail: #b42318; --skipped: #5f6c7b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #15191e; --faint: #9aa5b1;
  --line: #364150; --pass: #5fd089; --warn: #f0b455; --fail: #ff8a80; --skipped: #9aa5b1; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.headline { display: inline-block; font-weight: 600; padding: .3rem .8rem; border-radius: .3rem;
  border: 2px solid; margin: .8rem 0; }
p.faint, figcaption { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--faint); font-weight: 500; }
.PASS { color: var(--pass); } .WARN { color: var(--warn); } .FAIL { color: var(--fail); }
.SKIPPED { color: var(--skipped); } td.verdict { font-weight: 600; }
figure { margin: 1rem 0; break-inside: avoid; }
img { max-width: 100%; background: #ffffff; border-radius: .3rem; }
tr { break-inside: avoid; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } }
"""


def page(card: Mapping, pictures: Mapping[str, bytes]) -> str:
    """Write a page of HTML.

    Args:
        card: see ``make_card``.
        pictures: caption -> PNG file; the pictures become part of the page.
    """
    state = "PASS" if card["established"] else "FAIL"
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title(card))}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title(card))}</h1>",
        f'<div class="headline {state}">{escape(card["headline"])}</div>',
        f"<p>{escape(subtitle(card))}</p>",
        "<h2>Results</h2>",
        '<p class="faint">Percent, with 95 % bootstrap intervals over people; mean perturbation in '
        "eps.</p>",
        table(RESULT_COLUMNS, result_rows(card)),
        *(figure(caption, png) for caption, png in pictures.items()),
        "<h2>Checks</h2>",
        table(CHECK_COLUMNS, check_rows(card)),
        "<h2>Settings</h2>",
        table(SETTING_COLUMNS, setting_rows(card)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def table(columns: Sequence[str], rows: Rows) -> str:
    """Write a table; the cells of the column "verdict" have its color."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(cell, columns, row))}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def cell(column: str, text: str) -> str:
    """Write one cell."""
    kind = f' class="verdict {text}"' if column == "verdict" else ""
    return f"<td{kind}>{escape(text)}</td>"


def figure(caption: str, png: bytes) -> str:
    """Write a picture inside the page."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
