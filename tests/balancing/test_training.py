"""The generator learns; a stopped training is the same as one that was not."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_processor import Attention

from plugins.balancing.generator import EDMGenerator
from plugins.balancing.network import ConditionalUNet
from plugins.balancing.training import (
    CHECKPOINT,
    LOSSES,
    GeneratorTraining,
    read_generator,
    require_same_training,
    training_set,
)
from plugins.errors import InputError
from tests.helpers.balancing_toys import HEIGHT, SETTINGS, WIDTH, write_photographs

PAIRS = [("ann", "1"), ("ann", "2"), ("bob", "1")]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return write_photographs(tmp_path_factory.mktemp("photographs"), PAIRS)


@pytest.fixture(scope="module")
def trained(photographs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    GeneratorTraining(photographs, SETTINGS, "cpu").run(folder, steps=6, period=100)
    return folder


def flat(tree, prefix=""):
    if isinstance(tree, dict | list | tuple):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {k: v for key, value in pairs for k, v in flat(value, f"{prefix}/{key}").items()}
    return {prefix: tree}


def same_bits(one, two):
    one, two = (flat(torch.load(path, weights_only=True)) for path in (one, two))
    return one.keys() == two.keys() and all(
        torch.equal(one[key], two[key]) if torch.is_tensor(one[key]) else one[key] == two[key]
        for key in one
    )


@pytest.mark.slow
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(photographs, trained, tmp_path):
    for steps in (2, 3, 6):  # a new process each time, as far as the training knows
        torch.manual_seed(steps)
        GeneratorTraining(photographs, SETTINGS, "cpu").run(tmp_path, steps, period=100)
    assert same_bits(tmp_path / CHECKPOINT, trained / CHECKPOINT)
    assert (tmp_path / LOSSES).read_bytes() == (trained / LOSSES).read_bytes()
    assert len((tmp_path / LOSSES).read_text().splitlines()) == 1 + 6


def test_another_seed_is_another_generator(photographs, trained, tmp_path):
    other = SETTINGS.__class__(**SETTINGS.__dict__ | {"seed": 1})
    GeneratorTraining(photographs, other, "cpu").run(tmp_path, steps=6, period=100)
    assert not same_bits(tmp_path / CHECKPOINT, trained / CHECKPOINT)


def test_other_settings_or_images_are_not_resumed(photographs, trained):
    other = SETTINGS.__class__(**SETTINGS.__dict__ | {"batch": 5})
    with pytest.raises(InputError, match="trained with batch 4, now it is 5"):
        GeneratorTraining(photographs, other, "cpu").run(trained, steps=7, period=1)
    with pytest.raises(InputError, match="trained with people"):
        GeneratorTraining(photographs[:2], SETTINGS, "cpu").run(trained, steps=7, period=1)
    moved = [photographs[0]._replace(path="another.png"), *photographs[1:]]
    with pytest.raises(InputError, match="trained with images"):
        GeneratorTraining(moved, SETTINGS, "cpu").run(trained, steps=7, period=1)


def test_a_checkpoint_of_other_settings_than_this_versions_is_refused(trained, tmp_path):
    data = torch.load(trained / CHECKPOINT, weights_only=True)
    del data["settings"]["patch"]
    data["settings"]["heads"] = 4
    torch.save(data, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match=r"generator\.pth: its settings differ .* in heads, patch"):
        read_generator(tmp_path / CHECKPOINT)


@pytest.mark.parametrize("number", [False, True])
def test_a_generator_fits_the_images_that_it_was_trained_with(photographs, trained, number):
    data, path = read_generator(trained / CHECKPOINT), trained / CHECKPOINT
    data["images"] = len(photographs) if number else data["images"]
    require_same_training(data, training_set(photographs), path)
    with pytest.raises(InputError, match=r"generator\.pth: trained with people"):
        require_same_training(data, training_set(photographs[:2]), path)


def test_generated_images_do_not_depend_on_how_many_are_asked_for(trained):
    generator = EDMGenerator(trained / CHECKPOINT, "cpu", seed=3, steps=3)
    many = generator.generate("ann", "2", 5)
    assert many.shape == (5, 3, HEIGHT, WIDTH)
    assert many.dtype == torch.uint8
    few = generator.generate("ann", "2", 2)
    assert (few.int() - many[:2].int()).abs().max() <= 1  # a batch of another size rounds otherwise
    assert not torch.equal(many[0], many[1])
    assert not torch.equal(many, generator.generate("bob", "2", 5))
    assert len(generator.generate("ann", "2", 0)) == 0


def test_a_stranger_is_named(trained):
    with pytest.raises(InputError, match="not trained on person 'ane'; nearest: ann"):
        EDMGenerator(trained / CHECKPOINT, "cpu").generate("ane", "1", 1)
    with pytest.raises(InputError, match="no such file"):
        EDMGenerator(trained / "nothing.pth", "cpu")


def test_a_checkpoint_of_other_layers_is_refused(photographs, trained, tmp_path):
    data = torch.load(trained / CHECKPOINT, weights_only=True)
    data["model"] = {name: weight for name, weight in data["model"].items() if "mid" not in name}
    torch.save(data, tmp_path / CHECKPOINT)
    with pytest.raises(InputError, match=r"generator\.pth: its network has other layers"):
        EDMGenerator(tmp_path / CHECKPOINT, "cpu")
    with pytest.raises(InputError, match=r"generator\.pth: its network has other layers"):
        GeneratorTraining(photographs, SETTINGS, "cpu").run(tmp_path, steps=9, period=1)


@pytest.mark.slow
def test_a_gradient_that_overflows_spoils_nothing(photographs, trained, tmp_path):
    training = GeneratorTraining(photographs, SETTINGS, "cpu")
    handle = training._network.person.weight.register_hook(
        lambda gradient: gradient / 0 if training.step == 3 else gradient
    )
    with pytest.raises(InputError, match=r"gradient is (inf|nan), its loss \d+\.\d+, at step 3"):
        training.run(tmp_path, steps=6, period=1)
    handle.remove()
    GeneratorTraining(photographs, SETTINGS, "cpu").run(tmp_path, steps=6, period=100)
    assert same_bits(tmp_path / CHECKPOINT, trained / CHECKPOINT)


def test_conditions_are_forgotten_separately_and_at_the_rate_asked_for():
    network = ConditionalUNet(3, 2, (8, 4), (8,), 1)
    people, cameras = torch.zeros(20000, dtype=torch.int64), torch.ones(20000, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    told = network.forget(people, cameras, 0.1, generator)
    unknown = torch.stack([told[0] == 3, told[1] == 2]).double()
    assert unknown.mean(dim=1).tolist() == pytest.approx([0.1, 0.1], abs=0.01)
    assert unknown.prod(dim=0).mean().item() == pytest.approx(0.01, abs=0.004)
    assert people.sum() == 0  # not edited in place
    assert torch.equal(network.forget(people, cameras, 0.0, generator)[1], cameras)


@pytest.mark.parametrize(
    ("size", "channels", "patch", "key"),
    [
        ((9, 4), (8, 8), 1, "SIZE"),
        ((8, 6), (8, 8), 2, "SIZE"),
        ((8, 4), (8, 12), 1, "CHANNELS"),
        ((8, 4), (8, 8), 0, "PATCH"),
    ],
)
def test_sizes_that_make_no_network_are_named(size, channels, patch, key):
    with pytest.raises(InputError, match=rf"GENERATOR\.{key}"):
        ConditionalUNet(2, 2, size, channels, 1, patch)


def test_a_network_on_patches_keeps_pixels_at_their_place():
    network = ConditionalUNet(2, 2, (8, 4), (8,), 1, patch=2)
    network.unet = Echo()
    images = torch.rand(3, 3, 8, 4)
    assert torch.equal(network(images, *torch.zeros(3, 3, dtype=torch.int64)), images)
    # A channel of the patches is one corner of each square.
    assert torch.equal(network.unet.seen[:, 1], images[:, 0, ::2, 1::2])


@pytest.mark.slow
def test_what_attention_adds_does_not_grow_with_its_input():
    network = ConditionalUNet(2, 2, (8, 4), (8, 16), 1)
    attentions = [part for part in network.modules() if isinstance(part, Attention)]
    assert len(attentions) == 4  # down, middle, two up
    features = torch.randn((2, 16, 4, 2), generator=torch.Generator().manual_seed(0))
    for attention in attentions:
        added = attention(features) - features
        torch.testing.assert_close(
            attention(1e3 * features) - 1e3 * features, added, atol=1e-3, rtol=0
        )


class Echo(torch.nn.Module):
    def forward(self, images, noise, class_labels):
        self.seen = images
        return SimpleNamespace(sample=images)
