import hashlib
import multiprocessing
import os
import shutil
import signal
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plugins.config import setup_cfg
from plugins.data import build_dataset
from plugins.data.conversion import PLACEMENTS, TARGETS, convert, manifest
from plugins.data.conversion.item import Item, number_names, read_items
from plugins.data.datasets import (
    HITSZVCM,
    INFRARED,
    VISIBLE,
    ManifestDataset,
    ReidDataset,
    Tracklet,
)
from plugins.data.datasets.tracklet import as_tracklet, is_image
from plugins.errors import InputError
from plugins.synthetic import (
    BUPT_CAMPUS,
    HITSZ_VCM,
    MARKET1501,
    SyntheticSettings,
    render_layout,
)
from plugins.utils.names import find_invisible
from tests.helpers.hitsz_tree import write_tree
from tests.helpers.image_trees import write_llcm, write_regdb, write_sysu

SPLITS = ("train", "query", "gallery")
READERS = {"hitsz-vcm": "HITSZVCM", "bupt-campus": "BUPTCampus", "manifest": "ManifestDataset"}
FOLDERS = {"hitsz-vcm": "HITSZ-VCM", "bupt-campus": "BUPTCampus", "manifest": "mine"}


def config(*opts):
    return setup_cfg("", ["DATASETS.MANIFEST.FILE", "mine/manifest.csv", *opts])


def convert_to(monkeypatch, root, name, target, place, *opts, **more):
    """Convert what is in ``root`` into ``place``, where the layout's reader looks for it."""
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return convert(name, target, place / FOLDERS[target], config(*opts), **more)


def read(monkeypatch, root, name, *opts):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    return build_dataset(name, cfg=config(*opts))


def content(data):
    """(split, digest of the frames) -> (person, camera, modality), without a look at names."""
    found = {}
    for split in SPLITS:
        for item in map(as_tracklet, getattr(data, split)):
            digests = [hashlib.sha256(Path(file).read_bytes()).digest() for file in item.img_paths]
            key = (split, b"".join(digests))
            assert key not in found
            found[key] = item[1:]
    return found


def bytes_below(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "synthetic.json"
    }


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """HITSZ-VCM with several tracklets in a folder and some too short, BUPTCampus, Market-1501."""
    root = tmp_path_factory.mktemp("rendered")
    sizes = {"train_ids": 3, "test_ids": 2, "height": 32, "width": 16}
    clips = SyntheticSettings(**sizes, min_frames=20, max_frames=26)
    render_layout(HITSZ_VCM, root / "HITSZ-VCM", clips)
    render_layout(BUPT_CAMPUS, root / "BUPTCampus", clips)
    market = SyntheticSettings(**sizes, max_frames=12)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", market)
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """SYSU-MM01, RegDB, LLCM and a folder of one's own; no two images are alike."""
    root = tmp_path_factory.mktemp("images")
    write_sysu(root)
    write_regdb(root)
    write_llcm(root)
    for person in ("ann", "bob", "cid"):
        for camera in ("north", "south"):
            path = root / "people" / person / f"{camera}_1.PNG"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for path in (path for path in root.rglob("*") if path.stat().st_size == 0):
        path.write_text(str(path))
    return root


@pytest.fixture(scope="module")
def base(rendered, tmp_path_factory):
    """A set that each layout can hold: partners in training, long enough, infrared queries."""
    root = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        convert_to(patch, rendered, "BUPTCampus", "hitsz-vcm", root)
    return root


def assert_same(old, new):
    """The same frames in the same splits, and the same people, cameras and modalities by name."""
    assert old.keys() == new.keys()
    for column in range(3):
        pairs = {(str(old[key][column]), str(new[key][column])) for key in old}
        assert len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})
    assert [old[key][2] for key in old] == [new[key][2] for key in old]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("through", TARGETS)
