from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.data.datasets import INFRARED, VISIBLE, Tracklet
from plugins.data.samplers import (
    CrossModalIdentitySampler,
    IdentitySampler,
    ShuffleSampler,
    walk,
)
from plugins.errors import InputError


def people(*counts):
    """Tracklets of people with (visible, infrared) clips each, mixed up."""
    items = [
        Tracklet((f"{pid}-{modality}-{clip}.jpg",), pid, 1, modality)
        for pid, pair in enumerate(counts)
        for modality, count in enumerate(pair)
        for clip in range(count)
    ]
    order = np.random.default_rng(0).permutation(len(items))
    return [items[index] for index in order]


def cross_modal(items, batch_size=8, num_instances=2, seed=0, **ranks):
    return CrossModalIdentitySampler(
        items, batch_size=batch_size, num_instances=num_instances, seed=seed, **ranks
    )


def epoch_of(sampler, epoch=0):
    return [sampler.batch(epoch, step) for step in range(sampler.batches_per_epoch)]


COUNTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=4, max_size=9)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 3), st.integers(0, 5))
def test_a_batch_is_people_times_clips_visible_then_infrared(counts, instances, epoch):
    items = people(*counts, *[(3, 3)] * 6)
    sampler = cross_modal(items, 4 * 2 * instances, instances)
    assert sampler.batches_per_epoch > 0
    for batch in epoch_of(sampler, epoch):
        chosen = [items[index] for index, _ in batch]
        visible, infrared = chosen[: len(batch) // 2], chosen[len(batch) // 2 :]
        assert {item.modality for item in visible} == {VISIBLE}
        assert {item.modality for item in infrared} == {INFRARED}
        pids = [item.pid for item in visible]
        assert pids == [item.pid for item in infrared]
        assert len(set(pids)) == 4
        assert pids == [pid for pid in pids[::instances] for _ in range(instances)]
        for side in (visible, infrared):
            for start in range(0, len(side), instances):
                own = [item for item in items if item[1:] == side[start][1:]]
                different = len(set(side[start : start + instances]))
                assert different == min(instances, len(own))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_a_walk_visits_all_equally_often_and_none_twice_in_a_row_of_its_table(
    count, rows, width, seed
):
    table = walk(count, rows, width, np.random.default_rng(seed))
    assert table.shape == (rows, width)
    visits = np.bincount(table.ravel(), minlength=count)
    assert len(visits) == count
    assert visits.max() - visits.min() <= 1
    for row in table:
        assert len(set(row.tolist())) == min(width, count)


def test_people_and_clips_come_equally_often_in_an_epoch():
    items = people(*[(6, 6)] * 7)
    visits = Counter(index for batch in epoch_of(cross_modal(items, 8, 2), 3) for index, _ in batch)
    per_person = Counter()
    for index, count in visits.items():
        per_person[items[index].pid] += count
    assert max(per_person.values()) - min(per_person.values()) <= 4
    assert max(visits.values()) - min(visits[index] for index in range(len(items))) <= 1


def test_batches_per_epoch_follow_the_smaller_modality():
    assert cross_modal(people(*[(9, 4)] * 5), 8, 2).batches_per_epoch == 20 // 4
    assert cross_modal(people(*[(4, 9)] * 5), 8, 2).batches_per_epoch == 20 // 4


def test_very_unbalanced_sets_are_sampled():
    items = people((40, 1), (1, 40), (40, 1), (1, 40))
    for batch in epoch_of(cross_modal(items, 16, 4)):
        assert len(batch) == 16


def test_other_pairs_meet_in_each_epoch():
    items = people(*[(4, 4)] * 8)
    sampler = cross_modal(items)
    first, second = (
        [frozenset(index for index, _ in batch) for batch in epoch_of(sampler, epoch)]
        for epoch in (0, 1)
    )
    assert not set(first) & set(second)


def test_each_clip_has_its_own_draw_seed():
    sampler = cross_modal(people(*[(4, 4)] * 8))
    seeds = [seed for epoch in (0, 1) for batch in epoch_of(sampler, epoch) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)
    assert all(isinstance(seed, int) and 0 <= seed < 2**63 for seed in seeds)


def test_batches_depend_on_the_seed_and_on_nothing_asked_before():
    items = people(*[(4, 4)] * 8)
    fresh, used = cross_modal(items), cross_modal(items)
    np.random.seed(1)
    for epoch, step in ((5, 1), (0, 0), (2, 3), (5, 0)):
        used.batch(epoch, step)
    assert used.batch(1, 2) == fresh.batch(1, 2)
    assert cross_modal(items, seed=1).batch(1, 2) != fresh.batch(1, 2)


def test_two_ranks_share_the_batch_of_one():
    """Same clips, same draws, and no person on both ranks."""
    items = people(*[(4, 4)] * 9)
    whole = cross_modal(items, 16, 2)
    ranks = [cross_modal(items, 8, 2, rank=rank, world_size=2) for rank in (0, 1)]
    assert whole.batches_per_epoch == ranks[0].batches_per_epoch == ranks[1].batches_per_epoch
    for step in range(whole.batches_per_epoch):
        parts = [sampler.batch(2, step) for sampler in ranks]
        assert sorted(parts[0] + parts[1]) == sorted(whole.batch(2, step))
        first, second = ({items[index].pid for index, _ in part} for part in parts)
        assert not first & second


@pytest.mark.parametrize("start", [0, 1, 5, 6, 13])
def test_a_resumed_stream_goes_on_as_the_uninterrupted_one(start):
    items = people(*[(4, 4)] * 6)
    stream = iter(cross_modal(items))
    expected = [next(stream) for _ in range(20)]
    assert [b for e in range(3) for b in epoch_of(cross_modal(items), e)][:20] == expected[:18]
    stopped, resumed = cross_modal(items), cross_modal(items)
    stopped.position = start
    resumed.load_state_dict(stopped.state_dict())
    stream = iter(resumed)
    assert [next(stream) for _ in range(20 - start)] == expected[start:]


def test_prefetching_does_not_move_the_position():
    sampler = cross_modal(people(*[(4, 4)] * 6))
    stream = iter(sampler)
    for _ in range(5):
        next(stream)
    assert sampler.state_dict() == {"position": 0}


def test_people_of_one_modality_are_left_out_with_one_warning(caplog):
    items = people(*[(4, 4)] * 4, (5, 0), (0, 5), (3, 0))
    sampler = cross_modal(items)
    chosen = {items[index].pid for batch in epoch_of(sampler) for index, _ in batch}
    assert chosen == {0, 1, 2, 3}
    assert sampler.batches_per_epoch == 16 // 4
    assert [r.getMessage() for r in caplog.records] == [
        "3 of 7 training people are left out: seen in one modality only"
    ]


@pytest.mark.parametrize(("batch_size", "instances"), [(6, 2), (2, 2), (8, 0), (0, 2)])
def test_a_batch_that_does_not_hold_whole_people_is_refused(batch_size, instances):
    with pytest.raises(InputError) as caught:
        cross_modal(people(*[(4, 4)] * 8), batch_size, instances)
    for part in (f"SOLVER.IMS_PER_BATCH: {batch_size}", f"2 x DATALOADER.NUM_INSTANCE {instances}"):
        assert part in str(caught.value)


LOWER = "lower it or DATALOADER.NUM_INSTANCE"


@pytest.mark.parametrize(
    ("items", "batch_size", "numbers"),
    [
        (people(*[(4, 4)] * 3), 16, ("needs 4 people", "has 3 and 12", LOWER)),
        (people(*[(1, 9)] * 4), 16, ("8 items of each modality", "has 4 and 4", LOWER)),
        (people((5, 0), (0, 5)), 4, ("needs 1 people", "has 0 and 0", "IdentitySampler")),
        ([], 4, ("needs 1 people", "has 0 and 0", "IdentitySampler")),
    ],
)
def test_too_small_a_set_is_refused_with_the_numbers(items, batch_size, numbers):
    with pytest.raises(InputError) as caught:
        cross_modal(items, batch_size)
    for part in (f"SOLVER.IMS_PER_BATCH {batch_size}", *numbers):
        assert part in str(caught.value)


def test_ranks_need_people_for_all_of_them():
    items = people(*[(4, 4)] * 3)
    assert cross_modal(items, 8, 2).batches_per_epoch == 3
    with pytest.raises(InputError, match="IMS_PER_BATCH 16"):
        cross_modal(items, 8, 2, rank=0, world_size=2)


def test_shuffle_sampler_takes_every_item_once_in_another_order_each_epoch():
    items = people(*[(3, 2)] * 5)
    sampler = ShuffleSampler(items, batch_size=4, num_instances=3, seed=0)
    assert sampler.batches_per_epoch == 25 // 4
    orders = [[index for batch in epoch_of(sampler, e) for index, _ in batch] for e in (0, 1)]
    assert all(len(set(order)) == 24 for order in orders)
    assert orders[0] != orders[1]


def test_shuffle_sampler_ranks_share_an_epoch_without_overlap():
    items = people(*[(3, 2)] * 5)
    parts = [
        ShuffleSampler(items, batch_size=4, num_instances=1, seed=0, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    drawn = [index for part in parts for batch in epoch_of(part) for index, _ in batch]
    assert len(drawn) == len(set(drawn)) == 24


def test_identity_sampler_takes_people_times_items_of_any_modality():
    items = people((5, 0), (0, 4), (2, 2), (1, 0), (3, 3))
    sampler = IdentitySampler(items, batch_size=6, num_instances=2, seed=0)
    assert sampler.batches_per_epoch == 20 // 6
    for batch in epoch_of(sampler):
        pids = [items[index].pid for index, _ in batch]
        assert pids[::2] == pids[1::2]
        assert len(set(pids)) == 3
