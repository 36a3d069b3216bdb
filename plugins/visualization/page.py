"""All pictures of a run on one page of HTML, which needs no other file and no network."""

import base64
import os
from dataclasses import replace
from html import escape
from typing import NamedTuple

from plugins.errors import InputError
from plugins.inference import Embedder
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.kinds import KINDS, Options
from plugins.visualization.picture import render

# A page shows these for each direction of the data set.
BY_DIRECTION = ("ranked", "cameras")
STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --paper: #ffffff; --faint: #5f6c7b;
  --line: #d9dee4; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --paper: #15191e; --faint: #9aa5b1;
  --line: #364150; --link: #8ab8f0; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 64rem; margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .3rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; } a { color: var(--link); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt, figcaption, .faint { color: var(--faint); } dd { margin: 0; min-width: 0; }
figure { margin: .5rem 0; break-inside: avoid; }
.wide { overflow-x: auto; background: #ffffff; border: 1px solid var(--line);
  border-radius: .3rem; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
@media (max-width: 45rem) { .wide img { max-width: none; width: 42rem; }
  figcaption::before { content: "Swipe the picture to see the rest. "; font-weight: 600; } }
@media print { body { max-width: none; font-size: 11px; } }
"""


class Section(NamedTuple):
    """A part of the page: a picture, or why there is none.

    Attributes:
        name: of this section alone, for links.
        title: heading.
        caption: of the picture, or the reason.
        png: contents of the picture; empty without one.
    """

    name: str
    title: str
    caption: str
    png: bytes


def make_sections(embedder: Embedder, data: EvaluatedSet, options: Options) -> list[Section]:
    """Draw all kinds; a kind that this run or this machine cannot draw says why."""
    sections = []
    for name, kind in KINDS.items():
        directions = [*data.directions] if name in BY_DIRECTION else [options.direction]
        for direction in directions:
            link = f"{name}-{direction}".strip("-").replace(" ", "-").lower()
            try:
                picture = kind.draw(embedder, data, replace(options, direction=direction))
            except InputError as error:
                sections.append(Section(link, f"{name}: not drawn", str(error), b""))
                continue
            png = render(picture, "png", words=False)
            sections.append(Section(link, picture.title, picture.caption, png))
    return sections


def make_page(embedder: Embedder, data: EvaluatedSet, options: Options, run: str) -> str:
    """Write the page.

    Args:
        embedder: the run's model.
        data: the evaluated set.
        options: of all pictures; each direction has its ranked clips and its table of cameras.
        run: name of the run.
    """
    sections = make_sections(embedder, data, options)
    title = f"What the model of {os.path.basename(run.rstrip('/')) or run} finds"
    network = embedder.network
    facts = {
        "data set": f"{data.name}, {len(data)} clips of {len(data.pids.unique())} people, "
        f"{len(data.camids.unique())} cameras",
        "model": f"{network['architecture']}, weights {network['weights']}",
        "input": f"{network['size'][0]} x {network['size'][1]} pixels, {network['frames']} frames",
        "distance": data.metric,
    }
    links = "".join(f'<a href="#{escape(s.name)}">{escape(s.title)}</a>' for s in sections)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        "<dl>"
        + "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
        + "</dl>",
        f"<nav>{links}</nav>",
        *(section_text(section) for section in sections),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def section_text(section: Section) -> str:
    """Write a section."""
    heading = f'<section id="{escape(section.name)}"><h2>{escape(section.title)}</h2>'
    caption = escape(section.caption)
    if not section.png:
        return f'{heading}<p class="faint">{caption}</p></section>'
    data = base64.b64encode(section.png).decode()
    image = f'<img alt="{escape(section.title)}" src="data:image/png;base64,{data}">'
    return (
        f'{heading}<figure><div class="wide">{image}</div>'
        f"<figcaption>{caption}</figcaption></figure></section>"
    )
