"""Features equal those of an evaluation, whatever holds the items and however often it stops."""

import itertools
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from plugins.data.datasets import HITSZVCM
from plugins.errors import InputError
from plugins.inference import Embedder, Features, Labels
from plugins.inference.embedder import PART
from plugins.inference.parts import remove_parts, shard_rows
from plugins.inference.store import written_rows
from plugins.interrupts import Interrupted
from plugins.utils.images import read_image
from tests.helpers.run_folders import clip_run, evaluated_features, stock_run
from tests.helpers.user_code import nothing_left_behind

CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return clip_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def embedder(run) -> Embedder:
    return Embedder(run)


@pytest.fixture(autouse=True)
def _root(datasets, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["TEST.FLIP.ENABLED", "True", "TEST.CLIPS", "2"],
        ["TEST.METRIC", "euclidean", "INPUT.CLIP.SAMPLING", "window", "TEST.IMS_PER_BATCH", "5"],
        ["TEST.CORRUPTION.KIND", "noise", "INPUT.CLIP.ORDER", "shuffled", "TEST.CLIPS", "0"],
    ],
    ids=["plain", "flip+clips", "euclidean+window", "noise+shuffled+all"],
)
def test_a_data_set_has_the_features_of_its_evaluation_to_the_bit(run, options):
    found = Embedder(run, opts=options)
    features = found.dataset("HITSZVCM")
    assert np.array_equal(features.features, evaluated_features(found.cfg, "HITSZVCM").numpy())
    plain = Embedder(run).dataset("HITSZVCM").features
    assert options == [] or np.abs(plain - features.features).max() > 1e-4  # the option is heeded


@pytest.mark.slow
def test_names_and_splits_are_those_of_the_set(embedder, datasets):
    data = HITSZVCM(root=str(datasets))
    features = embedder.dataset("HITSZVCM")
    items = [*data.query, *data.gallery]
    assert features.person.tolist() == [str(item.pid) for item in items]
    assert features.path.tolist() == [item.img_paths[0] for item in items]
    assert features.name[0] == os.path.relpath(items[0].img_paths[0], datasets)
    assert set(features.of("infrared").camera) == {str(item.camid) for item in data.query}
    query = embedder.dataset("HITSZVCM", "query")
    np.testing.assert_allclose(query.features, features.features[: len(query)], **CLOSE)
    assert len(embedder.dataset("HITSZVCM", "train")) == len(data.train)
    assert (embedder.size, embedder.clip_length) == ((32, 16), 2)
    with pytest.raises(InputError, match="split 'tset'; expected one of train, query, gallery"):
        embedder.dataset("HITSZVCM", "tset")


def test_clips_pictures_files_and_arrays_have_the_features_of_the_set(embedder, datasets, tmp_path):
    data = HITSZVCM(root=str(datasets))
    expected = embedder.dataset("HITSZVCM", "gallery")
    for number, item in enumerate(data.gallery):
        folder = tmp_path / f"{item.pid}/D{item.camid}_{number}"
        folder.mkdir(parents=True)
        for frame, path in enumerate(item.img_paths, start=1):
            shutil.copy(path, folder / f"{frame}.jpg")  # 10 sorts after 9
    labels = Labels(pattern="(?P<person>[^/]+)/D(?P<camera>[^_]+)_")
    clips = embedder.clips(tmp_path, labels)
    order = [int(name.rpartition("_")[2]) for name in clips.name]
    np.testing.assert_allclose(clips.features, expected.features[order], **CLOSE)
    assert clips.person.tolist() == expected.person[order].tolist()
    assert clips.camera.tolist() == expected.camera[order].tolist()

    files = embedder.files([tmp_path / name for name in clips.name])
    assert np.array_equal(files.features, clips.features)
    assert set(files.person) == {""}

    frames = [[np.array(read_image(path)) for path in item.img_paths] for item in data.gallery]
    arrays = embedder.arrays([np.stack(each) for each in frames])
    np.testing.assert_allclose(arrays.features, expected.features, **CLOSE)
    tensors = [torch.from_numpy(np.stack(each)).permute(0, 3, 1, 2) for each in frames]
    assert np.array_equal(embedder.arrays(tensors).features, arrays.features)

    infrared = embedder.arrays(tensors, labels=Labels(modality="infrared"))
    assert np.abs(infrared.features - arrays.features).max() > 1e-3  # another stem
    assert set(infrared.modality) == {"infrared"}


