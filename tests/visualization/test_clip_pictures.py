"""Pictures of clips of a real small run: weights, Grad-CAM, perturbations, each number twice."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from plugins.errors import InputError
from plugins.inference import Embedder
from plugins.modeling.temporal import STIG, TemporalAttention
from plugins.modeling.temporal.cells import cell_means
from plugins.visualization import (
    KINDS,
    Options,
    clip_weights,
    evaluate_set,
    grad_cam,
    picture_of_attack,
    picture_of_gradcam,
    picture_of_weights,
    self_attack_delta,
)
from plugins.visualization.clips import (
    choose_clips,
    direction_of,
    first_match,
    network_of,
    read_clips,
    read_training_clips,
)
from plugins.visualization.gradcam import nearest_clip
from plugins.visualization.perturbations import attack_clip, delta_share, signed_change
from plugins.visualization.weights import ClipWeights, block_of, cell_influence, mean_cells
from tests.helpers.run_folders import clip_run, stock_run

EPS = 0.3  # MODEL.SELF_ATTACK.EPS of the small run


@pytest.fixture(scope="module")
def embedder(tmp_path_factory) -> Embedder:
    """Gates of the untrained STIG are opened, or nothing would depend on a cell."""
    stig = {"MODEL__TEMPORAL__STIG__SOURCE": "layer4", "MODEL__TEMPORAL__STIG__COLUMNS": "1"}
    changes = {"MODEL__SELF_ATTACK__KIND": "gradient", **stig}
    embedder = Embedder(clip_run(tmp_path_factory.mktemp("run"), **changes))
    generator = torch.Generator().manual_seed(0)
    part = network_of(embedder).temporal
    with torch.no_grad():
        part.gate_norm.weight += torch.randn(part.gate_norm.weight.shape, generator=generator)
        for norm in (part.norm, part.hidden_norm, part.gate_norm, part.change_norm):
            norm.running_mean += 0.1 * torch.randn(norm.running_mean.shape, generator=generator)
    return embedder


@pytest.fixture(scope="module")
def data(embedder, datasets):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        yield evaluate_set(embedder)


@pytest.mark.slow
def test_gates_are_those_of_the_feature_and_influence_is_that_of_loops(embedder, data):
    network, rows = network_of(embedder), choose_clips(data)
    batch = read_clips(embedder, data, rows)
    found = clip_weights(network, batch)
    part = network.temporal
    assert isinstance(part, STIG)
    with torch.no_grad():
        images, modalities = network.unpack(batch)
        maps = network.backbone.stage_maps(network.stem_maps(images, modalities))
        last, source = (maps[name].unflatten(0, (2, 2)) for name in ("layer4", part.source))
        weighed = part.frame_features(last, modalities, source)[..., : last.shape[2]]
        for index, each in enumerate(found):
            plain = last[index].mean(dim=(-2, -1))
            torch.testing.assert_close(each.gates * plain, weighed[index])
        cells = cell_means(source, part.rows, part.columns)
        for index, each in enumerate(found):
            one, modality = cells[index : index + 1], modalities[index : index + 1]
            before = part.gates(one, modality)
            means = part.norm.running_mean[int(modality)].reshape(part.rows * part.columns, -1)
            for frame in range(2):
                for cell in range(part.rows * part.columns):
                    changed = one.clone()
                    changed[0, frame, cell] = means[cell]
                    change = (part.gates(changed, modality) - before).double()
                    slow = float(change.square().mean().sqrt())
                    row, column = divmod(cell, part.columns)
                    assert float(each.cells[frame, row, column]) == pytest.approx(slow, rel=1e-4)
    assert all(float(each.cells.min()) > 0 for each in found)


def test_a_mean_cell_has_no_influence(embedder):
    part = network_of(embedder).temporal
    cells = mean_cells(part, 1)[None, None].repeat(1, 3, 1, 1)
    with torch.no_grad():
        assert cell_influence(part, cells, torch.tensor([1])).max() < 1e-6  # rounding


@pytest.mark.slow
def test_weights_of_attention_are_those_of_the_feature_and_other_parts_are_refused(tmp_path):
    run = clip_run(tmp_path / "run", MODEL__TEMPORAL__NAME="TemporalAttention")
    network = network_of(Embedder(run))
    assert isinstance(network.temporal, TemporalAttention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        last = network.temporal.score[-1].weight
        last += torch.randn(last.shape, generator=generator)
        batch = {
            "images": 255 * torch.rand(2, 2, 3, 32, 16, generator=generator),
            "modalities": torch.tensor([0, 1]),
        }
        images, modalities = network.unpack(batch)
        maps = network.backbone(
            ((images - network.pixel_mean) / network.pixel_std).flatten(0, 1),
            modalities.repeat_interleave(2),
        ).unflatten(0, (2, 2))
        feature = network.temporal(maps, modalities)
    found = clip_weights(network, batch)
    for clip, each in enumerate(found):
        assert each.cells is None and each.gates.shape == (2, 1)
        assert float(each.gates.mean()) == pytest.approx(1) and abs(each.gates[0] - 1) > 1e-3
        slow = sum(w * m.mean(dim=(1, 2)) for w, m in zip(each.gates, maps[clip], strict=True)) / 2
        torch.testing.assert_close(slow, feature[clip])
    network.temporal = torch.nn.Identity()
    with pytest.raises(InputError, match="is Identity; expected STIG or TemporalAttention"):
        clip_weights(network, batch)


@pytest.mark.parametrize(("gates", "said"), [([1.0, 1.0], False), ([0.9, 1.1], True)])
def test_mean_weights_are_said_where_they_differ_from_one(gates, said):
    data = SimpleNamespace(
        modalities=["visible"],
        items=[SimpleNamespace(pid=7, camid=0)],
        features=SimpleNamespace(name=["a"]),
    )
    found = ClipWeights(torch.tensor(gates)[:, None].repeat(1, 3), None)
    block = block_of(data, 0, torch.zeros(2, 3, 8, 4), found, 1.0, 1.0)
    assert block.heading == "a\nperson 7, camera 0" + "; mean weights 0.90, 1.10" * said


def test_grad_cam_is_that_of_autograd(embedder, data):
    network, row = network_of(embedder), choose_clips(data)[0]
    batch = read_clips(embedder, data, [row, row + 1])
    reference = torch.from_numpy(data.features.features[[3, 5]])
    before = [parameter.requires_grad for parameter in network.parameters()]
    found = grad_cam(network, batch, reference)
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    seen = []
    hook = network.temporal.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    feature = network(batch)
    hook.remove()
    ((maps, _, cells),) = seen  # both (B, T, C, h, w): STIG reads the last maps twice
    for clip in range(2):
        score = F.cosine_similarity(feature[clip], reference[clip], dim=0)
        gradient = sum(torch.autograd.grad(score, [maps, cells], retain_graph=True))
        for frame in range(2):
            slow = sum(
                float(gradient[clip, frame, channel].mean()) * maps[clip, frame, channel].detach()
                for channel in range(maps.shape[2])
            ).clamp_min(0)
            torch.testing.assert_close(found[clip, frame], slow, rtol=1e-3, atol=1e-6)
    assert found.max() > 0


def test_grad_cam_without_captum_or_of_an_unknown_network_is_refused(embedder, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(InputError, match="gradcam needs captum: pip install captum"):
        KINDS["gradcam"].check(embedder, Options())
    monkeypatch.undo()
    KINDS["gradcam"].check(embedder, Options())
    with pytest.raises(InputError, match="the backbone NoneType has no stages that are known"):
        grad_cam(torch.nn.Flatten(), {"images": torch.zeros(1, 3, 8, 8)}, torch.ones(1, 192))


def test_the_nearest_clip_is_that_of_brute_force(embedder, data):
    for row in range(len(data)):
        name, direction = direction_of(data, row)
        assert name == ("I2V" if data.modalities[row] == "infrared" else "V2I")
        feature = data.features.features.astype(np.float64)
        best = min(
            (1 - feature[row] @ feature[item], item)
            for item in direction.trials[0].gallery
            if (data.pids[item], data.camids[item]) != (data.pids[row], data.camids[row])
        )
        found = nearest_clip(data, row)
        assert found.row == best[1] and found.distance == pytest.approx(best[0], abs=1e-6)
        assert found.same == bool(data.pids[row] == data.pids[found.row])


@pytest.mark.slow
def test_an_attacked_clip_stays_in_the_budget_and_ranks_are_of_its_own_features(embedder, data):
    from plugins.attacks import build_attack

    row = choose_clips(data, picks=["best"], count=1)[0]
    attack = build_attack("FNA", embedder.cfg, "--attack")
    found = attack_clip(embedder, data, row, attack)
    change = found.attacked - found.clean
    assert 1 < float(change.abs().max()) <= 8.001
    assert float(found.attacked.min()) >= 0 and float(found.attacked.max()) <= 255
    slow = [
        [[float(change[t, :, y, x].mean()) for x in range(16)] for y in range(32)] for t in range(2)
    ]
    assert signed_change(found.clean, found.attacked) == pytest.approx(np.array(slow), abs=1e-4)
    ranks = []
    for images in (found.clean, found.attacked):
        batch = read_clips(embedder, data, [row])
        with torch.no_grad():
            feature = embedder.model({**batch, "images": images[None]})[0]
        name, direction = direction_of(data, row)
        assert found.direction == name
        near = [
            (float(1 - F.cosine_similarity(feature, torch.tensor(data.features.features[i]), 0)), i)
            for i in direction.trials[0].gallery
            if (data.pids[i], data.camids[i]) != (data.pids[row], data.camids[row])
        ]
        same = [bool(data.pids[item] == data.pids[row]) for _, item in sorted(near)]
        ranks.append(same.index(True) + 1)
        assert first_match(data, row, direction, feature) == ranks[-1]
    assert (found.before, found.after) == tuple(ranks) and found.after >= found.before


def test_delta_is_the_budget_and_leaves_the_network_as_it_was(embedder, data):
    network = network_of(embedder)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [part.training for part in network.modules()]
    batch = read_training_clips(embedder, data, 3, seed=0)
    assert batch["images"].shape[:2] == (6, 2) and int(batch["targets"].max()) < 6
    assert batch["modalities"].tolist() == [0, 1] * 3
    state = torch.get_rng_state()
    found = self_attack_delta(network, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in network.parameters())
    for maps, delta in zip(found.maps, found.delta, strict=True):
        share = delta_share(maps, delta)
        for frame in range(2):
            sizes = [[float(maps[frame, :, y, x].norm()) for x in range(4)] for y in range(8)]
            typical = np.sqrt(np.mean(np.square(sizes)))
            slow = [[float(delta[frame, :, y, x].norm()) / typical for x in range(4)]
                    for y in range(8)]  # fmt: skip
            assert share[frame] == pytest.approx(np.array(slow), rel=1e-4)
            assert np.sqrt(np.mean(share[frame] ** 2)) == pytest.approx(EPS, rel=1e-3)


@pytest.mark.slow
def test_pictures_of_clips_show_what_they_name(embedder, data):
    rows = choose_clips(data, seed=2)
    assert [data.modalities[row] for row in rows] == ["visible", "infrared"]
    assert len({data.items[row].pid for row in rows}) == 1
    names = [data.features.name[row] for row in rows]
    picks = [str(name) for name in names]
    for picture, axes in (
        (picture_of_weights(embedder, data, picks=picks), 2 * (2 + 2 + 1 + 1 + 1)),
        (picture_of_gradcam(embedder, data, picks=picks), 2 * (3 * 2 + 1)),
        (picture_of_attack(embedder, data, picks=picks), 2 * (3 * 2 + 1) + 2 * (2 * 2 + 1)),
    ):
        words = [text.get_text() for text in picture.figure.texts]
        for name in names:
            assert any(word.startswith(f"{name}\n") for word in words)
        assert len(picture.figure.axes) == axes
        assert picture.caption.startswith("2 ")


@pytest.mark.slow
def test_a_stock_network_has_grad_cam_and_attacks_and_no_weights(tmp_path, market, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    embedder = Embedder(stock_run(tmp_path / "run"))
    data = evaluate_set(embedder)
    with pytest.raises(InputError, match="the temporal part of Baseline is none"):
        KINDS["weights"].check(embedder, Options())
    assert picture_of_gradcam(embedder, data).caption.startswith("1 query of Market1501. ")
    picture = picture_of_attack(embedder, data)
    assert picture.caption.endswith("The run's training has no self-attack.")
