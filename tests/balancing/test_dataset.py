"""Training on the generated images: the items, the batches, and how many of them are generated."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.balancing.dataset import pseudo_items
from plugins.balancing.planner import FEW, Slot
from plugins.balancing.sampler import CappedIdentitySampler
from plugins.balancing.tables import MANIFEST, PLAN, Outcome, write_table
from plugins.config import setup_cfg
from plugins.data import build_dataset, build_train_loader
from plugins.data.datasets.tracklet import VISIBLE, Tracklet
from plugins.data.samplers import IdentitySampler
from plugins.errors import InputError
from plugins.synthetic import MARKET1501, SyntheticSettings, render_layout
from tests.helpers.balancing_toys import write_photographs

K = 4


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    settings = SyntheticSettings(train_ids=2, test_ids=2, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", settings, workers=1)
    write_photographs(root / "balance", [("ann", "1")], number=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(root))
        _, person, camera = build_dataset("Market1501").train[0]
    scores = {"is_pseudo": 1, "seed": 0, "candidates": 5}
    rows = [
        Outcome(0, person, camera, FEW, "ann_1_0.png", **scores, accepted=2, person_rank=1,
                camera_probability=0.9),
        Outcome(1, person, camera, FEW, "", **scores, accepted=0, person_rank=0,
                camera_probability=0.0),
    ]  # fmt: skip
    write_table(root / "balance" / MANIFEST, Outcome, rows)
    return root


@pytest.fixture
def cfg(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    cfg = setup_cfg()
    cfg.MODEL.DEVICE, cfg.SEED = "cpu", 0
    cfg.DATASETS.NAMES = ("BalancedDataset",)
    cfg.DATALOADER.SAMPLER_TRAIN = "CappedIdentitySampler"
    cfg.DATALOADER.NUM_INSTANCE, cfg.DATALOADER.NUM_WORKERS = K, 0
    cfg.INPUT.SIZE_TRAIN = [16, 8]
    cfg.SOLVER.IMS_PER_BATCH = 2 * K
    return cfg


@pytest.mark.slow
def test_fastreids_market_gets_the_filled_slots_and_keeps_its_test_set(cfg, root):
    plain = build_dataset("Market1501")
    data = build_dataset("BalancedDataset", cfg=cfg)
    path = str(root / "balance" / "ann_1_0.png")
    assert data.train == [*plain.train, (path, *plain.train[0][1:], True)]
    assert (data.query, data.gallery) == (plain.query, plain.gallery)
    assert data.directions().keys() == {"Q2G"}


def test_a_batch_says_which_images_are_generated(cfg):
    loader = build_train_loader(cfg)
    seen = Counter()
    for _, batch in zip(range(12), loader, strict=False):
        assert batch["is_pseudo"].dtype == torch.bool
        generated = ["ann_1_0.png" in path for path in batch["img_paths"]]
        assert batch["is_pseudo"].tolist() == generated
        seen += Counter(generated)
    assert seen[True] > 0 and seen[False] > seen[True]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("person", "market1501_3", "no person 'market1501_3'; nearest: market1501_"),
        ("camera", "7", "no camera '7'"),
        ("path", "gone.png", "no image"),
    ],
)
def test_a_manifest_of_another_set_is_refused_with_file_and_line(
    column, value, message, cfg, root, tmp_path
):
    _, person, camera = build_dataset("Market1501").train[0]
    row = Outcome(0, person, camera, FEW, "x.png", 1, 0, 5, 1, 1, 0.5)
    write_table(tmp_path / MANIFEST, Outcome, [row._replace(**{column: value})])
    cfg.DATASETS.BALANCE.DIR = str(tmp_path)
    with pytest.raises(InputError, match=rf"{MANIFEST}:2: .*{message}"):
        build_dataset("BalancedDataset", cfg=cfg)


def test_a_manifest_that_lacks_slots_of_its_plan_is_refused(cfg, root, tmp_path):
    _, person, camera = build_dataset("Market1501").train[0]
    slots = [Slot(number, person, camera, FEW) for number in range(3)]
    rows = [Outcome(*slot, "", 1, 0, 5, 0, 0, 0.0) for slot in slots]
    write_table(tmp_path / PLAN, Slot, slots)
    cfg.DATASETS.BALANCE.DIR = str(tmp_path)
    write_table(tmp_path / MANIFEST, Outcome, rows[:2])
    goes_on = r"python tools/balance_data\.py generate goes on"
    message = f"{MANIFEST}: 2 of the 3 slots of {PLAN}; {goes_on}"
    with pytest.raises(InputError, match=message):
        build_dataset("BalancedDataset", cfg=cfg)
    write_table(tmp_path / MANIFEST, Outcome, rows)  # no candidate passed
    assert len(build_dataset("BalancedDataset", cfg=cfg).train) == len(
        build_dataset("Market1501").train
    )


def test_tracklets_get_one_frame_tracklets(cfg, root):
    real = [Tracklet((path,), *ids, VISIBLE) for path, *ids in build_dataset("Market1501").train]
    path = str(root / "balance" / "ann_1_0.png")
    expected = real[0]._replace(img_paths=(path,), is_pseudo=True)
    assert pseudo_items(real, root / "balance") == [expected]


def items_of(real, pseudo):
    """People with so many real and generated images each."""
    return [
        Tracklet((f"{pid}/{number}",), pid, 0, VISIBLE, number >= own)
        for pid, (own, made) in enumerate(zip(real, pseudo, strict=True))
        for number in range(own + made)
    ]


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 12)), min_size=2, max_size=5),
    st.integers(1, 5),
    st.integers(0, 99),
)
def test_at_most_half_of_a_persons_images_are_generated(people, instances, seed):
    items = items_of(*zip(*people, strict=True)) * 5  # enough for a batch
    options = {"batch_size": 2 * instances, "num_instances": instances, "seed": seed}
    sampler = CappedIdentitySampler(items, **options)
    plain = IdentitySampler(items, **options)
    for step in range(sampler.batches_per_epoch):
        batch = [items[index] for index, _ in sampler.batch(0, step)]
        before = [items[index] for index, _ in plain.batch(0, step)]
        assert [item.pid for item in batch] == [item.pid for item in before]
        for pid in {item.pid for item in batch}:
            own = [item for item in batch if item.pid == pid]
            drawn = [item for item in before if item.pid == pid]
            made = sum(item.is_pseudo for item in own)
            assert made == min(instances // 2, sum(item.is_pseudo for item in drawn))


def test_real_images_of_a_batch_differ_while_there_are_others():
    items = items_of([4, 4], [20, 20])
    sampler = CappedIdentitySampler(items, batch_size=8, num_instances=4, seed=0)
    for step in range(sampler.batches_per_epoch):
        rows = [index for index, _ in sampler.batch(0, step)]
        assert len(set(rows)) == len(rows)


def test_without_generated_images_it_is_the_plain_sampler():
    items = items_of([8, 8, 8], [0, 0, 0])
    options = {"batch_size": 8, "num_instances": 4, "seed": 3}
    ours, plain = (kind(items, **options) for kind in (CappedIdentitySampler, IdentitySampler))
    for step in range(ours.batches_per_epoch):
        np.testing.assert_array_equal(ours.batch(1, step), plain.batch(1, step))
