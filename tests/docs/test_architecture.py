"""The architecture page: what it names exists, and its floors are those that are enforced."""

import re
import sys
import tomllib
import xml.etree.ElementTree as ElementTree

import pytest

from plugins.config import SPECS
from tests.docs.names import ROOT, page, resolve, section, table_rows
from tests.helpers.defense_toys import run, step_of
from tests.helpers.pages import blocks

PAGE = page("architecture.md")
BATCH, REPORT = "Follow an adversarial batch", "Follow a robustness report"


def hops(heading: str) -> list[tuple[str, str]]:
    """The files of a path through the code, each with the function to open."""
    return [(file.strip("`"), name.strip("`")) for _, file, name, _ in rows_of(heading)]


def rows_of(heading: str) -> list[list[str]]:
    return table_rows(section(PAGE, heading))


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"\b(?:plugins|tools|configs|projects|tests)/[\w./-]*", PAGE)))
)
def test_a_path_of_the_page_exists(path):
    assert (ROOT / path.rstrip(".")).exists()


@pytest.mark.parametrize("name", ["architecture.md", "api.md"])
def test_links_of_a_page_lead_somewhere(name):
    links = re.findall(r"\]\((?!http)([^)]+)\)", page(name))
    headings = re.findall(r"^#+ (.+)$", page(name), re.M)
    anchors = {f"#{heading.lower().replace(' ', '-')}" for heading in headings}
    lost = [each for each in links if each not in anchors and not (ROOT / "docs" / each).exists()]
    assert links and not lost


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`((?:plugins|tools)\.[\w.]+)`", PAGE))), ids=str
)
def test_a_dotted_name_of_the_page_exists(name):
    assert resolve(name) is not None


def test_keys_of_the_page_exist():
    keys = set(re.findall(r"`([A-Z]+\.[A-Z_.]+)(?: \w+)?`", PAGE))
    assert keys and keys <= SPECS.keys()


@pytest.mark.parametrize(("heading", "most"), [(BATCH, 7), (REPORT, 10)])
def test_a_path_through_the_code_is_short_and_names_functions_of_its_files(heading, most):
    path = hops(heading)
    assert 1 < len(path) <= most
    assert len({file for file, _ in path}) == len(path)
    for file, name in path:
        function = resolve(f"{file.removesuffix('.py').replace('/', '.')}.{name}")
        assert getattr(function, "__wrapped__", function).__code__.co_filename == str(ROOT / file)


def test_an_adversarial_batch_takes_the_path_of_the_page():
    """All functions of the path are called in one iteration of a real step."""
    step, called = step_of(), set()

    def note(frame, event, _):
        if event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run(step)
    finally:
        sys.setprofile(before)
    missing = [hop for hop in hops(BATCH) if (str(ROOT / hop[0]), hop[1]) not in called]
    assert not missing


def test_floors_of_the_drawing_are_those_that_lint_imports_enforces():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [each["layers"] for each in contracts["contracts"] if each["type"] == "layers"]
    enforced = [
        {room.removeprefix("plugins.") for room in re.split(r" \| ", each)} for each in layers
    ]

    svg = "{http://www.w3.org/2000/svg}"
    drawing = ElementTree.parse(ROOT / "docs/architecture.svg")
    floors = [group for group in drawing.iter(f"{svg}g") if group.get("class") == "floor"]
    texts = [
        [text for text in floor.iter(f"{svg}text") if text.get("class") == "room"]
        for floor in floors
    ]
    assert [{text.text for text in floor} for floor in texts] == enforced
    heights = [float(floor[0].get("y", "nan")) for floor in texts]
    assert heights == sorted(heights), "floors are drawn from top to bottom"


def test_every_room_is_on_a_floor():
    modules = {path.stem for path in (ROOT / "plugins").glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}
    drawn = re.findall(r'class="room"[^>]*>(\w+)<', page("architecture.svg"))
    assert sorted(drawn) == sorted(modules | packages)


@pytest.mark.slow
def test_the_tree_of_the_page_names_what_is_there_and_every_room():
    (tree,) = [block.text for block in blocks("docs/architecture.md") if block.kind == "text"]
    folder, named = ROOT, set()
    for line in tree.splitlines():
        name = line.split()[0]
        folder = ROOT / name if not line.startswith(" ") else folder
        path = folder if not line.startswith(" ") else folder / name
        assert path.exists(), path
        named.add(path)
    packages = {path.parent for path in (ROOT / "plugins").glob("*/__init__.py")}
    assert packages <= named
