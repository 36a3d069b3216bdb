import logging
import re

import numpy as np
import pytest

from plugins.data.datasets import HITSZVCM, INFRARED, VISIBLE
from plugins.errors import InputError
from tests.helpers.hitsz_tree import TEST, TRAIN, Walk, edit_line, write_tree

NAMES, ROWS = "info/train_name.txt", "info/track_train_info.txt"
TEST_ROWS, QUERIES = "info/track_test_info.txt", "info/query_IDX.txt"


def read(folder):
    return HITSZVCM(root=str(folder.parent))


def refusal(folder):
    """The message of the InputError that reading raises: one line."""
    with pytest.raises(InputError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def without_root(data, root):
    """All tracklets, with paths that can be compared between trees."""
    return [
        item._replace(img_paths=tuple(path.removeprefix(str(root)) for path in item.img_paths))
        for item in [*data.train, *data.query, *data.gallery]
    ]


def test_tracklets_hold_what_was_written(tree):
    data = HITSZVCM(root=str(tree))
    for walks, tracklets in (
        ([w for w in TRAIN if w.frames >= 12], data.train),
        ([w for w in TEST if w.frames >= 12 and w.modality == 1], data.query),
        ([w for w in TEST if w.frames >= 12 and w.modality == 2], data.gallery),
    ):
        found = [(t.pid, {1: 1, 0: 2}[t.modality], t.camid, len(t.img_paths)) for t in tracklets]
        assert found == [tuple(walk) for walk in walks]


def test_every_path_is_a_file_of_its_person_modality_and_camera(tree):
    data = HITSZVCM(root=str(tree))
    folders = {VISIBLE: "rgb", INFRARED: "ir"}
    for split, tracklets in {"Train": data.train, "Test": [*data.query, *data.gallery]}.items():
        for t in tracklets:
            place = (
                tree / "HITSZ-VCM" / split / f"{t.pid:04d}" / folders[t.modality] / f"D{t.camid}"
            )
            on_disk = {str(path) for path in place.iterdir()}
            assert set(t.img_paths) <= on_disk
            assert len(set(t.img_paths)) == len(t.img_paths)


def test_frames_keep_the_order_of_the_name_file(tree):
    for tracklet in HITSZVCM(root=str(tree)).train:
        numbers = [int(re.search(r"(\d+)\.jpg$", path).group(1)) for path in tracklet.img_paths]
        assert numbers == sorted(numbers)


def test_short_tracklets_are_left_out_of_training_and_test(tree):
    data = HITSZVCM(root=str(tree))
    assert min(len(t.img_paths) for t in [*data.train, *data.query, *data.gallery]) == 12
    assert len(data.train) == len(TRAIN) - 1
    assert len(data.query) + len(data.gallery) == len(TEST) - 2


def test_the_tables_say_how_many_short_tracklets_are_left_out(tree, caplog):
    caplog.set_level(logging.INFO)
    data = HITSZVCM(root=str(tree))
    data.show_train()
    data.show_test()
    for split, left_out in (("train", "1 of 17"), ("query", "1 of 4"), ("gallery", "1 of 3")):
        told = f"{split}: {left_out} tracklets are left out: they have fewer than 12 frames, and "
        assert any(message.startswith(told) for message in caplog.messages)


def test_dropping_short_rows_does_not_shift_the_query_rows(tree):
    """Rows 2 and 4 are too short; rows 3, 5 and 7 stay the queries."""
    data = HITSZVCM(root=str(tree))
    assert [(t.pid, t.camid) for t in data.query] == [(501, 3), (502, 1), (502, 2)]
    assert {t.modality for t in data.query} == {INFRARED}
    assert {t.modality for t in data.gallery} == {VISIBLE}


@pytest.mark.parametrize("layout", ["flat", "doubled"])
def test_flat_and_doubled_trees_hold_the_same_set(tree, tmp_path, layout):
    nested = HITSZVCM(root=str(tree))
    folder = write_tree(tmp_path, layout)
    other = read(folder)
    for one, two in zip(nested.train + nested.gallery, other.train + other.gallery, strict=True):
        assert one[1:] == two[1:]
        assert [p.split("/")[-4:] for p in one.img_paths] == [
            p.split("/")[-4:] for p in two.img_paths
        ]
    assert all((folder.parent / path).is_file() for t in other.train for path in t.img_paths)


def test_windows_text_with_blank_lines_changes_nothing(tree, tmp_path):
    folder = write_tree(tmp_path)
    for path in (folder / "info").iterdir():
        text = path.read_text().replace("\n", "\r\n")
        if path.name.startswith("track"):
            text = "\r\n" + text.replace("\r\n", "\r\n\r\n", 1)
        path.write_bytes((text + "\r\n\r\n").encode("utf-8-sig"))
    assert without_root(read(folder), tmp_path) == without_root(HITSZVCM(root=str(tree)), tree)


def test_people_without_leading_zeros_are_the_same_people(tree, tmp_path):
    folder = write_tree(tmp_path)
    for name in (NAMES, ROWS):
        path = folder / name
        path.write_text(re.sub(r"\b000(?=[1-4])", "", path.read_text()))
    assert " 1 1\n" in (folder / ROWS).read_text()
    assert without_root(read(folder), tmp_path) == without_root(HITSZVCM(root=str(tree)), tree)


def test_reading_looks_at_no_frame(tmp_path):
    folder = write_tree(tmp_path)
    before = read(folder)
    for path in folder.glob("T*/*/*/*/*.jpg"):
        path.unlink()
    assert read(folder).train == before.train


def test_both_directions_index_queries_followed_by_gallery(tree):
    data = HITSZVCM(root=str(tree))
    directions = data.directions()
    items = [*data.query, *data.gallery]
    assert list(directions) == ["I2V", "V2I"]
    for protocol, modality in zip(directions.values(), (INFRARED, VISIBLE), strict=True):
        ((queries, gallery),) = protocol.trials
        assert (protocol.junk, protocol.cmc) == ("camera", "item")
        assert queries.dtype == gallery.dtype == np.int64
        assert {items[row].modality for row in queries} == {modality}
        assert {items[row].modality for row in gallery} == {1 - modality}
        assert sorted([*queries, *gallery]) == list(range(len(items)))


def test_combineall_trains_on_everything(tree):
    plain, combined = HITSZVCM(root=str(tree)), HITSZVCM(root=str(tree), combineall=True)
    assert combined.train == plain.train + plain.query + plain.gallery
    assert combined.query == plain.query


def test_tables_count_each_modality(tree, caplog):
    data = HITSZVCM(root=str(tree))
    with caplog.at_level(logging.INFO):
        data.show_train()
        data.show_test()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in caplog.text.split("\n")]
    assert ["train", "visible", "4", "8", "108", "2"] in cells
    assert ["query", "infrared", "2", "3", "50", "3"] in cells
    assert ["gallery", "visible", "2", "2", "25", "2"] in cells


