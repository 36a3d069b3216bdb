"""Statistics per modality, cell and channel: by loops, in two processes, and for all who look."""

import copy

import pytest
import torch
from fastreid.utils import comm
from fastreid.utils.precision_bn import update_bn_stats
from torch import nn

from plugins.engine.averaging import WeightAverage
from plugins.engine.distributed import average_buffers
from plugins.engine.optimizer import build_optimizer
from plugins.modeling.batch_statistics import BatchStatistics
from plugins.modeling.dual_norm import add_dual_norm, attacked_branch
from plugins.modeling.freeze import frozen_statistics
from plugins.modeling.temporal.modality_norm import ModalityNorm
from tests.helpers.small_models import differing, dual_cfg, small_cfg, state
from tests.helpers.two_processes import in_two_processes

CELLS, CHANNELS = 2, 3


def clips_of(count=6, frames=4, seed=0, mean=20.0):
    """Descriptors (B, T, K, C) with a large common mean; modalities differ by an offset."""
    generator = torch.Generator().manual_seed(seed)
    modalities = torch.arange(count) % 2
    values = mean + torch.randn(count, frames, CELLS, CHANNELS, generator=generator)
    return values + 3 * modalities[:, None, None, None], modalities


def statistics_by_hand(values, modalities, modality):
    """Mean and biased variance (K, C) of a modality, value by value."""
    mean, variance = torch.zeros(CELLS, CHANNELS), torch.zeros(CELLS, CHANNELS)
    for cell in range(CELLS):
        for channel in range(CHANNELS):
            seen = [
                frame[cell, channel].item()
                for clip, of in zip(values, modalities, strict=True)
                if of == modality
                for frame in clip
            ]
            mean[cell, channel] = sum(seen) / len(seen)
            variance[cell, channel] = sum((x - sum(seen) / len(seen)) ** 2 for x in seen) / len(
                seen
            )
    return mean, variance


def test_training_equals_loops_over_clips_frames_cells_and_channels():
    norm, (values, modalities) = ModalityNorm(CELLS, CHANNELS), clips_of()
    with torch.no_grad():
        norm.weight.copy_(torch.rand(CELLS * CHANNELS) + 0.5)
        norm.bias.copy_(torch.randn(CELLS * CHANNELS))
    found = norm(values, modalities)
    scale, shift = (p.view(CELLS, CHANNELS) for p in (norm.weight, norm.bias))
    for row, modality in enumerate(modalities.tolist()):
        mean, variance = statistics_by_hand(values, modalities, modality)
        expected = (values[row] - mean) / (variance + norm.eps).sqrt() * scale + shift
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-4)


def test_one_modality_alone_equals_torch_s_batch_norm():
    values, _ = clips_of()
    ours, theirs = ModalityNorm(CELLS, CHANNELS), nn.BatchNorm1d(CELLS * CHANNELS, momentum=0.05)
    theirs.momentum = 1.0  # the first batch weighs all
    infrared = torch.ones(len(values), dtype=torch.long)
    rows = values.flatten(2).flatten(0, 1)
    torch.testing.assert_close(ours(values, infrared).flatten(2).flatten(0, 1), theirs(rows))
    torch.testing.assert_close(ours.running_mean[1], theirs.running_mean)
    torch.testing.assert_close(ours.running_var[1], theirs.running_var)
    assert ours.running_mean[0].eq(0).all() and ours.running_var[0].eq(1).all()
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(values, infrared).flatten(2).flatten(0, 1), theirs(rows))


def test_the_offset_between_the_modalities_goes_with_a_set_each_and_stays_with_a_joint_one():
    values, modalities = clips_of(count=40)
    gaps = []
    for joint in (False, True):
        found = ModalityNorm(CELLS, CHANNELS, joint=joint)(values, modalities)
        gaps.append((found[modalities == 1].mean() - found[modalities == 0].mean()).abs().item())
    assert gaps[0] < 1e-5
    assert gaps[1] > 1.5


def test_the_k_th_batch_weighs_the_momentum_but_at_least_one_kth():
    norm, expected = ModalityNorm(CELLS, CHANNELS, momentum=0.05), None
    for seed in range(30):
        values, modalities = clips_of(seed=seed, mean=float(seed))
        norm(values, modalities)
        mean = statistics_by_hand(values, modalities, 0)[0].flatten()
        share = max(0.05, 1 / (seed + 1))
        expected = mean if expected is None else (1 - share) * expected + share * mean
    torch.testing.assert_close(norm.running_mean[0], expected, rtol=1e-4, atol=1e-4)
    assert norm.num_batches_tracked.tolist() == [30, 30]


