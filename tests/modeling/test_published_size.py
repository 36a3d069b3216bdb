"""configs/VVI/sadstrm.yml at its size (288 x 144, ResNet-50, T = 6): a turn of each player."""

from pathlib import Path

import pytest
import torch
from fastreid.utils.events import EventStorage
from torch import nn

import plugins.modeling  # noqa: F401  (registers what the config names)
from plugins.config import setup_cfg
from plugins.modeling.meta_arch import SADSTRM
from plugins.modeling.self_attack import build_self_attack, relative_norm

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs/VVI/sadstrm.yml"
FRAMES, HEIGHT, WIDTH, PEOPLE = 6, 288, 144, 2
LEARNED = "MODEL.SELF_ATTACK.KIND", "learned", "MODEL.SELF_ATTACK.EPS", 0.3
GRADIENT = "MODEL.SELF_ATTACK.KIND", "gradient", "MODEL.SELF_ATTACK.EPS", 0.03


def read_cfg(*opts):
    # The file's own values but the weights, which are not ours to ship, and the number of people.
    own = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", False]
    return setup_cfg(CONFIG, [*own, "MODEL.HEADS.NUM_CLASSES", PEOPLE, *opts])


@pytest.fixture(scope="module")
def published():
    cfg = read_cfg(*LEARNED)  # the attacker with the most parts; the file's own is the last test's
    assert (cfg.INPUT.CLIP.LENGTH, *cfg.INPUT.SIZE_TRAIN) == (FRAMES, HEIGHT, WIDTH)
    torch.manual_seed(0)
    return SADSTRM(cfg)


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2 * PEOPLE, FRAMES, 3, HEIGHT, WIDTH, generator=generator) * 255
    people = torch.arange(PEOPLE).repeat(2)
    return {
        "images": images,
        "targets": people,
        "camids": torch.zeros(2 * PEOPLE, dtype=torch.long),
        "modalities": torch.arange(2).repeat_interleave(PEOPLE),
    }


def parameters_of(module: nn.Module) -> float:
    """In millions."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def gradients(model: SADSTRM, losses: dict) -> dict[str, torch.Tensor]:
    model.zero_grad()
    assert all(loss.isfinite() for loss in losses.values()), losses
    sum(losses.values()).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_shapes_along_the_way(published, batch):
    trunk, shapes = published.backbone.trunk, {}
    # Their last blocks: fastreid calls block by block, never the whole layer.
    parts = {f"layer{i}": getattr(trunk, f"layer{i}")[-1] for i in range(1, 5)}
    parts["temporal"] = published.temporal
    hooks = [
        part.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: out.shape}))
        for name, part in parts.items()
    ]
    published.eval()
    with torch.no_grad():
        maps = published.stem_maps(batch["images"], batch["modalities"])
        features = published(batch)
    published.train()
    for hook in hooks:
        hook.remove()
    clips = 2 * PEOPLE
    frames = clips * FRAMES
    assert maps.shape == (frames, 64, 72, 36)
    assert shapes == {
        "layer1": (frames, 256, 72, 36),
        "layer2": (frames, 512, 36, 18),
        "layer3": (frames, 1024, 18, 9),
        "layer4": (frames, 2048, 18, 9),
        "temporal": (clips, 2048 + 128),
    }
    assert features.shape == (clips, 2048 + 128)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(clips))


def test_sizes_of_the_parts(published):
    assert parameters_of(published.temporal) == pytest.approx(1.0, abs=0.05)
    assert parameters_of(published.attack) == pytest.approx(0.04, abs=0.005)


def test_one_turn_of_each_player(published, batch):
    attacker = {name for name, _ in published.named_parameters() if name.startswith("attack.")}
    trainable = {name for name, p in published.named_parameters() if p.requires_grad}

    reached = gradients(published, published(batch, turn="attack"))
    assert reached.keys() == attacker
    with EventStorage() as storage:
        defended = gradients(published, published(batch, turn="defense"))
    assert defended.keys() == trainable - attacker
    for name, gradient in (reached | defended).items():
        assert gradient.isfinite().all(), name
    # STIG's gate starts at zero: what lies in front of it waits for the gate's first update.
    guide = {name for name in defended if name.startswith("temporal.guide.")}
    still = {name for name, gradient in (reached | defended).items() if not gradient.any()}
    assert still == guide
    gate = published.temporal.gate_norm.weight
    with torch.no_grad():
        gate.sub_(defended["temporal.gate_norm.weight"])
    # Whether gradients pass the gate depends on no size.
    small = {**batch, "images": batch["images"][:, :2, :, ::2, ::2]}
    defended = gradients(published, published(small, turn="defense"))
    nn.init.zeros_(gate)
    for name in guide:
        assert defended[name].any(), name
    used = storage.latest()["self_attack/relative_norm"][0]
    assert 0 < used <= published.attack.eps


def test_delta_keeps_its_budget_when_the_attacker_has_grown(published, batch):
    frame_modalities = batch["modalities"].repeat_interleave(FRAMES)
    with torch.no_grad():
        maps = published.stem_maps(batch["images"], batch["modalities"])
        for part in published.attack.interference:
            part.mix.weight *= 100
        delta = published.attack(maps, frame_modalities)
        for part in published.attack.interference:
            part.mix.weight /= 100
    norms = [x.flatten(1).norm(dim=1) for x in (delta, maps)]
    torch.testing.assert_close(norms[0], published.attack.eps * norms[1])
    assert relative_norm(delta, maps).item() == pytest.approx(published.attack.eps)


@pytest.mark.parametrize("options", [(), GRADIENT], ids=["of the file", "gradient"])
def test_a_turn_with_an_attack_without_weights(published, batch, options):
    learned, cfg = published.attack, read_cfg(*options)
    if options:  # its budget depends on no size
        batch = {**batch, "images": batch["images"][:, :2, :, ::2, ::2]}
    published.attack = build_self_attack(cfg)
    try:
        attacker = {name for name, _ in published.named_parameters() if name.startswith("attack.")}
        trainable = {name for name, p in published.named_parameters() if p.requires_grad}
        with EventStorage() as storage:
            defended = gradients(published, published(batch, turn="defense"))
    finally:
        published.attack = learned
    assert defended.keys() == trainable - attacker
    assert all(gradient.isfinite().all() for gradient in defended.values())
    used = storage.latest()["self_attack/relative_norm"][0]
    if options:
        assert used == pytest.approx(cfg.MODEL.SELF_ATTACK.EPS, rel=1e-4)
    else:  # a style has no budget in this norm
        assert used > 1e-3
        assert storage.latest()["self_attack/attacked_clips"][0] == 1
