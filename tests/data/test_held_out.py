"""Held-out training people: who they are, what searches what, and what is left to train on."""

import csv
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.balancing.planner import FEW
from plugins.balancing.tables import MANIFEST, Outcome, write_table
from plugins.config import setup_cfg
from plugins.data import build_dataset, build_test_loader, build_train_loader
from plugins.data.checks import check_labels
from plugins.data.datasets.held_out import check_held_out, searchable_people, split_groups
from plugins.data.datasets.splits import read_splits
from plugins.data.datasets.tracklet import INFRARED, VISIBLE, Tracklet, as_tracklet
from plugins.errors import InputError
from plugins.evaluation import VVIEvaluator
from plugins.protocol import Direction
from tests.helpers.hitsz_tree import write_frame
from tests.helpers.image_trees import SYSU_COUNTS, write_sysu

# Training images of Market-1501 by person and camera. One camera saw 5; of 6 there is one image
# under each; of 7 and 8 there is one under camera 2.
MARKET = {(pid, camid): 3 for pid in (1, 2, 3, 4) for camid in (1, 2, 3)}
MARKET |= {(5, 1): 4, (6, 1): 1, (6, 2): 1, (7, 1): 3, (7, 2): 1, (8, 1): 2, (8, 2): 1}
SEARCHABLE = {1, 2, 3, 4, 7, 8}


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    test = {"query": {(11, 1): 1}, "bounding_box_test": {(11, 2): 2}}
    for folder, counts in ({"bounding_box_train": MARKET} | test).items():
        place = root / "Market-1501-v15.09.15" / folder
        place.mkdir(parents=True)
        for (pid, camid), number in counts.items():
            for frame in range(number):
                path = place / f"{pid:04d}_c{camid}s1_{frame:06d}_01.jpg"
                write_frame(path, seed=100 * pid + frame)
    return root


def config(name: str, people: int, **changes):
    cfg = setup_cfg()
    cfg.MODEL.DEVICE, cfg.SEED, cfg.DATALOADER.NUM_WORKERS = "cpu", 0, 0
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [16, 8]
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("HeldOutPeople",)
    cfg.DATASETS.HELD_OUT.NAME, cfg.DATASETS.HELD_OUT.PEOPLE = name, people
    cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.NUM_INSTANCE = "IdentitySampler", 2
    cfg.SOLVER.IMS_PER_BATCH, cfg.TEST.IMS_PER_BATCH = 4, 8
    for key, value in changes.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


@pytest.fixture
def in_market(market, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))


def files(items) -> set[str]:
    return {file for item in items for file in as_tracklet(item).img_paths}


def people_of(files_of_market: set[str]) -> set[int]:
    return {int(file.rsplit("/", 1)[1][:4]) for file in files_of_market}


def evaluated(cfg) -> dict:
    """Scores of random features, through loader and evaluator."""
    loader, data = build_test_loader(cfg, "HeldOutPeople")
    evaluator = VVIEvaluator(cfg, data)
    generator = torch.Generator().manual_seed(0)
    for batch in loader:
        evaluator.process(batch, torch.randn(len(batch["rows"]), 4, generator=generator))
    return evaluator.evaluate()


def test_images_are_split_by_person_and_nothing_of_the_test_set_is_read(in_market):
    plain = build_dataset("Market1501")
    data = build_dataset("HeldOutPeople", cfg=config("Market1501", 4))
    held = files(data.query) | files(data.gallery)
    assert not files(data.query) & files(data.gallery)
    assert files(data.train) | held == files(plain.train)
    assert not people_of(files(data.train)) & people_of(held)
    assert len(people_of(held)) == 4 and people_of(held) <= SEARCHABLE
    assert set(data.train) <= set(plain.train)
    assert not [complaint for complaint in check_labels(read_splits(data)) if complaint.fatal]


def test_one_image_of_a_person_under_a_camera_is_a_query_and_every_query_has_a_match(in_market):
    cfg = config("Market1501", 6)
    data = build_dataset("HeldOutPeople", cfg=cfg)
    queries = sorted(file.rsplit("/", 1)[1][:7] for file in files(data.query))
    several = [f"{p:04d}_c{c}" for (p, c), n in MARKET.items() if p in SEARCHABLE and n > 1]
    assert queries == sorted(several)
    scores = evaluated(cfg)
    assert scores.keys() == {"Q2G", "metric"}
    assert scores["Q2G"]["queries"] == len(queries)


def test_the_loader_numbers_the_people_that_are_left(in_market):
    cfg = config("Market1501", 4)
    loader = build_train_loader(cfg)
    assert loader.dataset.num_classes == 4
    _, batch = next(zip(range(1), loader, strict=False))
    assert batch["images"].shape == (4, 3, 16, 8)
    assert set(batch["targets"].tolist()) <= set(range(4))


