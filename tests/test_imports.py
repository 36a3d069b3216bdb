"""What tests share lies in ``tests/helpers``: no module imports from a test module."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def imports_of_tests(source: str, name: str) -> list[str]:
    """File, line and text of each import from a ``test_*`` module of this folder."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "tests." * bool(node.level) + (node.module or "")
            paths = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        if any(path.startswith("tests.") and ".test_" in path for path in paths):
            found.append(f"{name}:{node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize(
    "line",
    [
        "from tests.engine.test_resume import checkpoint",
        "from tests.engine import test_resume",
        "from tests import test_compat as compat",
        "import tests.engine.test_resume",
        "from .test_resume import checkpoint",
        "from . import test_resume",
    ],
)
def test_an_import_from_a_test_module_is_found(line):
    source = f"import os\n\n\ndef late():\n    {line}\n"
    assert imports_of_tests(source, "a.py") == [f"a.py:5: {line}"]


def test_what_is_named_alike_elsewhere_may_be_imported():
    source = "from plugins.data.clips import test_clips\nfrom tests.helpers.trees import run_tool\n"
    assert imports_of_tests(source, "a.py") == []


@pytest.mark.slow
def test_no_module_imports_from_a_test_module():
    found = [
        line
        for path in sorted(TESTS.rglob("*.py"))
        for line in imports_of_tests(path.read_text(), str(path.relative_to(TESTS.parent)))
    ]
    assert not found, "move what is shared to tests/helpers:\n" + "\n".join(found)
