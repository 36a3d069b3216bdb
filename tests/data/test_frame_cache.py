"""A packed frame is the decoded one, and whatever is not as it was packed has a name."""

import json
import logging
import multiprocessing
import os
import pickle
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plugins.data import build_test_loader, build_train_loader
from plugins.data.frame_cache.packing import find_frames, pack_config, pack_frames
from plugins.data.frame_cache.store import FrameCache, find_sizes
from plugins.data.frames import read_frame
from plugins.data.transforms import build_clip_transforms
from plugins.errors import InputError
from plugins.utils.digests import digest
from plugins.utils.locks import hold
from tests.helpers.hitsz_tree import write_frame, write_tree

SIZE = (16, 8)


def batches(cfg):
    """A few epochs of training and the whole test."""
    return [*islice(build_train_loader(cfg), 6), *build_test_loader(cfg, cfg.DATASETS.TESTS[0])[0]]


def assert_cache_changes_nothing(cfg):
    decoded = batches(cfg)
    cfg.DATALOADER.FRAME_CACHE = cached_in(cfg)
    cached = batches(cfg)
    assert len(cached) == len(decoded)
    for one, two in zip(decoded, cached, strict=True):
        assert one["img_paths"] == two["img_paths"]
        assert torch.equal(one["images"], two["images"])


def cached_in(cfg):
    folder = os.path.join(cfg.OUTPUT_DIR, "cache")
    pack_config(cfg, folder, workers=0)
    return folder


@pytest.fixture
def cfg(cfg, tmp_path):
    cfg.OUTPUT_DIR = str(tmp_path)
    return cfg


@pytest.fixture
def frames(tmp_path):
    """Three image files in a folder of data sets."""
    root = tmp_path / "datasets"
    paths = [root / f"set/{name}.png" for name in ("1", "10", "2")]
    (root / "set").mkdir(parents=True)
    for seed, path in enumerate(paths):
        write_frame(path, seed)
    return [str(path) for path in paths]


@pytest.fixture
def store(frames, tmp_path):
    """The store of ``frames``, for a test to damage."""
    return pack_frames(str(tmp_path / "cache"), SIZE, frames, str(tmp_path / "datasets"), workers=0)


def opened(store):
    return FrameCache(str(store.parent), SIZE, str(store.parent.parent / "datasets"))


def refusal(store, action=opened):
    """What a user is told: one line that ends in the remedy."""
    with pytest.raises(InputError) as caught:
        action(store)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(
        f"pack it again: python tools/cache_data.py --config-file ... --out {store.parent}"
    )
    return message


# ---- the same frames ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [(24, 12), (16, 8), (33, 20)], ids=["as on disk", "less", "more"])
def test_batches_are_the_same_to_the_bit(cfg, size):
    """With every random part; the files are 24 x 12."""
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = list(size)
    cfg.INPUT.CROP.ENABLED = cfg.INPUT.CHANNEL_MIX.ENABLED = True
    cfg.INPUT.CROP.SIZE = [12, 6]
    cfg.INPUT.PADDING.ENABLED = False  # it would undo the crop's size
    cfg.TEST.CLIPS = 0
    assert_cache_changes_nothing(cfg)


@pytest.mark.slow
def test_batches_are_the_same_with_padding_and_forked_workers(cfg):
    cfg.DATALOADER.NUM_WORKERS = 2
    assert_cache_changes_nothing(cfg)


def test_training_and_testing_may_differ_in_size(cfg):
    cfg.INPUT.SIZE_TEST = [20, 10]
    assert_cache_changes_nothing(cfg)
    assert find_sizes(cfg.DATALOADER.FRAME_CACHE) == [(16, 8), (20, 10)]


