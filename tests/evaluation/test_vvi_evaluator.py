"""The evaluator: from batches of features to the scores of each direction."""

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
from plugins.evaluation import evaluate_distances, results_table, verify_expected
from plugins.evaluation.distance import distances
from plugins.evaluation.rerank import rerank
from plugins.evaluation.views import FlipAverage
from plugins.evaluation.vvi_evaluator import VVIEvaluator, check_finite, scores
from plugins.protocol import Direction, Trial
from plugins.registry import EVALUATOR, lookup
from tests.helpers.brute_force import brute_force
from tests.helpers.evaluated import (
    DIRECTIONS,
    GALLERY,
    NUM_ITEMS,
    NUM_QUERIES,
    QUERY,
    TRIALS,
    data_set,
    feed,
    items,
)
from tests.helpers.sides import labeled

METRIC_NAMES = ["Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP", "metric", "queries"]


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
    for name, (queries, gallery) in TRIALS.items():
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


def test_trials_are_averaged_under_the_rules_of_their_direction():
    features, pids, camids = items()
    pids[0] = 9  # a query without a match: the first trial has one valid query less
    trials = (Trial(QUERY[:9], GALLERY[:30]), Trial(QUERY[1:10], GALLERY[20:60]))
    direction = Direction(trials, junk="sysu", cmc="identity")
    evaluator = VVIEvaluator(default_cfg(), data_set({"I2V drawn": direction}))
    feed(evaluator, range(NUM_ITEMS), features, pids, camids)
    block = evaluator.evaluate()["I2V drawn"]

    alone = []
    for query, gallery in trials:
        matrix = distances(features[query], features[gallery], "cosine").tolist()
        labels = [x[rows].tolist() for x in (pids, camids) for rows in (query, gallery)]
        cmc, precisions, _, _ = brute_force(matrix, *labels, junk="sysu", cmc="identity")
        valid = [precision for precision in precisions if precision is not None]
        alone.append([100 * cmc[0], 100 * cmc[4], 100 * np.mean(valid), len(valid)])
    assert [row[3] for row in alone] == [8, 9]
    means = np.mean(alone, axis=0)
    assert [block[n] for n in ("Rank-1", "Rank-5", "mAP", "queries")] == pytest.approx(means)
    first = evaluator.rankings["I2V drawn"]
    assert (first.num_valid, 100 * first.mean_average_precision) == pytest.approx((8, alone[0][2]))


def test_features_and_rankings_stay_for_the_pictures_until_reset():
    features, pids, camids = items()
    evaluator, results = evaluated()

    assert torch.equal(evaluator.collected.features, features)
    assert torch.equal(evaluator.collected.pids, pids)
    assert torch.equal(evaluator.collected.camids, camids)
    assert evaluator.rankings["V2I"].average_precision.shape == (NUM_ITEMS - NUM_QUERIES,)
    assert 100 * evaluator.rankings["I2V"].mean_average_precision == results["I2V"]["mAP"]

    evaluator.reset()
    assert evaluator.collected is None
    assert evaluator.rankings == {}


def test_results_do_not_depend_on_the_batch_size():
    assert evaluated(batch_size=1)[1] == evaluated(batch_size=NUM_ITEMS)[1]


def test_half_precision_features_are_collected_as_float32():
    evaluator = VVIEvaluator(default_cfg(), data_set())
    features, pids, camids = items()
    feed(evaluator, range(NUM_ITEMS), features.bfloat16(), pids, camids)
    evaluator.evaluate()

    assert evaluator.collected.features.dtype == torch.float32


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


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_collapsed_network_is_told_in_one_warning(metric, caplog):
    _, pids, camids = items()
    cfg = default_cfg()
    cfg.TEST.METRIC = metric
    for feature in (torch.zeros(16), torch.arange(16.0)):
        caplog.clear()
        evaluator = VVIEvaluator(cfg, data_set())
        feed(evaluator, range(NUM_ITEMS), feature.expand(NUM_ITEMS, -1), pids, camids)
        evaluator.evaluate()
        (told,) = caplog.messages
        assert told.startswith("I2V, V2I: all distances tie, so that each list is the gallery in")
    caplog.clear()
    evaluated(metric)
    assert not caplog.messages


def test_a_direction_without_a_valid_query_is_named():
    evaluator = VVIEvaluator(default_cfg(), data_set({"I2V": DIRECTIONS["I2V"]}))
    features, _, camids = items()
    feed(evaluator, range(NUM_ITEMS), features, torch.arange(NUM_ITEMS), camids)

    with pytest.raises(InputError, match="I2V: none of the 30 queries"):
        evaluator.evaluate()


# Two and three clips of an item by turns; two processes share the clips of row 47.
CLIP_ROWS = torch.arange(NUM_ITEMS).repeat_interleave(torch.arange(NUM_ITEMS) % 2 + 2)


def clips_evaluator(clips=3):
    cfg = default_cfg()
    cfg.TEST.CLIPS = clips
    return VVIEvaluator(cfg, data_set())


def clip_features():
    return torch.randn(len(CLIP_ROWS), 16, generator=torch.Generator().manual_seed(1))


