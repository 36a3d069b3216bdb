"""Every network that can be a trunk, in every depth that fastreid builds."""

import pytest
import torch
import torchvision
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.errors import InputError
from plugins.modeling.backbones.trunks import (
    KINDS,
    MOBILENET,
    OSNET,
    RESNET,
    STAGES,
    run_stage,
    stage_channels,
)
from plugins.modeling.backbones.two_stream import build_two_stream_backbone
from plugins.modeling.backbones.weight_names import mobilenet_names
from plugins.modeling.meta_arch import SADSTRM
from plugins.registry import BACKBONE
from tests.helpers.small_models import small_batch, small_cfg

ALL = [(kind, depth) for kind in KINDS for depth in kind.channels]
SMALLEST = [(RESNET, "18x"), (MOBILENET, "0.1x"), (OSNET, "x0_25")]
every = pytest.mark.parametrize(("kind", "depth"), ALL, ids=[depth for _, depth in ALL])
each = pytest.mark.parametrize(
    ("kind", "depth"), SMALLEST, ids=[kind.network.__name__ for kind, _ in SMALLEST]
)
FASTREIDS = ("MODEL.BACKBONE.LAST_STRIDE", 2)  # what fastreid builds a MobileNetV2 with
# Height of an image over that of the maps of the stem and of each stage, LAST_STRIDE 1.
REDUCTIONS = {RESNET: (4, 4, 8, 16, 16), MOBILENET: (2, 4, 8, 16, 16), OSNET: (4, 8, 16, 16, 16)}


def trunk_cfg(kind, depth, *opts):
    settings = {"TRUNK": kind.builder, "DEPTH": depth, "FEAT_DIM": kind.channels[depth][-1]}
    pairs = [item for key, value in settings.items() for item in (f"MODEL.BACKBONE.{key}", value)]
    return small_cfg(*pairs, *opts)


def build(kind, depth, *opts, seed=0):
    torch.manual_seed(seed)
    return build_two_stream_backbone(trunk_cfg(kind, depth, *opts))


def plain_network(kind, depth, seed=0):
    """fastreid's own network, uncut."""
    torch.manual_seed(seed)
    return BACKBONE.get(kind.builder)(trunk_cfg(kind, depth))


def images(count=3, height=64, width=32):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


MODALITIES = torch.tensor([1, 0, 1])