@pytest.mark.filterwarnings("ignore:The current data structure")
def test_batches_of_images_of_many_sizes_are_the_same(cfg, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    shape = np.random.default_rng(0)
    people = {"bounding_box_train": (2, 7), "query": (3, 4), "bounding_box_test": (3, 4)}
    for part, pids in people.items():
        (tmp_path / "Market-1501-v15.09.15" / part).mkdir(parents=True)
        for pid in pids:
            for camera in (1, 2):
                path = f"Market-1501-v15.09.15/{part}/{pid:04d}_c{camera}s1_000151_01.jpg"
                write_frame(tmp_path / path, pid + camera, *shape.integers(5, 60, 2).tolist())
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("Market1501",)
    cfg.DATALOADER.SAMPLER_TRAIN = "NaiveIdentitySampler"
    cfg.SOLVER.IMS_PER_BATCH = 4
    assert_cache_changes_nothing(cfg)


def test_a_store_is_what_the_transforms_make_of_its_files(cfg, tree):
    """Read with numpy alone: place for place, with nothing left over."""
    (size, wanted), = find_frames(cfg).items()  # fmt: skip
    (store,) = pack_config(cfg, os.path.join(cfg.OUTPUT_DIR, "cache"), workers=2)
    index = np.load(store / "index.npy", allow_pickle=False)
    frames = np.fromfile(store / "frames.bin", np.uint8).reshape(-1, *size, 3)
    paths = [str(tree / os.fsdecode(name)) for name in index["path"]]
    assert len(paths) == len(frames)
    assert set(paths) == wanted
    transform = build_clip_transforms(cfg, is_train=False)
    expected = transform([read_frame(path) for path in paths]).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(frames, expected)
    assert index["size"].tolist() == [os.path.getsize(path) for path in paths]
    assert json.loads((store / "header.json").read_text())["frames"] == len(wanted)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    names=st.sets(
        st.lists(st.text("a0.é \x7f", min_size=1, max_size=4), min_size=1, max_size=3)
        .filter(lambda parts: not {".", ".."} & set(parts))
        .map("/".join),
        min_size=1,
        max_size=12,
    )
)
def test_each_name_finds_its_own_frame(names, tmp_path_factory):
    """Prefixes of each other, spaces, other alphabets; a folder and a file cannot share a name."""
    root = tmp_path_factory.mktemp("root")
    paths = {str(root / f"{name}.png"): shade for shade, name in enumerate(sorted(names), 1)}
    for path, shade in paths.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Image.new("L", (2, 2), shade).save(path, "PNG")
    pack_frames(str(root / "cache"), (1, 3), paths, str(root), workers=0)
    cache = FrameCache(str(root / "cache"), (1, 3), str(root))
    assert len(cache) == len(paths)
    for path, shade in paths.items():
        assert torch.equal(cache.read(path), torch.full((3, 1, 3), shade, dtype=torch.uint8))
    for stranger in ("", "0", "zz"):
        if (path := str(root / f"{stranger}x.png")) not in paths:
            with pytest.raises(InputError, match="not among"):
                cache.read(path)


def test_a_frame_is_the_readers_own(store, frames):
    before = (store / "frames.bin").read_bytes()
    frame = opened(store).read(frames[0])
    frame.zero_()
    assert opened(store).read(frames[0]).any()
    assert (store / "frames.bin").read_bytes() == before


@pytest.mark.slow
def test_a_spawned_process_opens_the_store_itself(store, frames):
    cache = opened(store)
    assert len(pickle.dumps(cache.read)) < 500
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(cache.read, frames)
    assert all(map(torch.equal, found, map(cache.read, frames)))


def test_a_moved_folder_of_data_sets_keeps_its_cache(store, frames, tmp_path):
    expected = opened(store).read(frames[1])
    shutil.move(tmp_path / "datasets", tmp_path / "elsewhere")
    cache = FrameCache(str(store.parent), SIZE, str(tmp_path / "elsewhere"))
    assert torch.equal(cache.read(frames[1].replace("datasets", "elsewhere")), expected)


# ---- what is not as it was packed --------------------------------------------------------------


def overwrite(path, place):
    """Flip the bits of one byte."""
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)


def pickled_index(store):
    """An index that numpy would have to unpickle, vouched for by the header."""
    (store / "index.npy").write_bytes(pickle.dumps([{"path": "1.png"}]))
    edit_header(store, index=digest(np.fromfile(store / "index.npy", np.uint8)))


def edit_header(store, **changes):
    header = json.loads((store / "header.json").read_text())
    (store / "header.json").write_text(json.dumps(header | changes))


BYTES = 3 * 16 * 8 * 3
CUT = f"{BYTES - 1} bytes, expected {BYTES} for 3 frames"


