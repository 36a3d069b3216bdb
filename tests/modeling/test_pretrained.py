import re
import sys

import pytest
import torch
from fastreid.modeling.backbones import resnet
from torch import nn

from plugins.engine import Trainer
from plugins.errors import InputError
from plugins.modeling.backbones import pretrained
from plugins.modeling.backbones.two_stream import build_two_stream_backbone
from tests.helpers.small_models import small_cfg


@pytest.fixture(scope="module")
def weights():
    """What torchvision publishes: a bare state dict, with the 1000-class layer."""
    from fastreid.modeling.backbones import build_backbone

    torch.manual_seed(7)
    resnet = build_backbone(small_cfg("MODEL.BACKBONE.NAME", "build_resnet_backbone"))
    return {
        **resnet.state_dict(),
        "fc.weight": torch.zeros(1000, 512),
        "fc.bias": torch.zeros(1000),
    }


def build(path, *opts):
    return build_two_stream_backbone(
        small_cfg("MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", path, *opts)
    )


def save(weights, folder):
    path = folder / "resnet18.pth"
    torch.save(weights, path)
    return path


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model", "module.", "checkpoint"])
def test_weights_reach_both_stems_and_the_trunk(weights, tmp_path, wrap):
    content = weights
    if wrap == "module.":
        content = {f"module.{name}": value for name, value in weights.items()}
    elif wrap == "checkpoint":  # of fastreid's Baseline
        parts = {f"backbone.{name}": value for name, value in weights.items() if "fc." not in name}
        content = {"model": {**parts, "heads.weight": torch.zeros(4, 512)}, "epoch": 3}
    elif wrap != "bare":
        content = {wrap: weights, "epoch": 3}
    backbone = build(save(content, tmp_path))
    for stem in backbone.stems:
        assert all(torch.equal(value, weights[name]) for name, value in stem.state_dict().items())
    for name, value in backbone.trunk.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.slow
def test_files_without_counters_and_networks_with_non_local_blocks_load(tmp_path):
    from fastreid.modeling.backbones import build_backbone

    deep = ("MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.FEAT_DIM", 2048)
    torch.manual_seed(7)
    plain = build_backbone(small_cfg("MODEL.BACKBONE.NAME", "build_resnet_backbone", *deep))
    old = {name: v for name, v in plain.state_dict().items() if "num_batches" not in name}
    backbone = build(save(old, tmp_path), "MODEL.BACKBONE.WITH_NL", True, *deep)
    assert len(backbone.trunk.NL_2) == 2
    assert torch.equal(backbone.stems[1].conv1.weight, old["conv1.weight"])
    assert torch.equal(backbone.trunk.layer3[5].conv1.weight, old["layer3.5.conv1.weight"])


def test_missing_weights_are_listed(weights, tmp_path):
    partial = {name: value for name, value in weights.items() if not name.startswith("layer4")}
    missing = sum("layer4" in name and "num_batches" not in name for name in weights)
    with pytest.raises(
        InputError, match=rf"resnet18.pth: {missing} of .* missing: layer4.0.conv1.weight, .*\.\.\."
    ):
        build(save(partial, tmp_path))


def test_weights_of_another_depth_are_refused(weights, tmp_path):
    path = save(weights, tmp_path)
    with pytest.raises(InputError, match="missing"):
        build(path, "MODEL.BACKBONE.DEPTH", "34x")


def test_weights_of_another_shape_are_refused(weights, tmp_path):
    path = save({**weights, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path)
    with pytest.raises(
        InputError, match=r"conv1.weight has shape \(64, 1, 7, 7\).*\(64, 3, 7, 7\)"
    ):
        build(path)


def test_weights_without_a_place_are_reported(weights, tmp_path, caplog):
    with caplog.at_level("WARNING"):
        build(save({**weights, "extra.bias": torch.zeros(1)}, tmp_path))
    assert "1 weights fit no part: extra.bias" in caplog.text


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 cut short"])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"{path}: not a whole file of weights (")):
        build(path)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"lr": 0.1}, {"model": {"lr": 0.1}}])
