import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.defense.self_meta import meta_gradients
from plugins.errors import InputError
from plugins.modeling.losses import Loss, build_losses
from plugins.modeling.losses.functional import (
    confusion_loss,
    consistency_loss,
    cross_modal_triplet,
    group_means,
    hetero_center_triplet,
    masked_softmax,
    mean_hinge,
    modality_divergence,
    pairwise_distances,
    reversed_triplet,
    weighted_regularized_triplet,
)
from plugins.modeling.meta_arch import VVIBaseline
from plugins.registry import LOSS, known
from tests.helpers.small_models import small_batch, small_cfg

KEYS = {
    "CenterAlignment": "loss_center_alignment",
    "CircleLoss": "loss_circle",
    "Cosface": "loss_cosface",
    "CrossEntropyLoss": "loss_cls",
    "CrossModalAlignment": "loss_cross_modal_alignment",
    "CrossModalTriplet": "loss_cross_modal_triplet",
    "FrameSeparation": "loss_frame_separation",
    "HeteroCenterTriplet": "loss_hetero_center_triplet",
    "KLConsistency": "loss_kl_consistency",
    "ModalityConfusion": "loss_modality_confusion",
    "TripletLoss": "loss_triplet",
    "WeightedRegularizedTriplet": "loss_weighted_regularized_triplet",
}
SECTIONS = {
    "CenterAlignment": "CENTER_ALIGNMENT",
    "CircleLoss": "CIRCLE",
    "Cosface": "COSFACE",
    "CrossEntropyLoss": "CE",
    "CrossModalAlignment": "CROSS_MODAL_ALIGNMENT",
    "CrossModalTriplet": "CROSS_MODAL_TRI",
    "FrameSeparation": "FRAME_SEPARATION",
    "HeteroCenterTriplet": "HETERO_CENTER_TRI",
    "KLConsistency": "KL_CONSISTENCY",
    "ModalityConfusion": "MODALITY_CONFUSION",
    "TripletLoss": "TRI",
    "WeightedRegularizedTriplet": "WEIGHTED_REG_TRI",
}


def outputs_of(count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 4, generator=generator)
    return {
        "cls_outputs": logits.clone().requires_grad_(),
        "pred_class_logits": logits.clone().requires_grad_(),
        "features": torch.randn(count, 5, generator=generator).requires_grad_(),
        "frame_features": torch.randn(count, 3, 5, generator=generator).requires_grad_(),
    }


def build(name, *opts):
    """A loss for features of length 5; one that learns starts from the same weights each time."""
    torch.manual_seed(0)
    return LOSS.get(name)(small_cfg("MODEL.BACKBONE.FEAT_DIM", 5, *opts))


TARGETS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
MODALITIES = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("name", known(LOSS))
def test_every_loss_is_a_scalar_with_a_finite_gradient(name):
    loss = build(name)
    outputs = outputs_of()
    value = loss(outputs, TARGETS, MODALITIES)
    value.backward()
    gradients = [v.grad for v in outputs.values() if v.grad is not None]
    assert value.shape == ()
    assert loss.key == KEYS[name]
    assert len(gradients) == 1
    assert gradients[0].isfinite().all()
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize("name", known(LOSS))
def test_every_loss_is_weighted_by_its_scale(name):
    section = f"MODEL.LOSSES.{SECTIONS[name]}.SCALE"
    plain, tripled = (build(name, section, scale) for scale in (0.5, 1.5))
    outputs = outputs_of()
    torch.testing.assert_close(
        tripled(outputs, TARGETS, MODALITIES), 3 * plain(outputs, TARGETS, MODALITIES)
    )


@pytest.mark.parametrize("name", known(LOSS))
def test_identical_features_and_single_modalities_have_finite_gradients(name):
    loss = build(name)
    outputs = outputs_of()
    outputs["features"] = torch.ones(8, 5, requires_grad=True)
    outputs["frame_features"] = torch.ones(8, 3, 5, requires_grad=True)
    for modalities in (MODALITIES, torch.zeros(8).long()):
        value = loss(outputs, TARGETS, modalities)
        value.backward()
        assert value.isfinite()
    for value in outputs.values():
        assert value.grad is None or value.grad.isfinite().all()


