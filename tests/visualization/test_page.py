"""The page of all pictures: it holds all it shows, and works in a browser, also on a phone."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from plugins.errors import InputError
from plugins.inference import Embedder
from plugins.visualization import KINDS, Options, evaluate_set, make_page
from plugins.visualization.kinds import Kind
from tests.helpers.run_folders import clip_run

pytestmark = pytest.mark.slow

PHONE, DESK = 375, 1280  # pixels
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def page(tmp_path_factory, datasets) -> Path:
    """A page on which one kind cannot be drawn, and one has a long word as its reason."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        embedder = Embedder(clip_run(folder / "run"))

        def refuse(*_):
            raise InputError("weights: " + "none" * 60 + " <b>of them</b>")

        patch.setitem(KINDS, "weights", Kind(refuse))
        data = evaluate_set(embedder)
        text = make_page(embedder, data, Options(queries=1, top=2, people=3), "logs/run/")
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_holds_every_kind_and_needs_no_other_file(page):
    text = page.read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert not parsed.open
    ids = [each["id"] for tag, each in parsed.tags if tag == "section"]
    assert ids == [
        *("ranked-i2v", "ranked-v2i", "distances", "tsne", "cameras-i2v", "cameras-v2i"),
        *("weights", "gradcam", "attack"),
    ]
    links = [each["href"] for tag, each in parsed.tags if tag == "a"]
    assert links == [f"#{name}" for name in ids]
    images = [each for tag, each in parsed.tags if tag == "img"]
    assert len(images) == len(ids) - 1
    assert all(each["src"].startswith("data:image/png;base64,") and each["alt"] for each in images)
    outside = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:|#)([^"' >]+)""", text)
    assert not outside and "<script" not in text
    assert "weights: not drawn" in text and "&lt;b&gt;of them&lt;/b&gt;" in text
    assert "<h1>What the model of run finds</h1>" in text and "24 clips of 4 people" in text


def listen(tab) -> list[str]:
    """What a tab says from now on: the console, errors, addresses that it asks for."""
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url[:60]))
    return said


def test_a_browser_shows_the_page_without_errors_at_any_width(page):
    playwright = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for width in (PHONE, DESK):
            tab = browser.new_page(viewport={"width": width, "height": 800})
            said = listen(tab)
            tab.goto(page.as_uri())
            outside = [each for each in said if not each.startswith(("data:", page.as_uri()[:60]))]
            assert not outside
            widths = tab.evaluate("[document.documentElement, document.body].map(e=>e.scrollWidth)")
            assert max(widths) <= width
            shown = tab.evaluate("[...document.images].map(i => [i.naturalWidth, i.width])")
            assert len(shown) == 8 and all(natural > 300 for natural, _ in shown)
            assert all(seen >= min(natural, 600) for natural, seen in shown), "readable on a phone"
        browser.close()