def test_a_video_has_the_features_of_its_frames(embedder, datasets, tmp_path):
    av = pytest.importorskip("av")
    item = HITSZVCM(root=str(datasets)).gallery[0]
    frames = [read_image(path) for path in item.img_paths]
    path = str(tmp_path / "walk.mkv")
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=25)  # lossless
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
    found = embedder.video(path)
    expected = embedder.arrays([np.stack([np.array(frame) for frame in frames])])
    assert np.array_equal(found.features, expected.features)
    assert found.name.tolist() == [path]
    below = embedder.clips(tmp_path)
    assert np.array_equal(below.features, found.features) and below.name.tolist() == ["walk.mkv"]


@pytest.mark.slow
def test_stock_runs_load_and_give_the_features_of_their_evaluation(market, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    run = stock_run(tmp_path / "stock")
    embedder = Embedder(run)
    found = embedder.dataset("Market1501")
    expected = F.normalize(evaluated_features(embedder.cfg, "Market1501"), dim=1)
    assert np.array_equal(found.features, expected.numpy())
    assert set(found.camera) <= {str(number) for number in range(1, 7)}  # as in "c1s1"
    first = Path(found.path[0]).name
    assert first.startswith(f"{int(found.person[0]):04d}_c{found.camera[0]}s1_")

    folder = market / "Market-1501-v15.09.15/query"
    pictures = embedder.pictures(folder, Labels(pattern=r"(?P<person>\d+)_c(?P<camera>\d)"))
    rows = [found.row_of(f"Market-1501-v15.09.15/query/{name}") for name in pictures.name]
    np.testing.assert_allclose(pictures.features, found.features[rows], **CLOSE)
    assert [int(person) for person in pictures.person] == found.person[rows].astype(int).tolist()

    # A plain state dict with the config beside it, or named.
    bare = tmp_path / "bare"
    bare.mkdir()
    model = torch.load(run / "model_final.pth", weights_only=True)["model"]
    torch.save(model, bare / "weights.pth")
    named = Embedder(bare / "weights.pth", config=run / "config.yaml")
    again = named.dataset("Market1501")
    assert np.array_equal(again.features, found.features)

    clip = tmp_path / "clip"
    clip.mkdir()
    for number in range(2):
        shutil.copy(found.path[0], clip / f"{number}.jpg")
    with pytest.raises(InputError, match="2 frames, but the run's Baseline of fastreid takes imag"):
        embedder.clips(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("clips", [1, 2])
def test_shards_and_an_interrupted_extraction_are_the_whole(run, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("plugins.inference.embedder.PART", 1)
    embedder = Embedder(run, opts=["TEST.IMS_PER_BATCH", "4", "TEST.CLIPS", str(clips)])
    whole = embedder.dataset("HITSZVCM")
    shards = [embedder.dataset("HITSZVCM", shard=(i, 3)) for i in range(3)]
    names = np.concatenate([shard.name for shard in shards])
    joined = np.concatenate([shard.features for shard in shards])
    assert names.tolist() == whole.name.tolist()
    np.testing.assert_allclose(joined, whole.features, **CLOSE)
    assert clips > 1 or np.array_equal(joined, whole.features)

    kept = tmp_path / "kept"
    read = embedder.model.forward
    calls = []

    def forward(batch):
        calls.append(len(batch["rows"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(batch)

    monkeypatch.setattr(embedder.model, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        embedder.dataset("HITSZVCM", resume=kept)
    resumed = embedder.dataset("HITSZVCM", resume=kept)
    assert np.array_equal(resumed.features, whole.features)
    batches = -(-len(whole) * clips // 4)
    assert len(calls) <= 3 + batches - 2 + clips  # two batches were not computed again
    calls.clear()
    embedder.dataset("HITSZVCM", resume=kept)
    assert not calls
    with pytest.raises(
        InputError, match=r"holds parts of another extraction \(items, labels differ\)"
    ):
        embedder.dataset("HITSZVCM", "gallery", resume=kept)
    with pytest.raises(InputError, match=r"\(network, items differ\)"):
        Embedder(run, opts=["TEST.IMS_PER_BATCH", "4", "TEST.CLIPS", "0"]).dataset(
            "HITSZVCM", resume=kept
        )
    remove_parts(kept)
    assert not kept.exists()
    assert PART > 1


@pytest.fixture
def stopped_after_two(run, monkeypatch) -> Embedder:
    """An embedder of single items that a signal stops after two of them, the first time."""
    monkeypatch.setattr("plugins.inference.embedder.PART", 1)
    embedder = Embedder(run, opts=["TEST.IMS_PER_BATCH", "1"])
    read, calls = embedder.model.forward, itertools.count()

    def forward(batch):
        if next(calls) == 2:
            raise Interrupted(signal.SIGINT)
        return read(batch)

    monkeypatch.setattr(embedder.model, "forward", forward)
    return embedder


def three_pictures(folder) -> Path:
    folder.mkdir()
    for number, color in enumerate(("red", "green", "blue")):
        Image.new("RGB", (16, 32), color).save(folder / f"{number}_1.png")
    return folder


@pytest.mark.slow
def test_an_extraction_of_other_labels_does_not_go_on(stopped_after_two, tmp_path):
    pictures, parts = three_pictures(tmp_path / "pictures"), tmp_path / "parts"
    with pytest.raises(Interrupted) as stop:
        stopped_after_two.pictures(pictures, resume=parts)
    assert stop.value.kept == f"2 of 3 items are kept in {parts}; the same command goes on"
    for labels in (Labels(modality="infrared"), Labels("(?P<camera>1)"), Labels("(?P<person>.)_")):
        with pytest.raises(InputError, match=r"another extraction \(labels differ\); remove it"):
            stopped_after_two.pictures(pictures, labels, resume=parts)
    assert set(stopped_after_two.pictures(pictures, resume=parts).modality) == {"visible"}


@pytest.mark.slow
def test_a_store_of_other_labels_does_not_go_on(stopped_after_two, tmp_path, monkeypatch):
    pictures, folder = three_pictures(tmp_path / "pictures"), tmp_path / "store"
    with pytest.raises(Interrupted) as stop:
        stopped_after_two.store(folder, pictures=pictures)
    assert stop.value.kept == f"2 of 3 items are kept in {folder}; the same command goes on"
    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "_parts", lambda *_: pytest.fail("computed before the check"))
        for labels in (Labels(modality="infrared"), Labels("(?P<camera>1)")):
            with pytest.raises(InputError, match=r"holds other features \(labels differ\)"):
                stopped_after_two.store(folder, pictures=pictures, labels=labels)
    assert set(stopped_after_two.store(folder, pictures=pictures).column("modality")) == {"visible"}


def test_shards_are_cut_between_batches():
    cuts = [shard_rows(100, (i, 4), 16) for i in range(4)]
    assert cuts[0][0] == 0 and cuts[-1][1] == 100
    assert all(left[1] == right[0] for left, right in itertools.pairwise(cuts))
    assert all(first % 16 == 0 and first < last for first, last in cuts)
    for shard, message in (((4, 4), "I from 0"), ((0, 8), "at most 7 shards")):
        with pytest.raises(InputError, match=message):
            shard_rows(100, shard, 16)


def test_mistakes_are_one_line(run, embedder, tmp_path):
    Image.new("RGB", (16, 32)).save(tmp_path / "a_1.png")
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    (tmp_path / "empty").mkdir()
    cases = [
        (lambda: Embedder(tmp_path / "none"), "none: no such folder or file"),
        (lambda: Embedder(tmp_path), "config.yaml: no such file; expected the config of the run"),
        (lambda: embedder.pictures(tmp_path / "empty"), "empty: no pictures there"),
        (lambda: embedder.files([tmp_path / "b.gif"]), "expected a picture, a folder of frames or"),
        (lambda: embedder.files([tmp_path / "a_1.png"] * 2), "listed twice"),
        (lambda: embedder.pictures(tmp_path, Labels("(?P<person>x)")), "a_1.png: does not fit"),
        (lambda: Labels("(?P<who>x)"), "has the groups who; expected some of"),
        (lambda: Labels(modality="red"), "modality 'red'; expected visible or infrared"),
        (lambda: embedder.arrays([np.zeros((3, 8, 4))]), "expected uint8 of shape"),
        (lambda: embedder.dataset("HITSZ"), "no DATASET is named 'HITSZ'"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as caught:
            call()
        assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["picture", "folder", "video", "root"])
def test_a_file_name_that_is_not_utf_8_is_told(embedder, place, tmp_path):
    bad = os.fsencode(tmp_path) + b"/items/caf\xe9"
    try:
        os.makedirs(bad if place in ("folder", "root") else os.path.dirname(bad))
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    file = bad + {"folder": b"/1.png", "root": b"/1.png", "video": b".mp4"}.get(place, b".png")
    with open(file, "wb") as out:
        Image.new("RGB", (16, 32)).save(out, "png")
    path, root = os.fsdecode(file), os.fsdecode(bad) if place == "root" else tmp_path / "items"
    told = re.escape(f"{path!r}: its name is not UTF-8, so that features cannot name it; rename it")
    calls = [lambda: embedder.files([path]), lambda: embedder.clips(root)]
    calls += [lambda: embedder.pictures(root)] if place != "video" else []
    for call in calls:
        with pytest.raises(InputError, match=f"^{told}$"):
            call()


def test_pictures_of_other_formats_are_told(embedder, tmp_path, caplog):
    Image.new("RGB", (16, 32)).save(tmp_path / "a.png")
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    assert embedder.pictures(tmp_path).name.tolist() == ["a.png"]
    assert "no list holds 1 of the pictures" in caplog.text


@pytest.mark.slow
def test_code_that_a_folder_names_runs_only_where_it_is_asked_for(run, tmp_path):
    own = tmp_path / "own_part_of_a_run.py"
    own.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    text = (copy / "config.yaml").read_text()
    assert "PLUGINS: []" in text
    (copy / "config.yaml").write_text(text.replace("PLUGINS: []", f"PLUGINS: ['{own}']"))
    with pytest.raises(InputError, match="imported only where you ask for it: add --plugins"):
        Embedder(copy)
    assert not (tmp_path / "ran").exists()
    with nothing_left_behind():
        Embedder(copy, plugins=[str(own)])
    assert (tmp_path / "ran").exists()


@pytest.mark.slow
def test_the_newest_checkpoint_is_taken_and_model_best_where_there_is_no_other(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "model_final.pth").rename(copy / "model_best.pth")
    assert str(copy / "model_best.pth") == Embedder(copy).cfg.MODEL.WEIGHTS
    shutil.copy(copy / "model_best.pth", copy / "model_0003.pth")
    assert str(copy / "model_0003.pth") == Embedder(copy).cfg.MODEL.WEIGHTS
    assert isinstance(Embedder(copy).arrays([np.zeros((8, 4, 3), np.uint8)]), Features)


@pytest.mark.slow
def test_a_store_has_the_features_of_the_set_and_goes_on_after_a_stop(run, embedder, tmp_path):
    expected = embedder.dataset("HITSZVCM")
    parts, shards = Embedder._parts, [(0, 2), (1, 2)]
    fives = Embedder(run, opts=["TEST.IMS_PER_BATCH", "5"])
    for shard in shards:
        store = fives.store(tmp_path / "store", dataset="HITSZVCM", shard=shard)
    torch.testing.assert_close(store.features, torch.from_numpy(expected.features), **CLOSE)
    for name in ("name", "person", "camera"):
        assert store.column(name).tolist() == getattr(expected, name).tolist()
    with pytest.MonkeyPatch.context() as patch:  # all is written: nothing is computed
        patch.setattr(Embedder, "_parts", lambda *_: pytest.fail("computed again"))
        for shard in shards:
            fives.store(tmp_path / "store", dataset="HITSZVCM", shard=shard)

    stopped = Embedder(run, opts=["TEST.IMS_PER_BATCH", "1"])

    def two_parts(self, dataset, batches):
        yield from itertools.islice(parts(self, dataset, batches), 2)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plugins.inference.embedder.PART", 1)
        patch.setattr(Embedder, "_parts", two_parts)
        with pytest.raises(KeyboardInterrupt):
            stopped.store(tmp_path / "stopped", dataset="HITSZVCM", dtype="float16")
    assert written_rows(tmp_path / "stopped", (0, 1)) == 2
    store = stopped.store(tmp_path / "stopped", dataset="HITSZVCM", dtype="float16")
    found = store.features.float()
    torch.testing.assert_close(found, torch.from_numpy(expected.features), atol=1e-3, rtol=1e-3)


@pytest.mark.slow
def test_a_store_takes_one_clip_of_each_item(run, tmp_path):
    with pytest.raises(InputError, match=r"TEST\.CLIPS: 2; expected 1 for a store"):
        Embedder(run, opts=["TEST.CLIPS", "2"]).store(tmp_path / "s", dataset="HITSZVCM")
