import pytest
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.modeling.losses import cross_entropy_loss
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plugins.config import setup_cfg
from plugins.defense.fnes import (
    Softening,
    extend,
    move_mass,
    smooth_labels,
    soft_cross_entropy,
)
from plugins.errors import InputError
from tests.helpers.defense_toys import slow_image, slow_label

PAPER = {
    "gamma": 2.0,
    "mix": (0.0, 1.0),
    "clean_mass": 0.9,
    "attacked_mass": 0.7,
    "moved_mass": 0.2,
}
TARGETS, NEGATIVES = torch.tensor([0, 3, 1, 1]), torch.tensor([2, 0, 4, 0])


def softening(**changes) -> Softening:
    return Softening(**{**PAPER, **changes})


def generator_of(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(seed: int = 0, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean images and twins at most 8 units away, both in [0, 255]."""
    generator = generator_of(seed)
    clean = torch.rand(count, 2, 3, 4, 5, generator=generator) * 255
    noise = torch.randint(-8, 9, clean.shape, generator=generator)
    return clean, (clean + noise).clamp(0, 255)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), gamma=st.floats(1, 5))
def test_images_equal_the_two_lines_of_the_paper(seed, gamma):
    clean, attacked = images_of(seed)
    weights = softening().draw(4, generator_of(seed))
    found = softening(gamma=gamma).images(clean, attacked, weights)
    for row, w in enumerate(weights.tolist()):
        pairs = zip(clean[row].flatten().tolist(), attacked[row].flatten().tolist(), strict=True)
        slow = [slow_image(x, twin, w, gamma) for x, twin in pairs]
        torch.testing.assert_close(
            found[row].flatten().double(), torch.tensor(slow).double(), atol=1e-4, rtol=0
        )


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    clean_mass=st.floats(0.01, 1),
    attacked_mass=st.floats(0.01, 1),
    share=st.floats(0, 1),
    classes=st.integers(5, 9),
)
def test_labels_equal_a_loop_and_sum_to_one(seed, clean_mass, attacked_mass, share, classes):
    one = softening(
        clean_mass=clean_mass, attacked_mass=attacked_mass, moved_mass=share * attacked_mass
    )
    weights = one.draw(4, generator_of(seed))
    labels = one.labels(TARGETS, NEGATIVES, weights, classes)
    rows = zip(TARGETS.tolist(), NEGATIVES.tolist(), weights.tolist(), strict=True)
    slow = torch.tensor([slow_label(one, y, n, w, classes) for y, n, w in rows])
    torch.testing.assert_close(labels, slow, atol=1e-6, rtol=0)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(4), atol=1e-6, rtol=0)
    assert labels.min() >= -1e-7


def test_the_degenerate_case_is_metric_adversarial_training_to_the_last_bit():
    clean, attacked = images_of()
    network = nn.Sequential(nn.Flatten(), nn.Linear(120, 6), nn.Tanh(), nn.Linear(6, 5))
    plain = cross_entropy_loss(network(attacked / 255), TARGETS, eps=1 - 0.7)
    expected = torch.autograd.grad(plain, network.parameters())

    degenerate = softening(gamma=1.0, mix=(0.0, 0.0), moved_mass=0.0)
    weights = degenerate.draw(4, generator_of(0))
    images = degenerate.images(clean, attacked, weights)
    labels = degenerate.labels(TARGETS, NEGATIVES, weights, classes=5)
    assert torch.equal(images, attacked)
    assert torch.equal(labels, smooth_labels(TARGETS, 5, 0.7))
    loss = soft_cross_entropy(network(images / 255), labels)
    assert torch.equal(loss, plain)
    for found, gradient in zip(
        torch.autograd.grad(loss, network.parameters()), expected, strict=True
    ):
        assert torch.equal(found, gradient)


@pytest.mark.parametrize("kept", [0.9, 0.7, 0.35, 1.0])
def test_phi_is_fastreids_smoothing_at_the_matching_epsilon(kept):
    logits = torch.randn(4, 5, generator=generator_of(1))
    found = soft_cross_entropy(logits, smooth_labels(TARGETS, 5, kept))
    assert torch.equal(found, cross_entropy_loss(logits, TARGETS, eps=1 - kept))


def test_soft_cross_entropy_equals_torchs_and_stays_in_float32():
    generator = generator_of(2)
    logits = torch.randn(4, 5, generator=generator)
    labels = torch.rand(4, 5, generator=generator).softmax(dim=1)
    torch.testing.assert_close(soft_cross_entropy(logits, labels), F.cross_entropy(logits, labels))
    half = logits.bfloat16()
    found = soft_cross_entropy(half, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.cross_entropy(half.float(), labels))


def test_images_and_label_share_one_weight():
    clean, attacked = torch.full((4, 3), 100.0), torch.full((4, 3), 108.0)
    one = softening(clean_mass=1.0, attacked_mass=1.0, moved_mass=1.0)
    weights = one.draw(4, generator_of(3))
    from_images = 1 - (one.images(clean, attacked, weights) - clean)[:, 0] / (2.0 * 8)
    from_labels = one.labels(TARGETS, NEGATIVES, weights, 5).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(from_images, weights)
    torch.testing.assert_close(from_labels, weights)
    assert len(set(weights.tolist())) == 4, "each image has a weight of its own"


def test_both_ends_are_exact_and_inputs_are_not_changed():
    clean, attacked = images_of()
    before = clean.clone(), attacked.clone()
    assert torch.equal(extend(clean, attacked, torch.ones(4), 2.0), clean)
    assert torch.equal(extend(clean, attacked, torch.full((4,), 0.5), 2.0), attacked)
    assert torch.equal(clean, before[0])
    assert torch.equal(attacked, before[1])


def test_it_leaves_the_budget_but_not_the_range_of_pixels():
    clean = torch.tensor([[100.0, 3.0, 252.0]])
    attacked = clean + torch.tensor([[8.0, -3.0, 3.0]])
    assert extend(clean, attacked, torch.zeros(1), 2.0).tolist() == [[116, 0, 255]]
    assert extend(clean, attacked, torch.tensor([0.75]), 2.0).tolist() == [[104, 1.5, 253.5]]


def test_without_a_negative_class_nothing_moves():
    labels = smooth_labels(TARGETS, 5, 0.7)
    assert torch.equal(move_mass(labels, TARGETS, TARGETS, 0.2), labels)


def test_weights_are_uniform_in_their_range_and_come_from_the_generator():
    one = softening(mix=(0.25, 0.75))
    generator = generator_of(4)
    state = generator.get_state()
    weights = one.draw(20000, generator)
    assert 0.25 <= weights.min() < 0.251
    assert 0.749 < weights.max() <= 0.75
    assert weights.mean().item() == pytest.approx(0.5, abs=0.005)
    generator.set_state(state)
    assert torch.equal(one.draw(20000, generator), weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"moved_mass": 0.8}, r"MOVED_MASS: 0.8; expected 0 to ATTACKED_MASS, which is 0.7"),
        ({"moved_mass": -0.1}, "MOVED_MASS: -0.1"),
        ({"gamma": 0.9}, "GAMMA: 0.9; expected 1 or more"),
        ({"gamma": float("inf")}, "GAMMA: 'inf'"),
        ({"mix": [0.5, 0.2]}, r"MIX: \(0.5, 0.2\); expected \(a, b\)"),
        ({"mix": [0.5]}, r"MIX: \[0.5\]"),
        ({"mix": [0.0, 1.1]}, "MIX"),
        ({"clean_mass": 1.1}, "CLEAN_MASS: 1.1; expected more than 0, at most 1"),
        ({"attacked_mass": 0.0}, "ATTACKED_MASS: 0.0"),
    ],
)
def test_a_setting_out_of_range_is_named(changes, message):
    opts = [(f"DEFENSE.FNES.{key.upper()}", str(value)) for key, value in changes.items()]
    with pytest.raises(InputError, match=rf"DEFENSE\.FNES\.{message}"):
        Softening.from_config(setup_cfg("", [*opts[0]]))


@pytest.mark.slow
def test_settings_come_from_the_config():
    fnes = {key.upper(): value for key, value in PAPER.items()} | {"MIX": [0.0, 1.0]}
    assert Softening.from_config(CfgNode({"DEFENSE": {"FNES": fnes}})) == softening()