def test_losses_are_built_in_the_order_of_the_config():
    cfg = small_cfg("MODEL.LOSSES.NAME", "('TripletLoss', 'CrossEntropyLoss')")
    assert [loss.key for loss in build_losses(cfg)] == ["loss_triplet", "loss_cls"]


def test_losses_of_the_package_add_no_name_to_a_checkpoint():
    names = [name for name in known(LOSS) if name != "ModalityConfusion"]  # it has a classifier
    model = VVIBaseline(small_cfg("MODEL.LOSSES.NAME", names, "MODEL.HEADS.NECK_LEVEL", "frame"))
    assert len(model.loss_functions) == len(names)
    assert not [name for name in model.state_dict() if name.startswith("loss")]


@pytest.fixture
def register(monkeypatch):
    """Registers a loss for one test."""
    return lambda name, loss: monkeypatch.setitem(LOSS._obj_map, name, loss)


def constant(outputs, targets, modalities):
    return outputs["features"].sum()


def test_a_function_is_a_loss(register):
    constant.key = "loss_constant"
    register("Constant", lambda cfg: constant)
    (loss,) = build_losses(small_cfg("MODEL.LOSSES.NAME", "('Constant',)"))
    assert isinstance(loss, torch.nn.Module)
    assert loss(outputs_of(), TARGETS, MODALITIES) == outputs_of()["features"].sum()


@pytest.mark.parametrize("held", [torch.nn.Linear(2, 2), torch.nn.Parameter(torch.ones(1))])
def test_a_loss_that_would_not_train_is_refused(register, held):
    class Own:
        key = "loss_own"

        def __init__(self, cfg):
            self.centers = held

    register("Own", Own)
    expected = r"NAME: Own holds parameters \(centers\) but is no nn.Module.*modeling.losses.Loss$"
    with pytest.raises(InputError, match=expected):
        build_losses(small_cfg("MODEL.LOSSES.NAME", "('Own',)"))


def test_a_loss_without_a_name_is_refused(register):
    register("Own", lambda cfg: torch.nn.Identity())
    with pytest.raises(InputError, match=r"MODEL.LOSSES.NAME: Own has no 'key'"):
        build_losses(small_cfg("MODEL.LOSSES.NAME", "('Own',)"))


def test_two_losses_under_one_name_are_refused_as_one_would_be_lost():
    cfg = small_cfg("MODEL.LOSSES.NAME", "('TripletLoss', 'TripletLoss')")
    with pytest.raises(InputError, match="TripletLoss and TripletLoss are both called 'loss_trip"):
        build_losses(cfg)


@pytest.mark.slow
def test_self_meta_moves_what_a_loss_learned(register):
    class Own(Loss):
        key = "loss_own"

        def __init__(self, cfg):
            super().__init__()
            self.centers = torch.nn.Parameter(torch.ones(4, 512))

        def forward(self, outputs, targets, modalities):
            return (outputs["features"] - self.centers[targets]).square().mean()

    register("Own", Own)
    model, batch = VVIBaseline(small_cfg("MODEL.LOSSES.NAME", "('Own',)")), small_batch()
    seen = []
    model.loss_functions[0].register_forward_pre_hook(
        lambda loss, _: seen.append(loss.centers.detach().clone())
    )
    losses_of = lambda module, batch: module(batch)  # noqa: E731
    gradients, _ = meta_gradients(model, losses_of, batch, batch, 0.5, second_order=False)
    assert gradients["loss_functions.0.centers"].any()
    assert torch.equal(seen[0], torch.ones(4, 512))
    assert not torch.equal(seen[1], seen[0]), "theta_temp has other centers"


@pytest.mark.slow
def test_all_losses_mix_in_one_config_and_reach_the_network():
    names = known(LOSS)
    model = VVIBaseline(small_cfg("MODEL.LOSSES.NAME", names, "MODEL.HEADS.NECK_LEVEL", "frame"))
    losses = model(small_batch())
    sum(losses.values()).backward()
    relation = ["loss_cls_relation", "loss_cross_modal_triplet_relation"]  # of STIG
    assert list(losses) == [*(KEYS[name] for name in names), *relation]
    assert all(loss.isfinite() for loss in losses.values())
    for parameter in model.parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all()


