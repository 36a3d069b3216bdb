import os
import random

import pytest

from plugins.config import setup_cfg
from plugins.data import build_dataset
from plugins.data.datasets import INFRARED, LLCM, VISIBLE
from plugins.errors import InputError
from tests.helpers.hitsz_tree import edit_line
from tests.helpers.image_trees import LLCM_CAMERAS, llcm_image, write_llcm
from tests.helpers.trees import run_tool


@pytest.fixture(scope="module", params=[False, True], ids=["vis/<id>", "test_vis/cam<k>"])
def root(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("my cam7")
    write_llcm(root, copies=request.param)
    return root


def refusal(root, **options):
    with pytest.raises(InputError) as caught:
        LLCM(root=str(root), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def sides(data, protocol):
    """(query names, gallery names) of each trial."""
    names = [os.path.basename(item.img_paths[0]) for item in [*data.query, *data.gallery]]
    return [tuple([names[row] for row in side] for side in trial) for trial in protocol.trials]


def drawn(kind):
    """Ten draws with the global generator from the folders of LLCM's test images."""
    before, galleries = random.getstate(), []
    for trial in range(10):
        random.seed(trial)
        gallery = []
        for person in (3, 351):
            for camera in LLCM_CAMERAS[person][kind]:
                names = [
                    os.path.basename(llcm_image(person, camera, kind, f)) for f in (1, 2, 3, 4)
                ]
                gallery.append(random.choice(sorted(names)))
        galleries.append(gallery)
    random.setstate(before)
    return galleries


def test_person_and_camera_are_those_of_the_file_name(root):
    data = LLCM(root=str(root))
    assert {image.pid for image in data.train} == {10, 20}
    assert len(data.train) == 4 * (2 + 2 + 1 + 1)
    for images, kind, modality in ((data.query, "nir", INFRARED), (data.gallery, "vis", VISIBLE)):
        assert {image.modality for image in images} == {modality}
        assert {(image.pid, image.camid) for image in images} == {
            (person, camera) for person in (3, 351) for camera in LLCM_CAMERAS[person][kind]
        }
    for image in [*data.train, *data.query, *data.gallery]:
        (path,) = image.img_paths
        assert os.path.isfile(path)
        assert os.path.basename(path).startswith(f"{image.pid:04d}_c{image.camid:02d}_")


def test_sampled_galleries_are_searched_by_all_images_of_the_other_modality(root):
    data = LLCM(root=str(root))
    directions = data.directions()
    assert list(directions) == ["I2V sampled-gallery", "V2I sampled-gallery"]
    for protocol, queries, kind in zip(
        directions.values(), (data.query, data.gallery), ("vis", "nir"), strict=True
    ):
        assert (protocol.junk, protocol.cmc) == ("camera", "identity")
        everybody = [os.path.basename(image.img_paths[0]) for image in queries]
        assert sides(data, protocol) == [(everybody, gallery) for gallery in drawn(kind)]


def test_the_authors_script_lets_drawn_infrared_images_search_all_visible_ones(root):
    data = LLCM(root=str(root), mode="deen-script")
    directions = data.directions()
    assert list(directions) == ["I2V deen-script", "V2I deen-script"]
    everybody = [os.path.basename(image.img_paths[0]) for image in data.gallery]
    found = sides(data, directions["V2I deen-script"])
    assert found == [(queries, everybody) for queries in drawn("nir")]
    honest = LLCM(root=str(root)).directions()["I2V sampled-gallery"]
    assert sides(data, directions["I2V deen-script"]) == sides(data, honest)
    assert {(p.junk, p.cmc) for p in directions.values()} == {("camera", "identity")}


def test_the_full_gallery_is_searched_once_and_hides_nothing(root):
    data = LLCM(root=str(root), mode="full-gallery")
    directions = data.directions()
    assert list(directions) == ["I2V full-gallery", "V2I full-gallery"]
    infrared, visible = (
        [os.path.basename(image.img_paths[0]) for image in images]
        for images in (data.query, data.gallery)
    )
    assert sides(data, directions["I2V full-gallery"]) == [(infrared, visible)]
    assert sides(data, directions["V2I full-gallery"]) == [(visible, infrared)]
    assert {(p.junk, p.cmc) for p in directions.values()} == {("none", "identity")}


def test_drawing_leaves_the_global_generator_alone(root):
    before = random.getstate()
    LLCM(root=str(root)).directions()
    assert random.getstate() == before


def test_both_ways_to_write_test_paths_give_the_same_trials(tmp_path):
    found = []
    for copies in (False, True):
        write_llcm(tmp_path / str(copies), copies=copies)
        data = LLCM(root=str(tmp_path / str(copies)))
        found.append([sides(data, protocol) for protocol in data.directions().values()])
    assert found[0] == found[1]


def test_the_config_chooses_the_mode(root, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    cfg = setup_cfg("", ["DATASETS.LLCM.MODE", "full-gallery"])
    assert "I2V full-gallery" in build_dataset("LLCM", cfg=cfg).directions()


@pytest.mark.parametrize(
    ("file", "line", "text", "expected"),
    [
        ("test_nir", 2, "nir/0003/0003_c06_s1_f1_nir.jpg", "expected an image and its label"),
        ("test_nir", 2, "nir/0003/0003_c06_s1_f1_vis.jpg 0", "such as 0351_c06_s200656_f4830_nir"),
        ("train_vis", 1, "vis/0010/10_c06_s1_f1_vis.jpg 0", "such as 0351_c06_s200656_f4830_vis"),
        ("train_vis", 1, "vis/0003/0003_c06_s1_f1_vis.jpg 0", "person 3 is in test_id.txt"),
        ("test_vis", 5, "vis/0010/0010_c06_s1_f1_vis.jpg 0", "person 10 is not in test_id.txt"),
        ("train_nir", 2, f"{llcm_image(10, 1, 'nir', 4)} 0", "is listed twice"),
        ("train_nir", 2, f"./{llcm_image(10, 1, 'nir', 4)} 0", "is listed twice, at "),
        ("test_nir", 2, f"{llcm_image(351, 6, 'nir', 4, copies=True)} 0", "from another folder"),
        ("test_vis", 2, "vis/0351/0351_c96_s1_f1_vis.jpg 0", "is of camera 96, expected 1 to 9"),
        ("test_vis", 2, "vis/0351/0351_c00_s1_f1_vis.jpg 0", "is of camera 0, expected 1 to 9"),
    ],
)
def test_a_bad_line_is_named_with_what_it_should_be(tmp_path, file, line, text, expected):
    folder = write_llcm(tmp_path)
    edit_line(folder / "idx" / f"{file}.txt", line, text)
    message = refusal(tmp_path)
    assert f"{folder}/idx/{file}.txt:{line}: " in message
    assert expected in message


def test_a_picture_under_two_names_is_refused(tmp_path):
    folder = write_llcm(tmp_path)
    image = llcm_image(351, 6, "vis", 4)
    again = f"vis/more/{os.path.basename(image).replace('_s4', '_s7')}"
    (folder / "vis" / "more").mkdir()
    (folder / again).symlink_to(folder / image)
    edit_line(folder / "idx" / "test_vis.txt", 3, f"{again} 0")
    message = refusal(tmp_path)
    path = folder / "idx" / "test_vis.txt"
    assert message == f"{path}:3: {again} is listed twice, at {path}:1 as {image}"


@pytest.mark.parametrize("kept", [9, 4, 3])
def test_a_list_that_is_cut_off_makes_the_set_unfit(tmp_path, monkeypatch, capsys, kept):
    folder = write_llcm(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert run_tool(monkeypatch, "LLCM", "--labels-only") == 0
    assert "no list holds" not in capsys.readouterr().out
    path = folder / "idx" / "test_vis.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:kept]) + "\n")
    assert run_tool(monkeypatch, "LLCM", "--labels-only") == 1
    printed = capsys.readouterr().out
    assert f"no list holds {len(lines) - kept} of the pictures in its folders" in printed
    without = "test_vis.txt: it lists no image of 1 people of test_id.txt: 3; is it cut off?"
    assert (without in printed) == (kept <= 4)


def test_an_unknown_mode_and_a_missing_set_are_answered_with_what_there_is(root, tmp_path):
    assert "expected sampled-gallery, deen-script" in refusal(root, mode="deen")
    message = refusal(tmp_path)
    for part in (str(tmp_path / "LLCM"), "'idx'", "FASTREID_DATASETS", LLCM.dataset_url):
        assert part in message