def feed_clips(evaluator, dealt, batch_size=7):
    """Process the clips of ``dealt``, in that order."""
    _, pids, camids = items()
    for clips in torch.tensor(list(dealt)).split(batch_size):
        rows = CLIP_ROWS[clips]
        inputs = {"targets": pids[rows], "camids": camids[rows], "rows": rows}
        evaluator.process(inputs, clip_features()[clips])


def test_the_clips_of_an_item_are_averaged_and_the_mean_is_normalized():
    _, pids, camids = items()
    feed_clips(evaluator := clips_evaluator(), range(len(CLIP_ROWS)))
    results = evaluator.evaluate()

    for row in range(NUM_ITEMS):
        mean = torch.stack([f for f, r in zip(clip_features(), CLIP_ROWS, strict=True) if r == row])
        mean = mean.double().mean(dim=0)
        torch.testing.assert_close(evaluator.collected.features[row], (mean / mean.norm()).float())
    assert torch.equal(evaluator.collected.pids, pids)
    assert torch.equal(evaluator.collected.camids, camids)
    assert list(results) == ["I2V+clips=3", "V2I+clips=3", "metric"]


def test_clips_may_come_in_batches_and_in_an_order_of_any_kind():
    feed_clips(expected := clips_evaluator(), range(len(CLIP_ROWS)))
    feed_clips(small := clips_evaluator(), range(len(CLIP_ROWS)), batch_size=1)
    shuffled = torch.randperm(len(CLIP_ROWS), generator=torch.Generator().manual_seed(2)).tolist()
    feed_clips(mixed := clips_evaluator(), shuffled)

    results = expected.evaluate()
    assert small.evaluate() == results
    assert torch.equal(small.collected.features, expected.collected.features)
    assert mixed.evaluate() == results
    torch.testing.assert_close(mixed.collected.features, expected.collected.features)


def test_an_item_without_a_clip_is_an_error_with_both_numbers():
    feed_clips(evaluator := clips_evaluator(), range(len(CLIP_ROWS) - 2))

    with pytest.raises(AssertionError, match=f"expected {NUM_ITEMS} items, found {NUM_ITEMS - 1}"):
        evaluator.evaluate()


def test_a_doubled_item_does_not_make_up_for_a_missing_one():
    evaluator = VVIEvaluator(default_cfg(), data_set())
    feed(evaluator, [0, *range(NUM_ITEMS - 1)], *items())

    with pytest.raises(AssertionError, match="an item is missing"):
        evaluator.evaluate()


def reranked(metric="cosine", **changes):
    cfg = default_cfg()
    cfg.TEST.METRIC = metric
    cfg.TEST.RERANK.ENABLED = True
    cfg.TEST.RERANK.K1 = 6
    for key, value in changes.items():
        cfg.TEST.RERANK[key] = value
    evaluator = VVIEvaluator(cfg, data_set())
    feed(evaluator, range(NUM_ITEMS), *items())
    return evaluator.evaluate()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_reranked_scores_stand_beside_the_plain_ones_which_stay(metric):
    features, pids, camids = items()
    _, plain = evaluated(metric)
    results = reranked(metric)

    assert list(results) == ["I2V", "I2V+rerank", "V2I", "V2I+rerank", "metric"]
    assert {name: results[name] for name in plain} == plain
    for name, (queries, gallery) in TRIALS.items():
        parameters = {"k1": 6, "k2": 6, "lambda_value": 0.3, "metric": metric}
        matrix = rerank(features[queries], features[gallery], **parameters)
        labels = [x[rows] for x in (pids, camids) for rows in (queries, gallery)]
        assert results[f"{name}+rerank"] == scores(evaluate_distances(matrix, *labeled(*labels)))
        assert results[f"{name}+rerank"] != results[name]


def test_reranking_with_the_plain_distance_alone_changes_no_score():
    results = reranked(LAMBDA=1.0)

    assert results["I2V+rerank"] == results["I2V"]
    assert results["V2I+rerank"] == results["V2I"]


def test_reranked_rows_can_be_expected_by_their_names():
    results = {"HITSZVCM": reranked()}
    found = results["HITSZVCM"]["V2I+rerank"]["mAP"]

    assert "| HITSZVCM/V2I+rerank |" in results_table(results)
    assert verify_expected([["HITSZVCM/V2I+rerank", "mAP", found, 0]], results) == []
    assert len(verify_expected([["HITSZVCM/V2I+rerank", "mAP", found + 2, 1]], results)) == 1
    with pytest.raises(InputError, match=r"no task 'HITSZVCM/I2V\+flip'; known: HITSZVCM/I2V"):
        verify_expected([["HITSZVCM/I2V+flip", "mAP", 0, 100]], results)


def test_a_wrong_parameter_of_reranking_is_named_before_anything_is_run():
    with pytest.raises(InputError, match=r"TEST\.RERANK\.K2: 0"):
        reranked(K2=0)


@pytest.mark.parametrize("name", ["AQE"])
def test_what_only_fastreids_evaluator_can_do_is_refused(name):
    cfg = default_cfg()
    cfg.TEST[name].ENABLED = True
    with pytest.raises(InputError, match=rf"TEST\.{name}\.ENABLED: True; expected False"):
        VVIEvaluator(cfg, data_set())


