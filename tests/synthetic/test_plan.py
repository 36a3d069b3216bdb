import dataclasses
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.synthetic.plan import INFRARED, VISIBLE, cameras_of, plan_split
from plugins.synthetic.settings import PRESETS, SHORTEST_TRACKLET, SyntheticSettings

SPLITS = ("train", "test")

any_settings = st.builds(
    SyntheticSettings,
    train_ids=st.integers(2, 9),
    test_ids=st.integers(2, 9),
    cameras=st.integers(5, 12),
    train_cameras=st.integers(1, 3),
    test_cameras=st.integers(2, 3),
    max_frames=st.integers(12, 60),
    nuisance=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_ids", 1),
        ("test_ids", 501),
        ("height", 289),
        ("width", 15),
        ("cameras", 13),
        ("test_cameras", 1),
        ("min_frames", 11),
        ("difficulty", 1.5),
        ("difficulty", float("nan")),
        ("nuisance", -0.1),
        ("seed", -1),
        ("height", 64.5),
        ("seed", True),
        ("nuisance", "0.5"),
    ],
)
def test_a_value_outside_its_limits_is_named_with_what_is_expected(field, value):
    with pytest.raises(InputError, match=rf"{field} is .*, expected .* between"):
        SyntheticSettings(**{field: value})


def test_frames_the_wrong_way_round_are_refused():
    with pytest.raises(InputError, match="min_frames is 20, expected at most max_frames, 14"):
        SyntheticSettings(min_frames=20, max_frames=14)


def test_more_cameras_per_person_than_record_both_modalities_are_refused():
    with pytest.raises(InputError, match="test_cameras is 3, expected at most 2"):
        SyntheticSettings(cameras=4, train_cameras=2, test_cameras=3)


def test_a_whole_number_serves_as_a_fraction():
    assert SyntheticSettings(difficulty=1, nuisance=0).difficulty == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_stay_within_their_promised_size(preset):
    frames = sum(walk.frames for split in SPLITS for walk in plan_split(PRESETS[preset], split))
    assert frames <= {"quick": 1700, "demo": 9000, "bench": 25000}[preset]


@given(any_settings)
@settings(max_examples=25, deadline=None)
def test_nobody_is_in_both_splits(settings):
    train, test = ({walk.pid for walk in plan_split(settings, split)} for split in SPLITS)
    assert len(train) == settings.train_ids and len(test) == settings.test_ids
    assert not train & test


@given(any_settings)
@settings(max_examples=25, deadline=None)
def test_every_test_person_keeps_matches_in_another_camera_in_both_directions(settings):
    seen = defaultdict(set)
    for walk in plan_split(settings, "test"):
        if walk.frames >= SHORTEST_TRACKLET:
            seen[walk.pid, walk.modality].add(walk.camid)
    assert len(seen) == 2 * settings.test_ids
    assert all(len(cameras) >= 2 for cameras in seen.values())


@given(any_settings)
@settings(max_examples=25, deadline=None)
def test_cameras_only_record_what_they_can_and_some_tracklets_are_too_short(settings):
    for split in SPLITS:
        walks = plan_split(settings, split)
        assert all(w.camid in cameras_of(w.modality, settings.cameras) for w in walks)
        assert any(walk.frames < SHORTEST_TRACKLET for walk in walks)


@given(any_settings)
@settings(max_examples=15, deadline=None)
def test_asking_for_more_people_changes_nothing_about_the_first(settings):
    more = dataclasses.replace(settings, train_ids=settings.train_ids + 5)
    first = plan_split(settings, "train")
    assert plan_split(more, "train")[: len(first)] == first


def habits(walks):
    """Cameras by person and modality, and the (direction, light) pairs of each person."""
    cameras, manners = defaultdict(set), defaultdict(set)
    for walk in walks:
        cameras[walk.pid, walk.modality].add(walk.camid)
        manners[walk.pid].add((walk.reverse, walk.light))
    return cameras, manners


def test_full_nuisance_ties_camera_direction_and_light_to_the_person_in_training_only():
    settings = SyntheticSettings(train_ids=20, test_ids=20, cameras=8, nuisance=1.0)
    cameras, manners = habits(plan_split(settings, "train"))
    pids = list(manners)
    assert all(cameras[pid, VISIBLE] == cameras[pid, INFRARED] for pid in pids)
    assert all(len(manners[pid]) == 1 for pid in pids)
    cameras, manners = habits(plan_split(settings, "test"))
    assert sum(cameras[pid, VISIBLE] == cameras[pid, INFRARED] for pid in manners) < 5
    assert all(len(manners[pid]) > 2 for pid in manners)


@pytest.mark.slow
def test_nuisance_strengthens_the_tie_and_leaves_the_test_split_alone():
    def tied(nuisance):
        settings = SyntheticSettings(train_ids=60, cameras=8, nuisance=nuisance)
        cameras, manners = habits(plan_split(settings, "train"))
        return sum(len(cameras[p, VISIBLE] & cameras[p, INFRARED]) for p in manners)

    assert tied(0.0) < tied(0.5) < tied(1.0) == 120
    weak, strong = (SyntheticSettings(nuisance=nuisance) for nuisance in (0.0, 1.0))
    assert plan_split(weak, "test") == plan_split(strong, "test")
