"""The plan, against the two rules written out as loops over every image."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.balancing.planner import FEW, ONE_CAMERA, plan_slots
from plugins.errors import InputError

COUNTS = st.dictionaries(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("1234")), st.integers(1, 12), min_size=1
)


def one_by_one(counts, least, share):
    """Slots as {(person, camera, reason): number}, from a list of images and nothing clever."""
    images = [pair for pair, number in counts.items() for _ in range(number)]
    people, cameras = ({pair[place] for pair in images} for place in (0, 1))
    if least == 0:
        least = math.floor(len(images) / len(people) + 0.5)
    slots = {}
    for person in people:
        own = [camera for name, camera in images if name == person]
        grown = list(own)
        while len(grown) < least:
            rarest = min(sorted(set(own)), key=grown.count)
            grown.append(rarest)
            slots[person, rarest, FEW] = slots.get((person, rarest, FEW), 0) + 1
        main = max(sorted(set(own)), key=own.count)
        if own.count(main) / len(own) > share:
            slots |= {(person, camera, ONE_CAMERA): 1 for camera in cameras - {main}}
    return slots


@given(COUNTS, st.integers(0, 30), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_the_plan_is_that_of_the_rules_written_out(counts, least, share):
    slots = plan_slots(counts, least, share)
    found = {}
    for slot in slots:
        key = slot[1:]
        found[key] = found.get(key, 0) + 1
    assert found == one_by_one(counts, least, share)
    assert [slot.slot for slot in slots] == list(range(len(slots)))


@given(COUNTS, st.integers(1, 30))
def test_rule_one_lifts_everybody_to_delta_one_and_never_to_a_new_camera(counts, least):
    slots = [slot for slot in plan_slots(counts, least, 1.0) if slot.reason == FEW]
    for person in {person for person, _ in counts}:
        real = sum(number for (name, _), number in counts.items() if name == person)
        assert real + sum(slot.person == person for slot in slots) == max(real, least)
    assert all((slot.person, slot.camera) in counts for slot in slots)


def test_exactly_half_is_not_more_than_half():
    counts = {("a", "1"): 2, ("a", "2"): 2, ("b", "1"): 3, ("b", "3"): 1}
    slots = [slot[1:] for slot in plan_slots(counts, 4, 0.5)]
    assert slots == [("b", "2", ONE_CAMERA), ("b", "3", ONE_CAMERA)]


def test_no_images_need_no_slots():
    assert plan_slots({}) == []


@pytest.mark.parametrize(("least", "share", "key"), [(-1, 0.5, "DELTA1"), (0, 0, "DELTA2")])
def test_impossible_settings_are_named(least, share, key):
    with pytest.raises(InputError, match=rf"DATASETS\.BALANCE\.{key}"):
        plan_slots({("a", "1"): 1}, least, share)