@pytest.mark.parametrize(
    ("damage", "file", "text"),
    [
        (lambda s: os.truncate(s / "frames.bin", BYTES - 1), "frames.bin", CUT),
        (lambda s: os.truncate(s / "frames.bin", BYTES + 9), "frames.bin", f"expected {BYTES}"),
        (lambda s: (s / "frames.bin").unlink(), "frames.bin", "0 bytes"),
        (lambda s: overwrite(s / "index.npy", -1), "index.npy", "digest"),
        (lambda s: overwrite(s / "index.npy", 20), "index.npy", "digest"),
        (lambda s: os.truncate(s / "index.npy", 150), "index.npy", "digest"),
        (lambda s: os.truncate(s / "index.npy", 0), "index.npy", "not the packed index"),
        (lambda s: (s / "index.npy").unlink(), "index.npy", "No such file"),
        (pickled_index, "index.npy", "not the packed index"),
        (lambda s: (s / "header.json").unlink(), "header.json", "No such file"),
        (lambda s: os.truncate(s / "header.json", 40), "header.json", "not a header"),
        (lambda s: (s / "header.json").write_bytes(b"\xff\xfe"), "header.json", "not a header"),
        (lambda s: (s / "header.json").write_text("[1]"), "header.json", "not a header"),
        (lambda s: (s / "header.json").write_text("{}"), "header.json", "format is None"),
        (lambda s: edit_header(s, format="other 7"), "header.json", "format is 'other 7'"),
        (lambda s: edit_header(s, height=32), "header.json", "height is 32, expected 16"),
        (lambda s: edit_header(s, resize="nearest"), "header.json", "resize is 'nearest'"),
    ],
)  # fmt: skip
def test_a_damaged_store_is_not_opened(store, damage, file, text):
    damage(store)
    message = refusal(store)
    assert message.startswith(f"{store / file}: ")
    assert text in message


