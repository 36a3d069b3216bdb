"""Values of the type of a default: against yacs where yacs knows the answer, and beyond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yacs.config import CfgNode

from plugins.utils.values import as_type_of, shortened

DEFAULTS = st.sampled_from([True, 3, 0.5, "text", ("a", "b"), [1, 2.0], []])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(DEFAULTS, VALUES | st.text("[](){}'\",:-+.0123456789eEjJ_abTF \\\n", max_size=30))
def test_a_value_has_its_defaults_type_or_is_refused_in_one_line(default, value):
    try:
        found = as_type_of(default, value)
    except ValueError as error:
        assert "; expected " in str(error)
        assert "\n" not in str(error)
    else:
        assert type(found) is type(default)


@given(DEFAULTS, VALUES)
def test_what_yacs_takes_is_taken_and_is_the_same(default, value):
    """But for nothing, for NaN, and for entries of another type in a list."""
    node = CfgNode({"KEY": default})
    try:
        node.merge_from_list(["KEY", value])
    except (ValueError, AssertionError, TypeError):
        return
    try:
        found = as_type_of(default, value)
    except ValueError as error:
        assert any(word in str(error) for word in ("numbers", "names", "None", "nan", "code 0"))
        return
    assert found == node.KEY or value in (None, "None")


@pytest.mark.parametrize(
    "text", ["SMA,FNA", "[SMA, FNA]", "(SMA,FNA)", "['SMA', 'FNA']", "SMA , FNA,"]
)
def test_names_need_no_quotes(text):
    assert as_type_of([], text) == ["SMA", "FNA"]


def test_a_long_value_is_cut():
    assert len(shortened("x" * 10_000)) <= 60
    assert len(shortened([["x" * 100] * 100] * 100)) < 3000
    assert len(shortened(10**4000)) <= 60


def test_a_number_beyond_all_floats_is_told():
    with pytest.raises(ValueError, match=r"^1000000.*; expected a smaller number"):
        as_type_of(1.0, 10**400)


@pytest.mark.parametrize("text", ["[[[[", "[A, B", "(A"])
def test_a_list_whose_brackets_do_not_match_is_refused(text):
    with pytest.raises(ValueError, match="expected a list, such as"):
        as_type_of(("A",), text)
