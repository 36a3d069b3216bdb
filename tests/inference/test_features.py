"""Files of features: which go together, and what a damaged one is told."""

import json
from dataclasses import replace

import numpy as np
import pytest

from plugins.errors import InputError
from plugins.inference import Features, Gallery
from plugins.inference.features import NAMES, SCHEMA, network_differences
from plugins.inference.run import describe_network, open_run
from tests.helpers.lots import lot
from tests.helpers.run_folders import clip_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return clip_run(tmp_path_factory.mktemp("run"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.PIXEL_MEAN", "[100.0, 100.0, 100.0]"),
        ("MODEL.PIXEL_STD", "[50.0, 50.0, 50.0]"),
        ("MODEL.HEADS.NECK_FEAT", "after"),
        ("TEST.CORRUPTION.SEED", "1"),
        ("TEST.CORRUPTION.SEVERITY", "5"),
        ("TEST.FEATURE", "appearance"),
        ("INPUT.SIZE_TEST", "[64, 32]"),
        ("INPUT.CLIP.ORDER", "shuffled"),
    ],
)
def test_a_setting_that_changes_a_feature_makes_another_network(run, key, value):
    ours = describe_network(open_run(run))
    theirs = describe_network(open_run(run, opts=[key, value]))
    assert key in network_differences(ours, theirs)
    gallery = Gallery(replace(lot(4, 0, "g"), about={"network": ours}))
    with pytest.raises(InputError, match="expected features of one network, tested in one way"):
        gallery.search(replace(lot(2, 1, "q"), about={"network": theirs}))


def test_a_setting_that_changes_no_feature_leaves_the_network(run):
    ours = describe_network(open_run(run))
    opts = ["TEST.IMS_PER_BATCH", "3", "TEST.RERANK.ENABLED", "True", "TEST.ROC.ENABLED", "True"]
    opts += ["MODEL.LOSSES.TRI.MARGIN", "0.5", "DATASETS.NAMES", "['BUPTCampus']"]
    assert describe_network(open_run(run, opts=opts)) == ours
    older = {key: value for key, value in ours.items() if key != "settings"}
    assert network_differences(older, ours) == {} == network_differences(ours, older)


HEAD = {"schema": SCHEMA, "version": 1}


def written(folder, about=HEAD, **changed):
    """A file of four items with another ``about`` or other columns."""
    items = lot(4, 0, "g")
    columns = {name: getattr(items, name) for name in ("features", *NAMES)} | changed
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(folder / "g.npz", about=text, **columns)
    return folder / "g.npz"


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ([1, 2], r"about: found \[1, 2\]; expected a mapping"),
        (None, "about: found null; expected a mapping"),
        ("text", "about: found 'text'; expected a mapping"),
        ({**HEAD, "network": 3}, "network: found 3; expected a mapping"),
        ({**HEAD, "network": {"settings": []}}, r"settings: found \[\]; expected a mapping"),
        ({}, "schema None, version None; expected"),
    ],
)
def test_what_a_file_tells_of_its_features_is_a_mapping(about, message, tmp_path):
    file = written(tmp_path, about)
    with pytest.raises(InputError, match=f"^{file}: {message}"):
        Features.load(file)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"features": np.float32(1)}, r"features of type float32 and shape \(\); expected"),
        ({"name": np.array("g0")}, r"name of type <U2 and shape \(\); expected text of 4 items"),
        ({"camera": np.arange(4)}, r"camera of type int64 and shape \(4,\); expected text of 4"),
        ({"person": np.array(["a"])}, r"person of type <U1 and shape \(1,\); expected text of 4"),
        (
            {"modality": np.array(["visible", "infrared", "thermal", ""])},
            r"row 2 \(.*\): modality 'thermal'; expected visible or infrared",
        ),
        ({"other": np.arange(4)}, r"has the columns \['camera', .*'other'"),
    ],
)
def test_columns_of_another_kind_are_one_line(changed, message, tmp_path):
    assert len(Features.load(written(tmp_path))) == 4
    file = written(tmp_path, **changed)
    with pytest.raises(InputError, match=f"^{file}: {message}"):
        Features.load(file)
