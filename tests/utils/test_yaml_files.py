"""YAML as PyYAML reads it, but for what loses a value, makes an object or never ends."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.utils.yaml_files import parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = [*ROOT.glob("configs/**/*.yml"), *ROOT.glob("projects/**/*.yml")]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def ladder(rungs: int, each: int) -> str:
    """Lists of ``each`` aliases of the list before: ``each ** rungs`` values."""
    lines = ["a0: &a0 [x]"]
    for rung in range(1, rungs):
        lines.append(f"a{rung}: &a{rung} [{', '.join([f'*a{rung - 1}'] * each)}]")
    return "\n".join(lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_the_repository_are_read_as_pyyaml_reads_them(path):
    assert read_yaml(path) == yaml.safe_load(path.read_text())


@pytest.mark.slow
@given(PLAIN)
def test_what_pyyaml_writes_is_read(value):
    text = yaml.safe_dump(value)
    assert repr(parse_yaml(text, "x.yml")) == repr(yaml.safe_load(text))


@given(st.text("[]{}&*a:-? \n!'\"<|>%#,0.", max_size=60) | st.text(max_size=60))
def test_any_text_is_read_as_pyyaml_reads_it_or_refused_in_one_line(text):
    try:
        found = parse_yaml(text, "x.yml")
    except InputError as error:
        assert str(error).startswith("x.yml:")
        assert "\n" not in str(error)
    else:
        assert repr(found) == repr(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yml:3: the key 'a' is given twice, first in line 1"),
        ("b: {c: 1, c: 1}\n", "x.yml:1: the key 'c' is given twice"),
        ("a: &a [*a]\n", "x.yml:1: an alias inside of its own anchor"),
        (ladder(9, 9), "x.yml:6: more than 100,000 values"),
        (ladder(9, 9).replace("[", "{k: [").replace("]", "]}"), ": more than 100,000 values"),
        (ladder(3000, 1), "x.yml:50: aliases nest more than 50 deep"),
        ("[" * 5000, "x.yml:1: nested more than 50 deep"),
        ("- " * 5000, "x.yml:1: nested more than 50 deep"),
        ("a: 2001-99-99", "x.yml: a value is not of its YAML type (ValueError: month"),
        ("a: !!bool x", "x.yml: a value is not of its YAML type (KeyError: 'x')"),
        ("a: [1\nb: 2", "x.yml:2: not YAML: while parsing a flow sequence expected ',' or ']'"),
        ("a\0b", "x.yml: not YAML: unacceptable character #x0000"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_line_and_at_once(text, message):
    begun = time.process_time()
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "x.yml")
    assert message in str(caught.value)
    assert time.process_time() - begun < 5


def test_aliases_and_merges_within_the_limits_are_read():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [*a, *a]}\nd: [*a, *a]\n"
    assert parse_yaml(text, "x.yml") == yaml.safe_load(text)
