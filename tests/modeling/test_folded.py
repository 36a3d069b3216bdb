"""A trained OSNet, folded by torch's own fusion and written node by node as an export does."""

import os
import random
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from fastreid.modeling.backbones.osnet import OSBlock, OSNet
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from plugins.errors import InputError
from plugins.modeling.backbones.folded import module_name, read_osnet, renormalize
from plugins.modeling.backbones.pretrained import read_weights

TOOL = Path(__file__).parents[2] / "tools/import_osnet.py"
WIDTHS = [16, 64, 96, 128]


def images(count=6, seed=1):
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def trained():
    """A network whose norms have statistics and an affine part of their own."""
    torch.manual_seed(0)
    network = OSNet([OSBlock] * 3, [2, 2, 2], WIDTHS, "BN")
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
    with torch.no_grad():
        for seed in range(30):
            network(images(8, seed))
    return network.eval()


def folded(network):
    """(node name, weight, offset or None) of each convolution, norms folded."""
    modules = dict(network.named_modules())
    for name, conv in modules.items():
        if not isinstance(conv, nn.Conv2d):
            continue
        owner, _, own = name.rpartition(".")
        norm = modules.get(f"{owner}.bn")
        weight, bias = conv.weight, conv.bias
        if norm is not None and own != "conv1":  # the first of a light convolution has none
            weight, bias = fuse_conv_bn_weights(
                weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
        parts, path = name.split("."), []
        for part in parts:
            path.append(f"{path[-1]}.{part}" if part.isdigit() else part)
        yield "/" + "/".join(path) + "/Conv", weight, bias


def write(path, nodes):
    """An ONNX file with these convolutions; what lies between them is not read."""
    tensors, operations = [], []
    for number, (name, weight, bias) in enumerate(nodes):
        inputs = ["x"]
        for values in (weight, bias):
            if values is not None:
                inputs.append(f"tensor_{number}_{len(inputs)}")
                array = values.detach().numpy()
                tensors.append(onnx.numpy_helper.from_array(array, inputs[-1]))
        operations.append(onnx.helper.make_node("Conv", inputs, [f"y{number}"], name=name))
    graph = onnx.helper.make_graph(operations, "osnet", [], [], tensors)
    onnx.save(onnx.helper.make_model(graph), path)
    return path


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory):
    return write(tmp_path_factory.mktemp("onnx") / "osnet.onnx", folded(trained))