def test_a_damaged_frame_is_found_by_verifying(store):
    opened(store).verify()
    overwrite(store / "frames.bin", 2 * BYTES // 3)  # sorted: 1, 10, 2
    message = refusal(store, lambda store: opened(store).verify())
    assert message.startswith(f"{store / 'frames.bin'}: 1 of 3 frames")
    assert "the first is that of set/2.png;" in message


def test_a_damaged_frame_is_refused_when_it_is_read(store, frames):
    cache = opened(store)
    overwrite(store / "frames.bin", 2 * BYTES // 3)
    cache.read(frames[0])
    message = refusal(store, lambda _: cache.read(frames[2]))
    assert message.startswith(f"{store / 'frames.bin'}: the frame of {frames[2]} is not as packed;")


@pytest.mark.parametrize("change", ["size", "time", "gone"])
def test_a_file_that_changed_is_named_and_the_others_are_read(store, frames, change):
    path = Path(frames[1])
    stat = path.stat()
    if change == "size":
        path.write_bytes(path.read_bytes() + b"\0")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        path.unlink()
    cache = opened(store)
    cache.read(frames[0])
    cache.read(frames[2])
    if change == "gone":
        with pytest.raises(InputError, match=f"^{path}: no such frame"):
            cache.read(frames[1])
    else:
        message = refusal(store, lambda _: cache.read(frames[1]))
        assert message.startswith(f"{path}: changed since it was packed into {store}")
        assert f"packed: {stat.st_size}, {stat.st_mtime_ns}" in message


def test_a_frame_that_was_not_packed_is_named(store, frames):
    for name in ("0", "11", "3"):  # before, between and after
        path = Path(frames[0]).with_name(f"{name}.png")
        write_frame(path, seed=9)
        message = refusal(store, lambda store, path=path: opened(store).read(str(path)))
        assert message.startswith(f"{path}: not among the 3 frames of {store}")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_names_the_frame_that_changed(cfg, tmp_path, monkeypatch, workers):
    folder = write_tree(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg.DATALOADER.FRAME_CACHE = cached_in(cfg)
    cfg.DATALOADER.NUM_WORKERS = workers
    changed = folder / "Test/0501/ir/D3/1.jpg"
    write_frame(changed, seed=99)
    with pytest.raises(InputError, match=f"{changed}: changed since"):
        list(build_test_loader(cfg, "HITSZVCM")[0])


def test_another_size_is_answered_with_those_there(cfg):
    cfg.DATALOADER.FRAME_CACHE = cached_in(cfg)
    cfg.INPUT.SIZE_TEST = [32, 16]
    build_train_loader(cfg)
    with pytest.raises(InputError, match="no frames of 32x16 there, found 16x8;"):
        build_test_loader(cfg, "HITSZVCM")
    cfg.DATALOADER.FRAME_CACHE = "nowhere"
    with pytest.raises(InputError, match=r"FRAME_CACHE nowhere: .*, found nothing;"):
        build_train_loader(cfg)


def test_another_decoder_is_a_warning(store, frames, caplog):
    with caplog.at_level(logging.WARNING):
        expected = opened(store).read(frames[0])
        assert not caplog.records
        edit_header(store, made_with={"pillow": "1.0"})
        assert torch.equal(opened(store).read(frames[0]), expected)
    assert "packed with {'pillow': '1.0'}" in caplog.text


# ---- packing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failed_packing_leaves_the_old_store_and_nothing_else(store, frames, workers):
    root, broken = Path(frames[0]).parents[1], Path(frames[0]).with_name("3.png")
    broken.write_bytes(Path(frames[0]).read_bytes()[:100])
    with pytest.raises(InputError, match=f"{broken}: not a whole image"):
        pack_frames(str(store.parent), SIZE, [*frames, str(broken)], str(root), workers)
    assert os.listdir(store.parent) == ["16x8"]
    opened(store).verify()


def test_packing_again_replaces_the_store_under_a_reader(store, frames):
    reader = opened(store)
    old = reader.read(frames[0])
    write_frame(Path(frames[0]), seed=50)
    pack_frames(str(store.parent), SIZE, frames[:1], str(Path(frames[0]).parents[1]), workers=0)
    assert os.listdir(store.parent) == ["16x8"]
    assert len(opened(store)) == 1
    assert not torch.equal(opened(store).read(frames[0]), old)
    assert len(reader) == 3
    with pytest.raises(InputError, match="changed since"):
        reader.read(frames[0])
    reader.read(frames[1])


def test_the_old_store_is_moved_aside_and_removed_only_after_that(store, frames, monkeypatch):
    remove = shutil.rmtree

    def removes_beside_a_whole_store(path, ignore_errors=False):
        assert path != store
        opened(store).verify()
        remove(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", removes_beside_a_whole_store)
    pack_frames(str(store.parent), SIZE, frames[:1], str(Path(frames[0]).parents[1]), workers=0)
    assert os.listdir(store.parent) == ["16x8"]
    assert len(opened(store)) == 1


def test_a_folder_that_another_packing_is_filling_is_left_alone(store, frames):
    other = store.with_name("16x8.part") / "frames.bin"
    with hold(other.parent, "--out", "packing"):
        other.touch()
        with pytest.raises(InputError, match=r"16x8\.part: in use by another packing, process "):
            pack_frames(str(store.parent), SIZE, frames, str(Path(frames[0]).parents[1]), workers=0)
        assert other.exists()
    opened(store).verify()


def test_a_folder_that_no_packing_left_is_left_alone(store, frames):
    other = store.with_name("16x8.part") / "mine"
    other.parent.mkdir()
    other.touch()
    with pytest.raises(InputError, match=r"16x8\.part: it is there already, and no packing has"):
        pack_frames(str(store.parent), SIZE, frames, str(Path(frames[0]).parents[1]), workers=0)
    assert other.exists()


@pytest.mark.parametrize("name", ["16x8", "16x8.old"])
@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_no_store_is_not_replaced(store, frames, name, kind, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    place = store.with_name(name)
    shutil.rmtree(place, ignore_errors=True)
    if kind == "folder":
        shutil.copytree(mine, place)
        (place / "a.jpg").touch()
    else:
        place.touch() if kind == "file" else place.symlink_to(mine)
    before = sorted(tmp_path.rglob("*"))
    said = "a.jpg" if kind == "folder" else name
    with pytest.raises(InputError, match=rf"^--out {place}: {said} is there, which is no part of"):
        pack_frames(str(store.parent), SIZE, frames, str(Path(frames[0]).parents[1]), workers=0)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_store_is_replaced(store, frames):
    (store / "header.json").unlink()
    pack_frames(str(store.parent), SIZE, frames, str(Path(frames[0]).parents[1]), workers=0)
    opened(store).verify()


def test_a_disk_without_room_is_told_before_packing(frames, tmp_path):
    with pytest.raises(InputError, match=r"3 frames of 1000000x1000000 take 9000\.0 GB, but"):
        pack_frames(str(tmp_path / "cache"), (10**6, 10**6), frames, str(tmp_path), workers=0)
    assert os.listdir(tmp_path / "cache") == []


def test_a_wrong_size_is_refused_by_its_key(cfg):
    cfg.INPUT.SIZE_TEST = [256]
    with pytest.raises(InputError, match=r"INPUT\.SIZE_TEST: \[256\]; expected"):
        find_frames(cfg)