def test_an_unknown_loss_lists_the_known_ones_nearest_first():
    cfg = small_cfg("MODEL.LOSSES.NAME", "('TripleLoss',)")
    with pytest.raises(InputError, match=r"MODEL.LOSSES.NAME: .*'TripleLoss'; known: TripletLoss"):
        build_losses(cfg)


def test_cross_entropy_equals_torchs_with_its_own_smoothing():
    # fastreid spreads epsilon over the other classes only, torch over all of them.
    loss = LOSS.get("CrossEntropyLoss")(small_cfg("MODEL.LOSSES.CE.EPSILON", 0.3))
    outputs = outputs_of()
    torchs = torch.nn.functional.cross_entropy(
        outputs["cls_outputs"], TARGETS, label_smoothing=0.3 * 4 / 3
    )
    torch.testing.assert_close(loss(outputs, TARGETS, MODALITIES), torchs)


def test_hard_triplet_equals_a_loop_over_all_pairs():
    cfg = small_cfg("MODEL.LOSSES.TRI.HARD_MINING", True)
    outputs = outputs_of()
    features = outputs["features"].detach().double()
    hinges = []
    for i in range(8):
        distances = [(features[i] - features[j]).norm().item() for j in range(8)]
        farthest = max(distances[j] for j in range(8) if TARGETS[j] == TARGETS[i])
        nearest = min(distances[j] for j in range(8) if TARGETS[j] != TARGETS[i])
        hinges.append(max(0.0, 0.3 + farthest - nearest))
    value = LOSS.get("TripletLoss")(cfg)(outputs, TARGETS, MODALITIES)
    assert value.item() == pytest.approx(sum(hinges) / 8, rel=1e-4)


def slow_cross_modal_triplet(features, targets, modalities, margin):
    hinges = []
    for i in range(len(features)):
        across = [j for j in range(len(features)) if modalities[j] != modalities[i]]
        positives = [j for j in across if targets[j] == targets[i]]
        negatives = [j for j in across if targets[j] != targets[i]]
        if positives and negatives:
            farthest = max((features[i] - features[j]).norm().item() for j in positives)
            nearest = min((features[i] - features[j]).norm().item() for j in negatives)
            hinges.append(max(0.0, margin + farthest - nearest))
    return sum(hinges) / len(hinges) if hinges else 0.0


# (person, modality) of each clip; often a person or a modality is missing.
LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=7)


@settings(max_examples=40, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000), margin=st.floats(0, 2))
def test_cross_modal_triplet_equals_a_loop_over_all_pairs(labels, seed, margin):
    targets, modalities = (torch.tensor(column) for column in zip(*labels, strict=True))
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    fast = cross_modal_triplet(features, targets, modalities, margin)
    slow = slow_cross_modal_triplet(features.double(), targets, modalities, margin)
    assert fast.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("targets", "modalities"),
    [([0, 0, 1], [0, 0, 0]), ([0, 1], [0, 1]), ([0, 0], [0, 1]), ([0], [1])],
    ids=["one modality", "no positive", "no negative", "one clip"],
)
def test_cross_modal_triplet_without_pairs_is_a_zero_that_carries_a_graph(targets, modalities):
    features = torch.randn(len(targets), 3, requires_grad=True)
    loss = cross_modal_triplet(features, torch.tensor(targets), torch.tensor(modalities), 0.3)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_cross_modal_triplet_does_not_hide_nan():
    features = torch.full((4, 2), torch.nan)
    loss = cross_modal_triplet(features, TARGETS[[0, 1, 4, 5]], MODALITIES[[0, 1, 4, 5]], 0.3)
    assert loss.isnan()