@pytest.mark.parametrize(
    ("flip", "clips", "rerank_enabled", "names"),
    [
        (False, 1, False, ["I2V"]),
        (True, 1, False, ["I2V+flip"]),
        (False, 0, False, ["I2V+clips=all"]),
        (True, 4, True, ["I2V+flip+clips=4", "I2V+flip+clips=4+rerank"]),
    ],
)
def test_a_results_name_says_how_it_was_got(flip, clips, rerank_enabled, names):
    cfg = default_cfg()
    cfg.TEST.FLIP.ENABLED, cfg.TEST.CLIPS, cfg.TEST.RERANK.ENABLED = flip, clips, rerank_enabled
    evaluator = VVIEvaluator(cfg, data_set({"I2V": DIRECTIONS["I2V"]}))
    feed(evaluator, range(NUM_ITEMS), *items())

    assert list(evaluator.evaluate()) == [*names, "metric"]


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
        feed_clips(several := clips_evaluator(), InferenceSampler(len(CLIP_ROWS)))
        torch.save((dealt, with_an_empty_shard, several.evaluate()), f"{folder}/{rank}.pth")
        torch.distributed.barrier()  # gloo aborts a process that is left while it speaks
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_get_the_results_of_one(tmp_path):
    torch.multiprocessing.spawn(evaluate_on_rank, args=(2, str(tmp_path)), nprocs=2)

    _, expected = evaluated()
    feed_clips(several := clips_evaluator(), range(len(CLIP_ROWS)))
    on_main, elsewhere = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    assert on_main == (expected, expected, several.evaluate())
    assert elsewhere == ({}, {}, {})


def rank_on_rank(rank, world_size, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    ranked = []
    share_of = VVIEvaluator._rank_share

    def count(self, direction, trial, share):
        ranked.append(len(share))
        return share_of(self, direction, trial, share)

    try:
        VVIEvaluator._rank_share = count
        cfg = default_cfg()
        cfg.TEST.METRIC = "euclidean"  # whose grid depends on all features
        evaluator = VVIEvaluator(cfg, data_set())
        feed(evaluator, InferenceSampler(NUM_ITEMS), *items())
        results = evaluator.evaluate()
        found = {name: vars(part) for name, part in evaluator.rankings.items()}
        torch.save((dict(results), found, ranked), f"{folder}/{rank}.pth")
        torch.distributed.barrier()  # gloo aborts a process that is left while it speaks
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_each_process_ranks_its_share_of_the_queries(tmp_path):
    torch.multiprocessing.spawn(rank_on_rank, args=(2, str(tmp_path)), nprocs=2)

    evaluator, expected = evaluated("euclidean")
    (results, found, ranked), elsewhere = (torch.load(tmp_path / f"{r}.pth") for r in (0, 1))
    assert results == expected and elsewhere[:2] == ({}, {})
    for name, ranking in evaluator.rankings.items():
        for field, value in vars(ranking).items():
            np.testing.assert_array_equal(found[name][field], value)
    sizes = [len(trial.query) for each in DIRECTIONS.values() for trial in each.trials]
    assert [a + b for a, b in zip(ranked, elsewhere[2], strict=True)] == sizes
    assert all(abs(a - b) <= 1 for a, b in zip(ranked, elsewhere[2], strict=True))


class LeftHalf(nn.Module):
    """Mean color of the left half of each frame: a feature that a mirror changes."""

    def forward(self, batch):
        images = batch["images"]
        return images[..., : images.shape[-1] // 2].mean(dim=(-1, -2)).reshape(len(images), -1)


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (2, 4, 3, 6, 8)])
def test_flip_average_is_the_normalized_mean_over_both_views(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    batch = {"images": images.clone(), "camids": torch.zeros(2)}

    features = FlipAverage(LeftHalf())(batch)

    both_halves = images.mean(dim=(-1, -2)).reshape(2, -1)  # left and right are equally wide
    torch.testing.assert_close(features, both_halves / both_halves.norm(dim=1, keepdim=True))
    assert torch.equal(batch["images"], images)


def test_flip_average_keeps_lengths_for_the_euclidean_distance():
    images = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    features = FlipAverage(LeftHalf(), "euclidean")({"images": images})
    torch.testing.assert_close(features, images.mean(dim=(-1, -2)))


@pytest.mark.parametrize("training", [True, False])
def test_flip_average_leaves_the_model_in_its_mode_after_fastreids_inference(training):
    model = LeftHalf().train(training)
    features, pids, camids = items()
    images = features.reshape(NUM_ITEMS, 1, 2, 8).expand(-1, 3, -1, -1)
    dataset = [
        {"images": image, "targets": pid, "camids": camid, "rows": row}
        for row, (image, pid, camid) in enumerate(zip(images, pids, camids, strict=True))
    ]
    loader = torch.utils.data.DataLoader(dataset, batch_size=16)

    inference_on_dataset(FlipAverage(model), loader, VVIEvaluator(default_cfg(), data_set()))

    assert model.training is training