def test_a_missing_set_tells_where_to_get_one(tmp_path):
    message = refusal(tmp_path / "HITSZ-VCM")
    for part in (
        str(tmp_path / "HITSZ-VCM"),
        "FASTREID_DATASETS",
        "https://github.com/VCM-project233/MITML",
        f"python tools/make_synthetic.py --preset quick --out {tmp_path / 'HITSZ-VCM'}",
    ):
        assert part in message


@pytest.mark.slow
def test_missing_frame_folders_are_listed(tmp_path):
    folder = write_tree(tmp_path)
    (folder / "Train").rename(folder / "Training")
    message = refusal(folder)
    assert "0001" in message
    for place in (folder / "Train" / "Train", folder / "Train", folder):
        assert str(place) in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "text", "expected"),
    [
        (ROWS, 2, "1 14 27 0001", "five numbers"),
        (ROWS, 2, "1 14 27 0001 2 9", "five numbers"),
        (ROWS, 2, "1 14 x7 0001 2", "five numbers"),
        (ROWS, 2, "1 -4 27 0001 2", "five numbers"),
        (ROWS, 2, "3 14 27 0001 2", "1 (infrared) or 2 (visible)"),
        (ROWS, 2, "1 27 14 0001 2", "start <= end"),
        (ROWS, 2, "1 0 14 0001 2", "1 <= start"),
        (NAMES, 3, "0001M1D1T1F.jpg", "0001M2D3T1F6.jpg"),
        (NAMES, 3, "0001M3D1T1F3.jpg", "0001M2D3T1F6.jpg"),
        (NAMES, 3, "", "0001M2D3T1F6.jpg"),
        (NAMES, 3, "0001M1D1T1F3.jp", "0001M2D3T1F6.jpg"),
    ],
)
def test_an_unreadable_line_is_named_with_what_it_should_be(tmp_path, file, line, text, expected):
    folder = write_tree(tmp_path)
    edit_line(folder / file, line, text)
    message = refusal(folder)
    assert f"{folder / file}:{line}: " in message
    assert expected in message