def test_distances_of_near_features_far_from_the_origin_are_exact():
    # The usual |a|^2 + |b|^2 - 2ab loses all digits here in float32.
    rows = torch.full((1, 2048), 100.0)
    columns = rows + torch.tensor([[1e-3]])
    expected = (rows.double() - columns.double()).norm().item()
    assert pairwise_distances(rows, columns).item() == pytest.approx(expected, rel=1e-4)


def test_mean_hinge_ignores_invalid_anchors_whatever_their_value():
    gaps = torch.tensor([2.0, -1.0, torch.inf, torch.nan], requires_grad=True)
    loss = mean_hinge(gaps, torch.tensor([True, True, False, False]))
    loss.backward()
    assert loss.item() == 1
    assert gaps.grad.tolist() == [0.5, 0, 0, 0]


def test_confusion_is_least_for_uniform_predictions():
    assert confusion_loss(torch.zeros(2, 5), 4.0).item() == pytest.approx(math.log(5))
    logits = torch.randn(3, 5)
    by_hand = -sum((row / 4).softmax(0).log().mean() for row in logits) / 3
    assert confusion_loss(logits, 4.0).item() == pytest.approx(by_hand.item())
    assert confusion_loss(logits, 4.0) > math.log(5)


def slow_reversed_triplet(features, guides, targets, margin):
    hinges = []
    for i in range(len(features)):
        distances = [(features[i] - guide).norm().item() for guide in guides]
        same = [d for j, d in enumerate(distances) if targets[j] == targets[i] and j != i]
        other = [d for j, d in enumerate(distances) if targets[j] != targets[i]]
        if same and other:
            hinges.append(max(0.0, margin + min(other) - min(same)))
    return sum(hinges) / len(hinges) if hinges else 0.0


@settings(max_examples=40, deadline=None)
@given(
    targets=st.lists(st.integers(0, 2), min_size=1, max_size=7),
    seed=st.integers(0, 1000),
    margin=st.floats(0, 2),
)
def test_reversed_triplet_equals_a_loop_over_all_pairs(targets, seed, margin):
    generator = torch.Generator().manual_seed(seed)
    features, guides = torch.randn(2, len(targets), 3, generator=generator)
    fast = reversed_triplet(features, guides, torch.tensor(targets), margin)
    slow = slow_reversed_triplet(features.double(), guides.double(), targets, margin)
    assert fast.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_minimizing_the_reversed_triplet_moves_towards_the_other_person():
    guides = torch.tensor([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    features = guides.clone().requires_grad_()
    reversed_triplet(features, guides, torch.tensor([0, 0, 1]), 0.3).backward()
    step = -features.grad[0]
    assert step[0] > 0  # to the other person, at (3, 0)
    assert step[1] < 0  # away from the same person, at (0, 1)


@pytest.mark.parametrize("targets", [[0, 1, 2], [0, 0, 0], [0]])
def test_reversed_triplet_without_neighbors_is_a_zero_that_carries_a_graph(targets):
    features = torch.randn(len(targets), 3, requires_grad=True)
    loss = reversed_triplet(features, torch.randn(len(targets), 3), torch.tensor(targets), 0.3)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_consistency_teaches_only_the_attacked_prediction():
    clean = torch.randn(3, 4, requires_grad=True)
    attacked = torch.randn(3, 4, requires_grad=True)
    consistency_loss(clean, attacked).backward()
    assert clean.grad is None
    assert attacked.grad.abs().sum() > 0
    assert consistency_loss(clean, clean).item() == pytest.approx(0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000))
def test_group_means_are_the_means_of_each_person_in_each_modality(labels, seed):
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    centres, people, sides = group_means(features, *map(torch.tensor, zip(*labels, strict=True)))
    groups = list(zip(people.tolist(), sides.tolist(), strict=True))
    assert groups == sorted(set(labels))
    for centre, group in zip(centres, groups, strict=True):
        own = [f for f, label in zip(features, labels, strict=True) if label == group]
        torch.testing.assert_close(centre, sum(own) / len(own))


def test_masked_softmax_is_a_softmax_of_what_is_left():
    scores = torch.tensor([[1.0, 2.0, -200.0], [3.0, 4.0, 5.0]], requires_grad=True)
    weights = masked_softmax(scores, torch.tensor([[True, False, True], [False, False, False]]))
    weights[:, 0].sum().backward()
    torch.testing.assert_close(weights[0, [0, 2]], scores[0, [0, 2]].softmax(0))
    assert weights[0, 1] == 0
    assert weights[1].tolist() == [0, 0, 0]
    assert scores.grad.isfinite().all()
    assert scores.grad[1].tolist() == [0, 0, 0]


def slow_hetero_center_triplet(features, labels, margin):
    centres = {
        group: torch.stack([f for f, own in zip(features, labels, strict=True) if own == group])
        for group in set(labels)
    }
    centres = {group: members.mean(0) for group, members in centres.items()}
    hinges = []
    for (person, side), centre in centres.items():
        others = [c for (someone, _), c in centres.items() if someone != person]
        if (person, 1 - side) in centres and others:
            positive = (centre - centres[person, 1 - side]).norm().item()
            negative = min((centre - other).norm().item() for other in others)
            hinges.append(max(0.0, margin + positive - negative))
    return sum(hinges) / len(hinges) if hinges else 0.0


@settings(max_examples=40, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000), margin=st.floats(0, 2))
def test_hetero_center_triplet_equals_a_loop_over_centres(labels, seed, margin):
    targets, modalities = (torch.tensor(column) for column in zip(*labels, strict=True))
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    fast = hetero_center_triplet(features, targets, modalities, margin)
    slow = slow_hetero_center_triplet(features.double(), labels, margin)
    assert fast.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_with_one_clip_each_hetero_centres_are_the_clips():
    # Then only its negatives, which may be of either modality, set it apart.
    features = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    targets, modalities = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    loss = hetero_center_triplet(features, targets, modalities, 5.0)
    # positives 1; nearest others 5, 4, 4, 5
    assert loss.item() == pytest.approx((1 + 2 + 2 + 1) / 4)


