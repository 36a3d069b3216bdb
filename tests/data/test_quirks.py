"""Faults of the field's loaders and metrics that no test beside a reader or a metric holds yet."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plugins.data.datasets import HITSZVCM, BUPTCampus, ManifestDataset
from plugins.errors import InputError
from plugins.evaluation.ranking import evaluate_distances
from tests.helpers.hitsz_tree import edit_line, write_tree
from tests.helpers.sides import labeled
from tests.helpers.trees import SETS, contents, write_bupt, write_manifest


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", "")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Data set -> a folder with a plain name that it is in."""
    roots = {}
    for name, (write, below) in SETS.items():
        root = tmp_path_factory.mktemp("plain")
        write(root)
        roots[name] = f"{root / below}"
    return roots


@pytest.mark.parametrize("name", SETS)
def test_the_name_of_the_root_means_nothing(roots, tmp_path, name):
    """Loaders that cut paths at "cam", at "RGB" or at a slash find other people elsewhere."""
    write, below = SETS[name]
    odd = tmp_path / "cam3 RGB" / "Train" / "0001, é"
    odd.mkdir(parents=True)
    write(odd)
    items, labels = contents(name, roots[name])
    odd_items, odd_labels = contents(name, f"{odd / below}/")
    assert [(tuple("/" + p for p in paths), *rest) for paths, *rest in odd_items] == items
    assert odd_labels == labels


READ = """
import sys
from tests.helpers.trees import contents
for name, root in zip(sys.argv[1::2], sys.argv[2::2]):
    print(contents(name, root))
"""


@pytest.mark.slow
def test_tracklets_and_labels_are_the_same_in_every_process(roots):
    """Two public loaders number people in the order of a set, another one in each process."""
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ, *sum(roots.items(), ())],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert found.stdout.splitlines() == [str(contents(*item)) for item in roots.items()]


@pytest.mark.parametrize("row", [1, 8, 17])
def test_a_row_that_ends_beyond_the_name_file_is_named_wherever_it_stands(tmp_path, row):
    folder = write_tree(tmp_path)
    tracks = folder / "info" / "track_train_info.txt"
    modality, start, _, pid, camid = tracks.read_text().split("\n")[row - 1].split()
    edit_line(tracks, row, f"{modality} {start} 9999 {pid} {camid}")
    with pytest.raises(InputError, match=rf"{tracks}:{row} needs it up to line 9999"):
        HITSZVCM(root=str(tmp_path))


def test_queries_may_be_parted_by_blank_lines(tmp_path):
    folder = write_tree(tmp_path)
    before = HITSZVCM(root=str(tmp_path)).query
    (folder / "info" / "query_IDX.txt").write_bytes(
        b"\xef\xbb\xbf\r\n2 3\r\n\r\n\r\n5\r\n7\r\n\r\n"
    )
    assert HITSZVCM(root=str(tmp_path)).query == before


def to_windows(path):
    """CRLF, a byte order mark, and blank lines between and after the others."""
    head, *rest = path.read_text().rstrip().split("\n")
    path.write_bytes("\r\n".join([head, "", *rest, "", ""]).encode("utf-8-sig"))


@pytest.mark.parametrize(
    ("reader", "write"), [(BUPTCampus, write_bupt), (ManifestDataset, write_manifest)]
)
def test_windows_text_with_blank_lines_changes_nothing(tmp_path, reader, write):
    """HITSZ-VCM and RegDB have tests of their own."""
    written = write(tmp_path)
    folder = written if written.is_dir() else written.parent
    root = str(folder.parent if reader is BUPTCampus else folder)
    before = reader(root=root)
    for path in folder.iterdir():
        to_windows(path)
    after = reader(root=root)
    assert (after.train, after.query, after.gallery) == (before.train, before.query, before.gallery)


@pytest.mark.slow
def test_a_gallery_of_five_and_a_query_without_positives():
    """Peers take CMC[19] of it, or count a lonely query as a miss; worked out by hand.

    The first query finds its person at ranks 2 and 4. The second person is not in the gallery. The
    third is there once, under the query's own camera, which is junk.
    """
    distances = torch.tensor([[3.0, 1.0, 2.0, 5.0, 4.0]] * 3)
    result = evaluate_distances(
        distances,
        *labeled(
            torch.tensor([1, 7, 4]),
            torch.tensor([2, 2, 1, 4, 1]),
            torch.tensor([1, 1, 6]),
            torch.tensor([6, 6, 6, 6, 6]),
        ),
        max_rank=20,
    )
    assert result.valid.tolist() == [True, False, False]
    assert result.cmc.tolist() == [0.0] + [1.0] * 19
    assert result.mean_average_precision == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result.mean_inverse_negative_penalty == pytest.approx(2 / 4)
