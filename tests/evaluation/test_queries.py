"""The file of what each query found: it gives back the table's means, and refuses anything else."""

import functools
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.config import default_cfg
from plugins.errors import InputError
from plugins.evaluation import Evaluation, QueryResults, VVIEvaluator, pack_queries, read_queries
from plugins.evaluation.queries import COLUMNS, FORMAT, METRICS, VERSION
from plugins.protocol import Direction, Trial
from tests.helpers.evaluated import GALLERY, NUM_ITEMS, QUERY, data_set, feed, items

FIELDS = ("trial", "path", "person", "camera", *COLUMNS[3:])


def queries_of(rankings, dataset="Toy", row="I2V", plain=True, people=7) -> QueryResults:
    """Named results of some trials, each given as (rows, ranking)."""
    rows = np.concatenate([rows for rows, _ in rankings])
    columns = {
        name: np.concatenate([getattr(ranking, name).numpy() for _, ranking in rankings])
        for name in COLUMNS[3:]
    }
    trial = np.concatenate([np.full(len(rows), n) for n, (rows, _) in enumerate(rankings)])
    path = np.array([f"toy/ünï/{place:04d}.jpg" for place in rows])
    person = np.array([f"P{place % people}" for place in rows])
    camera = np.array([f"D{place % 3}" for place in rows])
    return QueryResults(dataset, row, plain, trial, path, person, camera, **columns)


def evaluated(seed: int, directions: dict, rerank: bool = False, stranger: bool = False):
    """Results of a VVIEvaluator and its rows, query by query."""
    cfg = default_cfg()
    cfg.TEST.RERANK.ENABLED = rerank
    evaluator = VVIEvaluator(cfg, data_set(directions))
    features, pids, camids = items(seed)
    if stranger:
        pids[0] = 99  # a query without a match
    feed(evaluator, range(NUM_ITEMS), features, pids, camids)
    results = evaluator.evaluate()
    plain = evaluator.plain_rows()
    rows = [
        queries_of([(t.rows, t.ranking) for t in trials], row=name, plain=name in plain)
        for name, trials in evaluator.searched.items()
    ]
    return results, rows


@pytest.mark.slow
@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    trials=st.integers(1, 3),
    junk=st.sampled_from(["camera", "none", "sysu"]),
    cmc=st.sampled_from(["item", "identity"]),
    rerank=st.booleans(),
)
def test_the_file_gives_back_the_means_of_the_table_to_the_last_bit(
    tmp_path_factory, seed, trials, junk, cmc, rerank
):
    drawn = tuple(Trial(QUERY[n : n + 20], GALLERY[n::2]) for n in range(trials))
    directions = {"I2V drawn": Direction(drawn, junk, cmc), "V2I": Direction(drawn[:1], junk)}
    results, rows = evaluated(seed, directions, rerank, stranger=True)
    path = tmp_path_factory.getbasetemp() / "queries.npz"
    path.write_bytes(pack_queries(Evaluation(rows, {"seed": seed})))
    found = read_queries(path)
    assert found.run == {"seed": seed}
    assert [row.row for row in found.rows] == [name for name in results if name != "metric"]
    assert [row.plain for row in found.rows] == ["rerank" not in row.row for row in found.rows]
    for row, given_row in zip(found.rows, rows, strict=True):
        assert row.block() == results[row.row]
        weights = row.weights()
        counted = weights > 0
        assert weights.sum() == pytest.approx(1)
        for metric in METRICS:
            values = row.values(metric)
            assert np.array_equal(np.isnan(values), ~counted)
            mean = weights[counted] @ values[counted]
            assert mean == pytest.approx(results[row.row][metric], abs=1e-9)
        assert row.task == f"Toy/{row.row}"
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(row, name), getattr(given_row, name))


def some_rows() -> list[QueryResults]:
    return evaluated(0, {"I2V": Direction((Trial(QUERY, GALLERY),))}, rerank=True)[1]


def test_equal_results_are_equal_bytes_and_names_are_kept_once():
    first, second = some_rows(), some_rows()
    assert pack_queries(Evaluation(first)) == pack_queries(Evaluation(second))
    text = np.load(io.BytesIO(pack_queries(Evaluation(first))))["about"]
    paths = json.loads(text.tobytes())["queries"]["path"]
    assert len(paths) == len(set(paths)) == len(QUERY)


