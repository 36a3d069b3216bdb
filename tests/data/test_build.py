import glob
import logging
import os
import random
import shutil

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image

from plugins.data import build_dataset, build_test_loader, build_train_loader, datasets_root
from plugins.data.checks import check_searches
from plugins.data.datasets import HITSZVCM
from plugins.data.loaders import DeviceLoader, collate, loader_workers, to_device
from plugins.errors import InputError
from plugins.registry import DATASET
from tests.helpers.hitsz_tree import TEST, Walk, write_tree


def take(loader, count):
    stream = iter(loader)
    return [next(stream) for _ in range(count)]


def assert_equal_batches(first, second):
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert one.keys() == two.keys()
        assert one["img_paths"] == two["img_paths"]
        for key in ("images", "targets", "camids", "modalities"):
            assert torch.equal(one[key], two[key])


@pytest.fixture
def market(tree, monkeypatch):
    """fastreid's Market-1501, 3 people x 4 images to train and 2 x 3 to test, beside the tree."""
    folder = tree / "Market-1501-v15.09.15"
    for part, pids, count in (
        ("bounding_box_train", (2, 7, 11), 4),
        ("query", (3, 4), 1),
        ("bounding_box_test", (3, 4), 2),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for pid in pids:
            for camera in range(1, count + 1):
                image = Image.fromarray(np.full((20, 10, 3), pid * 10, np.uint8))
                image.save(folder / part / f"{pid:04d}_c{camera}s1_000151_01.jpg")


def test_a_training_batch_keeps_the_contract(cfg):
    loader = build_train_loader(cfg)
    (batch,) = take(loader, 1)
    assert batch["images"].shape == (8, 6, 3, 16, 8)
    assert batch["images"].dtype == torch.float32
    assert batch["images"].min() >= 0
    assert 128 < batch["images"].max() <= 255
    for key in ("targets", "camids", "modalities"):
        assert batch[key].shape == (8,)
        assert batch[key].dtype == torch.int64
    assert batch["modalities"].tolist() == [0] * 4 + [1] * 4
    assert set(batch["targets"].tolist()) <= set(range(loader.dataset.num_classes))
    assert [len(paths) for paths in batch["img_paths"]] == [6] * 8
    assert (loader.dataset.num_classes, loader.dataset.num_cameras) == (4, 2)
    assert loader.batch_sampler.batches_per_epoch == 2


def test_workers_carry_bytes_and_the_loader_makes_floats_of_them(cfg):
    cfg.INPUT.REA.ENABLED, cfg.INPUT.REA.PROB = True, 1.0
    loader = build_train_loader(cfg)
    keys = next(iter(loader.batch_sampler))
    samples = [loader.dataset[key] for key in keys]
    (batch,) = take(loader, 1)
    assert all(sample["images"].dtype == torch.uint8 for sample in samples)
    assert "erased" not in batch
    expected = to_device(collate(samples), "cpu")["images"]
    assert torch.equal(batch["images"], expected)
    assert (expected != torch.stack([sample["images"] for sample in samples])).any()


@pytest.mark.slow
def test_workers_change_nothing(cfg):
    alone = take(build_train_loader(cfg), 5)
    cfg.DATALOADER.NUM_WORKERS = 2
    assert_equal_batches(alone, take(build_train_loader(cfg), 5))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_gives_the_batches_that_were_to_come(cfg, workers):
    whole = take(build_train_loader(cfg), 7)
    cfg.DATALOADER.NUM_WORKERS = workers
    stopped = build_train_loader(cfg)
    take(stopped, 3)
    stopped.batch_sampler.position = 3
    resumed = build_train_loader(cfg)
    resumed.batch_sampler.load_state_dict(stopped.batch_sampler.state_dict())
    assert_equal_batches(whole[3:], take(resumed, 4))


def test_loading_leaves_the_global_generators_alone(cfg):
    torch.manual_seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    take(build_train_loader(cfg), 3)
    list(build_test_loader(cfg, "HITSZVCM")[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]


def test_the_global_generators_do_not_change_the_batches(cfg):
    torch.manual_seed(0)
    first = take(build_train_loader(cfg), 2)
    torch.manual_seed(1)
    assert_equal_batches(first, take(build_train_loader(cfg), 2))


def test_another_seed_gives_other_batches(cfg):
    first = take(build_train_loader(cfg), 1)[0]
    cfg.SEED = 8
    assert not torch.equal(first["images"], take(build_train_loader(cfg), 1)[0]["images"])


def test_a_missing_seed_is_drawn(cfg):
    cfg.SEED = -1
    first, second = (take(build_train_loader(cfg), 1)[0] for _ in range(2))
    assert not torch.equal(first["images"], second["images"])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("workers", [0, 1])
def test_testing_loses_no_item_whatever_the_batch_size(cfg, batch_size, workers):
    cfg.TEST.IMS_PER_BATCH = batch_size
    cfg.DATALOADER.NUM_WORKERS = workers
    loader, data = build_test_loader(cfg, "HITSZVCM")
    batches = list(loader)
    items = [*data.query, *data.gallery]
    assert len(batches) == len(loader) == -(-len(items) // batch_size)
    found = [
        row
        for batch in batches
        for row in zip(
            batch["targets"].tolist(),
            batch["camids"].tolist(),
            batch["modalities"].tolist(),
            batch["img_paths"],
            strict=True,
        )
    ]
    assert [row[:3] for row in found] == [item[1:4] for item in items]
    assert all(set(row[3]) <= set(item.img_paths) for row, item in zip(found, items, strict=True))


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_test_of_all_clips_reads_every_frame_in_full_clips(cfg, batch_size):
    cfg.TEST.CLIPS = 0
    cfg.TEST.IMS_PER_BATCH = batch_size
    loader, data = build_test_loader(cfg, "HITSZVCM")
    items = [*data.query, *data.gallery]
    seen = [set() for _ in items]
    for batch in loader:
        assert batch["images"].shape[1] == cfg.INPUT.CLIP.LENGTH
        for row, pid, paths in zip(
            batch["rows"].tolist(), batch["targets"].tolist(), batch["img_paths"], strict=True
        ):
            assert pid == items[row].pid
            seen[row].update(paths)
    assert seen == [set(item.img_paths) for item in items]


def test_testing_reads_the_same_twice(cfg):
    loader, _ = build_test_loader(cfg, "HITSZVCM")
    assert_equal_batches(list(loader), list(loader))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_missing_frame_stops_the_loader_and_is_named(cfg, tmp_path, monkeypatch, workers):
    folder = write_tree(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    lost = folder / "Test" / "0501" / "ir" / "D3" / "1.jpg"
    cfg.DATALOADER.NUM_WORKERS = workers
    loader, _ = build_test_loader(cfg, "HITSZVCM")
    lost.unlink()  # during the run
    with pytest.raises(InputError, match=f"{lost}: no such frame"):
        list(loader)


def test_frames_that_a_run_will_open_are_missed_before_it(cfg, tmp_path, monkeypatch):
    folder = write_tree(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    last = folder / "Test" / "0501" / "ir" / "D3" / "12.jpg"
    first = last.with_name("1.jpg")
    last.unlink()
    build_test_loader(cfg, "HITSZVCM")  # its clips do not show that frame
    first.unlink()
    with pytest.raises(InputError) as caught:
        build_test_loader(cfg, "HITSZVCM")
    assert str(caught.value) == (
        f"DATASETS.TESTS HITSZVCM: 1 of 29 frames is missing: {first} "
        f"({folder}/info/test_name.txt:25); python tools/check_data.py HITSZVCM lists all that "
        "cannot be read"
    )
    for camera in (1, 2):
        (folder / "Train" / "0002" / "rgb" / f"D{camera}").rename(tmp_path / f"away{camera}")
    cfg.DATASETS.COMBINEALL = False
    with pytest.raises(InputError, match=r"^DATASETS\.NAMES HITSZVCM: 27 of 216 frames are missi"):
        build_train_loader(cfg)


def test_the_root_is_read_when_it_is_needed(monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", "/data/here")
    assert datasets_root() == "/data/here"
    monkeypatch.delenv("FASTREID_DATASETS")
    assert datasets_root() == "datasets"


def test_a_misspelt_data_set_is_answered_with_the_nearest(cfg):
    cfg.DATASETS.NAMES = ("HITSZ_VCM",)
    with pytest.raises(InputError, match=r"DATASETS.NAMES: .*'HITSZ_VCM'; known: HITSZVCM"):
        build_train_loader(cfg)


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC", "MSMT17", "VeRi"])
def test_a_missing_fastreid_set_names_the_folder_and_the_variable(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match=f"{name}: .*FASTREID_DATASETS .*{tmp_path}"):
        build_dataset(name)


@pytest.mark.parametrize(
    ("fastreids", "ours"),
    [("TrainingSampler", "ShuffleSampler"), ("NaiveIdentitySampler", "IdentitySampler")],
)
def test_fastreids_sampler_names_mean_ours(cfg, fastreids, ours):
    cfg.DATALOADER.SAMPLER_TRAIN = fastreids
    assert type(build_train_loader(cfg).batch_sampler).__name__ == ours


def test_a_sampler_with_another_meaning_is_refused(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN = "BalancedIdentitySampler"
    with pytest.raises(InputError, match=r"known: .*IdentitySampler"):
        build_train_loader(cfg)


def test_a_sampling_of_frames_is_one_of_three(cfg):
    cfg.INPUT.CLIP.SAMPLING = "linspase"
    for build in (build_train_loader, lambda cfg: build_test_loader(cfg, "HITSZVCM")):
        with pytest.raises(InputError, match=r"'linspase'; expected segments, linspace or window"):
            build(cfg)
    cfg.INPUT.CLIP.SAMPLING, cfg.TEST.CLIPS = "linspace", 0
    with pytest.raises(InputError, match=r"linspace takes one clip .* TEST.CLIPS is 0"):
        build_test_loader(cfg, "HITSZVCM")


def test_combineall_reaches_the_data_set(cfg):
    cfg.DATASETS.COMBINEALL = True
    assert build_train_loader(cfg).dataset.num_classes == 6


@pytest.mark.filterwarnings("ignore:The current data structure")
def test_fastreids_image_sets_train_and_test(cfg, market):
    cfg.DATASETS.NAMES = ("Market1501",)
    cfg.DATALOADER.SAMPLER_TRAIN = "NaiveIdentitySampler"
    cfg.SOLVER.IMS_PER_BATCH = 4
    loader = build_train_loader(cfg)
    (batch,) = take(loader, 1)
    assert batch["images"].shape == (4, 3, 16, 8)
    assert loader.dataset.num_classes == 3
    assert all(isinstance(path, str) for path in batch["img_paths"])
    loader, data = build_test_loader(cfg, "Market1501")
    batches = list(loader)
    assert [pid for batch in batches for pid in batch["targets"].tolist()] == [
        item[1] for item in data.query + data.gallery
    ]


@pytest.mark.filterwarnings("ignore:The current data structure")
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_file_system_does_not_matter(market, tree, monkeypatch, seed):
    monkeypatch.setenv("FASTREID_DATASETS", str(tree))
    listed = glob.glob

    def shuffled(pattern):
        paths = listed(pattern)
        random.Random(seed).shuffle(paths)
        return paths

    monkeypatch.setattr(glob, "glob", shuffled)
    data = build_dataset("Market1501")
    for items, count in ((data.train, 12), (data.query, 2), (data.gallery, 4)):
        paths = [path for path, _, _ in items]
        assert len(paths) == count
        assert paths == sorted(paths)


@pytest.mark.filterwarnings("ignore:The current data structure")
@pytest.mark.parametrize("part", ["bounding_box_train", "query", "bounding_box_test"])
@pytest.mark.parametrize(
    "name", ["9999_c1s1_000151_01.jpg", "0003_c9s1_000151_01.jpg", "Thumb.jpg"]
)
def test_a_file_that_is_none_of_the_set_is_one_line(
    market, tmp_path, tree, monkeypatch, part, name
):
    shutil.copytree(tree / "Market-1501-v15.09.15", tmp_path / "Market-1501-v15.09.15")
    (tmp_path / "Market-1501-v15.09.15" / part / name).touch()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    with pytest.raises(InputError, match=r"Market1501: a file in .* is not named as") as caught:
        build_dataset("Market1501")
    assert "FASTREID_DATASETS" not in str(caught.value)


def test_a_run_reads_images_within_the_limit_of_its_config(cfg):
    cfg.INPUT.MAX_PIXELS = 24 * 12
    assert len(list(build_test_loader(cfg, "HITSZVCM")[0])) > 0
    cfg.INPUT.MAX_PIXELS -= 1
    for loader in (build_train_loader(cfg), build_test_loader(cfg, "HITSZVCM")[0]):
        with pytest.raises(InputError, match=r"12 x 24 pixels; expected at most 287; .*MAX_PIXELS"):
            next(iter(loader))


@DATASET.register()
class Twin(HITSZVCM):
    """The same files under another name: its people count as others."""


def test_a_test_whose_queries_have_no_answer_is_refused(cfg, market, tree):
    for image in (tree / "Market-1501-v15.09.15/bounding_box_test").glob("*_c2s1_*"):
        image.unlink()
    with pytest.raises(InputError, match=r"Market1501: Q2G: no query sees its own person"):
        build_test_loader(cfg, "Market1501")
    (complaint,) = check_searches(build_dataset("Market1501"))
    assert complaint[:2] == (True, "Q2G")


def test_people_of_several_sets_are_told_apart(cfg):
    cfg.DATASETS.NAMES = ("HITSZVCM", "Twin")
    loader = build_train_loader(cfg)
    assert (loader.dataset.num_classes, loader.dataset.num_cameras) == (8, 4)
    half = len(loader.dataset) // 2
    labels = [[loader.dataset[i]["targets"] for i in range(k, k + half)] for k in (0, half)]
    assert not set(labels[0]) & set(labels[1])


@pytest.mark.filterwarnings("ignore:The current data structure")
def test_images_and_tracklets_cannot_train_together(cfg, market):
    cfg.DATASETS.NAMES = ("HITSZVCM", "Market1501")
    with pytest.raises(InputError, match="images and tracklets"):
        build_train_loader(cfg)


def one_of_three(rank, cfg, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    torch.set_num_threads(1)
    loader, _ = build_test_loader(cfg, "HITSZVCM")
    tested = [paths[0] for batch in loader for paths in batch["img_paths"]]
    (batch,) = take(build_train_loader(cfg), 1)
    cfg.SOLVER.IMS_PER_BATCH = 8
    with pytest.raises(InputError, match=r"IMS_PER_BATCH: 8 cannot be shared by 3 processes"):
        build_train_loader(cfg)
    trained = [paths[0].split("/")[-4] for paths in batch["img_paths"]]
    torch.save((tested, trained), os.path.join(folder, f"{rank}.pth"))
    dist.barrier()  # gloo aborts a process that is left while it speaks
    dist.destroy_process_group()


@pytest.mark.slow
def test_three_processes_share_training_people_and_test_items(cfg, tmp_path, monkeypatch):
    """Four test items make shares of 2, 2 and 0."""
    write_tree(tmp_path, test=[walk for walk in TEST if walk != Walk(502, 2, 2, 12)])
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg.SOLVER.IMS_PER_BATCH = 12
    data = HITSZVCM(root=str(tmp_path))
    mp.start_processes(one_of_three, (cfg, str(tmp_path)), nprocs=3, start_method="fork")
    ranks = [torch.load(tmp_path / f"{rank}.pth") for rank in range(3)]
    assert [len(tested) for tested, _ in ranks] == [2, 2, 0]
    assert [path for tested, _ in ranks for path in tested] == [
        item.img_paths[0] for item in data.query + data.gallery
    ]
    assert [len(set(trained)) for _, trained in ranks] == [1, 1, 1]
    assert len({trained[0] for _, trained in ranks}) == 3


def test_to_device_moves_tensors_and_leaves_the_batch_as_it_was():
    batch = {"images": torch.zeros(2, 3), "img_paths": ["a", "b"]}
    moved = to_device(batch, "meta")
    assert moved["images"].device.type == "meta"
    assert moved["img_paths"] == ["a", "b"]
    assert batch["images"].device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gets_the_batches_of_the_cpu(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    expected = [*take(build_train_loader(cfg), 5), *build_test_loader(cfg, "HITSZVCM")[0]]
    cfg.MODEL.DEVICE = "cuda"
    train, (test, _) = build_train_loader(cfg), build_test_loader(cfg, "HITSZVCM")
    assert isinstance(train, DeviceLoader)
    found = [*take(train, 5), *test]
    assert all(batch["images"].is_cuda for batch in found)
    assert_equal_batches(expected, [to_device(batch, "cpu") for batch in found])


@pytest.mark.slow
def test_workers_are_no_more_than_the_cpus_and_that_is_said_once(cfg, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3}, raising=False)
    for wanted, taken in ((0, 0), (1, 1), (2, 2), (8, 2), (9, 2)):
        cfg.DATALOADER.NUM_WORKERS = wanted
        assert loader_workers(cfg) == taken
    said = [r.getMessage() for r in caplog.records if "NUM_WORKERS" in r.getMessage()]
    assert said == ["DATALOADER.NUM_WORKERS: 8; taking 2, the CPUs that there are to use"]
