"""A Market-1501 that is absent, or half there, is told apart, with the command that renders one."""

import shutil
import warnings

import pytest

from plugins.data import build_dataset
from plugins.errors import InputError


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ((), "Market-1501-v15.09.15: no Market-1501 there; set FASTREID_DATASETS to the folder "),
        (("bounding_box_train",), "it lacks query, bounding_box_test, so it is not whole: copy it"),
    ],
)
def test_what_is_missing_is_named_with_the_renderer(folders, message, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    for name in folders:
        (tmp_path / "Market-1501-v15.09.15" / name).mkdir(parents=True)
    with warnings.catch_warnings(), pytest.raises(InputError) as caught:
        warnings.simplefilter("error")
        build_dataset("Market1501")
    assert message in str(caught.value)
    assert "tools/make_synthetic.py --layout market1501 --out " in str(caught.value)


@pytest.mark.slow
def test_a_root_that_is_not_there_is_told_before_the_set(tmp_path, monkeypatch):
    shutil.rmtree(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match=f"^FASTREID_DATASETS {tmp_path}: no such folder"):
        build_dataset("Market1501")
