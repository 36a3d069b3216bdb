"""A user's reader of a data set: each mistake is one line of the command, by name and file."""

from pathlib import Path

import pytest
from PIL import Image

from plugins.config import setup_cfg
from plugins.data import checks
from plugins.data.build import build_train_loader
from plugins.data.datasets import INFRARED, VISIBLE, ReidDataset, Tracklet
from plugins.errors import InputError
from plugins.protocol import Direction
from tests.helpers.trees import run_tool
from tests.helpers.user_code import nothing_left_behind

READER = Path(__file__).parents[2] / "docs/extend/dataset.md"
WHO = "the data set Recordings (recordings.py): "


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A folder with two people to train on and one to find, and nothing of earlier imports."""
    for person, split in (("1", "Train"), ("2", "Train"), ("3", "Test")):
        for light, camera in (("ir", "D1"), ("rgb", "D2")):
            folder = tmp_path / "datasets/HITSZ-VCM" / split / person / light / camera
            folder.mkdir(parents=True)
            Image.new("RGB", (24, 48)).save(folder / "1.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTREID_DATASETS", raising=False)
    with nothing_left_behind():
        yield


def write(old="", new=""):
    """Write the reader of the page, with one change."""
    page = READER.read_text()
    text = page.split('```python title="recordings.py"\n')[1].split("```")[0]
    assert not old or old in text
    Path("recordings.py").write_text(text.replace(old, new) if old else text)


def check_data(monkeypatch):
    words = "Recordings", "--plugins", "recordings.py", "--workers=1"
    return run_tool(monkeypatch, *words)


def test_the_reader_of_the_page_is_fit_to_use(monkeypatch, capsys):
    write()
    assert check_data(monkeypatch) == 0
    assert capsys.readouterr().out.endswith("Recordings: fit to use\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("super().__init__(", "print(", WHO + "its __init__ does not call super().__init__(train, "
         "query, gallery); expected that call"),
        ("        return found\n", "", "Recordings.__init__: TypeError in recordings.py:18: 'None"),
        ("self.tracklets(folder / \"Train\"), query", "None, query",
         WHO + "train is None; expected a list of tracklets"),
        (", LIGHTS[light]", "", "Recordings.tracklets: TypeError in recordings.py:28: Tracklet"),
        ('"ir": INFRARED', '"IR": INFRARED', "Recordings.tracklets: KeyError in recordings.py:28: "
         "'ir'"),
        ("LIGHTS[light]", "light", WHO + "train row 0: modality is 'ir'; expected VISIBLE (0) or "
         "INFRARED (1)"),
        ("*.jpg", "*.png", WHO + "4 of 4 tracklets of train have no frames, such as row 0, person "
         "1, camera D1, infrared; expected one file or more in img_paths"),
        ("tuple(map(str, frames))", "map(str, frames)", WHO + "train row 0: img_paths is <map obj"),
        ("tuple(map(str, frames))", "str(frames[0])", WHO + "train row 0: img_paths is 'datasets/"),
        ("person, camera.name", "person, None", WHO + "train row 0: camid is None; expected a num"),
        ("found.append(Tracklet", "found.append(list", "Recordings.tracklets: TypeError in rec"),
        ('root="datasets", **options', "options", WHO + "missing a required argument: 'options'; "
         "expected __init__(self, root=...)"),
        ("    @staticmethod", "    def directions(self):\n        pass\n\n    @staticmethod",
         WHO + "directions returned None; expected {'I2V': Direction(...), ...}"),
    ],
    ids=["super", "return", "no list", "argument", "lights", "modality", "no frames", "map", "text",
         "camera", "list", "root", "directions"],
)  # fmt: skip
def test_a_mistake_is_one_line(old, new, message, monkeypatch, capsys):
    write(old, new)
    assert check_data(monkeypatch) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {message}") and line.count("\n") == 1, line


def test_a_training_tells_tracklets_without_frames_too():
    write("*.jpg", "*.png")
    cfg = setup_cfg("", ["DATASETS.NAMES", "Recordings"], ["recordings.py"])
    told = r"^DATASETS\.NAMES Recordings \(recordings\.py\): 4 of 4 tracklets of train have no fram"
    with pytest.raises(InputError, match=told):
        build_train_loader(cfg)


class Searched(ReidDataset):
    """A set whose queries and gallery may share items, with a junk rule."""

    def __init__(self, query, gallery, junk):
        train = [Tracklet(("t.jpg",), pid, 1, INFRARED) for pid in (1, 2)]
        super().__init__(train, query, gallery)
        self.junk = junk

    def directions(self):
        return {"I2V": Direction((self.rows(),), self.junk)}


def item(file, camid, modality=INFRARED):
    return Tracklet((f"{file}.jpg",), 7, camid, modality)


SEEN = "2 of 2 queries see their own files in the gallery; expected other items"
SAME = "the gallery is the query set; expected other items"


@pytest.mark.parametrize(
    ("query", "gallery", "junk", "told"),
    [
        ("ab", "ab", "none", [(True, SEEN)]),
        ("ab", "abc", "none", [(True, SEEN)]),
        ("ab", "ba", "camera", [(True, SAME)]),
        ("ab", "abc", "camera", []),  # as in a gallery that holds the queries, which are junk
        ("ab", "cd", "none", []),
    ],
)
def test_queries_that_are_their_own_gallery_are_told(query, gallery, junk, told):
    items = {name: item(name, camid) for camid, name in enumerate("abc")}
    items["d"] = item("d", 9, VISIBLE)
    lists = [[items[name] for name in names] for names in (query, gallery)]
    train = Tracklet(("v.jpg",), 1, 1, VISIBLE)
    data = Searched(*lists, junk)
    data.train = [*data.train, train]
    found = checks.check_searches(data)
    assert found == [(fatal, "I2V", text) for fatal, text in told]


def test_in_a_set_of_one_modality_it_is_a_protocol_of_its_own():
    items = [item("a", 1), item("b", 2)]
    assert checks.check_searches(Searched(items, items, "camera")) == [(False, "I2V", SAME)]


def test_the_command_calls_such_a_reader_unfit(monkeypatch, capsys):
    write("query, gallery, **options", "query, query, **options")
    assert check_data(monkeypatch) == 1
    printed = capsys.readouterr().out
    assert "I2V: the gallery is the query set; expected other items" in printed
    assert printed.endswith("Recordings: not fit to use\n")