def test_few_batches_leave_nothing_of_the_initial_statistics():
    norm = ModalityNorm(CELLS, CHANNELS)
    for seed in range(5):
        norm(*clips_of(count=20, seed=seed))
    values, modalities = clips_of(count=200, seed=9)
    means = norm.eval()(values, modalities).mean(dim=(0, 1))
    assert means.abs().max() < 0.2  # with torch's moving average 0.77 of the mean, 15, would stay


def test_a_test_batch_of_one_clip_equals_the_large_batch():
    norm = ModalityNorm(CELLS, CHANNELS)
    norm(*clips_of())
    norm.eval()
    values, modalities = clips_of(count=64, seed=1)
    together = norm(values, modalities)
    alone = torch.cat([norm(values[i : i + 1], modalities[i : i + 1]) for i in range(64)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("clips", "frames"), [(1, 4), (1, 1), (3, 1), (2, 0), (0, 2)])
def test_small_batches_train_and_record_only_what_has_a_variance(clips, frames):
    norm = ModalityNorm(CELLS, CHANNELS)
    norm(*clips_of())
    before = state(norm)
    values, modalities = clips_of(count=clips, frames=frames, seed=1)
    values.requires_grad_()
    found = norm(values, modalities)
    assert found.shape == values.shape and found.isfinite().all()
    found.sum().backward()
    assert values.grad.isfinite().all()
    counts = [(modalities == m).sum().item() * frames for m in (0, 1)]
    changed = [not torch.equal(norm.running_mean[m], before["running_mean"][m]) for m in (0, 1)]
    assert changed == [count >= 2 for count in counts]
    assert norm.running_var.isfinite().all()


def test_one_value_of_a_modality_is_normalized_by_what_was_recorded():
    norm = ModalityNorm(CELLS, CHANNELS)
    norm(*clips_of())
    values, modalities = clips_of(count=3, frames=1, seed=2)  # infrared once
    in_training = norm(values, modalities)[1]
    torch.testing.assert_close(in_training, norm.eval()(values, modalities)[1])


def test_frozen_statistics_uses_the_batch_and_records_nothing():
    norm, (values, modalities) = ModalityNorm(CELLS, CHANNELS), clips_of()
    norm(values + 5, modalities)
    before = state(norm)
    with frozen_statistics(norm):
        frozen = norm(values, modalities)
    assert differing(before, state(norm)) == []
    torch.testing.assert_close(frozen, norm(values, modalities))
    assert differing(before, state(norm)) == [
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]


def test_another_pass_is_normalized_by_the_statistics_kept_from_a_clean_one():
    part = nn.ModuleDict({"norm": ModalityNorm(CELLS, CHANNELS)})
    norm, (values, modalities) = part["norm"], clips_of()
    statistics = BatchStatistics(part)
    with statistics.recorded():
        clean = norm(values, modalities)
    before = state(norm)
    with statistics.used():
        moved = norm(values + 1, modalities)
    scale = torch.stack([statistics_by_hand(values, modalities, m)[1] for m in (0, 1)])
    shift = 1 / (scale[modalities] + norm.eps).sqrt()[:, None]
    torch.testing.assert_close(moved, clean + shift, rtol=1e-4, atol=1e-4)
    assert differing(before, state(norm)) == [] and norm.training


def test_attacked_batches_have_a_branch_of_their_own():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = ModalityNorm(CELLS, CHANNELS)

    part = Part()
    alone = copy.deepcopy(part.norm)
    add_dual_norm(part, dual_cfg())
    values, modalities = clips_of()
    with attacked_branch(part):
        hurt = part.norm(values + 7, modalities)
    assert part.norm.running_mean.eq(0).all(), "an attacked batch was recorded as a clean one"
    torch.testing.assert_close(hurt, alone(values + 7, modalities))
    assert differing(state(alone), state(part.norm.attacked)) == []
    assert part.norm.attacked.weight is not part.norm.weight
    part.norm(values, modalities)
    torch.testing.assert_close(
        part.norm.eval()(values, modalities),
        (values - part.norm.running_mean[modalities].view(-1, 1, CELLS, CHANNELS))
        / (part.norm.running_var[modalities].view(-1, 1, CELLS, CHANNELS) + 1e-5).sqrt(),
    )


def test_precise_statistics_are_the_means_over_the_batches():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = ModalityNorm(CELLS, CHANNELS)

        def forward(self, batch):
            self.norm(batch["values"], batch["modalities"])

    model, loader = Model(), []
    model(dict(zip(("values", "modalities"), clips_of(mean=-50.0), strict=True)))
    for seed in range(3):
        values, modalities = clips_of(seed=seed)
        loader.append(
            {"values": values, "modalities": modalities, "targets": torch.zeros(len(values))}
        )
    update_bn_stats(model, loader, num_iters=3)
    for modality in (0, 1):
        found = [
            statistics_by_hand(batch["values"], batch["modalities"], modality) for batch in loader
        ]
        mean = torch.stack([m for m, _ in found]).mean(dim=0).flatten()
        variance = torch.stack([v for _, v in found]).mean(dim=0).flatten()
        torch.testing.assert_close(model.norm.running_mean[modality], mean)
        torch.testing.assert_close(model.norm.running_var[modality], variance * 12 / 11)
    assert model.norm.momentum == 0.05


def test_averaged_weights_average_the_statistics():
    live = nn.Sequential(ModalityNorm(CELLS, CHANNELS))
    average = WeightAverage(live, 0.5)
    live[0](*clips_of())
    average.update()  # takes over the weights after the first update
    first = state(live[0])
    live[0](*clips_of(seed=1, mean=0.0))
    average.update()
    averaged = average.model[0]
    torch.testing.assert_close(
        averaged.running_mean, (first["running_mean"] + live[0].running_mean) / 2
    )
    assert averaged.num_batches_tracked.tolist() == [2, 2]


def test_the_optimizer_decays_it_as_a_norm():
    cfg = small_cfg("SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.WEIGHT_DECAY_NORM", 0.0)
    model = nn.ModuleDict({"norm": ModalityNorm(CELLS, CHANNELS), "layer": nn.Linear(2, 2)})
    decays = {
        id(p): group["weight_decay"]
        for group in build_optimizer(cfg, model).param_groups
        for p in group["params"]
    }
    assert decays[id(model["norm"].weight)] == 0
    assert decays[id(model["layer"].weight)] == 0.1


# Rank 0 has no infrared clip, so that the counts of the ranks differ.
SHARES = ([0, 2, 4, 6], [1, 3, 5, 7, 8, 9])


def normalize_shares(folder):
    values, modalities = clips_of(count=10)
    rows = SHARES[comm.get_rank()]
    results = {}
    for synchronized in (True, False):
        norm = ModalityNorm(CELLS, CHANNELS, synchronized=synchronized)
        share = values[rows].requires_grad_()
        found = norm(share, modalities[rows])
        found.pow(3).sum().backward()
        average_buffers(norm)
        results[synchronized] = found.detach(), share.grad, norm.running_mean, norm.running_var
    torch.save(results, folder / f"{comm.get_rank()}.pth")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    in_two_processes(normalize_shares, folder)
    return [torch.load(folder / f"{rank}.pth") for rank in (0, 1)]


@pytest.mark.slow
def test_synchronized_statistics_are_those_of_all_ranks_batches(ranks):
    values, modalities = clips_of(count=10)
    norm = ModalityNorm(CELLS, CHANNELS)
    whole = norm(values.requires_grad_(), modalities)
    whole.pow(3).sum().backward()
    for rank, rows in zip(ranks, SHARES, strict=True):
        found, gradient, mean, variance = rank[True]
        torch.testing.assert_close(found, whole[rows].detach(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(gradient, values.grad[rows], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(mean, norm.running_mean)
        torch.testing.assert_close(variance, norm.running_var)


@pytest.mark.slow
def test_statistics_that_are_not_synchronized_are_averaged_over_the_ranks(ranks):
    whole = ModalityNorm(CELLS, CHANNELS)
    whole(*clips_of(count=10))
    means = [rank[False][2] for rank in ranks]
    assert torch.equal(*means)
    assert not torch.allclose(means[0], whole.running_mean)


@pytest.mark.parametrize(("backbone", "gathers"), [("BN", False), ("syncBN", True)])
def test_it_gathers_statistics_where_the_backbone_does(backbone, gathers):
    cfg = small_cfg("MODEL.BACKBONE.NORM", backbone)
    assert ModalityNorm.from_cfg(cfg, 1, 4).synchronized == gathers
    joint = small_cfg("MODEL.TEMPORAL.NORM.STATISTICS", "joint")
    assert ModalityNorm.from_cfg(joint, 1, 4).running_mean.shape == (1, 4)