def test_the_seed_alone_decides_who_is_drawn(in_market):
    def drawn(seed: int) -> tuple[set, set]:
        cfg = config("Market1501", 3, DATASETS__HELD_OUT__SEED=seed)
        data = build_dataset("HeldOutPeople", cfg=cfg)
        return files(data.query), files(data.gallery)

    assert drawn(0) == drawn(0)
    assert len({frozenset(people_of(drawn(seed)[1])) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"HELD_OUT__PEOPLE": 7}, "PEOPLE: 7; Market1501 has 8 .* whom 6 can .* expected 2 to 6"),
        ({"HELD_OUT__PEOPLE": 1}, "PEOPLE: 1; .* expected 2 to 6"),
        ({"HELD_OUT__NAME": "HeldOutPeople"}, "NAME: HeldOutPeople; expected another"),
        ({"HELD_OUT__NAME": "Market1051"}, "HELD_OUT.NAME: no DATASET .* known: Market1501"),
    ],
)
def test_what_cannot_be_held_out_is_refused(in_market, changes, message):
    cfg = config("Market1501", 4, **{f"DATASETS__{key}": value for key, value in changes.items()})
    with pytest.raises(InputError, match=message):
        build_dataset("HeldOutPeople", cfg=cfg)


def test_nobody_trains_on_the_people_held_out(in_market):
    cfg = config("Market1501", 4, DATASETS__COMBINEALL=True)
    with pytest.raises(InputError, match=r"DATASETS\.COMBINEALL: True"):
        build_train_loader(cfg)
    check_held_out(cfg)
    cfg.DATASETS.THINNED.NAME = "Market1501"
    for name in ("Market1501", "BalancedDataset", "ThinnedDataset"):
        cfg.DATASETS.NAMES = (name,)
        with pytest.raises(InputError, match=rf"DATASETS\.NAMES: {name} trains on the people"):
            check_held_out(cfg)
    cfg.DATASETS.BALANCE.NAME = cfg.DATASETS.THINNED.NAME = "HeldOutPeople"
    check_held_out(cfg)
    cfg.DATASETS.BALANCE.NAME, cfg.DATASETS.THINNED.NAME = "ThinnedDataset", "BalancedDataset"
    with pytest.raises(InputError, match="BalancedDataset and ThinnedDataset are inside each"):
        check_held_out(cfg)


def test_generated_images_are_never_searched_for(in_market, market, tmp_path):
    real = {item[1]: item[2] for item in build_dataset("Market1501").train}
    rows = []
    for slot, (person, camera) in enumerate(real.items()):
        write_frame(tmp_path / f"{slot}.jpg", seed=slot)
        rows.append(Outcome(slot, person, camera, FEW, f"{slot}.jpg", 1, 0, 5, 1, 1, 0.5))
    write_table(tmp_path / MANIFEST, Outcome, rows)
    cfg = config("BalancedDataset", 3, DATASETS__BALANCE__DIR=str(tmp_path))
    data = build_dataset("HeldOutPeople", cfg=cfg)
    kept = {item[1] for item in data.train}
    assert len(kept) == 5
    generated = [item for item in data.train if as_tracklet(item).is_pseudo]
    assert [item[1] for item in generated] == [person for person in real if person in kept]
    assert not any(as_tracklet(item).is_pseudo for item in [*data.query, *data.gallery])
    assert {len(item) for item in [*data.query, *data.gallery]} == {3}
    cfg.DATASETS.HELD_OUT.PEOPLE = 7  # the second image of 6 under camera 2 is generated
    with pytest.raises(InputError, match="of whom 6 can be found"):
        build_dataset("HeldOutPeople", cfg=cfg)


def test_clips_of_both_modalities_search_each_other_both_ways(cfg):
    cfg.DATASETS.HELD_OUT.NAME, cfg.DATASETS.HELD_OUT.PEOPLE = "HITSZVCM", 2
    data = build_dataset("HeldOutPeople", cfg=cfg)
    base = build_dataset("HITSZVCM")
    assert {item.modality for item in data.query} == {INFRARED}
    assert {item.modality for item in data.gallery} == {VISIBLE}
    assert sorted([*data.train, *data.query, *data.gallery]) == sorted(base.train)
    assert len({item.pid for item in data.query}) == 2
    assert not {item.pid for item in data.query} & {item.pid for item in data.train}
    scores = evaluated(cfg)
    assert scores["I2V"]["queries"] == len(data.query) == 4
    assert scores["V2I"]["queries"] == len(data.gallery) == 4


