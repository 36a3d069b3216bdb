"""ThinnedDataset: who and what stays, on images of people under cameras."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plugins.config import setup_cfg
from plugins.data import build_dataset
from plugins.data.datasets.thinned import kept_rows
from plugins.errors import InputError


@pytest.mark.slow
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 99),
)
def test_every_person_and_camera_keeps_an_item_and_nothing_is_made_up(owners, imbalance, seed):
    items = [(f"{row}.jpg", owner // 2, owner % 2) for row, owner in enumerate(owners)]
    kept = kept_rows(items, imbalance, seed)
    assert kept == sorted(set(kept)) and set(kept) <= set(range(len(items)))
    assert {items[row][1:] for row in kept} == {item[1:] for item in items}
    assert kept == kept_rows(items, imbalance, seed)
    if not imbalance:
        assert len(kept) == len(items)


def test_people_and_their_cameras_get_uneven_shares():
    items = [("", person, camera) for person in range(40) for camera in range(2)] * 50
    kept = Counter(items[row][1:] for row in kept_rows(items, 1.0, 0))
    larger = [max(kept[p, 0], kept[p, 1]) for p in range(40)]
    smaller = [min(kept[p, 0], kept[p, 1]) for p in range(40)]
    assert max(larger) > 45 and min(larger) < 10  # of 50, all down to a tenth
    assert sum(small < large / 2 for small, large in zip(smaller, larger, strict=True)) > 10
    assert kept_rows(items, 1.0, 1) != kept_rows(items, 1.0, 0)


def test_the_test_split_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    for person in ("a", "b", "c", "d"):
        (tmp_path / "people" / person).mkdir(parents=True)
        for number in range(12):
            name = f"{number % 2}_{number}.png"
            Image.new("RGB", (8, 16)).save(tmp_path / "people" / person / name)
    options = ["DATASETS.FOLDER.ROOT", "people", "DATASETS.THINNED.IMBALANCE"]
    whole = build_dataset("FolderDataset", cfg=setup_cfg("", [*options, "1.0"]))
    thin = build_dataset("ThinnedDataset", cfg=setup_cfg("", [*options, "1.0"]))
    assert len(thin.train) < len(whole.train) and set(thin.train) < set(whole.train)
    assert (thin.query, thin.gallery) == (whole.query, whole.gallery)
    assert thin.directions().keys() == whole.directions().keys()
    with pytest.raises(InputError, match=r"THINNED\.IMBALANCE: 2\.0; expected 0 to 1"):
        build_dataset("ThinnedDataset", cfg=setup_cfg("", [*options, "2.0"]))
    itself = setup_cfg("", ["DATASETS.THINNED.NAME", "ThinnedDataset"])
    with pytest.raises(InputError, match="expected another data set"):
        build_dataset("ThinnedDataset", cfg=itself)


@pytest.mark.parametrize("other", ["BALANCE", "HELD_OUT"])
def test_sets_inside_each_other_are_refused_where_they_are_read(other):
    name = {"BALANCE": "BalancedDataset", "HELD_OUT": "HeldOutPeople"}[other]
    names = ["DATASETS.THINNED.NAME", name, f"DATASETS.{other}.NAME", "ThinnedDataset"]
    message = rf"DATASETS\.{other}\.NAME: {name} and ThinnedDataset are inside each other"
    with pytest.raises(InputError, match=message):
        build_dataset("ThinnedDataset", cfg=setup_cfg("", names))