def test_a_round_trip_is_an_identity(base, tmp_path, monkeypatch, target, through):
    start, middle, end = (tmp_path / name for name in "abc")
    convert_to(monkeypatch, base, "HITSZVCM", target, start)
    convert_to(monkeypatch, start, READERS[target], through, middle)
    convert_to(monkeypatch, middle, READERS[through], target, end)
    first, last = (read(monkeypatch, root, READERS[target]) for root in (start, end))
    assert_same(content(first), content(last))
    assert [item[1:] for item in first.query] == [item[1:] for item in last.query]
    if (target, through) == ("manifest", "bupt-campus"):
        return  # partners stand side by side there, and a manifest keeps the order that it gets
    assert bytes_below(start) == bytes_below(end)


def test_the_base_of_the_round_trips_has_several_tracklets_of_a_person_under_a_camera(
    base, monkeypatch
):
    data = read(monkeypatch, base, "HITSZVCM")
    cells = Counter(item[1:] for item in data.train)
    assert len(cells) > 8 and {item.modality for item in data.train} == {VISIBLE, INFRARED}
    assert len({len(item.img_paths) for item in data.train}) > 3


@pytest.mark.parametrize("name", ["HITSZVCM", "BUPTCampus", "Market1501"])
def test_a_manifest_holds_any_rendered_set(rendered, tmp_path, monkeypatch, name):
    done = convert_to(monkeypatch, rendered, name, "manifest", tmp_path)
    old, new = read(monkeypatch, rendered, name), read(monkeypatch, tmp_path, "ManifestDataset")
    if name == "Market1501":  # fastreid names training people otherwise than test people
        assert content(old).keys() == content(new).keys()
    else:
        assert_same(content(old), content(new))
        assert [len(item.img_paths) for item in old.train] == [len(i.img_paths) for i in new.train]
    assert done.tracklets == len(new.train + new.query + new.gallery)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("SYSUMM01", "10 x "), ("RegDB", "no such test"), ("LLCM", "10 x "), ("FolderDataset", None)],
)
def test_a_manifest_holds_images_and_the_lost_protocol_is_told(
    images, tmp_path, monkeypatch, name, direction
):
    done = convert_to(monkeypatch, images, name, "manifest", tmp_path)
    old, new = read(monkeypatch, images, name), read(monkeypatch, tmp_path, "ManifestDataset")
    assert content(old).keys() == content(new).keys()
    modalities = [[as_tracklet(item).modality for item in data.train] for data in (old, new)]
    assert modalities[0] == modalities[1]
    assert len({item[1] for item in old.train}) == len({item[1] for item in new.train})
    if direction is None:
        assert done.losses == []
        assert all(is_image(item) and item[0].endswith(".PNG") for item in new.train)
    else:
        assert any(direction in loss for loss in done.losses)


