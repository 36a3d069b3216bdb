import dataclasses

import numpy as np
import pytest
from PIL import Image

from plugins.config import setup_cfg
from plugins.data import build_dataset, build_test_loader, build_train_loader
from plugins.data.datasets import INFRARED, VISIBLE, BUPTCampus
from plugins.errors import InputError
from plugins.synthetic import BUPT_CAMPUS, SyntheticSettings, render_layout
from plugins.synthetic.frame import render_walk
from plugins.synthetic.layouts.bupt_campus import choose_queries
from tests.helpers.trees import write_bupt


def read(folder, **options):
    return BUPTCampus(root=str(folder.parent), **options)


def test_a_training_row_is_a_visible_and_an_infrared_tracklet(tmp_path):
    folder = write_bupt(tmp_path)
    train = read(folder).train
    assert [item[1:4] for item in train] == [
        (pid, camid, modality)
        for pid, camid in ((1, 3), (10, 1), (1, 6))
        for modality in (VISIBLE, INFRARED)
    ]
    assert train[0].img_paths[0] == f"{folder}/DATA/1/RGB/CQ1/1_RGB_CQ1_8535_0.jpg"
    assert train[1].img_paths[2] == f"{folder}/DATA/1/IR/CQ1/1_IR_CQ1_8535_2.jpg"


def test_auxiliary_people_are_an_option(tmp_path):
    folder = write_bupt(tmp_path)
    assert {item.pid for item in read(folder).train} == {1, 10}
    assert {item.pid for item in read(folder, auxiliary=True).train} == {1, 10, 2001}
    (folder / "train_auxiliary.txt").unlink()
    read(folder)
    with pytest.raises(InputError, match=r"train_auxiliary\.txt: no such file"):
        read(folder, auxiliary=True)


def test_translated_frames_are_an_option_and_count_as_infrared(tmp_path):
    folder = write_bupt(tmp_path)
    plain, train = read(folder).train, read(folder, fake_ir=True).train
    assert len(train) == 9
    assert [item for row, item in enumerate(train) if row % 3 != 2] == plain
    assert train[2].img_paths[1] == f"{folder}/DATA/1/FakeIR/CQ1/1_RGB_CQ1_8535_1.jpg"
    assert train[2][1:] == (1, 3, INFRARED, True)
    assert not any(item.is_pseudo for item in plain)


def test_directions_pick_the_modality_from_query_and_from_gallery(tmp_path):
    data = read(write_bupt(tmp_path))
    items = data.query + data.gallery
    directions = data.directions()
    assert list(directions) == ["I2V full", "V2I full"]
    found = {}
    for name, protocol in directions.items():
        (trial,) = protocol.trials
        assert (protocol.junk, protocol.cmc) == ("camera", "item")
        assert trial.query.dtype == trial.gallery.dtype == np.int64
        found[name] = [[items[row][1:4] for row in side] for side in trial]
    assert found["I2V full"] == [[(3, 3, 1)], [(3, 3, 0), (4, 5, 0)]]
    assert found["V2I full"] == [[(3, 1, 0), (4, 4, 0)], [(3, 4, 1), (4, 4, 1), (4, 5, 1)]]


def test_the_official_protocol_cuts_visible_rows_to_whole_batches_and_has_no_camera_rule(tmp_path):
    """The counts of the real files: 536 + 540 queries, 2,422 + 2,422 in the gallery."""
    rows = {
        "train": ["1 RGB/IR CQ1 1"],
        "query": [f"{p + 10} {'RGB' if p < 540 else 'IR'} LS3 {p}" for p in range(1076)],
        "gallery": [
            f"{t % 1076 + 10} {kind} W4 {10000 + t}" for kind in ("IR", "RGB") for t in range(2422)
        ],
    }
    folder = write_bupt(tmp_path, rows, frames=1)

    def sizes(protocol):
        data = read(folder, protocol=protocol)
        directions = data.directions()
        assert {part.junk for part in directions.values()} == {
            {"full": "camera", "official": "none"}[protocol]
        }
        items = data.query + data.gallery
        for name, part in directions.items():
            for side, modality in zip(part.trials[0], ("VI", "IV")[name[0] == "I"], strict=True):
                assert {items[row].modality for row in side} == {"VI".index(modality)}
        return {name: [len(s) for s in part.trials[0]] for name, part in directions.items()}

    assert sizes("full") == {"I2V full": [536, 2422], "V2I full": [540, 2422]}
    assert sizes("official") == {"I2V official": [536, 2368], "V2I official": [512, 2422]}


