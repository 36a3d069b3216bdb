import copy

import pytest
import torch

from plugins.modeling.cross_modal_attention import CrossModalAttention
from plugins.modeling.meta_arch import SADSTRM, VVIBaseline
from tests.helpers.small_models import awaken, differing, small_batch, small_cfg, state

TARGETS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])
MODALITIES = torch.tensor([0, 1, 1, 1, 0, 0, 0, 1])
WITHOUT_PARTNER = [5, 6, 7]  # person 2 is visible only, person 3 infrared only
ENABLED = ("MODEL.CROSS_MODAL_ATTENTION.ENABLED", True)


def features_of(seed=0):
    return torch.randn(8, 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def attention():
    return awaken(CrossModalAttention(channels=6, dim=4))


def test_it_equals_a_loop_over_clips(attention):
    features, expected = features_of(), []
    for i, feature in enumerate(features):
        partners = [
            other
            for j, other in enumerate(features)
            if TARGETS[j] == TARGETS[i] and MODALITIES[j] != MODALITIES[i]
        ]
        query = attention.query(feature)
        shares = [(query @ attention.key(other) / 2).exp() for other in partners]
        for share, other in zip(shares, partners, strict=True):
            feature = feature + attention.residual(attention.value(other)) * share / sum(shares)
        expected.append(feature)
    torch.testing.assert_close(attention(features, TARGETS, MODALITIES), torch.stack(expected))


def test_at_initialization_it_changes_nothing_but_learns():
    attention, features = CrossModalAttention(small_cfg()), torch.randn(8, 512)
    related = attention(features, TARGETS, MODALITIES)
    related.square().sum().backward()
    assert torch.equal(related, features)
    assert attention.residual.weight.grad.abs().sum() > 0


def test_people_who_lack_the_other_modality_stay_as_they_are(attention):
    features = features_of().requires_grad_()
    related = attention(features, TARGETS, MODALITIES)
    assert torch.equal(related[WITHOUT_PARTNER], features[WITHOUT_PARTNER])
    assert not torch.isclose(related[:5], features[:5]).all(dim=1).any()
    assert torch.equal(attention(features, TARGETS, torch.zeros(8).long()), features)
    related[WITHOUT_PARTNER].sum().backward()
    assert features.grad[WITHOUT_PARTNER].eq(1).all()
    assert features.grad[:5].eq(0).all()


def test_only_the_same_person_is_seen(attention):
    features, changed = features_of(), features_of()
    changed[4:] += 1
    before, after = (attention(f, TARGETS, MODALITIES) for f in (features, changed))
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.allclose(before[3], after[3])  # its partner, clip 4, has changed


def test_gradients_reach_every_parameter(attention):
    attention(features_of(), TARGETS, MODALITIES).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in attention.parameters())


def test_features_are_float32_under_autocast(attention):
    with torch.autocast("cpu", torch.bfloat16):
        related = attention(features_of(), TARGETS, MODALITIES)
    torch.testing.assert_close(related, attention(features_of(), TARGETS, MODALITIES))


def built(architecture, *opts):
    torch.manual_seed(0)
    return architecture(small_cfg(*opts))


def test_it_is_off_by_default():
    assert not any("cross_modal" in name for name in state(built(VVIBaseline)))


@pytest.mark.slow
def test_switching_it_on_changes_no_loss_of_the_first_step():
    plain, related = built(VVIBaseline), built(VVIBaseline, *ENABLED)
    before, after = plain(small_batch()), related(small_batch())
    assert differing(before, after) == []


@pytest.mark.slow
@pytest.mark.parametrize("turn", [None, "attack", "defense"])
def test_switching_it_on_changes_no_loss_of_sadstrm_s_first_step(turn):
    plain, related = built(SADSTRM), built(SADSTRM, *ENABLED)
    related.load_state_dict(state(plain), strict=False)
    torch.testing.assert_close(related(small_batch(), turn=turn), plain(small_batch(), turn=turn))
    awaken(related.cross_modal)
    moved = related(small_batch(), turn=turn)
    triplet = "loss_rev" if turn == "attack" else "loss_triplet"
    assert not torch.isclose(moved[triplet], plain(small_batch(), turn=turn)[triplet])


@torch.no_grad()
def test_evaluation_never_uses_it():
    model = built(VVIBaseline, *ENABLED).eval()
    awaken(model.cross_modal)
    before = model(small_batch())
    without = copy.deepcopy(model)
    del without.cross_modal
    assert torch.equal(without(small_batch()), before)


@pytest.mark.slow
def test_it_belongs_to_the_defender():
    model = built(SADSTRM, *ENABLED)
    own = {id(parameter) for parameter in model.cross_modal.parameters()}
    assert own <= {id(parameter) for parameter in model.defender_parameters()}
    sum(model(small_batch(), turn="attack").values()).backward()
    assert all(parameter.grad is None for parameter in model.cross_modal.parameters())
    sum(model(small_batch(), turn="defense").values()).backward()
    assert model.cross_modal.residual.weight.grad.abs().sum() > 0
