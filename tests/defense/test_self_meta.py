import copy

import pytest
import torch
import torch.nn.functional as F
from fastreid.config import get_cfg
from fastreid.modeling import build_model
from fastreid.modeling.losses import triplet_loss
from fastreid.utils.events import EventStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plugins.compat import protect_input
from plugins.defense.discriminator import Discriminator
from plugins.defense.self_meta import add_gradients, meta_gradients, split_identities
from plugins.errors import InputError
from plugins.modeling.meta_arch import VVIBaseline
from tests.helpers.small_models import copied, small_batch, small_cfg

ALPHA = 0.1
# Rounding leaves some 1e-16 / h and curvature some h^2 of a derivative near 1: at 1e-6 both are
# below 1e-9, and no ReLU, pooled maximum or hardest pair is likely to change within it.
H = 1e-6


class Toy(nn.Module):
    """Two layers and BatchNorm; a dict of fastreid's losses, all in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU())
        self.head = nn.Linear(4, 4, bias=False)
        self.unused = nn.Linear(2, 2)
        self.double()

    def forward(self, batch: dict) -> dict[str, torch.Tensor]:
        features = self.body(batch["images"])
        return {
            "loss_cls": F.cross_entropy(self.head(features), batch["targets"]),
            "loss_triplet": triplet_loss(features, batch["targets"], 0.3, False, True),
        }


def toy_batch(seed: int) -> dict:
    images = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)).double()
    return {"images": images, "targets": torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])}


TRAIN, TEST = toy_batch(0), toy_batch(1)


def losses_of(model, batch):
    return model(batch)


def total(losses: dict) -> torch.Tensor:
    return sum(losses.values())


def meta_loss(model: nn.Module, theta: dict, train: dict, test: dict, alpha: float) -> float:
    """L_mtr(theta) + L_mte(theta - alpha grad L_mtr(theta)), on copies and step by step."""
    stepped = copy.deepcopy(model)
    trained = {name: p for name, p in stepped.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, p in trained.items():
            p.copy_(theta[name])
    first = total(stepped(train))
    gradients = torch.autograd.grad(first, trained.values(), allow_unused=True)
    with torch.no_grad():
        for p, gradient in zip(trained.values(), gradients, strict=True):
            if gradient is not None:
                p -= alpha * gradient
    return (first + total(stepped(test))).item()


def slope(model, direction: dict, train: dict, test: dict, alpha: float, h: float) -> float:
    """Central difference of ``meta_loss`` along ``direction``."""
    theta = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    ends = []
    for sign in (1, -1):
        moved = {n: p + sign * h * direction[n] if n in direction else p for n, p in theta.items()}
        ends.append(meta_loss(model, moved, train, test, alpha))
    return (ends[0] - ends[1]) / (2 * h)


def largest_error(gradients: dict[str, torch.Tensor]) -> float:
    """Of each component of the gradient against its central difference."""
    model, errors = Toy(), []
    for name, gradient in gradients.items():
        for place in range(gradient.numel()):
            unit = torch.zeros_like(gradient).flatten()
            unit[place] = 1
            direction = {name: unit.view_as(gradient)}
            found = slope(model, direction, TRAIN, TEST, ALPHA, H)
            errors.append(abs(found - gradient.flatten()[place].item()))
    return max(errors)


@pytest.mark.slow
def test_second_order_equals_central_differences_and_first_order_does_not():
    second, _ = meta_gradients(Toy(), losses_of, TRAIN, TEST, ALPHA, second_order=True)
    first, _ = meta_gradients(Toy(), losses_of, TRAIN, TEST, ALPHA, second_order=False)
    assert largest_error(second) < 1e-7
    assert largest_error(first) > 1e-3


def test_first_order_equals_its_definition():
    model = Toy()
    found, losses = meta_gradients(model, losses_of, TRAIN, TEST, ALPHA, second_order=False)
    here, there = Toy(), Toy()
    train_losses = here(TRAIN)
    total(train_losses).backward()
    with torch.no_grad():
        for p, q in zip(there.parameters(), here.parameters(), strict=True):
            if q.grad is not None:
                p -= ALPHA * q.grad
    test_losses = there(TEST)
    total(test_losses).backward()
    for (name, p), q in zip(here.named_parameters(), there.parameters(), strict=True):
        if name.startswith("unused"):
            assert name not in found
        else:
            torch.testing.assert_close(found[name], p.grad + q.grad)
    assert list(losses) == [
        "loss_cls",
        "loss_triplet",
        "loss_cls_meta_test",
        "loss_triplet_meta_test",
    ]
    for name, loss in train_losses.items():
        torch.testing.assert_close(losses[name], loss.detach())
        torch.testing.assert_close(losses[f"{name}_meta_test"], test_losses[name].detach())


def test_without_an_inner_step_both_orders_are_the_plain_gradient():
    plain = Toy()
    (total(plain(TRAIN)) + total(plain(TEST))).backward()
    for second_order in (False, True):
        found, _ = meta_gradients(Toy(), losses_of, TRAIN, TEST, 0.0, second_order=second_order)
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, plain.get_parameter(name).grad)


def test_a_frozen_parameter_takes_part_unchanged():
    model = Toy()
    model.head.weight.requires_grad_(False)
    found, _ = meta_gradients(model, losses_of, TRAIN, TEST, ALPHA, second_order=True)
    assert "head.weight" not in found
    assert "body.0.weight" in found


def test_a_loss_scale_multiplies_the_gradients_alone():
    plain, losses = meta_gradients(Toy(), losses_of, TRAIN, TEST, ALPHA, second_order=True)
    scaled, same = meta_gradients(
        Toy(), losses_of, TRAIN, TEST, ALPHA, second_order=True, scale=torch.tensor(1024.0)
    )
    for name, gradient in plain.items():
        torch.testing.assert_close(scaled[name], 1024 * gradient)
    for name, loss in losses.items():
        torch.testing.assert_close(same[name], loss)


def test_an_overflow_reaches_the_gradients_but_not_the_losses():
    found, losses = meta_gradients(
        Toy(), losses_of, TRAIN, TEST, ALPHA, second_order=False, scale=float("inf")
    )
    assert any(not gradient.isfinite().all() for gradient in found.values())
    assert all(loss.isfinite() for loss in losses.values())


def test_the_discriminator_of_a_loss_gets_no_gradient():
    one = Discriminator(4, hidden=5, lr=1e-4)
    one.network.double()

    network, features = Toy(), []
    network.body.register_forward_hook(lambda _, __, output: features.append(output))

    def with_game(model, batch):
        losses = model(batch)
        return {**losses, "loss_encoder": one.encoder_loss(2 * features[-1], features[-1])}

    plain, _ = meta_gradients(Toy(), losses_of, TRAIN, TEST, ALPHA, second_order=True)
    found, _ = meta_gradients(network, with_game, TRAIN, TEST, ALPHA, second_order=True)
    assert all(p.grad is None for p in one.network.parameters())
    assert not torch.equal(found["body.0.weight"], plain["body.0.weight"])


def test_gradients_are_added_with_their_share():
    model = Toy()
    gradients, _ = meta_gradients(model, losses_of, TRAIN, TEST, ALPHA, second_order=False)
    assert all(p.grad is None for p in model.parameters())
    before = {name: gradient.clone() for name, gradient in gradients.items()}
    for _ in range(2):
        add_gradients(model, gradients, share=0.5)
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name])
            assert torch.equal(gradients[name], before[name])
        else:
            assert parameter.grad is None


def stock() -> nn.Module:
    """fastreid's own Baseline, ResNet-18."""
    cfg = get_cfg()
    cfg.merge_from_list([
        "MODEL.DEVICE", "cpu",
        "MODEL.BACKBONE.DEPTH", "18x",
        "MODEL.BACKBONE.FEAT_DIM", "512",
        "MODEL.BACKBONE.PRETRAIN", "False",
        "MODEL.HEADS.NUM_CLASSES", "4",
        "MODEL.HEADS.WITH_BNNECK", "True",
    ])  # fmt: skip
    return protect_input(build_model(cfg))