def test_foreign_files_are_refused(tmp_path, content):
    with pytest.raises(InputError, match="expected tensors by name"):
        build(save(content, tmp_path))


def test_files_that_hold_code_are_not_run(tmp_path):
    path = tmp_path / "object.pth"
    torch.save({"model": nn.Linear(1, 1)}, path)
    with pytest.raises(InputError, match=r"holds torch\.nn.*Linear, which is not read, for safety"):
        build(path)


def test_wrong_path_is_named(tmp_path):
    with pytest.raises(InputError, match=r"PRETRAIN_PATH .*none.pth: no such file"):
        build(tmp_path / "none.pth")


@pytest.fixture
def stock(monkeypatch):
    """Builds fastreid's Baseline on its own backbone with the weights of a file."""

    def build_stock(path):
        names = ["MODEL.META_ARCHITECTURE", "Baseline", "MODEL.BACKBONE.NAME"]
        weights = ["MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", path]
        return Trainer.build_model(small_cfg(*names, "build_resnet_backbone", *weights))

    return build_stock


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [None, "state_dict"])
def test_fastreids_own_models_take_the_same_files(stock, weights, tmp_path, wrap):
    model = stock(save(weights if wrap is None else {wrap: weights}, tmp_path))
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_files_that_fastreids_own_models_would_load_in_part_are_refused(stock, weights, tmp_path):
    half = {name: value for name, value in weights.items() if "layer4" not in name}
    with pytest.raises(InputError, match=r"resnet18\.pth: \d+ of 120 backbone weights are missing"):
        stock(save(half, tmp_path))


def test_weights_that_fastreids_own_models_do_not_find_are_one_line(stock, monkeypatch):
    with pytest.raises(
        InputError, match=r"^MODEL\.BACKBONE\.PRETRAIN_PATH nowhere\.pth: no such file$"
    ):
        stock("nowhere.pth")

    def offline(*_):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(resnet, "init_pretrained_weights", offline)
    with pytest.raises(InputError, match=r"^MODEL\.BACKBONE\.PRETRAIN: no route to host; put it"):
        stock("")


def test_without_gdown_a_user_is_told_to_install_it(stock, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(InputError, match=r"^MODEL\.BACKBONE\.PRETRAIN: .* pip install gdown, or"):
        stock("")


def test_published_weights_are_taken_from_fastreids_cache(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / "resnet18-5c106cde.pth")
    backbone = build("")
    assert torch.equal(backbone.stems[1].conv1.weight, weights["conv1.weight"])


def test_weights_that_cannot_be_fetched_say_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    nowhere = (tmp_path / "resnet18-00000000.pth").as_uri()
    with pytest.raises(InputError) as error:
        pretrained.fetch(nowhere)
    message = str(error.value)
    assert str(tmp_path / "checkpoints" / "resnet18-00000000.pth") in message
    assert "set MODEL.BACKBONE.PRETRAIN_PATH, or MODEL.BACKBONE.PRETRAIN False" in message
    assert not list((tmp_path / "checkpoints").iterdir())


def test_weights_are_fetched_into_the_cache(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    source = save(weights, tmp_path)
    path = pretrained.fetch(source.as_uri())
    assert path == tmp_path / "home" / "checkpoints" / "resnet18.pth"
    assert path.read_bytes() == source.read_bytes()


@pytest.mark.slow
def test_a_network_without_published_weights_names_those_that_have_some():
    cfg = small_cfg("MODEL.BACKBONE.WITH_SE", True)
    with pytest.raises(InputError, match=r"no weights for se_18x, only for 18x, .*PRETRAIN_PATH"):
        pretrained.published_url(cfg)
    ibn = small_cfg("MODEL.BACKBONE.WITH_IBN", True)
    assert "resnet18_ibn_a" in pretrained.published_url(ibn)
