"""Check what is in a data set, and what in it would break or bias a run."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from torch import Tensor
from tqdm import tqdm

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.splits import LineOf, Splits, find_shared_files, no_line, place
from plugins.data.datasets.tracklet import MODALITIES, Tracklet, as_tracklet
from plugins.data.datasets.unlisted import describe_unlisted, find_unlisted
from plugins.data.datasets.wrapped import innermost
from plugins.data.frames import read_frame
from plugins.errors import InputError
from plugins.protocol import SEARCHABLE, can_search, junk_rule, without_answer
from plugins.utils.names import natural_order
from plugins.utils.processes import worker_processes

SHORTEST_SIDE = 16  # pixels; networks of this field reduce a frame by 16
LENGTHS = (1, 2, 6, 12, 24, 48, 96)  # lower ends of the histogram's bins, frames


class Complaint(NamedTuple):
    """A remark on a data set.

    Attributes:
        fatal: whether it would break or bias a run; otherwise it is only worth knowing.
        where: the line that lists the item, or its split and row, counted from 0, and a file of
            it.
        text: the remark.
    """

    fatal: bool
    where: str
    text: str


def count_cells(splits: Splits) -> list[list]:
    """Count the rows [split, modality, camera, people, tracklets, frames] that occur."""
    rows = []
    for split, items in splits.items():
        cells = {(item.modality, str(item.camid)) for item in items}
        for modality, camid in sorted(cells, key=lambda cell: (cell[0], natural_order(cell[1]))):
            cell = [item for item in items if (item.modality, item.camid) == (modality, camid)]
            people = len({item.pid for item in cell})
            frames = sum(len(item.img_paths) for item in cell)
            rows.append([split, MODALITIES[modality], camid, people, len(cell), frames])
    return rows


def count_lengths(splits: Splits) -> list[list]:
    """Count the rows [split, tracklets of 1, 2-5, ... frames], by the bins of LENGTHS."""
    rows = []
    for split, items in splits.items():
        bins = Counter(max(low for low in LENGTHS if low <= len(item.img_paths)) for item in items)
        rows.append([split, *(bins[low] for low in LENGTHS)])
    return rows


def bin_names() -> list[str]:
    """Name the bins of LENGTHS.

    >>> bin_names()
    ['1', '2-5', '6-11', '12-23', '24-47', '48-95', '96-']
    """
    ends = [*(str(low - 1) for low in LENGTHS[1:]), ""]
    return [
        str(low) if str(low) == end else f"{low}-{end}"
        for low, end in zip(LENGTHS, ends, strict=True)
    ]


def check_labels(splits: Splits, line_of: LineOf = no_line) -> list[Complaint]:
    """Check what needs no file to be opened.

    Fatal: a person, or a file, is both in train and in test; a file shows two people, or belongs to
    two cameras or modalities; there is one person alone to train on. Worth knowing: there is nobody
    to train on; a training person lacks a modality that others have; a query's person is not in the
    gallery.

    Args:
        splits: splits to check.
        line_of: tells the line that lists a file.
    """
    return [
        *_leaks(splits, line_of),
        *_shared_files(splits, line_of),
        *_missing_modalities(splits["train"], line_of),
        *_lonely_queries(splits, line_of),
        *_too_few_people(splits),
    ]


def verdict(data: ReidDataset, complaints: Iterable[Complaint]) -> str:
    """Say what the set is fit for, as the last line of a check does."""
    if any(complaint.fatal for complaint in complaints):
        return "not fit to use"
    if not data.train:
        return "fit to test, not to train"
    return "fit to use" if can_search(data.directions()) else "fit to train, not to test"


def remarks(data: ReidDataset) -> list[Complaint]:
    """List what the set itself says of its files: its faults, which are fatal, and its remarks."""
    faults = getattr(innermost(data), "faults", {}).items()
    return [
        *(Complaint(True, *fault) for fault in faults),
        *(Complaint(False, *remark) for remark in data.remarks.items()),
    ]


def check_unlisted(data: ReidDataset) -> list[Complaint]:
    """Look for pictures in the set's folders that no list holds.

    They are fatal if the reader takes what fits a pattern, or if the set's lists are to name all;
    they are worth knowing if lists name the files that somebody chose.

    Raises:
        InputError: a folder cannot be read.
    """
    folders = data.folders()
    unlisted = find_unlisted(folders)
    if not unlisted:
        return []
    fatal = folders.by_pattern or folders.complete
    return [Complaint(fatal, "folders", describe_unlisted(unlisted))]


def check_searches(data: ReidDataset) -> list[Complaint]:
    """Check that every direction of the set can be searched.

    Fatal: there are test items, but no direction has queries and a gallery, or one has no answer; a
    query sees itself in the gallery, or a gallery of a set of both modalities is the query set.
    Worth knowing: there are no test items, so that the set only trains; the gallery is the query
    set, but no query sees itself.
    """
    if can_search(data.directions()):
        text = "no query sees its own person in the gallery"
        names = without_answer(data.directions(), [*data.query, *data.gallery])
        complaints = [Complaint(True, name, text) for name in names]
        return [*complaints, *_found_by_themselves(data)]
    text = f"nothing can be searched; expected {SEARCHABLE}"
    return [Complaint(bool(data.query or data.gallery), "query and gallery", text)]


def _found_by_themselves(data: ReidDataset) -> Iterator[Complaint]:
    """Find directions in which queries are gallery items as well."""
    items = [as_tracklet(item) for item in (*data.query, *data.gallery)]
    both = len({item.modality for item in (*map(as_tracklet, data.train), *items)}) > 1
    for name, direction in data.directions().items():
        rule = junk_rule(direction.junk)
        for trial in direction.trials:
            cameras = {tuple(items[row].img_paths): items[row].camid for row in trial.gallery}
            queries = [(tuple(items[row].img_paths), items[row].camid) for row in trial.query]
            again = [(files, camid) for files, camid in queries if files in cameras]
            seen = [files for files, camid in again if not rule(True, camid, cameras[files])]
            if seen:
                number = f"{len(seen)} of {len(trial.query)} queries"
                text = f"{number} see their own files in the gallery"
            elif again and {files for files, _ in queries} == {*cameras}:
                text = "the gallery is the query set"
            else:
                continue
            yield Complaint(bool(seen) or both, name, f"{text}; expected other items")
            break


def _where(split: str, row: int, file: str, line_of: LineOf) -> str:
    return f"{place(split, row, file, line_of)} ({file})"


def _leaks(splits: Splits, line_of: LineOf) -> Iterator[Complaint]:
    train = splits["train"]
    trained = {item.pid: row for row, item in reversed(list(enumerate(train)))}
    reported = set()
    for split in ("query", "gallery"):
        for row, item in enumerate(splits[split]):
            if item.pid in trained and item.pid not in reported:
                reported.add(item.pid)
                first = trained[item.pid]
                at = line_of(train[first].img_paths[0], "train") or f"row {first}"
                text = f"person {item.pid} is in train too, at {at}"
                yield Complaint(True, _where(split, row, item.img_paths[0], line_of), text)


def _shared_files(splits: Splits, line_of: LineOf) -> Iterator[Complaint]:
    for where, text in find_shared_files(splits, line_of):
        yield Complaint(True, where, text)


def _missing_modalities(train: list[Tracklet], line_of: LineOf) -> Iterator[Complaint]:
    every = {item.modality for item in train}
    seen: dict[int | str, set[int]] = {}
    for item in train:
        seen.setdefault(item.pid, set()).add(item.modality)
    reported = set()
    for row, item in enumerate(train):
        for modality in sorted(every - seen[item.pid]):
            if (item.pid, modality) not in reported:
                reported.add((item.pid, modality))
                text = f"person {item.pid} has no {MODALITIES[modality]} tracklet"
                yield Complaint(False, _where("train", row, item.img_paths[0], line_of), text)


def _lonely_queries(splits: Splits, line_of: LineOf) -> Iterator[Complaint]:
    people = {item.pid for item in splits["gallery"]}
    for row, item in enumerate(splits["query"]):
        if item.pid not in people:
            text = f"person {item.pid} is not in the gallery; the query will be skipped"
            yield Complaint(False, _where("query", row, item.img_paths[0], line_of), text)


def _too_few_people(splits: Splits) -> Iterator[Complaint]:
    people = {item.pid for item in splits["train"]}
    if not people and (splits["query"] or splits["gallery"]):
        yield Complaint(False, "train", "nobody to train on: the set only tests")
    elif len(people) < 2:
        yield Complaint(True, "train", f"{len(people)} people; expected 2 or more to tell apart")


def check_frames(
    splits: Splits,
    workers: int = 1,
    read: Callable[[str], Tensor] = read_frame,
    line_of: LineOf = no_line,
) -> list[Complaint]:
    """Decode every file once.

    Fatal: a file is missing or no whole image. Worth knowing: an image is wider than high, or has a
    side of fewer than 16 pixels.

    Args:
        splits: splits to check.
        workers: number of processes.
        read: image file -> (3, h, w) uint8.
        line_of: tells the line that lists a file.
    """
    rows = {
        file: (split, row)
        for split, items in splits.items()
        for row, item in enumerate(items)
        for file in item.img_paths
    }
    complaints = []
    with worker_processes(workers) as results:
        checked = results(partial(_check_frame, read=read), rows, 32)
        for file, complaint in tqdm(checked, total=len(rows), unit="frame", desc="reading"):
            if complaint:
                fatal, text = complaint
                complaints.append(Complaint(fatal, _where(*rows[file], file, line_of), text))
    return complaints


def _check_frame(file: str, read: Callable[[str], Tensor]) -> tuple[str, tuple[bool, str] | None]:
    try:
        _, height, width = read(file).shape
    except InputError as error:
        return file, (True, str(error).removeprefix(f"{file}: "))
    if min(height, width) < SHORTEST_SIDE or width > height:
        return file, (False, f"odd size: {width} wide, {height} high")
    return file, None