def test_the_official_protocol_refuses_fewer_visible_rows_than_a_batch(tmp_path):
    folder = write_bupt(tmp_path)
    with pytest.raises(InputError, match=r"query\.txt to a multiple of 64, but there are 2; use f"):
        read(folder, protocol="official")


def test_options_reach_the_reader_from_the_config(tmp_path, monkeypatch):
    folder = write_bupt(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(folder.parent))
    cfg = setup_cfg("", ["DATASETS.BUPT.AUXILIARY", "True", "DATASETS.BUPT.FAKE_IR", "True"])
    assert len(build_dataset("BUPTCampus", cfg=cfg).train) == 12
    cfg.DATASETS.BUPT.PROTOCOL = "offical"
    with pytest.raises(InputError, match=r"BUPT\.PROTOCOL: 'offical'; expected full or official"):
        build_dataset("BUPTCampus", cfg=cfg)


def test_combineall_trains_on_the_test_tracklets_too(tmp_path):
    assert len(read(write_bupt(tmp_path), combineall=True).train) == 6 + 3 + 5


@pytest.mark.parametrize(
    ("name", "line", "text", "complaint"),
    [
        ("train", 2, "10 RGB/IR LS3", "expected: pid modality camera tracklet"),
        ("train", 2, "x RGB/IR LS3 12", "found 'x RGB/IR LS3 12'"),
        ("train", 1, "1 RGB CQ1 8535", "modality 'RGB', expected one of RGB/IR"),
        ("query", 1, "3 RGB/IR CQ1 20", "modality 'RGB/IR', expected one of RGB, IR"),
        ("query", 3, "4 RGB CQ7 22", "camera 'CQ7', expected one of LS3, G25, CQ1"),
        ("gallery", 5, "3 IR W4 23", "is on line 2 too"),
        ("gallery", 4, "4 IR TSG1 25", "lists no frames for person 4, IR, camera TSG1, trackl"),
        ("gallery", 4, "77 IR TSG1 24", "lists no frames for person 77"),
        ("query", 2, "10 RGB LS3 12", "person 10 trains in train.txt:2"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, name, line, text, complaint):
    folder = write_bupt(tmp_path)
    file = folder / f"{name}.txt"
    lines = file.read_text().splitlines()
    lines[line - 1] = text
    file.write_text("\n".join(lines))
    with pytest.raises(InputError) as error:
        read(folder)
    assert str(error.value).startswith(f"{file}:{line}: ")
    assert complaint in str(error.value)


@pytest.mark.parametrize("content", ["[1, 2]", '"text"'])
def test_an_index_that_is_no_table_is_refused(tmp_path, content):
    folder = write_bupt(tmp_path)
    (folder / "data_paths.json").write_text(content)
    with pytest.raises(InputError, match=r"data_paths\.json: found a \w+, expected a table"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"1": ' + "9" * 5000 + "}", "a number has too many digits; expected text"),
        ("[" * 5000, "nested too deeply; expected a table of people"),
    ],
)
def test_an_index_that_json_does_not_read_is_one_line(tmp_path, content, message):
    folder = write_bupt(tmp_path)
    (folder / "data_paths.json").write_text(content)
    with pytest.raises(InputError, match=rf"data_paths\.json: {message}"):
        read(folder)


def test_a_cut_off_index_is_named_with_its_line(tmp_path):
    folder = write_bupt(tmp_path)
    (folder / "data_paths.json").write_text('{"1":\n {')
    with pytest.raises(InputError, match=r"data_paths\.json:2: not JSON"):
        read(folder)


def test_a_tracklet_without_frames_is_named(tmp_path):
    folder = write_bupt(tmp_path, frames=0)
    with pytest.raises(InputError, match=r"train\.txt:1: data_paths\.json lists no frames"):
        read(folder)


def test_a_missing_set_says_where_to_get_it_and_how_to_render_one(tmp_path):
    with pytest.raises(InputError, match=r"FASTREID_DATASETS.*github.*--layout bupt-campus"):
        BUPTCampus(root=str(tmp_path))


@pytest.mark.slow
def test_a_rendered_set_is_read_trained_on_and_tested(tmp_path, monkeypatch):
    settings = SyntheticSettings(train_ids=4, test_ids=4, height=32, width=16, max_frames=12)
    counts = render_layout(BUPT_CAMPUS, tmp_path / "BUPTCampus", settings)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = setup_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [16, 8]
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("BUPTCampus",)
    cfg.DATASETS.BUPT.AUXILIARY = True
    cfg.INPUT.CLIP.SAMPLING = "linspace"
    cfg.DATALOADER.SAMPLER_TRAIN = "CrossModalIdentitySampler"
    cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH = 2, 8
    cfg.DATALOADER.NUM_WORKERS = 0
    loader = build_train_loader(cfg)
    assert next(iter(loader))["images"].shape == (8, 6, 3, 16, 8)
    assert loader.dataset.num_classes == 4 + 2
    loader, data = build_test_loader(cfg, "BUPTCampus")
    assert sum(len(batch["targets"]) for batch in loader) == len(data.query + data.gallery)

    # The counts on record are those of the tracklets read and of the files there.
    items = [*loader.dataset.items, *build_dataset("BUPTCampus", cfg=cfg).train]
    assert sum(cell["tracklets"] for cell in counts.values()) == len(items)
    paths = [path for item in items for path in item.img_paths]
    files = {str(path) for path in (tmp_path / "BUPTCampus").rglob("*.jpg")}
    translated = {path for path in files if "/FakeIR/" in path}
    files -= translated
    assert set(paths) == files
    assert len(paths) == len(files) == sum(cell["frames"] for cell in counts.values())
    for path in paths[::50]:
        gray = not np.ptp(np.asarray(Image.open(path)), axis=2).any()
        assert gray == ("/IR/" in path)
    # The translated frames are what the reader looks for: those of training, in gray.
    cfg.DATASETS.BUPT.FAKE_IR = True
    read = {path for item in build_dataset("BUPTCampus", cfg=cfg).train for path in item.img_paths}
    assert {path for path in read if "/FakeIR/" in path} == translated
    for path in sorted(translated)[::20]:
        fake, visible = (Image.open(p) for p in (path, path.replace("/FakeIR/", "/RGB/")))
        assert fake.mode == "L"
        error = np.abs(np.asarray(fake, float) - np.asarray(visible.convert("L"), float))
        assert error.mean() < 3
    # Every query finds its person in another camera, in both directions.
    items = [*data.query, *data.gallery]
    for protocol in data.directions().values():
        (trial,) = protocol.trials
        assert len(trial.query) >= 2
        for row in trial.query:
            assert any(
                items[other].pid == items[row].pid and items[other].camid != items[row].camid
                for other in trial.gallery
            )


def test_rendered_twins_share_camera_length_direction_light_and_place():
    settings = SyntheticSettings(train_ids=6, test_ids=4, max_frames=30)
    for rows in BUPT_CAMPUS.plan(settings).values():
        for visible, infrared in zip(rows[::2], rows[1::2], strict=True):
            assert (visible.walk.modality, infrared.walk.modality) == (VISIBLE, INFRARED)
            assert infrared.walk.twin and not visible.walk.twin
            twins = [
                vars(row.walk) | {"modality": None, "twin": None} for row in (visible, infrared)
            ]
            assert twins[0] == twins[1]
            assert visible.files[0].replace("RGB", "IR") == infrared.files[0]


def test_rendered_queries_are_one_a_person_of_both_modalities_and_many_cameras():
    rows = BUPT_CAMPUS.plan(SyntheticSettings(test_ids=24))["test"]
    queries = choose_queries(rows)
    assert sorted(row.walk.pid for row in queries) == list(range(501, 525))
    assert [sum(row.walk.modality == m for row in queries) for m in (VISIBLE, INFRARED)] == [12, 12]
    assert len({row.camera for row in queries}) >= 4


@pytest.mark.slow
def test_rendered_twins_are_aligned_to_the_pixel():
    """Edges of the two pictures coincide, which those of two walks of a person do not."""
    settings = SyntheticSettings(height=96, width=48, difficulty=0.3, max_frames=12)

    def edges(walk):
        gray = render_walk(settings, walk).mean(axis=3)
        return np.abs(np.diff(gray, axis=2)).ravel()

    rows = BUPT_CAMPUS.plan(settings)["train"][:8]
    for visible, infrared in zip(rows[::2], rows[1::2], strict=True):
        apart = dataclasses.replace(infrared.walk, twin=False)
        seen = edges(visible.walk)
        together, alone = (np.corrcoef(seen, edges(walk))[0, 1] for walk in (infrared.walk, apart))
        assert together > alone + 0.2


def test_a_layout_refuses_more_cameras_than_it_has_names_for():
    with pytest.raises(InputError, match=r"cameras is 8, expected at most 7 in the layout bupt-c"):
        BUPT_CAMPUS.plan(SyntheticSettings(cameras=8))
