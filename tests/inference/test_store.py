"""Features on disk: resumed, sharded, and scored as those in memory are."""

import dataclasses

import numpy as np
import pytest
import torch

from plugins.errors import InputError
from plugins.evaluation import Side, counting, evaluate_ranking
from plugins.inference.features import NAMES
from plugins.inference.store import FeatureStore, score_stores

NETWORK = {"network": {"weights": "a", "metric": "euclidean"}}


def names_of(pids, camids):
    number = len(pids)
    texts = {
        "person": [f"p{pid}" if pid else "" for pid in pids],
        "camera": [f"{camid}" for camid in camids],
    }
    return {
        name: np.array(texts.get(name, [f"{name}{row}" for row in range(number)])) for name in NAMES
    }


def stored(folder, features, pids, camids, dtype="float32", about=NETWORK):
    store = FeatureStore.create(folder, names_of(pids, camids), features.shape[1], dtype, about)
    for part in features.split(7):
        store.write((0, 1), 0, part)
    return store


def drawn(number, seed):
    generator = torch.Generator().manual_seed(seed)
    pids = torch.randint(5, (number,), generator=generator)  # 0 is not known
    camids = torch.randint(1, 4, (number,), generator=generator)
    return torch.randn(number, 6, generator=generator).round(), pids, camids


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("junk", ["camera", "sysu"])
def test_scores_of_stores_are_those_of_the_features_in_memory(tmp_path, monkeypatch, dtype, junk):
    monkeypatch.setattr(counting, "TILE_BYTES", 8 * 6 * 10)
    query, gallery = drawn(20, 0), drawn(90, 1)
    stores = [
        stored(tmp_path / name, *side, dtype)
        for name, side in (("query", query), ("gallery", gallery))
    ]
    sides = [Side(*side) for side in (query, gallery)]
    sides[0].pids[sides[0].pids == 0] = -1
    sides[1].pids[sides[1].pids == 0] = -2

    found = score_stores(*stores, junk=junk)

    expected = evaluate_ranking(*sides, metric="euclidean", junk=junk)
    for field in dataclasses.fields(expected):
        name = field.name
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_shards_are_written_in_any_order_and_go_on_after_a_stop(tmp_path):
    features, pids, camids = drawn(50, 0)
    make = (tmp_path / "store", names_of(pids, camids), 6, "float32", NETWORK)
    FeatureStore.create(*make).write((1, 2), 30, features[30:45])
    begun = FeatureStore.create(*make)
    assert begun.written((1, 2)) == 15 and begun.written((0, 2)) == 0
    with pytest.raises(InputError, match="15 of 50 rows are written; give the command that"):
        _ = begun.features
    begun.write((0, 2), 0, features[:30])
    begun.write((1, 2), 30, features[45:])
    assert torch.equal(FeatureStore(tmp_path / "store").features, features)
    assert begun.column("person").tolist() == names_of(pids, camids)["person"].tolist()


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ([(0, 20), (10, 10), (30, 20)], "row 10 is written twice; expected shards cut with the sa"),
        ([(0, 20), (25, 25), (45, 5)], "row 20 is written by no shard; expected shards cut with"),
        ([(5, 25), (25, 20), (45, 5)], "row 0 is written by no shard"),
    ],
)
def test_shards_that_overlap_or_leave_a_gap_are_refused(tmp_path, shards, message):
    """As of commands with other batches, which together write as many rows as there are."""
    features, pids, camids = drawn(50, 0)
    store = FeatureStore.create(tmp_path, names_of(pids, camids), 6, "float32", NETWORK)
    for number, (first, rows) in enumerate(shards):
        store.write((number, 3), first, features[first : first + rows])
    with pytest.raises(InputError, match=message):
        _ = store.features


def test_a_shard_that_begins_before_its_store_is_told(tmp_path):
    stored(tmp_path, *drawn(9, 0))
    (file,) = tmp_path.glob("shard_*.json")
    file.write_text(file.read_text().replace('"first": 0', '"first": -5'))
    with pytest.raises(
        InputError, match=r"shard_0-of-1\.json: first -5, rows 9; expected 0 or more"
    ):
        _ = FeatureStore(tmp_path).features


