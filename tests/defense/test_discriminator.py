import copy
import io
import math

import pytest
import torch
import torch.nn.functional as F

from plugins.defense.discriminator import Discriminator, game_value, paired_loss


def discriminator(seed: int = 0, **changes) -> Discriminator:
    torch.manual_seed(seed)
    return Discriminator(**{"dim": 6, "hidden": 8, "lr": 1e-2} | changes)


def features_of(seed: int, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean features, and attacked ones that lie elsewhere."""
    clean, attacked = torch.randn(2, count, 6, generator=torch.Generator().manual_seed(seed))
    return clean, attacked + 1


def weights(one: Discriminator) -> list[torch.Tensor]:
    return [p.detach().clone() for p in one.network.parameters()]


def log_probability(logit: float) -> float:
    return math.log(1 / (1 + math.exp(-logit)))


def test_the_value_of_the_game_equals_a_loop_and_is_finite_for_any_logit():
    clean, attacked = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    slow = sum(map(log_probability, [*clean.tolist(), *(-attacked).tolist()])) / 5
    assert game_value(clean, attacked).item() == pytest.approx(slow, rel=1e-5)
    sure = torch.tensor([300.0, -300.0], requires_grad=True)
    value = game_value(sure, sure)
    value.backward()
    assert value.item() == -300
    assert sure.grad.isfinite().all()


def test_the_paired_loss_equals_a_loop_is_finite_for_any_logit_and_blind_to_a_common_shift():
    clean, attacked = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    pairs = zip(clean.tolist(), attacked.tolist(), strict=True)
    slow = -sum(log_probability(a - c) for c, a in pairs) / 5
    assert paired_loss(clean, attacked).item() == pytest.approx(slow, rel=1e-5)
    assert paired_loss(clean, clean).item() == pytest.approx(math.log(2))
    shift = torch.zeros((), requires_grad=True)
    loss = paired_loss(clean + shift, attacked + shift)
    loss.backward()
    assert shift.grad.abs() < 1e-7
    sure = torch.tensor([300.0, -300.0])
    assert paired_loss(sure, -sure).item() == 300


def test_a_step_is_adam_on_the_binary_cross_entropy_of_clean_against_attacked():
    one = discriminator()
    network = copy.deepcopy(one.network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for seed in range(3):
        clean, attacked = features_of(seed)
        optimizer.zero_grad()
        bce = F.binary_cross_entropy_with_logits
        both = torch.cat([clean, attacked])
        both = (both - both.mean(0)) / (both.var(0, unbiased=False) + 1e-5).sqrt()
        logits = network[1:](both)
        expected = bce(logits[:4], torch.ones(4, 1)) + bce(logits[4:], torch.zeros(4, 1))
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(one.step(clean, attacked), expected.detach())
    torch.testing.assert_close(weights(one), [p.detach() for p in network.parameters()])


def test_the_discriminator_learns_and_the_encoder_gets_no_gradient():
    one = discriminator()
    clean, attacked = (features.requires_grad_() for features in features_of(0))
    losses = [one.step(clean, attacked).item() for _ in range(200)]
    assert losses[0] == pytest.approx(2 * math.log(2), abs=0.5)
    assert losses[-1] < 0.1
    assert clean.grad is None
    assert attacked.grad is None


def test_a_mean_that_all_features_share_hides_nothing():
    one = discriminator()
    clean, attacked = (100 + 0.01 * features for features in features_of(0))
    losses = [one.step(clean, attacked).item() for _ in range(200)]
    assert losses[-1] < 0.1


def test_the_encoder_is_judged_by_the_statistics_of_the_last_step():
    one = discriminator()
    first, last = features_of(0), features_of(1)
    one.step(*first)
    one.step(*last)
    both = torch.cat(last)
    standardised = (last[1] - both.mean(0)) / (both.var(0, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(one.logits(last[1]), one.network[1:](standardised)[:, 0])
    before = copy.deepcopy(one.state_dict())
    one.encoder_loss(*first)
    assert all(map(torch.equal, before["network"].values(), one.state_dict()["network"].values()))


@pytest.mark.parametrize("saturating", [False, True])
def test_the_encoder_loss_moves_the_encoder_alone(saturating):
    one = discriminator(saturating=saturating)
    clean, attacked = (features.requires_grad_() for features in features_of(0))
    before = weights(one)
    loss = one.encoder_loss(clean, attacked)
    loss.backward()
    clean_logits, attacked_logits = (one.logits(f).tolist() for f in (clean, attacked))
    pairs = zip(clean_logits, attacked_logits, strict=True)
    if saturating:
        value = sum(log_probability(c) + log_probability(-a) for c, a in pairs) / 4
    else:
        value = -sum(log_probability(a - c) for c, a in pairs) / 4
    assert loss.item() == pytest.approx(value, rel=1e-5)
    assert clean.grad.abs().sum() > 0
    assert all(p.grad is None and p.requires_grad for p in one.network.parameters())
    assert all(torch.equal(p, q) for p, q in zip(weights(one), before, strict=True))
    # A small step down makes the attacked features look cleaner.
    assert one.logits(attacked - 0.1 * attacked.grad).mean() > one.logits(attacked).mean()


def test_against_a_sure_discriminator_only_the_default_form_has_a_gradient():
    gradients = {}
    for saturating in (False, True):
        one = discriminator(saturating=saturating)
        one.logits = lambda features: 30 * features[:, 0]  # sure of each, and right
        clean, attacked = torch.ones(4, 6), -torch.ones(4, 6)
        one.encoder_loss(clean, attacked.requires_grad_()).backward()
        gradients[saturating] = attacked.grad.abs().max().item()
    assert gradients[False] > 1e-3
    assert gradients[True] < 1e-9


def test_a_resumed_discriminator_is_bit_identical():
    whole, killed = discriminator(), discriminator()
    for seed in range(3):
        whole.step(*features_of(seed))
        killed.step(*features_of(seed))
    file = io.BytesIO()
    torch.save(killed.state_dict(), file)
    file.seek(0)
    resumed = discriminator(seed=1)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for seed in range(3, 6):
        assert torch.equal(whole.step(*features_of(seed)), resumed.step(*features_of(seed)))
    assert all(torch.equal(p, q) for p, q in zip(weights(whole), weights(resumed), strict=True))


@pytest.mark.slow
def test_mixed_precision_changes_no_bit():
    one = discriminator()
    clean, attacked = features_of(0)
    plain = one.encoder_loss(clean, attacked)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(one.encoder_loss(clean, attacked), plain)
        half = one.encoder_loss(clean.bfloat16(), attacked.bfloat16())
    assert half.dtype == torch.float32
