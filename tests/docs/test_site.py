"""The pages of docs/: they build without a warning, and what they name is there."""

import os
import re
import subprocess
import sys

import pytest

from plugins.config import SPECS, setup_cfg
from plugins.registry import ATTACK, known
from tests.docs.names import page, resolve, section, table_rows
from tests.helpers.pages import ROOT, blocks, pages

DOCS = [name.removeprefix("docs/") for name in pages() if name.startswith("docs/")]
WRITTEN = ["README.md", *(f"docs/{name}" for name in DOCS if name != "config.md")]


@pytest.mark.slow
def test_the_pages_build_without_a_warning_and_without_a_network(tmp_path):
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "http_proxy": "http://localhost:1"}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    assert {name.replace(".md", ".html") for name in DOCS} <= written
    api = (tmp_path / "api.html").read_text()
    assert 'href="reference/plugins.attacks.html"' in api
    described = (tmp_path / "reference/plugins.attacks.html").read_text()
    assert 'id="plugins.attacks.Attack.run"' in described
    front = (tmp_path / "index.html").read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?:', front)


def test_every_page_is_in_the_navigation():
    assert sorted(DOCS) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )


def test_the_readme_is_read_in_a_minute():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / "README.md").read_text())
    assert links and all((ROOT / link).exists() for link in links)


@pytest.mark.parametrize("name", WRITTEN)
def test_keys_of_a_page_exist(name):
    text = (ROOT / name).read_text()
    for block in blocks(name):
        if block.file:  # brings keys of its own
            text = re.sub(
                "|".join(re.findall(r'"([A-Z_]+(?:\.[A-Z_]+)+)"', block.text)) or "$^", "", text
            )
    keys = set(
        re.findall(
            r"\b((?:ATTACK|DATALOADER|DATASETS|DEFENSE|INPUT|MODEL|SOLVER|TEST)(?:\.[A-Z_0-9]+)+)\b",
            text,
        )
    )
    missing = {
        key
        for key in keys
        if key not in SPECS and not any(each.startswith(f"{key}.") for each in SPECS)
    }
    assert not missing


def test_attacks_of_the_page_are_those_that_are_registered():
    rows = table_rows(section(page("attacks.md"), "What to maximize: the attacks"))
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert named == set(known(ATTACK)) - {"GOAT"}  # which defends


def test_parts_of_the_papers_are_where_the_page_says():
    cells = [cell for row in table_rows(page("provenance.md")) for cell in row]
    places = [
        place for cell in cells for place in re.findall(r"`([\w/]+)\.py(?::([\w.]+))?`", cell)
    ]
    assert len(places) > 30
    for file, name in places:
        module = f"plugins.{file.replace('/', '.')}"
        assert resolve(f"{module}.{name}" if name else module) is not None


@pytest.mark.parametrize("project", ["sadstrm", "dddefense"])
def test_tables_of_results_are_those_of_the_projects(project):
    told = section(page("results.md"), {"sadstrm": "SADSTRM", "dddefense": "DDDefense"}[project])
    record = (ROOT / "projects" / project / "README.md").read_text().replace("defence", "defense")
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    assert not [row for row in rows if row not in record]


@pytest.mark.slow
def test_the_scores_of_the_demo_are_those_that_its_config_expects():
    expected = setup_cfg("VVI/synthetic/sadstrm.yml").TEST.EXPECTED_RESULTS
    row = next(row for row in table_rows(page("results.md")) if row[0] == "synthetic/sadstrm.yml")
    assert [float(cell) for cell in row[1:]] == [value for _, _, value, _ in expected]