@pytest.mark.parametrize(
    ("name", "target", "cause"),
    [
        *((name, "hitsz-vcm", "fewer than 12") for name in ("SYSUMM01", "LLCM", "FolderDataset")),
        *((name, "bupt-campus", "no partner") for name in ("SYSUMM01", "RegDB", "FolderDataset")),
    ],
)
def test_a_layout_that_would_be_empty_is_refused(
    images, tmp_path, monkeypatch, name, target, cause
):
    with pytest.raises(InputError, match=f"{target}: it would have nothing in train: .*{cause}"):
        convert_to(monkeypatch, images, name, target, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_hitsz_vcm_as_rendered_comes_back_byte_for_byte(rendered, tmp_path, monkeypatch):
    """Short tracklets too, as soon as the reader takes them."""
    monkeypatch.setattr(HITSZVCM, "min_frames", 1)
    done = convert_to(monkeypatch, rendered, "HITSZVCM", "hitsz-vcm", tmp_path)
    assert done.losses == []
    assert bytes_below(tmp_path / "HITSZ-VCM") == bytes_below(rendered / "HITSZ-VCM")


def test_rows_of_bupt_campus_as_rendered_come_back(rendered, tmp_path, monkeypatch):
    """Without the auxiliary people, who are not asked for, the test numbers move up."""
    convert_to(monkeypatch, rendered, "BUPTCampus", "bupt-campus", tmp_path)
    old, new = rendered / "BUPTCampus", tmp_path / "BUPTCampus"
    assert (old / "train.txt").read_bytes() == (new / "train.txt").read_bytes()
    for name in ("query.txt", "gallery.txt"):
        rows = [[line.split()[:3] for line in (root / name).open()] for root in (old, new)]
        assert rows[0] == rows[1]
    auxiliary = len((old / "train_auxiliary.txt").read_text().splitlines())
    numbers = [[int(line.split()[3]) for line in (r / "gallery.txt").open()] for r in (old, new)]
    assert numbers[0] == [number + auxiliary for number in numbers[1]]


def test_auxiliary_people_become_training_people(rendered, tmp_path, monkeypatch):
    auxiliary = ("DATASETS.BUPT.AUXILIARY", "True")
    convert_to(monkeypatch, rendered, "BUPTCampus", "bupt-campus", tmp_path, *auxiliary)
    old = read(monkeypatch, rendered, "BUPTCampus", *auxiliary)
    assert_same(content(old), content(read(monkeypatch, tmp_path, "BUPTCampus")))


@pytest.mark.parametrize("name", ["Market1501", "ManifestDataset"])
def test_a_set_around_another_keeps_the_names_of_people_and_cameras(
    rendered, tmp_path, monkeypatch, name
):
    root = rendered
    if name == "ManifestDataset":
        root = tmp_path
        write_manifest(root, ["ann", "bob", "cat"], ["north", "south"])
    wrapped = ("DATASETS.THINNED.NAME", name, "DATASETS.THINNED.IMBALANCE", "0.0")
    found = []
    for outer, options in ((name, ()), ("ThinnedDataset", wrapped)):
        place = tmp_path / outer
        convert_to(monkeypatch, root, outer, "manifest", place, *options)
        found.append((place / FOLDERS["manifest"] / manifest.TABLE).read_text())
    assert found[0] == found[1]


def test_held_out_people_are_refused(tree, tmp_path, monkeypatch):
    options = ("DATASETS.HELD_OUT.NAME", "HITSZVCM", "DATASETS.HELD_OUT.PEOPLE", "2")
    with pytest.raises(InputError, match=r"HeldOutPeople: it numbers people anew; expected the"):
        convert_to(monkeypatch, tree, "HeldOutPeople", "manifest", tmp_path, *options)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_generated_tracklets_are_left_out_and_told(rendered, tmp_path, monkeypatch, target):
    fake = ("DATASETS.BUPT.FAKE_IR", "True")
    plain = convert_to(monkeypatch, rendered, "BUPTCampus", target, tmp_path / "plain")
    done = convert_to(monkeypatch, rendered, "BUPTCampus", target, tmp_path / "fake", *fake)
    assert done[:2] == plain[:2]
    number = sum(item.is_pseudo for item in read(monkeypatch, rendered, "BUPTCampus", *fake).train)
    assert number > 0
    assert done.losses == [*plain.losses, f"{number} generated tracklets are left out"]


@pytest.mark.slow
def test_what_hitsz_vcm_cannot_hold_is_told_and_left_out(rendered, tmp_path, monkeypatch):
    done = convert_to(monkeypatch, rendered, "BUPTCampus", "hitsz-vcm", tmp_path)
    old = read(monkeypatch, rendered, "BUPTCampus")
    every = old.train + old.query + old.gallery
    short = sum(len(item.img_paths) < 12 for item in every)
    moved = sum(
        len(item.img_paths) >= 12 and item.modality != seeks
        for items, seeks in ((old.query, INFRARED), (old.gallery, VISIBLE))
        for item in items
    )
    assert short and moved
    assert done.losses[0].startswith(f"{short} of {len(every)} tracklets are left out")
    assert done.losses[1].startswith(f"{moved} test tracklets change between query and gallery")
    assert done.losses[2].startswith("I2V full was: 1 x ")
    new = read(monkeypatch, tmp_path, "HITSZVCM")
    assert len(new.train + new.query + new.gallery) == len(every) - short == done.tracklets
    assert {frames for _, frames in content(new)} < {frames for _, frames in content(old)}


def test_training_tracklets_without_a_partner_do_not_get_into_bupt_campus(
    rendered, tmp_path, monkeypatch
):
    done = convert_to(monkeypatch, rendered, "HITSZVCM", "bupt-campus", tmp_path)
    old, new = read(monkeypatch, rendered, "HITSZVCM"), read(monkeypatch, tmp_path, "BUPTCampus")
    cells = [
        Counter((i.pid, i.camid) for i in old.train if i.modality == m) for m in (VISIBLE, INFRARED)
    ]
    pairs = (cells[0] & cells[1]).total()
    assert 0 < 2 * pairs == len(new.train) < len(old.train)
    assert done.losses[0].startswith(f"{len(old.train) - 2 * pairs} training tracklets")
    assert done.losses[1].endswith("is: no such test")
    for visible, infrared in zip(new.train[::2], new.train[1::2], strict=True):
        assert visible[1:3] == infrared[1:3]


def write_manifest(root, people, cameras, frames=12, extension=".jpg"):
    """Everybody under every camera in both modalities; the last person is to test."""
    items = []
    for person in people:
        for camera in cameras:
            for modality, kind in ((VISIBLE, "gallery"), (INFRARED, "query")):
                split = kind if person == people[-1] else "train"
                stem = f"{len(items)}_"
                files = tuple(f"{stem}{n}{extension}" for n in range(frames))
                items.append(Item(split, person, camera, modality, files))
                for file in files:
                    (root / "mine").mkdir(exist_ok=True)
                    (root / "mine" / file).write_text(file)
    manifest.write_index(root / "mine", items)


@pytest.mark.slow
def test_names_become_numbers_where_a_layout_wants_them(tmp_path, monkeypatch):
    write_manifest(tmp_path, ["ann", "bob", "cid"], ["south", "north"])
    for target in ("hitsz-vcm", "bupt-campus"):
        done = convert_to(monkeypatch, tmp_path, "ManifestDataset", target, tmp_path)
        assert done.losses[:2] == [
            "names of people become numbers in sorted order: 'ann' is 1",
            "names of cameras become numbers in sorted order: 'north' is 1",
        ]
        old = read(monkeypatch, tmp_path, "ManifestDataset")
        assert_same(content(old), content(read(monkeypatch, tmp_path, READERS[target])))


@pytest.mark.slow
def test_bupt_campus_has_six_cameras(tmp_path, monkeypatch):
    write_manifest(tmp_path, ["1", "2"], [str(n) for n in range(3, 9)])
    convert_to(monkeypatch, tmp_path, "ManifestDataset", "bupt-campus", tmp_path)
    (tmp_path / "seven").mkdir()
    write_manifest(tmp_path / "seven", ["1", "2"], [str(n) for n in range(1, 8)])
    seven = tmp_path / "seven"
    with pytest.raises(InputError, match=r"found 7 cameras, 1, 2, .*; expected at most 6"):
        convert_to(monkeypatch, seven, "ManifestDataset", "bupt-campus", seven)


@pytest.mark.parametrize(
    ("names", "allowed", "expected"),
    [
        (["10", "9", "9"], None, {"10": 10, "9": 9}),
        (["10", "9"], range(1, 10), {"10": 1, "9": 2}),
        (["007", "7"], None, {"007": 1, "7": 2}),
        (["٣", "3"], None, {"3": 1, "٣": 2}),
        (["-1", "0"], None, {"-1": 1, "0": 2}),
        ([], None, {}),
    ],
)
def test_only_plain_numbers_stay(names, allowed, expected):
    numbers, losses = number_names(names, "people", allowed)
    assert numbers == expected
    assert bool(losses) == any(str(number) != name for name, number in numbers.items())


# Names as people see them: readers refuse invisible characters, and two spellings that look alike.
NAMES = (
    st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: not find_invisible(text))
)


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            NAMES.map(str.strip).filter(bool),
            NAMES.map(str.strip).filter(bool),
            st.sampled_from((VISIBLE, INFRARED)),
            st.sampled_from(SPLITS),
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_name_survives_a_manifest(tmp_path, rows):
    items = [
        Item(
            split,
            # Nobody may be in train and in test.
            f"{person}{'t' if split == 'train' else 'q'}",
            camera,
            modality,
            tuple(f"a, b\"'é {number}/{frame}.jpg" for frame in range(length)),
        )
        for number, (person, camera, modality, split, length) in enumerate(rows)
    ]
    manifest.write_index(tmp_path, items)
    found = read_items(ManifestDataset(root=str(tmp_path)))
    assert found == [
        item._replace(files=tuple(f"{tmp_path}/{file}" for file in item.files))
        for split in SPLITS
        for item in items
        if item.split == split
    ]