def test_damaged_bytes_are_named_with_their_line(tmp_path):
    folder = write_tree(tmp_path)
    path = folder / NAMES
    path.write_bytes(path.read_bytes().replace(b"F5.jpg", b"\xff\x00\xd8", 1))
    assert f"{path}:5: byte 11 of the line, 0xff, is not UTF-8" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0002M1D1T1F3.jpg", "person 2, infrared, camera 1"),
        ("0001M2D1T1F3.jpg", "person 1, visible, camera 1"),
        ("0001M1D7T1F3.jpg", "person 1, infrared, camera 7"),
    ],
)
def test_a_tracklet_of_two_people_modalities_or_cameras_is_refused(tmp_path, text, found):
    folder = write_tree(tmp_path)
    edit_line(folder / NAMES, 3, text)
    message = refusal(folder)
    assert f"{folder / NAMES}:3" in message
    assert f"{folder / ROWS}:1" in message
    assert f"is {found}" in message
    assert "is person 1, infrared, camera 1" in message


def test_a_person_of_both_splits_is_refused(tmp_path):
    folder = write_tree(tmp_path, test=[*TEST, Walk(3, 1, 1, 12)])
    message = refusal(folder)
    assert f"{folder / TEST_ROWS}:8" in message
    assert "person 3" in message


@pytest.mark.parametrize(
    "file", ["train_name", "test_name", "track_train_info", "track_test_info", "query_IDX"]
)
def test_a_cut_off_file_is_named_wherever_it_is_cut(tmp_path, file):
    folder = write_tree(tmp_path)
    path = folder / "info" / f"{file}.txt"
    whole = path.read_bytes()
    almost_all = len(whole.rstrip()) - 1
    for size in [0, *np.random.default_rng(0).integers(1, almost_all, 25), almost_all]:
        path.write_bytes(whole[:size])
        assert f"{file}.txt" in refusal(folder)


def test_a_row_lost_or_doubled_in_the_middle_is_remarked(tree, tmp_path):
    key = "track_train_info.txt"
    assert key not in HITSZVCM(root=str(tree)).remarks
    folder = write_tree(tmp_path)
    rows = (folder / ROWS).read_text().splitlines()
    for changed, line in ((rows[:4] + rows[5:], 5), (rows[:5] + rows[4:], 6)):
        (folder / ROWS).write_text("\n".join(changed))
        remarks = read(folder).remarks
        assert remarks[key].startswith(f"1 of {len(changed)} rows do not start after the end")
        assert f"line {line}; a row may be lost or doubled" in remarks[key]
        assert "track_test_info.txt" not in remarks


def test_a_missing_info_file_is_named(tmp_path):
    folder = write_tree(tmp_path)
    (folder / QUERIES).unlink()
    assert f"{folder / QUERIES}: no such file" in refusal(folder)


@pytest.mark.parametrize("last", ["7\x1a", "?", "1", "99", "-7", "3", "\x00"])
def test_a_damaged_last_query_is_replaced_by_the_missing_one_with_one_warning(
    tmp_path, caplog, last
):
    folder = write_tree(tmp_path)
    whole = read(folder).query
    (folder / QUERIES).write_text(f"2 3 5 {last}")
    assert read(folder).query == whole
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert str(folder / QUERIES) in warnings[0]
    assert repr(last) in warnings[0]


@pytest.mark.parametrize("text", ["2 3 5\n7\n", "2\r\n3\r\n5\r\n7", "7 5 3 2", "  2\t3 5 7  "])
def test_queries_may_stand_on_several_lines_and_in_any_order(tmp_path, caplog, text):
    folder = write_tree(tmp_path)
    whole = read(folder).query
    (folder / QUERIES).write_bytes(text.encode())
    assert read(folder).query == whole
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "position", "token"),
    [
        ("2 99 5 7", 2, "99"),
        ("0 2 3 5 7", 1, "0"),
        ("2 1 3 5 7", 2, "1"),
        ("2 2 3 5 7", 2, "2"),
        ("2 ? 5 7", 2, "?"),
        ("2 3 5 7 99", 5, "99"),
        ("2 3 ?", 3, "?"),
    ],
)
def test_a_query_that_is_no_infrared_row_is_refused(tmp_path, text, position, token):
    folder = write_tree(tmp_path)
    (folder / QUERIES).write_text(text)
    message = refusal(folder)
    assert f"{folder / QUERIES}: number {position} is '{token}'" in message
    assert "1 to 7" in message
