import pytest
import torch
from fastreid.layers.pooling import GeneralizedMeanPoolingP

from plugins.errors import InputError
from plugins.modeling.pooling import GeMPooling, MaxPooling, MeanPooling, build_pooling
from tests.helpers.small_models import maps_of, small_cfg

KINDS = {"mean": MeanPooling, "gem": GeMPooling, "max": MaxPooling}


def build(kind, *opts):
    return build_pooling(small_cfg("MODEL.SPATIAL_POOLING.KIND", kind, *opts))


def trunk_maps(**sizes):
    """Not negative, as the trunk's last ReLU leaves them; some channels of a frame are silent."""
    return maps_of(**sizes).relu()


@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_a_loop_over_the_places_of_a_map(kind):
    maps, pooling = trunk_maps(), build(kind)
    by_hand = {
        "mean": lambda x: sum(x) / len(x),
        "gem": lambda x: (sum(max(v, 1e-6) ** 3 for v in x) / len(x)) ** (1 / 3),
        "max": max,
    }[kind]
    found = pooling(maps)
    assert type(pooling) is KINDS[kind]
    assert found.shape == maps.shape[:3]
    for clip, frame, channel in ((0, 0, 0), (0, 2, 5), (1, 1, 7)):
        expected = by_hand(maps[clip, frame, channel].flatten().tolist())
        assert found[clip, frame, channel].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_gem_is_fastreids_where_that_does_not_overflow():
    maps = trunk_maps()
    theirs = GeneralizedMeanPoolingP()(maps.flatten(0, 1))[..., 0, 0]
    torch.testing.assert_close(build("gem")(maps).flatten(0, 1), theirs)


def test_p_decides_between_the_mean_and_the_maximum_and_is_learned():
    maps = trunk_maps().requires_grad_()
    p = ("MODEL.SPATIAL_POOLING.P",)
    torch.testing.assert_close(build("gem", *p, 1.0)(maps), build("mean")(maps), atol=1e-5, rtol=0)
    torch.testing.assert_close(build("gem", *p, 100.0)(maps), build("max")(maps), rtol=0.03, atol=0)
    pooling = build("gem")
    assert pooling.p.item() == 3
    pooling(maps).sum().backward()
    assert pooling.p.grad.item() > 0
    assert maps.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_maps_give_float32_features_under_autocast(kind):
    maps, pooling = trunk_maps().bfloat16(), build(kind)
    with torch.autocast("cpu", torch.bfloat16):
        found = pooling(maps)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pooling(maps.float()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_one_place_is_its_feature(kind):
    maps = trunk_maps(height=1, width=1) + 0.1
    torch.testing.assert_close(build(kind)(maps), maps[..., 0, 0])


@pytest.mark.parametrize("p", [0.5, 101.0])
def test_p_outside_its_range_is_refused(p):
    with pytest.raises(InputError, match=rf"POOLING\.P: {p}; expected 1 to 100"):
        build("gem", "MODEL.SPATIAL_POOLING.P", p)


@pytest.mark.slow
def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"POOLING\.KIND: 'avg'; expected mean, gem or max"):
        build("avg")
