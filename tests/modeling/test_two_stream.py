import pytest
import torch

from plugins.errors import InputError
from plugins.modeling.backbones.two_stream import build_two_stream_backbone, by_modality
from tests.helpers.small_models import small_cfg


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    built = build_two_stream_backbone(small_cfg()).eval()
    with torch.no_grad():  # unlike stems, so that routing shows
        built.stems[1].conv1.weight.mul_(-1)
    return built


def images(count, height=64, width=32):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_stem_quarters_and_trunk_sixteenths_the_size(backbone):
    frames, modalities = images(2), torch.tensor([0, 1])
    assert backbone.stem(frames, modalities).shape == (2, 64, 16, 8)
    assert backbone(frames, modalities).shape == (2, 512, 4, 2)


@torch.no_grad()
def test_stem_at_the_published_size_has_the_published_shape(backbone):
    assert backbone.stem(images(1, 288, 144), torch.tensor([1])).shape == (1, 64, 72, 36)


@pytest.mark.slow
@torch.no_grad()
def test_bottleneck_depth_with_every_option_runs():
    # NL, SE and IBN are fastreid's: what is promised is that its forward is still in charge.
    cfg = small_cfg(
        "MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.FEAT_DIM", 2048,
        "MODEL.BACKBONE.WITH_NL", True, "MODEL.BACKBONE.WITH_SE", True,
        "MODEL.BACKBONE.WITH_IBN", True,
    )  # fmt: skip
    backbone = build_two_stream_backbone(cfg).eval()
    called = []
    backbone.trunk.NL_2[0].register_forward_hook(lambda *_: called.append("NL_2"))
    assert backbone(images(2), torch.tensor([1, 0])).shape == (2, 2048, 4, 2)
    assert called == ["NL_2"]

    for module in backbone.modules():  # non-local blocks start as the identity
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)
    maps = torch.randn(2, 64, 8, 4)
    stages = backbone.stage_maps(maps)
    assert list(stages) == ["layer1", "layer2", "layer3", "layer4"]
    torch.testing.assert_close(stages["layer4"], backbone.trunk(maps), rtol=0, atol=0)
    above = backbone.stage_maps(stages["layer2"], first="layer3")
    assert list(above) == ["layer3", "layer4"]
    assert torch.equal(above["layer4"], stages["layer4"])
    assert list(backbone.stage_maps(maps, last="layer2")) == ["layer1", "layer2"]


@torch.no_grad()
def test_two_stream_equals_the_uncut_resnet_when_stems_are_equal():
    from fastreid.modeling.backbones import build_backbone

    cfg = small_cfg("MODEL.BACKBONE.NAME", "build_resnet_backbone")
    torch.manual_seed(5)
    plain = build_backbone(cfg).eval()
    torch.manual_seed(5)
    ours = build_two_stream_backbone(cfg).eval()
    frames = images(3)
    torch.testing.assert_close(ours(frames, torch.tensor([1, 0, 1])), plain(frames))


@torch.no_grad()
@pytest.mark.parametrize("modalities", [[0, 1, 1, 0], [1, 0, 0, 1], [0] * 4, [1] * 4])
def test_each_row_goes_through_the_stem_of_its_modality_and_keeps_its_place(backbone, modalities):
    frames = images(4)
    routed = backbone.stem(frames, torch.tensor(modalities))
    one_by_one = [backbone.stems[m](frames[i : i + 1]) for i, m in enumerate(modalities)]
    torch.testing.assert_close(routed, torch.cat(one_by_one))


def test_a_stem_without_rows_is_untouched(backbone):
    backbone.train()
    before = backbone.stems[1].bn1.running_mean.clone()
    backbone.zero_grad()
    backbone.stem(images(2), torch.tensor([0, 0])).sum().backward()
    backbone.eval()
    assert torch.equal(backbone.stems[1].bn1.running_mean, before)
    assert backbone.stems[1].conv1.weight.grad is None
    assert backbone.stems[0].conv1.weight.grad is not None


def test_trunk_leaves_the_stem_maps_unchanged(backbone):
    # The ResNet adds and rectifies in place; the self-attack reads the maps afterwards.
    maps = torch.rand(2, 64, 16, 8)
    before = maps.clone()
    with torch.no_grad():
        backbone.trunk(maps)
    assert torch.equal(maps, before)


def test_rows_of_no_modality_are_refused():
    with pytest.raises(AssertionError, match=r"\[0, 2\]"):
        by_modality(torch.nn.ModuleList([torch.nn.Identity()] * 2), images(2), torch.tensor([0, 2]))


def test_both_stems_start_equal_and_share_nothing():
    backbone = build_two_stream_backbone(small_cfg())
    visible, infrared = (dict(stem.named_parameters()) for stem in backbone.stems)
    assert list(visible) == ["conv1.weight", "bn1.weight", "bn1.bias"]
    for name in visible:
        assert torch.equal(visible[name], infrared[name])
        assert visible[name].data_ptr() != infrared[name].data_ptr()


@pytest.mark.parametrize(("depth", "right"), [("18x", 512), ("34x", 512), ("50x", 2048)])
def test_feat_dim_that_does_not_fit_names_the_right_number(depth, right):
    cfg = small_cfg("MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.FEAT_DIM", 1024)
    with pytest.raises(InputError, match=rf"FEAT_DIM: found 1024, but depth {depth} has {right}"):
        build_two_stream_backbone(cfg)


@pytest.mark.slow
def test_unknown_depth_and_trunk_list_what_is_known():
    with pytest.raises(InputError, match=r"DEPTH: no depth '20x'; known: 18x, 34x, 50x, 101x"):
        build_two_stream_backbone(small_cfg("MODEL.BACKBONE.DEPTH", "20x"))
    with pytest.raises(InputError, match=r"TRUNK: no BACKBONE .*build_resnet_backbone"):
        build_two_stream_backbone(small_cfg("MODEL.BACKBONE.TRUNK", "build_resnet"))
    resnest = ("MODEL.BACKBONE.TRUNK", "build_resnest_backbone", "MODEL.BACKBONE.DEPTH", "50x")
    with pytest.raises(InputError, match=r"builds a ResNeSt; expected a fastreid ResNet"):
        build_two_stream_backbone(small_cfg(*resnest))