def test_rules_and_drawn_galleries_are_those_of_the_set(tmp_path, monkeypatch):
    folder = write_sysu(tmp_path)
    (folder / "exp" / "train_id.txt").write_text("30,2,112,4")
    (folder / "exp" / "test_id.txt").write_text("3")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    data = build_dataset("HeldOutPeople", cfg=config("SYSUMM01", 3))
    ((name, protocol),) = data.directions().items()
    assert (name, protocol.junk, protocol.cmc, len(protocol.trials)) == (
        "I2V",
        "sysu",
        "identity",
        10,
    )
    items = [*data.query, *data.gallery]
    groups = {(item.pid, item.camid) for item in data.gallery}
    for trial in protocol.trials:
        assert [items[row] for row in trial.query] == data.query
        drawn = [(items[row].pid, items[row].camid) for row in trial.gallery]
        assert sorted(drawn) == sorted(groups)
        assert {items[row].modality for row in trial.gallery} == {VISIBLE}


def test_an_indoor_gallery_is_of_its_cameras_and_camera_3_does_not_find_camera_2(
    tmp_path, monkeypatch
):
    counts = SYSU_COUNTS | {(1, 30): 2, (2, 112): 2}  # 4 is on cameras 2 and 3 only, 7 on 4 and 3
    (write_sysu(tmp_path, counts) / "exp" / "train_id.txt").write_text("30,2,112,4")
    (tmp_path / "SYSU-MM01" / "exp" / "test_id.txt").write_text("3")
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    data = build_dataset("HeldOutPeople", cfg=config("SYSUMM01", 3, DATASETS__SYSU__MODE="indoor"))
    assert {item.pid for item in data.train} == {4, 7}
    items = [*data.query, *data.gallery]
    (protocol,) = data.directions().values()
    for trial in protocol.trials:
        found = {(items[row].pid, items[row].camid) for row in trial.gallery}
        assert found == {(2, 1), (30, 1), (112, 2)}
    with pytest.raises(InputError, match="5 training people, of whom 3 can be found by its rules"):
        build_dataset("HeldOutPeople", cfg=config("SYSUMM01", 4, DATASETS__SYSU__MODE="indoor"))


def test_a_set_without_any_test_split_can_be_judged(tmp_path, monkeypatch):
    with open(tmp_path / "manifest.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "person", "camera", "modality", "tracklet", "frame", "split"])
        for person, camera, modality in product("abcd", "12", ("visible", "infrared")):
            table.writerow(
                [f"{person}{camera}{modality}", person, camera, modality, "", "", "train"]
            )
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    data = build_dataset("HeldOutPeople", cfg=config("ManifestDataset", 2))
    protocols = data.directions()
    assert protocols.keys() == {"I2V", "V2I"}
    assert {protocol.junk for protocol in protocols.values()} == {"camera"}
    assert (len(data.train), len(data.query), len(data.gallery)) == (8, 4, 4)


ITEMS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([VISIBLE, INFRARED])),
    min_size=1,
    max_size=24,
)


@given(ITEMS, st.sampled_from(["", "camera", "none", "sysu"]), st.sets(st.integers(1, 3)))
def test_searchable_is_whoever_has_a_query_that_sees_a_match(sightings, junk, cameras):
    items = [Tracklet((str(row),), *who) for row, who in enumerate(sightings)]
    both = len({item.modality for item in items}) > 1
    rule = Direction(((None, None),), junk or "camera", gallery_cameras=tuple(cameras))
    rules = {"I2V": rule} if junk else {}

    def is_searchable(own: list[Tracklet]) -> bool:
        pairs = list(product(own, own))
        if both and junk == "sysu":
            pairs = [(q, g) for q, g in pairs if (q.camid, g.camid) != (3, 2)]
        elif not both or junk != "none":
            pairs = [(q, g) for q, g in pairs if q.camid != g.camid]
        if both and junk and cameras:
            pairs = [(q, g) for q, g in pairs if g.camid in cameras]
        if both:
            return any((q.modality, g.modality) == (INFRARED, VISIBLE) for q, g in pairs)
        return any(sum(item.camid == q.camid for item in own) > 1 for q, _ in pairs)

    people = sorted({item.pid for item in items})
    expected = [p for p in people if is_searchable([item for item in items if item.pid == p])]
    assert searchable_people(items, rules) == expected


@pytest.mark.slow
@given(ITEMS, st.integers(0, 99))
def test_of_each_group_of_several_one_is_a_query(sightings, seed):
    items = [(str(row), pid, camid) for row, (pid, camid, _) in enumerate(sightings)]
    query, gallery = split_groups(items, seed)
    assert sorted(query + gallery) == sorted(items)
    sizes = {item[1:]: sum(other[1:] == item[1:] for other in items) for item in items}
    assert sorted(item[1:] for item in query) == sorted(g for g, size in sizes.items() if size > 1)
