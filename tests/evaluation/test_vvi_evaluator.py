"""The evaluator: from batches of features to the scores of each direction."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed
from fastreid.data.samplers import InferenceSampler
from fastreid.evaluation import inference_on_dataset
from fastreid.evaluation.rank import evaluate_rank
from fastreid.evaluation.testing import flatten_results_dict
from fastreid.utils.compute_dist import build_dist
from torch import nn

from plugins.config import default_cfg
from plugins.errors import InputError
from plugins.evaluation.vvi_evaluator import FlipAverage, VVIEvaluator, check_finite
from plugins.registry import EVALUATOR, lookup

METRIC_NAMES = ["Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP", "metric", "queries"]
NUM_QUERIES, NUM_ITEMS = 30, 95
QUERY, GALLERY = np.arange(NUM_QUERIES), np.arange(NUM_QUERIES, NUM_ITEMS)
DIRECTIONS = {"I2V": (QUERY, GALLERY), "V2I": (GALLERY, QUERY)}


def items(seed=0):
    """Features, persons and cameras of ``query + gallery``."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(NUM_ITEMS, 16, generator=generator)
    pids = torch.randint(5, (NUM_ITEMS,), generator=generator)
    camids = torch.randint(4, (NUM_ITEMS,), generator=generator)
    return features, pids, camids


def data_set(directions=DIRECTIONS):
    """What an evaluator reads of a data set."""
    return SimpleNamespace(
        query=range(NUM_QUERIES),
        gallery=range(NUM_QUERIES, NUM_ITEMS),
        directions=lambda: directions,
    )


def feed(evaluator, rows, features, pids, camids, batch_size=7):
    rows = torch.tensor(list(rows), dtype=torch.int64)
    for batch in rows.split(batch_size) if len(rows) else ():
        evaluator.process({"targets": pids[batch], "camids": camids[batch]}, features[batch])


def evaluated(metric="cosine", **keywords):
    cfg = default_cfg()
    cfg.TEST.METRIC = metric
    evaluator = VVIEvaluator(cfg, data_set())
    feed(evaluator, range(NUM_ITEMS), *items(), **keywords)
    return evaluator, evaluator.evaluate()


def test_it_is_registered_under_the_default_of_the_config():
    assert lookup(EVALUATOR, default_cfg().TEST.EVALUATOR, "TEST.EVALUATOR") is VVIEvaluator


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_each_direction_has_fastreids_scores_in_percent(metric):
    features, pids, camids = items()
    _, results = evaluated(metric)

    assert list(results) == ["I2V", "V2I", "metric"]
    for name, (queries, gallery) in DIRECTIONS.items():
        matrix = build_dist(features[queries], features[gallery], metric)
        labels = [x[rows].numpy() for x in (pids, camids) for rows in (queries, gallery)]
        cmc, precisions, penalties = evaluate_rank(matrix, *labels, 20, use_cython=False)
        expected = [100 * cmc[rank - 1] for rank in (1, 5, 10, 20)]
        expected += [100 * np.mean(precisions), 100 * np.mean(penalties)]
        expected += [(expected[4] + expected[0]) / 2, len(precisions)]
        assert list(results[name]) == METRIC_NAMES
        assert list(results[name].values()) == pytest.approx(expected, abs=1e-4)


def test_results_are_plain_numbers_and_the_overall_metric_is_the_mean_over_directions():
    _, results = evaluated()

    assert results["metric"] == (results["I2V"]["metric"] + results["V2I"]["metric"]) / 2
    for name, value in flatten_results_dict(results).items():
        assert type(value) is (int if name.endswith("queries") else float)


def test_features_and_rankings_stay_for_the_pictures_until_reset():
    features, pids, camids = items()
    evaluator, results = evaluated()

    assert torch.equal(evaluator.features, features)
    assert torch.equal(evaluator.pids, pids)
    assert torch.equal(evaluator.camids, camids)
    assert evaluator.rankings["V2I"].average_precision.shape == (NUM_ITEMS - NUM_QUERIES,)
    assert 100 * evaluator.rankings["I2V"].mean_average_precision == results["I2V"]["mAP"]

    evaluator.reset()
    assert evaluator.features is None
    assert evaluator.rankings == {}