def test_png_frames_stay_png_in_every_layout(tmp_path, monkeypatch):
    write_manifest(tmp_path, ["1", "2"], ["1", "2"], extension=".PNG")
    for target in ("hitsz-vcm", "bupt-campus"):
        convert_to(monkeypatch, tmp_path, "ManifestDataset", target, tmp_path)
        data = read(monkeypatch, tmp_path, READERS[target])
        assert all(path.endswith(".PNG") for item in data.train for path in item.img_paths)


def test_a_frame_that_hitsz_vcm_has_no_name_for_is_refused(tmp_path, monkeypatch):
    write_manifest(tmp_path, ["1", "2"], ["1"], extension=".webp")
    with pytest.raises(InputError, match=r"0_0\.webp: hitsz-vcm has no files '\.webp'"):
        convert_to(monkeypatch, tmp_path, "ManifestDataset", "hitsz-vcm", tmp_path)
    assert not (tmp_path / "HITSZ-VCM").exists()


@pytest.mark.parametrize("placement", ["copy", "hardlink", "symlink"])
def test_frames_are_copied_or_linked(tmp_path, monkeypatch, placement):
    write_manifest(tmp_path, ["1", "2"], ["1"])
    source = tmp_path / "mine" / "0_0.jpg"
    (tmp_path / "elsewhere.jpg").write_bytes(source.read_bytes())
    source.unlink()
    source.symlink_to("../elsewhere.jpg")
    monkeypatch.chdir(tmp_path)
    convert_to(monkeypatch, ".", "ManifestDataset", "hitsz-vcm", Path(), placement=placement)
    frame = tmp_path / "HITSZ-VCM" / "Train" / "0001" / "rgb" / "D1" / "1.jpg"
    assert frame.read_text() == "0_0.jpg"
    assert frame.is_symlink() == (placement == "symlink")
    assert frame.samefile(source) == (placement != "copy")


