"""Files beside the code that name versions, commands and paths: they agree with the code."""

import ast
import re

import pytest
import yaml

from tests.helpers.pages import ROOT


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def setup_argument(name: str) -> object:
    """A literal argument of setup() in setup.py."""
    (call,) = (
        node
        for node in ast.walk(ast.parse(read("setup.py")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    (value,) = (keyword.value for keyword in call.keywords if keyword.arg == name)
    return ast.literal_eval(value)


def test_the_workflow_tests_the_pythons_that_the_package_claims():
    claimed = re.findall(r"Python :: (3\.\d+)", "\n".join(setup_argument("classifiers")))
    jobs = yaml.safe_load(read(".github/workflows/checks.yml"))["jobs"]
    assert claimed and all(job["strategy"]["matrix"]["python"] == claimed for job in jobs.values())
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert runs == ["make check", "make test", "make docs"]
    targets = re.findall(r"^(\w+):", read("Makefile"), re.M)
    assert {run.split()[1] for run in runs} <= set(targets)


def test_the_citation_names_this_version_and_both_papers():
    cited = yaml.safe_load(read("CITATION.cff"))
    assert cited["version"] == setup_argument("version")
    assert cited["license"] == setup_argument("license_expression")
    papers = {paper["url"] for paper in cited["references"]}
    urls = setup_argument("project_urls")
    assert papers == {urls["SADSTRM"], urls["DDDefense"]}
    for paper in cited["references"]:
        title = " ".join(paper["title"].split())
        assert any(
            title in " ".join(read(f"projects/{name}/README.md").split())
            for name in ("sadstrm", "dddefense")
        )


def test_the_changelog_tells_of_this_version():
    assert f"## [{setup_argument('version')}]" in read("CHANGELOG.md")


def test_what_the_dockerfile_copies_is_there_and_enough_to_build():
    copied = " ".join(re.findall(r"^COPY (.*) \S+$", read("Dockerfile"), re.M)).split()
    assert all((ROOT / name).exists() for name in copied)
    needed = [
        "setup.py",
        "pyproject.toml",
        "MANIFEST.in",
        "README.md",
        "LICENSE",
        "requirements.txt",
    ]
    assert {*needed, "configs", "plugins", "tools"} <= set(copied)


@pytest.mark.slow
def test_hooks_and_forms_are_yaml_that_their_readers_take():
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    pinned = read("requirements-test.txt")
    for hook in repository["hooks"]:
        assert f"{hook['id'].removesuffix('-format')}==" in pinned
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"):
        assert {"name", "description", "body"} <= yaml.safe_load(form.read_text()).keys()