def vvi() -> nn.Module:
    losses = "('CrossEntropyLoss', 'TripletLoss')"
    return VVIBaseline(
        small_cfg("MODEL.LOSSES.NAME", losses, "MODEL.TEMPORAL.NAME", "TemporalMean")
    )


def images_batch(seed: int) -> dict:
    batch = small_batch(frames=1, seed=seed)
    return {**batch, "images": batch["images"][:, 0, :, ::2, ::2]}


@pytest.mark.slow
@pytest.mark.parametrize("build", [stock, vvi])
def test_any_meta_architecture_is_left_as_found_but_for_one_pass_of_statistics(build):
    torch.manual_seed(0)
    model = build().train()
    once = copy.deepcopy(model)
    train, test = images_batch(0), images_batch(1)
    before = copied(train), copied(test)
    with EventStorage():
        once(train)
        found, _ = meta_gradients(model, losses_of, train, test, 1e-3, second_order=True)
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient.isfinite().all() for gradient in found.values())
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, once.get_buffer(name)), name
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, once.get_parameter(name)), name
        assert parameter.grad is None
    for batch, old in zip((train, test), before, strict=True):
        assert all(torch.equal(batch[key], old[key]) for key in ("images", "targets"))


@pytest.mark.slow
def test_second_order_of_fastreids_baseline_equals_a_central_difference():
    torch.manual_seed(0)
    model = stock().double().train()
    train, test = images_batch(0), images_batch(1)
    for batch in (train, test):
        batch["images"] = batch["images"].double()
    with EventStorage():
        found, _ = meta_gradients(model, losses_of, train, test, 1e-3, second_order=True)
        length = sum(g.square().sum() for g in found.values()).sqrt()
        direction = {name: g / length for name, g in found.items()}
        # Smaller than H: a unit vector over millions of weights meets many more kinks.
        expected = slope(model, direction, train, test, 1e-3, 1e-8)
    # In this direction the first-order gradient is 0.7 % shorter.
    assert length.item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    targets=st.lists(st.integers(0, 5), min_size=2, max_size=12).filter(lambda t: len(set(t)) > 1),
    seed=st.integers(0, 1000),
)
def test_halves_share_no_person_and_miss_no_row(targets, seed):
    targets = torch.tensor(targets)
    train, test = split_identities(targets, torch.Generator().manual_seed(seed))
    assert sorted(train.tolist() + test.tolist()) == list(range(len(targets)))
    people, others = set(targets[train].tolist()), set(targets[test].tolist())
    assert not people & others
    assert len(people) - len(others) in (0, 1)
    again = split_identities(targets, torch.Generator().manual_seed(seed))
    assert torch.equal(train, again[0])


def test_every_person_is_in_either_half_at_times():
    targets, generator = torch.tensor([7, 7, 8, 9, 9]), torch.Generator().manual_seed(0)
    halves = [split_identities(targets, generator) for _ in range(40)]
    for half in (0, 1):
        assert {pid for halved in halves for pid in targets[halved[half]].tolist()} == {7, 8, 9}


@pytest.mark.slow
def test_a_batch_of_one_person_cannot_be_halved():
    with pytest.raises(InputError, match=r"^SOLVER.IMS_PER_BATCH: .* found 1 person"):
        split_identities(torch.tensor([3, 3]), torch.Generator())