def test_nothing_is_overwritten(base, tmp_path, monkeypatch):
    out = tmp_path / "mine"
    out.mkdir()
    with pytest.raises(InputError, match="mine: it is there already"):
        convert_to(monkeypatch, base, "HITSZVCM", "manifest", tmp_path)
    out.rmdir()
    out.symlink_to("nowhere")
    with pytest.raises(InputError, match="mine: it is there already"):
        convert_to(monkeypatch, base, "HITSZVCM", "manifest", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_missing_frame_is_named_and_nothing_stays(tmp_path, monkeypatch):
    folder = write_tree(tmp_path)
    lost = folder / "Test" / "0502" / "ir" / "D1" / "24.jpg"
    lost.unlink()
    with pytest.raises(InputError, match=f"{lost}: no such frame"):
        convert_to(monkeypatch, tmp_path, "HITSZVCM", "manifest", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["HITSZ-VCM"]


def test_a_person_of_train_and_test_is_refused(tmp_path):
    """No reader of ours gives one; of fastreid's, those do that number each split from 0."""

    item = Tracklet((str(tmp_path / "1.jpg"),), 1, 1, VISIBLE)
    with pytest.raises(InputError, match="person 1 is in gallery and in train too"):
        read_items(ReidDataset([item], [], [item]))


def convert_and_die(out):
    """Be killed at the fifth frame."""
    left = [4]

    def copy(source, target):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        shutil.copyfile(source, target)

    PLACEMENTS["copy"] = copy
    convert("HITSZVCM", "manifest", out, config())


@pytest.mark.slow
def test_a_killed_conversion_leaves_nothing_that_looks_finished(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tree))
    process = multiprocessing.get_context("fork").Process(
        target=convert_and_die, args=(tmp_path / "mine",)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["mine.part"]
    assert not (tmp_path / "mine.part" / "manifest.csv").exists()
    assert len(list(tmp_path.rglob("*.jpg"))) == 4
    convert_to(monkeypatch, tree, "HITSZVCM", "manifest", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert not list((tmp_path / "mine").glob(".*"))
