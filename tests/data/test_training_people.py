"""Training people as a test set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.data.datasets import INFRARED, VISIBLE, Tracklet
from plugins.data.datasets.training_people import TrainingPeople, number_texts
from plugins.protocol import Direction

RULES = Direction(((None, None),), junk="sysu", cmc="identity")


def seen(items, seekers=(VISIBLE,), sought=(VISIBLE,), people=99, seed=0):
    return TrainingPeople("Q2G", RULES, items, set(seekers), set(sought), people, seed)


IMAGES = [
    (f"{person}_{camera}_{frame}.jpg", f"market_{person}", f"market_c{camera}")
    for person in (2, 11, 7)
    for camera in (1, 0)
    for frame in range(3)
]


def test_the_first_image_of_a_person_under_a_camera_asks_for_the_others():
    data = seen(IMAGES)
    assert [item[0] for item in data.query] == [
        f"{person}_{camera}_0.jpg" for person in (2, 11, 7) for camera in (1, 0)
    ]
    assert sorted([*data.query, *data.gallery])[0][0] == "11_0_0.jpg"
    assert {item[0] for item in data.query}.isdisjoint(item[0] for item in data.gallery)
    assert len(data.gallery) == 12
    assert {item[1:] for item in data.gallery} == {(p, c) for p in range(3) for c in range(2)}
    protocol = data.directions()["Q2G"]
    assert (protocol.junk, protocol.cmc) == ("sysu", "identity")
    query, gallery = protocol.trials[0]
    assert [*query.tolist(), *gallery.tolist()] == list(range(18)) and len(query) == 6


@given(people=st.integers(1, 5), seed=st.integers(0, 99))
def test_so_many_people_are_drawn_with_all_they_have(people, seed):
    items = [*seen(IMAGES, people=people, seed=seed).query]
    assert len({item[1] for item in items}) == min(people, 3)
    assert items == seen(IMAGES, people=people, seed=seed).query


@pytest.mark.parametrize(("seekers", "sought"), [(INFRARED, VISIBLE), (VISIBLE, INFRARED)])
def test_each_modality_stays_on_its_side(seekers, sought):
    items = [
        Tracklet((f"{person}{modality}{take}.jpg",), person, 3 + modality, modality)
        for person in (5, 9)
        for modality in (VISIBLE, INFRARED)
        for take in range(2)
    ]
    data = seen(items, [seekers], [sought])
    assert [item[1] for item in data.query] == [5, 9]
    assert {item[3] for item in data.query} == {seekers}
    assert {item[3] for item in data.gallery} == {sought} and len(data.gallery) == 4
    assert {item[2] for item in data.query} == {3 + seekers}, "numbers of cameras stay"


def test_nobody_is_an_empty_set():
    assert seen([]).query == seen([]).gallery == [] and not seen([]).searchable
    assert seen(IMAGES).searchable


def test_who_is_seen_by_one_camera_cannot_be_searched_for_under_the_camera_rule():
    one = [image for image in IMAGES if image[2] == "market_c1"]
    rules = Direction(((None, None),), junk="camera")
    for items, found in ((one, False), (IMAGES, True)):
        assert TrainingPeople("Q2G", rules, items, {VISIBLE}, {VISIBLE}, 9, 0).searchable == found


@pytest.mark.slow
def test_texts_are_numbered_and_numbers_stay():
    assert number_texts({"b", "a", "c"}) == {"a": 0, "b": 1, "c": 2}
    assert number_texts([7, 3]) == {3: 3, 7: 7}