def slow_weighted_regularized_triplet(features, targets):
    penalties = []
    for i, person in enumerate(targets):
        distances = {j: (features[i] - f).norm() for j, f in enumerate(features) if j != i}
        far = [d for j, d in distances.items() if targets[j] == person]
        near = [d for j, d in distances.items() if targets[j] != person]
        if far and near:
            pull = sum(d.exp() * d for d in far) / sum(d.exp() for d in far)
            push = sum((-d).exp() * d for d in near) / sum((-d).exp() for d in near)
            penalties.append((1 + (pull - push).exp()).log().item())
    return sum(penalties) / len(penalties) if penalties else 0.0


@settings(max_examples=40, deadline=None)
@given(targets=st.lists(st.integers(0, 2), min_size=1, max_size=7), seed=st.integers(0, 1000))
def test_weighted_regularized_triplet_equals_a_loop_over_all_pairs(targets, seed):
    features = torch.randn(len(targets), 3, generator=torch.Generator().manual_seed(seed))
    fast = weighted_regularized_triplet(features, torch.tensor(targets))
    slow = slow_weighted_regularized_triplet(features.double(), targets)
    assert fast.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_far_features_do_not_overflow_the_weighted_triplet():
    features = torch.tensor([[0.0], [1e4], [0.0], [1e4]], requires_grad=True)
    loss = weighted_regularized_triplet(features, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert features.grad.isfinite().all()


def slow_modality_divergence(logits, labels):
    def prediction(group):
        own = [row for row, label in zip(logits, labels, strict=True) if label == group]
        return (sum(own) / len(own)).softmax(0)

    divergences = []
    for person in {person for person, _ in labels}:
        if {(person, 0), (person, 1)} <= set(labels):
            p, q = prediction((person, 0)), prediction((person, 1))
            forth, back = (p * (p / q).log()).sum(), (q * (q / p).log()).sum()
            divergences.append((forth + back).item() / 2)
    return sum(divergences) / len(divergences) if divergences else 0.0


@settings(max_examples=40, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000))
def test_modality_divergence_equals_a_loop_over_people(labels, seed):
    targets, modalities = (torch.tensor(column) for column in zip(*labels, strict=True))
    logits = torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed))
    fast = modality_divergence(logits, targets, modalities)
    slow = slow_modality_divergence(logits.double(), labels)
    assert fast.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)
    swapped = modality_divergence(logits, targets, 1 - modalities)
    assert swapped.item() == pytest.approx(fast.item(), rel=1e-4, abs=1e-6)