@pytest.mark.slow
@torch.no_grad()
def test_the_network_of_the_file_is_the_trained_one(trained, file):
    torch.testing.assert_close(read_osnet(file)(images()), trained(images()), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_statistics_of_images_change_nothing_in_evaluation_and_are_those_of_training(file):
    network, batch = read_osnet(file), images(16, seed=5)
    before = network(images())
    renormalize(network, batch, batch_size=5)
    torch.testing.assert_close(network(images()), before, rtol=1e-4, atol=1e-5)
    # Of the same images, the statistics of a batch are the measured ones.
    evaluated = network(batch)
    torch.testing.assert_close(network.train()(batch), evaluated, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_without_statistics_training_mode_destroys_the_features(file):
    network, batch = read_osnet(file), images(16, seed=5)
    evaluated = network(batch)
    assert (network.train()(batch) - evaluated).abs().mean() > 0.1 * evaluated.abs().mean()


@torch.no_grad()
def test_a_channel_that_never_varies_stays_finite(file):
    network = read_osnet(file)
    network.conv1.conv.weight[0] = 0
    before = network(images())
    renormalize(network, images(8, seed=3))
    assert all(value.isfinite().all() for value in network.state_dict().values())
    torch.testing.assert_close(network(images()), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("node", "module"),
    [
        ("/conv1/conv/Conv", "conv1.conv"),
        ("/conv2/conv2.0/conv2b/conv2b.1/conv2/Conv", "conv2.0.conv2b.1.conv2"),
        ("/conv4/conv4.1/gate/fc2_3/Conv", "conv4.1.gate.fc2"),
        ("/conv2/conv2.2/conv2.2.0/conv/Conv", "conv2.2.0.conv"),
    ],
)
def test_a_node_is_named_by_its_module(node, module):
    assert module_name(node) == module


def test_files_of_other_networks_are_refused(trained, tmp_path):
    nodes = list(folded(trained))
    with pytest.raises(InputError, match=r"a\.onnx: 2 of \d+ backbone weights are missing"):
        read_osnet(write(tmp_path / "a.onnx", [n for n in nodes if n[0] != "/conv5/conv/Conv"]))
    more = [*nodes, ("/conv6/conv/Conv", nodes[0][1], nodes[0][2])]
    with pytest.raises(InputError, match=r"2 tensors fit no part, such as conv6\.conv\.weight"):
        read_osnet(write(tmp_path / "b.onnx", more))
    with pytest.raises(InputError, match=r"first convolution is not that of an OSNet"):
        read_osnet(write(tmp_path / "c.onnx", nodes[1:]))
    (tmp_path / "d.onnx").write_bytes(b"no protobuf")
    with pytest.raises(InputError, match=r"d\.onnx: not a readable ONNX file"):
        read_osnet(tmp_path / "d.onnx")


def test_a_file_that_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match=r"pipe\.onnx: not a regular file"):
        read_osnet(tmp_path / "pipe.onnx")


@pytest.mark.slow
def test_damaged_contents_are_one_line_that_names_the_file(file, tmp_path):
    whole, damaged = file.read_bytes(), tmp_path / "damaged.onnx"
    draw = random.Random(0)
    headers = [place for place in range(len(whole)) if whole[place : place + 6] == b"tensor"]
    told = []
    for place in (len(whole) // 2, *draw.choices(headers, k=60)):
        content = bytearray(whole)
        if not told:
            del content[place:]
        else:
            content[place + draw.randrange(-20, 20)] ^= 1 << draw.randrange(8)
        damaged.write_bytes(content)
        try:
            read_osnet(damaged)
        except InputError as error:
            told.append(str(error))
    assert told[0].startswith(f"{damaged}: not a readable ONNX file: ")
    assert len(told) > 20
    assert all(str(damaged) in line and "\n" not in line for line in told)


def test_weights_in_a_file_beside_it_are_read_and_missed_by_name(trained, file, tmp_path):
    model = onnx.load(file)
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="a.data")
    state = read_osnet(tmp_path / "a.onnx").state_dict()
    assert all(map(torch.equal, state.values(), read_osnet(file).state_dict().values()))
    (tmp_path / "a.data").unlink()
    os.mkfifo(tmp_path / "a.data")
    with pytest.raises(InputError, match=r"a\.data: not a regular file"):
        read_osnet(tmp_path / "a.onnx")


def run(*words):
    command = [sys.executable, TOOL, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command_writes_weights_that_a_backbone_takes(trained, file, tmp_path):
    folder = tmp_path / "people"
    (folder / "ann").mkdir(parents=True)
    for number in range(4):
        pixels = torch.randint(256, (40, 20, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(folder / "ann" / f"{number}.png")
    out = tmp_path / "osnet.pth"
    done = run(file, "--images", folder, "--out", out, "--size", 64, 32)
    assert done.returncode == 0, done.stderr
    assert "4 images measured; the largest change of a feature is" in done.stdout
    network = OSNet([OSBlock] * 3, [2, 2, 2], WIDTHS, "BN").eval()
    network.load_state_dict(read_weights(out))
    with torch.no_grad():
        torch.testing.assert_close(network(images()), trained(images()), rtol=1e-3, atol=1e-4)
    empty = run(file, "--images", tmp_path / "none", "--out", out)
    assert empty.returncode == 2
    assert "none: 0 images; expected 2 or more" in empty.stderr