@every
@torch.no_grad()
def test_stages_have_the_channels_and_sizes_that_are_told(kind, depth):
    backbone = build(kind, depth).eval()
    told = stage_channels(trunk_cfg(kind, depth))
    stem = backbone.stem(images(), MODALITIES)
    stages = backbone.stage_maps(stem)
    assert list(told) == ["stem", *STAGES]
    assert list(stages) == list(STAGES)
    maps = {"stem": stem, **stages}
    assert {name: each.shape[1] for name, each in maps.items()} == told
    heights = tuple(64 // each.shape[2] for each in maps.values())
    assert heights == REDUCTIONS[kind]
    assert all(each.shape[2] == 2 * each.shape[3] for each in maps.values())


@each
@torch.no_grad()
def test_with_equal_stems_it_is_the_uncut_network(kind, depth):
    opts = FASTREIDS if kind is MOBILENET else ()
    backbone, plain = build(kind, depth, *opts).eval(), plain_network(kind, depth).eval()
    torch.testing.assert_close(backbone(images(), MODALITIES), plain(images()))


@each
@torch.no_grad()
def test_the_last_stage_ends_with_the_maps_of_the_trunk_and_leaves_earlier_maps_alone(kind, depth):
    backbone = build(kind, depth).eval()
    stem = backbone.stem(images(), MODALITIES)
    before = stem.clone()
    stages = backbone.stage_maps(stem)
    kept = {name: maps.clone() for name, maps in stages.items()}
    assert torch.equal(stages["layer4"], backbone.trunk(stem))
    above = backbone.stage_maps(stages["layer2"], first="layer3")
    assert torch.equal(above["layer4"], kept["layer4"])
    assert torch.equal(run_stage(backbone.trunk, "layer1", stem), kept["layer1"])
    assert torch.equal(stem, before)
    assert all(torch.equal(stages[name], kept[name]) for name in STAGES)


@each
def test_names_of_weights_follow_from_those_of_the_network(kind, depth):
    own = set(plain_network(kind, depth).state_dict())
    found = set(build(kind, depth).state_dict())
    stems = {tuple(path.split(".")): path.replace(".", "_") for path in kind.stem}
    expected = set()
    for name in own:
        parts = tuple(name.split("."))
        stem = next((path for path in stems if parts[: len(path)] == path), None)
        if stem is None:
            expected.add(f"trunk.{name}")
        else:
            rest = ".".join((stems[stem], *parts[len(stem) :]))
            expected |= {f"stems.0.{rest}", f"stems.1.{rest}"}
    assert found == expected


def test_weights_of_a_resnet_keep_the_names_that_checkpoints_have():
    names = list(build(RESNET, "18x").state_dict())
    assert names[:3] == ["stems.0.conv1.weight", "stems.0.bn1.weight", "stems.0.bn1.bias"]
    assert "stems.1.conv1.weight" in names
    assert "trunk.layer1.0.conv1.weight" in names
    assert len(names) == 6 + 6 + 114


@each
def test_every_weight_is_reached_by_a_gradient_and_the_modality_chooses_the_stem(kind, depth):
    backbone = build(kind, depth)
    backbone(images(), MODALITIES).square().sum().backward()
    silent = [name for name, p in backbone.named_parameters() if not p.grad.abs().sum() > 0]
    # The gates of the smallest OSNet have one hidden unit, which a ReLU can silence.
    assert [name for name in silent if ".gate." not in name] == []
    backbone.zero_grad()
    backbone(images(), torch.zeros(3).long()).sum().backward()
    assert all(p.grad is None for p in backbone.stems[1].parameters())
    assert all(p.grad is not None for p in backbone.stems[0].parameters())


class TestSharedStem:
    @each
    def test_both_modalities_train_the_one_stem_with_joint_statistics(self, kind, depth):
        opts = FASTREIDS if kind is MOBILENET else ()
        shared = build(kind, depth, "MODEL.BACKBONE.SHARED_STEM", True, *opts)
        plain = plain_network(kind, depth)
        torch.testing.assert_close(shared(images(), MODALITIES), plain(images()))
        norms = [m for m in shared.stems.modules() if isinstance(m, nn.BatchNorm2d)]
        theirs = [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
        torch.testing.assert_close(norms[0].running_mean, theirs[0].running_mean)
        assert norms[0].running_mean.abs().sum() > 0

    def test_it_has_one_stem_where_the_other_has_two(self):
        one = build(RESNET, "18x", "MODEL.BACKBONE.SHARED_STEM", True).state_dict()
        two = build(RESNET, "18x").state_dict()
        assert two.keys() - one.keys() == {name for name in two if name.startswith("stems.1.")}
        assert all(torch.equal(one[name], two[name]) for name in one)

    @pytest.mark.slow
    def test_a_file_with_two_stems_is_refused_by_its_name(self):
        one = build(RESNET, "18x", "MODEL.BACKBONE.SHARED_STEM", True)
        with pytest.raises(InputError, match=r"^a\.pth: it holds a stem for each modality, .*True"):
            one.check_weights(set(build(RESNET, "18x").state_dict()), "a.pth")
        one.check_weights(set(one.state_dict()), "a.pth")


@pytest.mark.parametrize(("stride", "height"), [(1, 4), (2, 2)])
@torch.no_grad()
def test_a_mobilenet_heeds_the_last_stride(stride, height):
    backbone = build(MOBILENET, "0.1x", "MODEL.BACKBONE.LAST_STRIDE", stride).eval()
    assert backbone(images(), MODALITIES).shape[2:] == (height, height // 2)


@each
def test_a_length_of_features_that_does_not_fit_names_the_right_one(kind, depth):
    right = kind.channels[depth][-1]
    cfg = trunk_cfg(kind, depth, "MODEL.BACKBONE.FEAT_DIM", 7)
    with pytest.raises(InputError, match=rf"FEAT_DIM: found 7, but depth {depth} has {right}$"):
        build_two_stream_backbone(cfg)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.network.__name__)
def test_a_depth_of_another_network_is_refused_with_its_own(kind):
    depths = ", ".join(kind.channels).replace(".", r"\.")
    with pytest.raises(InputError, match=rf"DEPTH: no depth 'x1_1'; known: {depths}$"):
        build_two_stream_backbone(
            small_cfg("MODEL.BACKBONE.TRUNK", kind.builder, "MODEL.BACKBONE.DEPTH", "x1_1")
        )


REFUSED = [
    (RESNET, "18x", "WITH_NL", True, r"depth 18x has no non-local blocks; .*50x or 101x"),
    (RESNET, "34x", "WITH_NL", True, r"depth 34x has no non-local blocks"),
    (MOBILENET, "0.1x", "WITH_NL", True, "build_mobilenetv2_backbone ignores it"),
    (MOBILENET, "0.1x", "WITH_IBN", True, "build_mobilenetv2_backbone ignores it"),
    (OSNET, "x0_25", "WITH_NL", True, "build_osnet_backbone ignores it"),
    (OSNET, "x0_25", "WITH_SE", True, "build_osnet_backbone ignores it"),
    (OSNET, "x0_25", "LAST_STRIDE", 2, "the last stage of OSNet has no stride; expected 1"),
]


@pytest.mark.parametrize(("kind", "depth", "key", "value", "message"), REFUSED)
def test_what_a_network_would_be_built_without_is_refused(kind, depth, key, value, message):
    with pytest.raises(InputError, match=rf"^MODEL\.BACKBONE\.{key}: {value}, but .*{message}"):
        build(kind, depth, f"MODEL.BACKBONE.{key}", value)


@torch.no_grad()
def test_an_osnet_takes_instance_norms():
    backbone = build(OSNET, "x0_25", "MODEL.BACKBONE.WITH_IBN", True).eval()
    assert isinstance(backbone.stems[0].conv1.bn, nn.InstanceNorm2d)
    assert backbone(images(), MODALITIES).shape == (3, 128, 4, 2)


@pytest.fixture(scope="module")
def published():
    """torchvision's network with weights and statistics unlike those of any initialization."""
    torch.manual_seed(3)
    network = torchvision.models.mobilenet_v2(weights=None).train()
    with torch.no_grad():
        network(torch.randn(8, 3, 64, 32))
    return network.eval()


def pretrained(kind, depth, path, *opts):
    options = ("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", path)
    return build(kind, depth, *options, *opts)


def save(weights, folder):
    path = folder / "weights.pth"
    torch.save(weights, path)
    return path


def own_names(weights, last="features.18"):
    """The same in the names of the network that fastreid took over."""
    renamed = mobilenet_names(weights)
    return {name.replace("conv.", f"{last}.", 1) if name.startswith("conv.") else name: value
            for name, value in renamed.items()}  # fmt: skip


@pytest.mark.parametrize("names", ["torchvision", "features.18", "conv"])
@torch.no_grad()
def test_a_mobilenet_with_published_weights_is_torchvisions(published, tmp_path, names):
    weights = published.state_dict()
    weights = weights if names == "torchvision" else own_names(weights, names)
    path = save(weights, tmp_path)
    backbone = pretrained(MOBILENET, "1.0x", path, "MODEL.BACKBONE.LAST_STRIDE", 2).eval()
    torch.testing.assert_close(
        backbone(images(), MODALITIES), published.features(images()), rtol=1e-4, atol=1e-4
    )


def test_weights_of_another_width_are_refused(published, tmp_path):
    path = save(published.state_dict(), tmp_path)
    with pytest.raises(InputError, match=r"features\.0\.0\.weight has shape \(32, 3, 3, 3\), but"):
        pretrained(MOBILENET, "0.5x", path)


def test_half_a_mobilenet_is_refused(published, tmp_path):
    half = {n: v for n, v in published.state_dict().items() if not n.startswith("features.17")}
    with pytest.raises(InputError, match=r"backbone weights are missing: features\.17\.conv\.0"):
        pretrained(MOBILENET, "1.0x", save(half, tmp_path))


@torch.no_grad()
def test_an_osnet_takes_the_names_of_deep_person_reid(tmp_path):
    # fastreid took the network over with its names; the file also has a head.
    weights = plain_network(OSNET, "x0_25", seed=5).state_dict()
    head = {"fc.0.weight": torch.zeros(512, 128), "classifier.weight": torch.zeros(9, 512)}
    path = save({f"module.{name}": v for name, v in (weights | head).items()}, tmp_path)
    backbone = pretrained(OSNET, "x0_25", path).eval()
    plain = plain_network(OSNET, "x0_25", seed=5).eval()
    torch.testing.assert_close(backbone(images(), MODALITIES), plain(images()))


def test_published_weights_are_looked_for_where_their_authors_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    weights = plain_network(OSNET, "x0_25", seed=5).state_dict()
    torch.save(weights, tmp_path / "checkpoints" / "osnet_x0_25_imagenet.pth")
    backbone = build(OSNET, "x0_25", "MODEL.BACKBONE.PRETRAIN", True)
    assert torch.equal(backbone.trunk.conv5.conv.weight, weights["conv5.conv.weight"])
    with pytest.raises(InputError, match=r"osnet_x0_5_imagenet\.pth is missing; .*drive\.google"):
        build(OSNET, "x0_5", "MODEL.BACKBONE.PRETRAIN", True)
    with pytest.raises(InputError, match=r"no weights for 0\.5x, only for 1\.0x; set MODEL"):
        build(MOBILENET, "0.5x", "MODEL.BACKBONE.PRETRAIN", True)


def test_the_published_mobilenet_comes_from_the_cache(published, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(published.state_dict(), tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth")
    backbone = build(MOBILENET, "1.0x", "MODEL.BACKBONE.PRETRAIN", True)
    stem = backbone.stems[1].get_submodule("features_0")
    assert torch.equal(stem[0].weight, published.features[0][0].weight)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "temporal"),
    [("learned", "STIG"), ("gradient", "STIG"), ("random", "STIG"), ("style", "TemporalMean")],
)
@each
def test_sadstrm_trains_on_every_trunk(kind, depth, attack, temporal):
    parts = ("MODEL.TEMPORAL.NAME", temporal, "MODEL.TEMPORAL.STIG.SOURCE", "layer3")
    torch.manual_seed(0)
    model = SADSTRM(trunk_cfg(kind, depth, *parts, "MODEL.SELF_ATTACK.KIND", attack))
    batch = small_batch()
    with EventStorage():
        model(batch, turn="attack")
        losses = model(batch, turn="defense")
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        features = model.eval()(batch)
    assert features.shape[0] == 8
    torch.testing.assert_close(features.norm(dim=1), torch.ones(8))


@pytest.mark.slow
def test_non_local_blocks_start_as_the_identity_and_learn():
    backbone = build(RESNET, "50x", "MODEL.BACKBONE.WITH_NL", True)
    block = backbone.trunk.NL_3[0]
    changed = []
    block.register_forward_hook(
        lambda _, inputs, output: changed.append((output - inputs[0]).abs().max().item())
    )
    assert [len(getattr(backbone.trunk, f"NL_{stage}")) for stage in (1, 2, 3, 4)] == [0, 2, 3, 0]
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        backbone(images(4, 32, 16), torch.tensor([0, 1, 0, 1])).square().mean().backward()
        optimizer.step()
    assert changed[0] == 0
    assert changed[-1] > 1e-4
    assert all(layer.weight.grad.abs().sum() > 0 for layer in (block.g, block.theta, block.phi))
