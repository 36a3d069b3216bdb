import numpy as np
import pytest

from plugins.config import setup_cfg
from plugins.data import build_dataset
from plugins.data.datasets import INFRARED, VISIBLE, RegDB, Tracklet
from plugins.data.datasets.splits import warn_of_faults
from plugins.errors import InputError
from tests.helpers.hitsz_tree import edit_line
from tests.helpers.image_trees import REGDB_SPLITS, regdb_image, write_regdb
from tests.helpers.trees import run_tool


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("Thermal 412")
    write_regdb(root)
    return root


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        RegDB(root=str(root), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("trial", REGDB_SPLITS)
def test_people_are_the_unpadded_folders_and_not_the_labels_of_the_split(root, trial):
    data = RegDB(root=str(root), trial=trial)
    people = {name: sorted(labels) for name, labels in REGDB_SPLITS[trial].items()}
    assert sorted({image.pid for image in data.train}) == people["train"]
    for images, modality in ((data.query, INFRARED), (data.gallery, VISIBLE)):
        assert sorted({image.pid for image in images}) == people["test"]
        assert {image.modality for image in images} == {modality}
        assert len(images) == 2 * 3
    assert len(data.train) == 2 * 2 * 3


def test_an_image_is_a_tracklet_of_one_frame(root):
    data = RegDB(root=str(root))
    thermal = f"{root}/RegDB/{regdb_image(285, 'Thermal', 0)}"
    assert data.query[0] == Tracklet((thermal,), 285, 2, INFRARED)
    visible = f"{root}/RegDB/{regdb_image(285, 'Visible', 0)}"
    assert data.gallery[0] == Tracklet((visible,), 285, 1, VISIBLE)


def test_both_directions_search_all_of_the_other_modality_and_name_the_split(root):
    data = RegDB(root=str(root), trial=2)
    directions = data.directions()
    assert list(directions) == ["I2V trial-2", "V2I trial-2"]
    infrared, visible = np.arange(6), np.arange(6, 12)
    for protocol, sides in zip(
        directions.values(), [(infrared, visible), (visible, infrared)], strict=True
    ):
        ((queries, gallery),) = protocol.trials
        assert (queries.tolist(), gallery.tolist()) == (sides[0].tolist(), sides[1].tolist())
        assert protocol.cmc == "item"
        assert protocol.junk == "camera"
    # Of one camera each, so that the camera rule leaves nothing out.
    assert not {image.camid for image in data.query} & {image.camid for image in data.gallery}


def test_the_config_chooses_the_split(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    data = build_dataset("RegDB", cfg=setup_cfg("", ["DATASETS.REGDB.TRIAL", "2"]))
    assert "I2V trial-2" in data.directions()


def test_combineall_keeps_training_and_test_people_apart(root):
    data = RegDB(root=str(root), combineall=True)
    assert {image.pid for image in data.train} == {5, 73, 168, 285}


@pytest.mark.parametrize(
    ("file", "line", "text", "expected"),
    [
        ("train_visible_1", 2, "Visible/168/male.bmp", "expected an image and its label"),
        ("train_visible_1", 2, "Visible/168/a.bmp one", "expected an image and its label"),
        ("train_visible_1", 2, "Visible/168/two words.bmp 0", "expected an image and its label"),
        ("train_visible_1", 2, "Thermal/168/a.bmp 0", "expected Visible/<person>/<file>.bmp"),
        ("test_thermal_1", 1, "Thermal/x/a.bmp 0", "expected Thermal/<person>/<file>.bmp"),
        ("train_thermal_1", 3, "Thermal/168/a.bmp 1", "person 168 has label 1, but 0 before"),
        ("test_visible_1", 3, "Visible/5/a.bmp 0", "person 5 is in training too"),
        ("test_visible_1", 2, f"{regdb_image(285, 'Visible', 0)} 0", "is listed twice"),
        (
            "test_visible_1",
            2,
            "Visible/0285/a.bmp 0",
            "is in folder Visible/0285, but in Visible/285",
        ),
        ("test_visible_1", 2, "VISIBLE/285/a.bmp 0", "expected one folder a person"),
    ],
)
def test_a_bad_line_is_named_with_what_it_should_be(tmp_path, file, line, text, expected):
    folder = write_regdb(tmp_path)
    edit_line(folder / "idx" / f"{file}.txt", line, text)
    message = refusal(tmp_path)
    assert f"{folder}/idx/{file}.txt:{line}: " in message
    assert expected in message


@pytest.mark.parametrize(
    ("file", "kept", "expected"),
    [
        ("test_visible_1", 3, "1 people have fewer images there than in the other modality: person "
         "73 0, expected 3; is the file cut off?"),
        ("test_visible_1", 5, "person 73 2, expected 3; is the file cut off?"),
        ("train_thermal_1", 1, "2 people have fewer images there than in the other modality: "
         "person 5 0, expected 3"),
    ],
)  # fmt: skip
def test_a_list_that_is_cut_off_makes_the_set_unfit(
    tmp_path, monkeypatch, caplog, capsys, file, kept, expected
):
    path = write_regdb(tmp_path) / "idx" / f"{file}.txt"
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert run_tool(monkeypatch, "RegDB", "--labels-only") == 0
    path.write_text("\n".join(path.read_text().splitlines()[:kept]) + "\n")
    assert run_tool(monkeypatch, "RegDB", "--labels-only") == 1
    assert f"  {path.name}: " in (printed := capsys.readouterr().out) and expected in printed
    for _ in range(2):
        warn_of_faults(RegDB(root=str(tmp_path)), "RegDB")
    (warning,) = caplog.messages
    assert warning.startswith(f"RegDB: {path.name}: ") and expected in warning


def test_blank_lines_and_other_line_ends_change_nothing(tmp_path, root):
    folder = write_regdb(tmp_path)
    path = folder / "idx" / "test_thermal_1.txt"
    path.write_bytes(path.read_text().replace("\n", "\r\n\r\n").encode("utf-8-sig"))
    found, expected = (RegDB(root=str(place)).query for place in (tmp_path, root))
    assert [image[1:] for image in found] == [image[1:] for image in expected]


@pytest.mark.parametrize("trial", [0, 11])
def test_there_are_ten_splits(root, trial):
    assert f"DATASETS.REGDB.TRIAL: {trial}; expected 1 to 10" in refusal(root, trial=trial)


@pytest.mark.slow
def test_a_missing_split_and_a_missing_set_are_named(root, tmp_path):
    assert "train_visible_3.txt: no such file" in refusal(root, trial=3)
    message = refusal(tmp_path)
    for part in (str(tmp_path / "RegDB"), "'idx'", "FASTREID_DATASETS", RegDB.dataset_url):
        assert part in message
