"""The worst of several attacks, by hand and by a loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from plugins.robustness import AttackStats, RowStats, Scores, worst_case
from plugins.robustness.results import join, person_deviation


def scores_of(valid, hits, precisions):
    bits = [torch.tensor(values, dtype=torch.bool) for values in (valid, hits)]
    return Scores(*bits, torch.tensor(precisions, dtype=torch.float64))


def test_worst_case_by_hand():
    nan = float("nan")  # of a query without a positive
    first = scores_of([1, 1, 1, 0], [1, 1, 0, 0], [1.0, 0.9, 0.4, nan])
    second = scores_of([1, 1, 1, 0], [1, 0, 0, 0], [0.8, 0.5, 0.6, nan])

    block, wins = worst_case({"SMA": first, "FNA": second})

    assert wins == {"SMA": 0, "FNA": 1}
    assert block["queries"] == 3
    assert block["Rank-1"] == pytest.approx(100 / 3)
    assert block["mAP"] == pytest.approx(100 * (0.8 + 0.5 + 0.4) / 3)
    assert block["metric"] == pytest.approx((block["Rank-1"] + block["mAP"]) / 2)


def test_people_differ_by_the_deviation_of_their_own_means():
    nan = float("nan")
    scores = scores_of([1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1.0, 0.6, 0.2, 0.2, nan])
    # Means of 0.8 and 0.2; the last query, of a third person, has no positive.
    assert person_deviation(scores, torch.tensor([7, 7, 9, 9, 3])) == pytest.approx(30)
    assert person_deviation(scores, torch.tensor([7, 7, 7, 7, 3])) == 0


@pytest.mark.slow
@given(seed=st.integers(0, 2**20), attacks=st.integers(1, 4), queries=st.integers(1, 9))
def test_worst_case_against_a_loop(seed, attacks, queries):
    generator = torch.Generator().manual_seed(seed)
    hits = torch.rand(attacks, queries, generator=generator) < 0.5
    precisions = torch.rand(attacks, queries, generator=generator, dtype=torch.float64)
    valid = torch.rand(queries, generator=generator) < 0.7
    valid[0] = True
    names = [f"attack {number}" for number in range(attacks)]
    outcomes = {
        name: Scores(valid, hit, ap) for name, hit, ap in zip(names, hits, precisions, strict=True)
    }

    block, wins = worst_case(outcomes)

    right, total, expected_wins = 0, 0.0, dict.fromkeys(names, 0)
    counted = [query for query in range(queries) if valid[query]]
    for query in counted:
        broken = [name for name in names if not outcomes[name].hit[query]]
        right += not broken
        total += min(float(outcomes[name].ap[query]) for name in names)
        if len(broken) == 1:
            expected_wins[broken[0]] += 1
    assert wins == expected_wins
    assert block["Rank-1"] == pytest.approx(100 * right / len(counted))
    assert block["mAP"] == pytest.approx(100 * total / len(counted))
    for one in outcomes.values():
        assert block["Rank-1"] <= 100 * one.hit[valid].double().mean() + 1e-9
        assert block["mAP"] <= 100 * one.ap[valid].mean() + 1e-9


def test_batches_are_joined_in_order_and_their_costs_added():
    def part(*rows):
        column = torch.tensor(rows, dtype=torch.float32)
        bits = column > 2
        features = column[:, None].expand(-1, 3)
        return RowStats(column.long(), *[column] * 5, bits, features, len(rows), 2 * len(rows), 0.5)

    whole = join([part(1, 2), part(5)])

    assert whole.rows.tolist() == [1, 2, 5]
    assert whole.zero_gradient.tolist() == [False, False, True]
    assert whole.features.shape == (3, 3)
    assert (whole.forwards, whole.backwards, whole.seconds) == (3, 6, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_are_selected_also_by_ids_on_a_gpu(device):
    """AttackStats are on the CPU, a search is where the model is; fake tensors need no GPU."""
    with FakeTensorMode(shape_env=ShapeEnv()):
        bits, numbers = torch.zeros(4, dtype=torch.bool), torch.zeros(4)
        scores = {"valid": bits, "hit": bits, "ap": numbers}
        columns = dict.fromkeys(
            ("objective", "start", "margin", "mean_perturbation", "max_perturbation"), numbers
        )
        columns |= {"rows": torch.arange(4), "zero_gradient": bits, "features": torch.zeros(4, 2)}
        whole = AttackStats(**scores, **columns, forwards=0, backwards=0, seconds=0.0)
        some = whole.select(torch.arange(2, device=device))
        assert some.rows.device.type == "cpu" and some.features.shape[1] == 2
