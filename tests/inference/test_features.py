"""Files of features: which go together, and what a damaged one is told."""

from dataclasses import replace

import pytest

from plugins.errors import InputError
from plugins.inference import Gallery
from plugins.inference.features import network_differences
from plugins.inference.run import describe_network, open_run
from tests.helpers.lots import lot
from tests.helpers.run_folders import clip_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return clip_run(tmp_path_factory.mktemp("run"))


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