def test_half_precision_is_smaller_and_off_by_less_than_told(tmp_path):
    rows = some_rows()
    exact, half = (pack_queries(Evaluation(rows), kind) for kind in (np.float64, np.float16))
    assert len(half) < len(exact)
    path = tmp_path / "queries.npz"
    path.write_bytes(half)
    for found, row in zip(read_queries(path).rows, rows, strict=True):
        error = 100 * np.abs(found.average_precision - row.average_precision)
        assert 0 < error.max() <= 0.025
        assert np.array_equal(found.first_rank, row.first_rank)
        assert found.block()["Rank-1"] == row.block()["Rank-1"]
        assert found.block()["mINP"] == row.block()["mINP"]


def test_an_evaluation_without_rows_is_read_back_as_such(tmp_path):
    path = tmp_path / "queries.npz"
    path.write_bytes(pack_queries(Evaluation([])))
    assert read_queries(path) == Evaluation([], {})


def rewritten(path, change) -> None:
    """Write a whole file whose head and columns ``change`` has altered in place."""
    with np.load(io.BytesIO(pack_queries(Evaluation(some_rows())))) as file:
        arrays = {name: file[name].copy() for name in file.files}
    about = json.loads(arrays.pop("about").tobytes())
    change(about, arrays)
    text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    np.savez_compressed(path, about=text, **arrays)


def replace(name, index, value):
    def change(about, arrays):
        kinds = {COLUMNS[3]: np.float64, "step": np.int64}
        values = arrays[name].astype(kinds.get(name, np.uint64))
        values[index] = value
        arrays[name] = values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda about, _: about.update(version=2), rf"version 2; expected '{FORMAT}', {VERSION}"),
        (lambda about, _: about.update(format="other"), "format 'other'"),
        (lambda about, _: about.update(more=1), "about has the keys"),
        (lambda about, _: about.pop("run"), "about has the keys"),
        (lambda about, _: about.update(run=[]), "run is no mapping"),
        (lambda about, _: about["rows"][0].update(plain="yes"), "rows: expected a list"),
        (lambda about, _: about["queries"]["path"].pop(), "queries: expected lists of text"),
        (lambda about, _: about["queries"].update(person=[1] * 30), "queries: expected lists"),
        (lambda about, _: about["rows"].pop(), "column row: leads to 1, but there are 1"),
        (lambda _, arrays: arrays.update(more=arrays["row"]), "has the columns"),
        (lambda _, arrays: arrays.pop("trial"), "has the columns"),
        (lambda _, arrays: arrays.update(trial=arrays["trial"][1:]), "differ in length"),
        (lambda _, arrays: arrays.update(trial=arrays["trial"] * 1.0), "column trial: of type"),
        (replace("step", 3, 30), "column step: leads to .*, but there are 30"),
        (replace("step", 3, -20), "column step: leads to"),
        (replace("first_rank", 3, 0), "column first_rank: above 0 elsewhere"),
        (replace("first_rank", 3, 1000), "column first_rank: above last_rank"),
        (replace("average_precision", 3, np.nan), "a number elsewhere"),
        (replace("average_precision", 3, 1.5), "outside 0 to 1"),
    ],
)
def test_what_it_does_not_know_is_refused_in_one_line(tmp_path, change, message):
    path = tmp_path / "queries.npz"
    rewritten(path, change)
    with pytest.raises(InputError, match=message) as error:
        read_queries(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "array", "pickle", "cut", "objects"])
def test_another_file_is_refused_in_one_line(tmp_path, kind):
    path = tmp_path / "queries.npz"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("I2V,1.0\n")
    elif kind == "array":
        with open(path, "wb") as file:
            np.save(file, np.arange(3))
    elif kind == "pickle":
        torch.save({"I2V": 1.0}, path)
    elif kind == "cut":
        path.write_bytes(pack_queries(Evaluation(some_rows()))[:-200])
    elif kind == "objects":
        np.savez(path, about=np.array([{"format": FORMAT}], dtype=object))
    with pytest.raises(InputError, match=r"queries\.npz: ") as error:
        read_queries(path)
    assert "\n" not in str(error.value)


@functools.cache
def packed_once() -> bytes:
    return pack_queries(Evaluation(some_rows()[:1]))


@pytest.mark.slow
@settings(max_examples=200)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_is_turned_is_an_input_error_or_changes_nothing(tmp_path_factory, where, bit):
    path = tmp_path_factory.getbasetemp() / "turned.npz"
    whole = packed_once()
    contents = bytearray(whole)
    contents[int(where * len(contents))] ^= 1 << bit
    path.write_bytes(contents)
    try:
        found = read_queries(path)
    except InputError:
        return
    assert pack_queries(found) == whole
