import pytest
import torch
from fastreid.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.modeling.diagnostics import accuracy, mean_distances
from plugins.modeling.meta_arch import SADSTRM, VVIBaseline
from plugins.modeling.self_attack import ATTACKERS
from tests.helpers.small_models import small_batch, small_cfg


def slow_mean_distances(features, labels):
    kinds = {}
    for i, (person, side) in enumerate(labels):
        for j, (someone, other_side) in enumerate(labels):
            if i == j:
                continue
            if someone != person:
                kind = "other"
            elif side != other_side:
                kind = "cross"
            else:
                kind = ["visible", "infrared"][side]
            a, b = (features[row] / features[row].norm() for row in (i, j))
            kinds.setdefault(kind, []).append((a - b).norm().item())
    return {kind: sum(distances) / len(distances) for kind, distances in kinds.items()}


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=7),
    seed=st.integers(0, 1000),
)
def test_mean_distances_equal_a_loop_and_leave_out_kinds_without_pairs(labels, seed):
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    fast = mean_distances(features, *map(torch.tensor, zip(*labels, strict=True)))
    slow = slow_mean_distances(features.double(), labels)
    assert fast.keys() == slow.keys()
    for kind, distance in fast.items():
        assert distance.item() == pytest.approx(slow[kind], rel=1e-4, abs=1e-6)


def test_diagnostics_carry_no_graph():
    features = torch.randn(4, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    assert not any(d.requires_grad for d in mean_distances(features, labels, labels).values())
    assert not accuracy(features, labels).requires_grad


def test_accuracy_is_the_share_of_right_clips():
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert accuracy(logits, torch.tensor([0, 1, 1, 1])).item() == 0.75


def test_baseline_logs_the_distances_of_what_it_trains_on():
    torch.manual_seed(0)
    model, batch = VVIBaseline(small_cfg()), small_batch()
    with EventStorage() as storage:
        model(batch)
    logged = storage.latest()
    features = model.clip_features(batch["images"], batch["modalities"])
    appearances = features[:, :512]  # a relation is behind them
    expected = mean_distances(appearances, batch["targets"], batch["modalities"])
    # One clip of each person in each modality: there is no distance within.
    assert {name for name in logged if name.startswith("distance/")} == {
        "distance/cross",
        "distance/other",
    }
    for kind, distance in expected.items():
        assert logged[f"distance/{kind}"][0] == pytest.approx(distance.item(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ATTACKERS)
def test_defense_logs_the_attack_s_norm_and_success_for_all_kinds(kind):
    torch.manual_seed(0)
    model, batch = SADSTRM(small_cfg("MODEL.SELF_ATTACK.KIND", kind)), small_batch()
    batch["targets"] = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
    seen = []
    model.heads.register_forward_hook(lambda _, __, outputs: seen.append(outputs))
    with EventStorage() as storage:
        model(batch, turn="defense")
    logged = {name: value for name, (value, _) in storage.latest().items()}
    # Between the two passes an attack by gradient has one of its own.
    passes = (seen[0], seen[-1])
    clean, attacked = (o["pred_class_logits"].argmax(1).eq(batch["targets"]) for o in passes)
    dropped = clean.float().mean() - attacked.float().mean()
    assert logged["self_attack/success"] == pytest.approx(dropped.item())
    assert logged["self_attack/relative_norm"] > 0
    if model.attack.after == "stem":  # the others have budgets of other units
        assert logged["self_attack/relative_norm"] <= model.attack.eps * (1 + 1e-5)
    assert {f"distance/{pair}" for pair in ("visible", "infrared", "cross", "other")} <= set(logged)


@pytest.mark.slow
def test_an_attack_that_takes_every_right_answer_has_success_1():
    torch.manual_seed(0)
    model, batch = SADSTRM(small_cfg()), small_batch()
    batch["targets"] = torch.zeros(8).long()
    answers = iter([0, 1])  # the clean pass names person 0, the attacked pass person 1

    def answer(module, inputs, outputs):
        logits = 0 * outputs["pred_class_logits"]
        return {**outputs, "pred_class_logits": logits + torch.eye(4)[next(answers)]}

    model.heads.register_forward_hook(answer)
    with EventStorage() as storage:
        model(batch, turn="defense")
    assert storage.latest()["self_attack/success"][0] == 1