def test_a_store_of_other_features_is_refused(tmp_path):
    features, pids, camids = drawn(9, 0)
    stored(tmp_path / "store", features, pids, camids)
    with pytest.raises(InputError, match=r"holds other features \(dtype differ\)"):
        stored(tmp_path / "store", features, pids, camids, "float16")
    with pytest.raises(InputError, match=r"holds other features \(network differ\)"):
        stored(tmp_path / "store", features, pids, camids, about={"network": {"weights": "b"}})
    with pytest.raises(InputError, match="type float8: expected float16 or float32"):
        stored(tmp_path / "other", features, pids, camids, "float8")
    other = stored(tmp_path / "other", features, pids, camids, about={"network": {"weights": "b"}})
    with pytest.raises(InputError, match="expected features of one network"):
        score_stores(FeatureStore(tmp_path / "store"), other)


@pytest.mark.parametrize(
    ("name", "what"),
    [("person", "labels"), ("camera", "labels"), ("modality", "labels"), ("path", "items")],
)
def test_a_store_of_other_labels_is_refused(tmp_path, name, what):
    names = names_of(*drawn(9, 0)[1:])
    other = {**names, name: np.array([*names[name][:-1], "another"])}
    FeatureStore.create(tmp_path, names, 6, "float32", NETWORK)
    with pytest.raises(InputError, match=rf"holds other features \({what} differ\); remove it"):
        FeatureStore.create(tmp_path, other, 6, "float32", NETWORK)
    assert FeatureStore.create(tmp_path, names, 6, "float32", NETWORK).number == 9


def test_what_does_not_fit_the_type_or_the_file_is_told(tmp_path):
    features, pids, camids = drawn(9, 0)
    store = FeatureStore.create(tmp_path / "s", names_of(pids, camids), 6, "float16", NETWORK)
    with pytest.raises(InputError, match="rows 0 to 9 are NaN, infinite or too large for float16"):
        store.write((0, 1), 0, features + 1e6)
    assert store.written((0, 1)) == 0
    with open(tmp_path / "s" / "features.bin", "r+b") as file:
        file.truncate(50)
    with pytest.raises(InputError, match=r"features.bin: 50 bytes; expected 108"):
        FeatureStore(tmp_path / "s")


def test_a_rule_of_numbered_cameras_refuses_names(tmp_path):
    features, pids, _ = drawn(9, 0)
    cameras = [f"D{number}" for number in range(9)]
    store = stored(tmp_path / "store", features, pids, cameras)
    with pytest.raises(InputError, match="junk rule sysu: camera 'D0'; expected 1 to 6"):
        score_stores(store, store, junk="sysu")


@pytest.mark.parametrize("at", [0, 30 * 24 + 5, 49 * 24])
def test_a_row_that_has_changed_on_disk_is_told(tmp_path, at):
    features, pids, camids = drawn(50, 0)
    store = FeatureStore.create(tmp_path, names_of(pids, camids), 6, "float32", NETWORK)
    for shard, first, last in ((1, 30, 50), (0, 0, 30)):
        for part in features[first:last].split(8):
            store.write((shard, 2), first, part)
    content = bytearray((tmp_path / "features.bin").read_bytes())
    content[at] ^= 1
    (tmp_path / "features.bin").write_bytes(content)
    rows = "30 to 50" if at >= 30 * 24 else "0 to 30"
    with pytest.raises(InputError, match=f"damaged: the checksum of the rows from {rows} is wrong"):
        _ = FeatureStore(tmp_path).features


DAMAGED = {
    "store.json": {
        b"[]": r"found \[\]; expected a mapping, with schema",
        b'{"schema": "x"}': "version: found null",
        b'{"schema": "fastreid-plugins/feature-store", "version": 1, "number": 9, "length": 6, '
        b'"dtype": "float32", "about": {"network": 3}}': "network: found 3; expected a mapping",
        b"{": ":1: Expecting property name",
    },
    "shard_0-of-1.json": {b"{}": "first: found null", b'{"first": 0, "rows": "9"}': "rows: found"},
    "items.npz": {b"PK": "expected 9 names in 'person', found a damaged", b"": "expected 9 names"},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_of_a_store_is_named(tmp_path, name):
    stored(tmp_path, *drawn(9, 0))
    for content, message in DAMAGED[name].items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}:? ?{message}"):
            score_stores(FeatureStore(tmp_path), FeatureStore(tmp_path))


@pytest.mark.slow
def test_shards_of_another_number_are_not_mixed(tmp_path):
    stored(tmp_path, *drawn(9, 0))
    told = "shard_0-of-1.json: a shard of another number than 2; go on with that number"
    with pytest.raises(InputError, match=told):
        FeatureStore(tmp_path).written((0, 2))