def test_results_do_not_depend_on_the_batch_size():
    assert evaluated(batch_size=1)[1] == evaluated(batch_size=NUM_ITEMS)[1]


def test_half_precision_features_are_collected_as_float32():
    evaluator = VVIEvaluator(default_cfg(), data_set())
    features, pids, camids = items()
    feed(evaluator, range(NUM_ITEMS), features.bfloat16(), pids, camids)
    evaluator.evaluate()

    assert evaluator.features.dtype == torch.float32


@pytest.mark.parametrize("number", [0, 1, NUM_ITEMS - 1, NUM_ITEMS + 1])
def test_a_missing_or_doubled_item_is_an_error_with_both_numbers(number):
    evaluator = VVIEvaluator(default_cfg(), data_set())
    feed(evaluator, np.arange(number) % NUM_ITEMS, *items())

    with pytest.raises(AssertionError, match=f"expected {NUM_ITEMS} items, found {number or 'no'}"):
        evaluator.evaluate()


def test_features_that_are_not_finite_are_counted_and_the_first_is_named():
    features = torch.zeros(9, 3)
    features[4, 1], features[7, 0], features[7, 2] = torch.nan, torch.inf, -torch.inf

    with pytest.raises(InputError, match=r"features of 2 of 9 tracklets .* the first is row 4"):
        check_finite(features)
    check_finite(features[:4])


def test_a_direction_without_a_valid_query_is_named():
    evaluator = VVIEvaluator(default_cfg(), data_set({"I2V": (QUERY, GALLERY)}))
    features, _, camids = items()
    feed(evaluator, range(NUM_ITEMS), features, torch.arange(NUM_ITEMS), camids)

    with pytest.raises(InputError, match="I2V: none of the 30 queries"):
        evaluator.evaluate()


def evaluate_on_rank(rank, world_size, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    try:
        evaluator = VVIEvaluator(default_cfg(), data_set())
        feed(evaluator, InferenceSampler(NUM_ITEMS), *items())
        dealt = evaluator.evaluate()
        evaluator.reset()
        feed(evaluator, range(NUM_ITEMS) if rank == 0 else (), *items())
        with_an_empty_shard = evaluator.evaluate()
        torch.save((dealt, with_an_empty_shard), f"{folder}/{rank}.pth")
    finally:
        torch.distributed.destroy_process_group()


def test_two_processes_get_the_results_of_one(tmp_path):
    torch.multiprocessing.spawn(evaluate_on_rank, args=(2, str(tmp_path)), nprocs=2)

    _, expected = evaluated()
    on_main, elsewhere = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert on_main == (expected, expected)
    assert elsewhere == ({}, {})


class LeftHalf(nn.Module):
    """Mean colour of the left half of each frame: a feature that a mirror changes."""

    def forward(self, batch):
        images = batch["images"]
        return images[..., : images.shape[-1] // 2].mean(dim=(-1, -2)).reshape(len(images), -1)


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (2, 4, 3, 6, 8)])
def test_flip_average_is_the_normalised_mean_over_both_views(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    batch = {"images": images.clone(), "camids": torch.zeros(2)}

    features = FlipAverage(LeftHalf())(batch)

    both_halves = images.mean(dim=(-1, -2)).reshape(2, -1)  # left and right are equally wide
    torch.testing.assert_close(features, both_halves / both_halves.norm(dim=1, keepdim=True))
    assert torch.equal(batch["images"], images)


@pytest.mark.parametrize("training", [True, False])
def test_flip_average_leaves_the_model_in_its_mode_after_fastreids_inference(training):
    model = LeftHalf().train(training)
    features, pids, camids = items()
    images = features.reshape(NUM_ITEMS, 1, 2, 8).expand(-1, 3, -1, -1)
    dataset = [
        {"images": image, "targets": pid, "camids": camid}
        for image, pid, camid in zip(images, pids, camids, strict=True)
    ]
    loader = torch.utils.data.DataLoader(dataset, batch_size=16)

    inference_on_dataset(FlipAverage(model), loader, VVIEvaluator(default_cfg(), data_set()))

    assert model.training is training
