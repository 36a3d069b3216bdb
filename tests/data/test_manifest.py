import logging
import os
import random
import shlex

import pytest

from plugins.config import setup_cfg
from plugins.data import build_dataset, build_test_loader
from plugins.data.checks import check_labels, check_searches, remarks
from plugins.data.datasets import INFRARED, VISIBLE, ManifestDataset, Tracklet
from plugins.data.datasets.build import training_items
from plugins.data.datasets.manifest import COLUMNS, SPLITS
from plugins.data.datasets.splits import read_splits, warn_of_faults
from plugins.errors import InputError
from tests.helpers.hitsz_tree import write_frame
from tests.helpers.trees import HEADER, LINES, run_tool, write_manifest


def test_a_missing_frame_is_told_with_its_line_and_the_whole_command(tmp_path, monkeypatch, capsys):
    """The command that the message gives finds the frame, and names the line as well."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    file = write_manifest(tmp_path).rename(tmp_path / "my frames.csv")
    for line in LINES:
        picture = tmp_path / line.split(",")[0]
        picture.parent.mkdir(exist_ok=True)
        write_frame(picture, seed=1)
    (tmp_path / "b/2.jpg").unlink()
    cfg = setup_cfg("", ["DATASETS.MANIFEST.FILE", file.name])
    with pytest.raises(InputError) as caught:
        build_test_loader(cfg, "ManifestDataset")
    command = f"python tools/check_data.py ManifestDataset DATASETS.MANIFEST.FILE '{file.name}'"
    place = f"{tmp_path}/b/2.jpg ({file}:8)"
    assert str(caught.value) == (
        f"DATASETS.TESTS ManifestDataset: 1 of 4 frames is missing: {place}; {command} lists all "
        "that cannot be read"
    )
    status = run_tool(monkeypatch, *shlex.split(command)[2:], "--workers", "1")
    assert (status, f"{file}:8 ({tmp_path}/b/2.jpg): no such frame" in capsys.readouterr().out) == (
        1,
        True,
    )


@pytest.mark.parametrize(("frames", "told"), [(("0", "1", "1"), 3), (("7", "7"), 0), (("", ""), 0)])
def test_frames_without_a_tracklet_are_told_where_they_order_something(
    tmp_path, caplog, frames, told
):
    lines = [f"{n}.jpg,ann,north,infrared,,{frame},train" for n, frame in enumerate(frames)]
    file = write_manifest(tmp_path, [*LINES[:4], *lines])
    data = ManifestDataset(str(tmp_path))
    warn_of_faults(data, f"ManifestDataset {frames}")
    told_of = [text for text in caplog.messages if "have a frame but no tracklet" in text]
    assert len(told_of) == bool(told)
    complaints = [complaint for complaint in remarks(data) if complaint.fatal]
    assert [c.where for c in complaints] == ["manifest.csv"] * bool(told)
    if told:
        assert complaints[0].text == (
            f"{told} rows have a frame but no tracklet, so that each is a single image and no part "
            f"of a clip, the first at {file}:6; expected the name of a tracklet, or for single "
            "images an empty frame"
        )


def test_a_tracklet_in_two_splits_is_told(tmp_path):
    lines = [*LINES, "b/9.jpg,bob,south,infrared,7,9,gallery"]
    file = write_manifest(tmp_path, lines)
    data = ManifestDataset(str(tmp_path))
    (remark,) = remarks(data)
    assert remark == (
        False,
        "gallery",
        "tracklets whose rows lie in two splits: 1, such as '7' of person bob, camera south: query "
        f"at {file}:6, gallery at {file}:10",
    )
    write_manifest(tmp_path)
    assert remarks(ManifestDataset(str(tmp_path))) == []


def test_rows_of_one_tracklet_are_its_frames_in_the_order_of_their_numbers(tmp_path):
    lines = LINES.copy()
    random.Random(0).shuffle(lines)
    write_manifest(tmp_path, lines)
    train = ManifestDataset(root=str(tmp_path)).train
    assert [item[:4] for item in sorted(train, key=lambda item: item.modality)] == [
        ((f"{tmp_path}/a/0.jpg", f"{tmp_path}/a/1.jpg", f"{tmp_path}/a/2.jpg"), 0, 0, VISIBLE),
        ((f"{tmp_path}/a/3.jpg",), 0, 1, INFRARED),
    ]


def test_people_and_cameras_are_numbered_in_sorted_order_whatever_the_order_of_the_rows(tmp_path):
    write_manifest(tmp_path, LINES[::-1])
    data = ManifestDataset(root=str(tmp_path))
    assert {item.pid for item in data.train} == {0}
    assert {item.pid for item in data.query + data.gallery} == {1}
    assert [item.camid for item in data.query] == [0, 1]


def test_both_modalities_are_searched_both_ways(tmp_path):
    write_manifest(tmp_path)
    data = ManifestDataset(root=str(tmp_path))
    found = {
        name: [side.tolist() for side in protocol.trials[0]]
        for name, protocol in data.directions().items()
    }
    assert found == {"I2V": [[0], [2]], "V2I": [[1], [3]]}


def test_a_direction_without_queries_is_left_out(tmp_path):
    write_manifest(tmp_path, [line for line in LINES if not line.startswith("b/1")])
    assert list(ManifestDataset(root=str(tmp_path)).directions()) == ["I2V"]


@pytest.mark.parametrize("kept", ["query", "gallery"])
@pytest.mark.parametrize("modalities", [",visible,", ","])
def test_queries_without_a_gallery_or_a_gallery_without_queries_are_no_test(
    tmp_path, kept, modalities
):
    file = write_manifest(
        tmp_path, [x for x in LINES if modalities in x and x.endswith(("train", kept))]
    )
    cfg = setup_cfg("", ["DATASETS.MANIFEST.FILE", str(file)])
    with pytest.raises(InputError, match=r"^DATASETS\.TESTS ManifestDataset: .* nothing to search"):
        build_test_loader(cfg, "ManifestDataset")
    (complaint,) = check_searches(build_dataset("ManifestDataset", cfg=cfg))
    assert complaint.fatal and "nothing can be searched" in complaint.text


def test_a_table_that_only_trains_is_worth_knowing(tmp_path):
    write_manifest(tmp_path, LINES[:4])
    (complaint,) = check_searches(ManifestDataset(root=str(tmp_path)))
    assert not complaint.fatal


def test_one_modality_is_searched_in_itself(tmp_path):
    write_manifest(tmp_path, [line for line in LINES if ",visible," in line])
    ((name, protocol),) = ManifestDataset(root=str(tmp_path)).directions().items()
    assert name == "Q2G"
    assert [side.tolist() for side in protocol.trials[0]] == [[0], [1]]


def test_visible_rows_without_a_tracklet_are_images(tmp_path, caplog):
    caplog.set_level(logging.INFO, "plugins.data")
    images = [f"{n}.jpg,{person},north,visible,,,{split}" for n, (person, split) in enumerate(
        [("ann", "train"), ("ann", "train"), ("bob", "query"), ("bob", "gallery")]
    )]  # fmt: skip
    write_manifest(tmp_path, images)
    data = ManifestDataset(root=str(tmp_path))
    assert data.train == [(f"{tmp_path}/{n}.jpg", 0, 0) for n in (0, 1)], "as fastreid has them"
    assert [*data.query, *data.gallery] == [(f"{tmp_path}/{n}.jpg", 1, 0) for n in (2, 3)]
    assert list(data.directions()) == ["Q2G"]
    data.show_train()
    data.show_test()
    assert "| train    | visible    | 1       | 2" in caplog.text


@pytest.mark.parametrize("again", ["1.jpg", "./1.jpg", "x/../1.jpg"])
@pytest.mark.parametrize("person", ["ann", "cat"])
def test_an_image_that_a_split_lists_twice_is_refused(tmp_path, again, person):
    lines = [f"{n}.jpg,ann,north,visible,,,train" for n in (0, 1)]
    lines += ["1.jpg,bob,north,visible,,,gallery"]  # another split
    file = write_manifest(tmp_path, lines)
    assert len(ManifestDataset(root=str(tmp_path)).train) == 2
    write_manifest(tmp_path, [*lines, f"{again},{person},north,visible,,,train"])
    with pytest.raises(InputError, match=rf"^{file}:5: {again} is listed at {file}:3 too"):
        ManifestDataset(root=str(tmp_path))


@pytest.fixture
def spellings(tmp_path):
    """Names of one picture on disk."""
    (tmp_path / "1.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("1.jpg")
    (tmp_path / "folder").symlink_to(".")
    os.link(tmp_path / "1.jpg", tmp_path / "hard.jpg")
    return {
        "dot": "./1.jpg",
        "absolute": f"{tmp_path}/1.jpg",
        "link": "link.jpg",
        "linked folder": "folder/1.jpg",
        "hard link": "hard.jpg",
    }


SPELLINGS = ["dot", "absolute", "link", "linked folder", "hard link"]


@pytest.mark.parametrize("kind", SPELLINGS)
def test_an_image_that_a_split_lists_under_two_names_is_refused(tmp_path, spellings, kind):
    again = spellings[kind]
    lines = [f"{name},ann,north,visible,,,train" for name in ("1.jpg", "0.jpg", again)]
    file = write_manifest(tmp_path, lines)
    with pytest.raises(InputError) as caught:
        ManifestDataset(root=str(tmp_path))
    assert str(caught.value) == f"{file}:4: {again} is listed at {file}:2 too as 1.jpg"


@pytest.mark.parametrize("kind", SPELLINGS)
@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("ann,north,visible,,,train", "bob,north,visible,,,gallery", "the file is in"),
        ("bob,south,visible,,,query", "bob,north,visible,,,gallery", "visible, camera north, but"),
        (
            "bob,south,visible,,,query",
            "cat,south,visible,,,gallery",
            "person cat, but person bob",
        ),
    ],
)
def test_a_picture_under_two_names_is_told_as_under_one(
    tmp_path, spellings, monkeypatch, caplog, kind, first, second, text
):
    others = [
        "7.jpg,ann,north,visible,,,train",
        "8.jpg,dan,north,visible,,,train",
        "9.jpg,bob,south,visible,,,query",
        "10.jpg,bob,north,visible,,,gallery",
    ]
    file = write_manifest(tmp_path, [f"1.jpg,{first}", f"{spellings[kind]},{second}", *others])
    for line in others:
        (tmp_path / line.split(",")[0]).touch()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    cfg = setup_cfg("", ["DATASETS.NAMES", "('ManifestDataset',)"])
    data = ManifestDataset(str(tmp_path))
    complaints = check_labels(read_splits(data), data.line_of)
    (complaint,) = (each for each in complaints if each.fatal)
    assert complaint.text.startswith(text) and f" in {file}:2" in complaint.text
    assert complaint.where.startswith(f"{file}:3 (")
    assert complaint.text.endswith(f", as {tmp_path}/1.jpg") == (kind != "absolute")
    for _ in range(2):
        training_items(cfg)
        build_test_loader(cfg, "ManifestDataset")
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("ManifestDataset: 1 files are listed as two different things, such ")
    assert complaint.text in warning


@pytest.mark.parametrize("other", ["4.jpg,cat,north,infrared,,,gallery", LINES[0]])
def test_an_infrared_image_or_a_tracklet_makes_tracklets_of_all(tmp_path, other):
    images = [f"{n}.jpg,bob,north,visible,,,{split}" for n, split in enumerate(SPLITS[1:])]
    write_manifest(tmp_path, [*images, other])
    data = ManifestDataset(root=str(tmp_path))
    items = [*data.train, *data.query, *data.gallery]
    assert len(items) == 3 and all(isinstance(item, Tracklet) for item in items)


def test_columns_may_stand_in_any_order_and_paths_may_be_absolute(tmp_path):
    order = sorted(COLUMNS)
    cells = [dict(zip(COLUMNS, line.split(","), strict=True)) for line in LINES]
    cells[0]["path"] = '"/elsewhere/a,0.jpg"'
    write_manifest(
        tmp_path, [",".join(row[name] for name in order) for row in cells], ",".join(order)
    )
    assert ManifestDataset(root=str(tmp_path)).train[0].img_paths[0] == "/elsewhere/a,0.jpg"


@pytest.mark.parametrize(
    ("line", "text", "complaint"),
    [
        (1, "path,person", "found the columns path,person; expected path,person,camera"),
        (3, "a/1.jpg,ann,north", "expected 7 cells"),
        (3, "a/1.jpg,ann,north,visible,1,1,train,more", "expected 7 cells"),
        (3, "a/1.jpg,,north,visible,1,1,train", "person is empty"),
        (3, " ,ann,north,visible,1,1,train", "path is empty"),
        (4, "a/2.jpg,ann,north,visble,1,2,train", "modality is 'visble', expected one of visible"),
        (5, "a/3.jpg,ann,south,infrared,1,2,tests", "split is 'tests', expected one of train"),
        (6, "b/0.jpg,bob,south,infrared,7,five,query", "frame is 'five', expected a whole number"),
        (6, "b/0.jpg,bob,south,infrared,7,,query", "frame is '', expected a whole number"),
        (4, "a/9.jpg,ann,north,visible,1,1,train", "frame 1 of tracklet '1' is listed at "),
        (9, "b/3.jpg,ann,south,infrared,8,5,gallery", "person ann trains in manifest.csv:5"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, line, text, complaint):
    lines = [HEADER, *LINES]
    lines[line - 1] = text
    file = write_manifest(tmp_path, lines[1:], lines[0])
    with pytest.raises(InputError) as error:
        ManifestDataset(root=str(tmp_path))
    assert str(error.value).startswith(f"{file}:{line}: ")
    assert complaint in str(error.value)


def test_a_quote_that_is_not_closed_is_named_by_file_and_line(tmp_path):
    file = write_manifest(tmp_path, [f'"{LINES[0]}', *LINES[1:] * 1000])
    with pytest.raises(InputError, match=rf"^{file}:2: no row: .*a quote that opens there may not"):
        ManifestDataset(root=str(tmp_path))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_row_that_stray_quotes_make_of_two_is_refused(tmp_path, end):
    file = tmp_path / "manifest.csv"
    swallowed = f'"d.jpg","p5,c1,visible,,,query{end}x.jpg,p5",c2,visible,,,query'
    file.write_bytes("".join(line + end for line in (HEADER, *LINES, swallowed)).encode())
    with pytest.raises(InputError) as caught:
        ManifestDataset(root=str(tmp_path))
    assert str(caught.value).startswith(f"{file}:11: person is 'p5,c1,visible,,,query")
    assert "a line end; expected a row in one line: is there a stray quote?" in str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("place", "text", "complaint"),
    [
        (1, "ann\u200b", "person 'ann\\u200b' holds an invisible U+200B ZERO WIDTH SPACE"),
        (1, "a\0nn", "person 'a\\x00nn' holds an invisible U+0000 control character"),
        (2, "no\u00adrth", "camera 'no\\xadrth' holds an invisible U+00AD SOFT HYPHEN"),
        (4, "1\u2060", "tracklet '1\\u2060' holds an invisible U+2060 WORD JOINER"),
        (1, "a\nb", "person is 'a\\nb', which holds a line end"),
    ],
)
def test_a_name_with_a_character_that_nobody_sees_is_refused(
    tmp_path, kind, place, text, complaint
):
    rows = [line.split(",") for line in LINES]
    rows[1][place] = text
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        columns = map(list, zip(*rows, strict=True))
        table = pyarrow.table(dict(zip(COLUMNS, columns, strict=True)))
        parquet.write_table(table, tmp_path / "manifest.parquet")
    else:
        rows[1][place] = f'"{text}"'
        write_manifest(tmp_path, [",".join(row) for row in rows])
    with pytest.raises(InputError) as caught:
        ManifestDataset(root=str(tmp_path), file=f"manifest.{kind}")
    line = (4 if "\n" in text else 3) if kind == "csv" else 2
    assert str(caught.value).startswith(f"{tmp_path}/manifest.{kind}:{line}: {complaint}")


@pytest.mark.parametrize("split", ["train", "query"])
def test_people_who_differ_in_their_unicode_form_only_are_refused(tmp_path, split):
    lines = [*LINES, f"c/0.jpg,Jos\u00e9,north,visible,,,{split}"]
    write_manifest(tmp_path, [*lines, f"c/1.jpg,Jos\u00ea,north,visible,,,{split}"])
    assert ManifestDataset(root=str(tmp_path))
    file = write_manifest(tmp_path, [*lines, "c/1.jpg,Jose\u0301,north,visible,,,gallery"])
    with pytest.raises(InputError) as caught:
        ManifestDataset(root=str(tmp_path))
    assert str(caught.value) == (
        f"{file}:11: person 'Jose\\u0301' reads as 'Jos\\xe9' at {file}:10 does; expected one "
        "spelling, in Unicode's form NFC"
    )


def test_a_missing_or_empty_table_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"MANIFEST\.FILE .*manifest\.csv: no such file; .*path,person"
    ):
        ManifestDataset(root=str(tmp_path))
    file = write_manifest(tmp_path, [])
    with pytest.raises(InputError, match=r"manifest\.csv: it lists no frames"):
        ManifestDataset(root=str(tmp_path))
    file.write_text("")
    with pytest.raises(InputError, match=r"manifest\.csv:1: found the columns ;"):
        ManifestDataset(root=str(tmp_path))


def test_the_file_comes_from_the_config(tmp_path):
    file = write_manifest(tmp_path)
    cfg = setup_cfg("", ["DATASETS.MANIFEST.FILE", str(file)])
    assert len(build_dataset("ManifestDataset", cfg=cfg).train) == 2


@pytest.mark.slow
def test_parquet_says_the_same_as_csv(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_manifest(tmp_path)
    columns = zip(*(line.split(",") for line in LINES), strict=True)
    table = dict(zip(COLUMNS, map(list, columns), strict=True))
    table["frame"] = [int(frame) for frame in table["frame"]]
    parquet.write_table(pyarrow.table(table), tmp_path / "manifest.parquet")
    csv, same = (
        ManifestDataset(root=str(tmp_path), file=f"manifest.{kind}") for kind in ("csv", "parquet")
    )
    assert (csv.train, csv.query, csv.gallery) == (same.train, same.query, same.gallery)