def test_both_modalities_are_pulled_to_the_other_s_prediction():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]], requires_grad=True)
    modality_divergence(logits, torch.tensor([0, 0]), torch.tensor([0, 1])).backward()
    assert logits.grad[0, 0] > 0 > logits.grad[0, 1]
    torch.testing.assert_close(logits.grad[0], logits.grad[1].flip(0))


def test_predictions_that_are_sure_of_opposites_have_a_finite_divergence():
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    loss = modality_divergence(logits, torch.tensor([0, 0]), torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "targets", "modalities"),
    [
        ("HeteroCenterTriplet", [0, 0, 1], [0, 0, 0]),
        ("HeteroCenterTriplet", [0, 1], [0, 1]),
        ("HeteroCenterTriplet", [0, 0], [0, 1]),
        ("HeteroCenterTriplet", [0], [1]),
        ("WeightedRegularizedTriplet", [0, 1, 2], [0, 1, 0]),
        ("WeightedRegularizedTriplet", [0, 0, 0], [0, 1, 0]),
        ("WeightedRegularizedTriplet", [0], [0]),
        ("KLConsistency", [0, 0, 1], [0, 0, 0]),
        ("KLConsistency", [0, 1], [0, 1]),
        ("KLConsistency", [0], [1]),
    ],
)
def test_a_loss_without_pairs_is_a_zero_that_carries_a_graph(name, targets, modalities):
    outputs = outputs_of(len(targets))
    loss = LOSS.get(name)(small_cfg())(outputs, torch.tensor(targets), torch.tensor(modalities))
    loss.backward()
    assert loss.item() == 0
    (gradient,) = [value.grad for value in outputs.values() if value.grad is not None]
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize(
    "name", ["HeteroCenterTriplet", "KLConsistency", "WeightedRegularizedTriplet"]
)
def test_losses_of_pairs_do_not_hide_nan(name):
    outputs = {key: torch.full((8, 4), torch.nan) for key in outputs_of()}
    assert LOSS.get(name)(small_cfg())(outputs, TARGETS, MODALITIES).isnan()


def cdist(rows, columns):
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")


def test_distances_and_their_gradient_are_cdists_to_the_last_bit():
    for sizes in ((5, 7, 3), (1, 4, 2048), (6, 1, 2)):
        rows, columns = (torch.randn(n, sizes[2], requires_grad=True) for n in sizes[:2])
        both = pairwise_distances(rows, columns), cdist(rows, columns)
        assert torch.equal(*both)
        weights = torch.randn(sizes[:2])
        found, expected = (torch.autograd.grad((d * weights).sum(), (rows, columns)) for d in both)
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    ours, theirs = pairwise_distances(rows, rows), cdist(rows, rows)
    gradients = [torch.autograd.grad(each.sum(), rows)[0] for each in (ours, theirs)]
    assert torch.equal(*gradients)


def test_distances_are_twice_differentiable():
    rows, columns = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5))
    assert torch.autograd.gradcheck(pairwise_distances, (rows, columns))
    assert torch.autograd.gradgradcheck(pairwise_distances, (rows, columns))


def test_both_derivatives_are_finite_at_distance_zero():
    rows = torch.ones(3, 4, requires_grad=True)
    (first,) = torch.autograd.grad(pairwise_distances(rows, rows).sum(), rows, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum() + first.sum(), rows)
    assert torch.equal(first, torch.zeros(3, 4))
    assert second.isfinite().all()


@pytest.mark.slow
def test_half_precision_features_have_float32_distances():
    rows = torch.randn(3, 4).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        distances = pairwise_distances(rows, rows)
    distances.sum().backward()
    assert distances.dtype == torch.float32
    assert rows.grad.dtype == torch.bfloat16
