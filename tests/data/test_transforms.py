import itertools
import pickle

import numpy as np
import pytest
import torch
from fastreid.data.transforms import build_transforms
from PIL import Image
from torchvision.transforms import v2

from plugins.config import setup_cfg
from plugins.data.datasets.tracklet import INFRARED, VISIBLE
from plugins.data.loaders import to_device
from plugins.data.transforms import build_clip_transforms, build_erasing
from plugins.errors import InputError

RANDOM_PARTS = ("CROP", "PADDING", "FLIP", "CHANNEL_SWAP", "CJ", "REA")


def config(*enabled, **changes):
    cfg = setup_cfg()
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [32, 16]
    cfg.INPUT.CROP.SIZE = [24, 12]
    for name in enabled:
        cfg.INPUT[name].ENABLED = True
        if "PROB" in cfg.INPUT[name]:
            cfg.INPUT[name].PROB = 1.0
    for name, value in changes.items():
        cfg.INPUT[name] = value
    return cfg


def frame(seed, height=40, width=30):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    pixels = np.array(Image.fromarray(coarse).resize((width, height), Image.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.filterwarnings("ignore:TypedStorage")
@pytest.mark.parametrize("enabled", [(), ("CROP",)])
@pytest.mark.parametrize("size", [(40, 30), (20, 13)])
def test_test_frames_are_those_of_fastreid(enabled, size):
    """fastreid resizes with Pillow, which rounds between its two passes: one gray level."""
    cfg = config(*enabled)
    image = frame(0, *size)
    expected = build_transforms(cfg, is_train=False)(
        Image.fromarray(image.permute(1, 2, 0).numpy())
    )
    found = build_clip_transforms(cfg, is_train=False)([image, image])
    assert found.dtype == torch.uint8
    assert found.shape == (2, *expected.shape)
    assert (found - expected).abs().max() <= 1


def test_bicubic_overshoot_stays_within_0_and_255():
    edges = torch.zeros(3, 9, 9, dtype=torch.uint8)
    edges[:, ::2, ::2] = 255
    found = build_clip_transforms(config(), is_train=False)([edges])
    assert found.min() >= 0
    assert found.max() <= 255


def test_frames_of_different_sizes_are_resized_one_by_one():
    frames = [frame(0, 40, 30), frame(1, 17, 50), frame(2, 1, 1)]
    transform = build_clip_transforms(config(), is_train=False)
    together = transform(frames)
    assert together.shape == (3, 3, 32, 16)
    for image, found in zip(frames, together, strict=True):
        assert torch.equal(transform([image])[0], found)


def sample(cfg, frames, modality=VISIBLE):
    """A clip as a loader gives it: transformed by a worker, then float32 with a box erased."""
    images = build_clip_transforms(cfg, is_train=True)(frames, modality)
    batch = {"images": images[None]}
    if erasing := build_erasing(cfg):
        batch["erased"] = erasing.draw(images, modality)[None]
    return to_device(batch, "cpu")["images"][0]


@pytest.mark.parametrize("part", [*RANDOM_PARTS, "CHANNEL_MIX"])
def test_each_part_draws_once_for_a_whole_clip(part):
    """A clip of equal frames keeps equal frames, and another draw gives another clip."""
    cfg, drawn = config(part), []
    for seed in range(8):
        torch.manual_seed(seed)
        clip = sample(cfg, [frame(0)] * 4)
        assert torch.equal(clip, clip[:1].expand_as(clip))
        assert clip.min() >= 0
        assert clip.max() <= 255
        drawn.append(clip)
    plain = sample(config(), [frame(0)] * 4)
    assert any(clip.shape != plain.shape or not torch.equal(clip, plain) for clip in drawn)
    if part != "FLIP":  # certain flips are all the same
        assert any(not torch.equal(drawn[0], clip) for clip in drawn[1:])


def test_all_parts_together_give_the_training_size():
    cfg = config(*RANDOM_PARTS)
    found = build_clip_transforms(cfg, is_train=True)([frame(0), frame(1)])
    assert found.shape == (2, 3, 32, 16)
    assert found.dtype == torch.uint8


def test_flip_mirrors_left_and_right():
    plain = build_clip_transforms(config(), is_train=True)([frame(0)])
    flipped = build_clip_transforms(config("FLIP"), is_train=True)([frame(0)])
    assert torch.equal(flipped, plain.flip(-1))


def test_padding_moves_the_picture_by_whole_pixels():
    cfg = config("PADDING")
    cfg.INPUT.PADDING.SIZE = 3
    plain = build_clip_transforms(config(), is_train=True)([frame(0)])[0]
    padded = torch.nn.functional.pad(plain, (3, 3, 3, 3))
    windows = [padded[:, y : y + 32, x : x + 16] for y in range(7) for x in range(7)]
    found = build_clip_transforms(cfg, is_train=True)([frame(0)])[0]
    assert sum(torch.equal(found, window) for window in windows) == 1


def test_erasing_fills_one_box_with_the_configured_color():
    cfg = config("REA")
    plain = sample(config(), [frame(0), frame(1)])
    found = sample(cfg, [frame(0), frame(1)])
    erased = (found != plain).any(dim=1)
    rows, columns = torch.nonzero(erased.any(dim=0), as_tuple=True)
    box = found[:, :, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    color = torch.tensor(cfg.INPUT.REA.VALUE).view(1, 3, 1, 1)
    assert torch.allclose(box, color.expand_as(box))


def test_erasing_makes_a_gray_box_in_an_infrared_clip_where_it_makes_a_colored_one():
    cfg = config("REA")
    cfg.INPUT.REA.VALUE = [10.0, 20.0, 60.0]
    plain = sample(config(), [frame(0), frame(1)])
    clips = []
    for modality in (VISIBLE, INFRARED):
        torch.manual_seed(0)
        clips.append(sample(cfg, [frame(0), frame(1)], modality))
    visible, infrared = clips
    erased = (infrared != plain).any(dim=1, keepdim=True).expand_as(plain)
    assert torch.equal(erased, (visible != plain).any(dim=1, keepdim=True).expand_as(plain))
    assert (infrared[erased] == 30).all()
    assert set(visible[erased].tolist()) == {10.0, 20.0, 60.0}


@pytest.mark.parametrize("probability", [0.5, 1.0])
@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_a_clip_is_the_one_that_torchvision_erases_in_float32(probability, modality):
    cfg = config("FLIP", "PADDING", "CJ", "REA")
    cfg.INPUT.REA.PROB = probability
    value = list(cfg.INPUT.REA.VALUE)
    value = [sum(value) / 3] if modality == INFRARED else value
    erasing = v2.RandomErasing(probability, value=value)
    transform = build_clip_transforms(cfg, is_train=True)
    changed = 0
    for seed in range(20):
        torch.manual_seed(seed)
        found, after = sample(cfg, [frame(0), frame(1)], modality), torch.rand(1)
        torch.manual_seed(seed)
        plain = transform([frame(0), frame(1)], modality).float()
        expected, after_expected = erasing(plain), torch.rand(1)
        assert torch.equal(found, expected) and after == after_expected
        changed += not torch.equal(found, plain)
    assert changed > 5


def test_erasing_leaves_the_batch_of_the_worker_as_it_is():
    images = torch.zeros(2, 3, 3, 8, 4, dtype=torch.uint8)
    boxes = torch.tensor([[0.0] * 7, [1, 2, 3, 2, 0.5, 1.5, 2.5]])
    batch = {"images": images, "erased": boxes, "img_paths": ["a", "b"]}
    sent = to_device(batch, "cpu")
    assert sent.keys() == {"images", "img_paths"} and batch.keys() != sent.keys()
    assert not images.any() and not sent["images"][0].any()
    assert sent["images"][1].sum() == 3 * 6 * (0.5 + 1.5 + 2.5)
    assert torch.equal(to_device(sent, "cpu")["images"], sent["images"])


class TestChannelSwap:
    frame = torch.tensor([200, 100, 20], dtype=torch.uint8)[:, None, None].expand(3, 32, 16)

    def orders(self, modality, probability):
        cfg = config("CHANNEL_SWAP")
        cfg.INPUT.CHANNEL_SWAP.PROB = probability
        transform = build_clip_transforms(cfg, is_train=True)
        torch.manual_seed(0)
        clips = [transform([self.frame, self.frame], modality) for _ in range(300)]
        assert all(torch.equal(clip, clip[:1, :, :1, :1].expand_as(clip)) for clip in clips)
        return [tuple(clip[0, :, 0, 0].tolist()) for clip in clips]

    def test_a_visible_clip_takes_all_six_orders_equally_often(self):
        found = self.orders(VISIBLE, 1.0)
        counts = [found.count(order) for order in itertools.permutations((200, 100, 20))]
        assert sum(counts) == len(found)
        assert min(counts) > 30  # 50 of each are expected, with a deviation of 6.5

    def test_half_of_the_clips_are_drawn_for(self):
        changed = sum(order != (200, 100, 20) for order in self.orders(VISIBLE, 0.5))
        assert 95 < changed < 155  # 125 are expected, with a deviation of 8.5

    def test_an_infrared_clip_keeps_the_color_that_its_coding_left(self):
        assert set(self.orders(INFRARED, 1.0)) == {(200, 100, 20)}


def test_disabled_parts_change_nothing():
    train, test = (build_clip_transforms(config(), is_train=train) for train in (True, False))
    assert torch.equal(train([frame(0)]), test([frame(0)]))


@pytest.mark.parametrize("name", ["AUTOAUG", "AUGMIX", "AFFINE", "RPT"])
def test_a_part_that_clips_do_not_have_is_refused_by_its_key(name):
    with pytest.raises(InputError, match=f"INPUT.{name}.ENABLED"):
        build_clip_transforms(config(name), is_train=True)
    build_clip_transforms(config(name), is_train=False)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("CROP", "SCALE", [1.0]),
        ("PADDING", "MODE", "zero"),
        ("FLIP", "PROB", 2.0),
        ("CHANNEL_MIX", "PROB", 1.5),
        ("CHANNEL_SWAP", "PROB", -0.5),
        ("CJ", "BRIGHTNESS", -0.5),
        ("REA", "PROB", -1.0),
        ("REA", "VALUE", [1, 2]),
    ],
)
def test_a_value_that_a_part_cannot_have_is_refused_by_its_key(name, key, value):
    cfg = config(name)
    cfg.INPUT[name][key] = value
    with pytest.raises(InputError, match=f"INPUT.{name}"):
        build_clip_transforms(cfg, is_train=True)


@pytest.mark.parametrize("size", [[256], [0, 128], [1, 2, 3], []])
def test_a_size_that_is_not_height_and_width_is_refused(size):
    for key, is_train in (("SIZE_TRAIN", True), ("SIZE_TEST", False)):
        with pytest.raises(InputError, match=f"INPUT.{key}"):
            build_clip_transforms(config(**{key: size}), is_train)


class TestChannelMix:
    def mixed(self, frames):
        cfg = setup_cfg()
        cfg.INPUT.SIZE_TRAIN = [4, 4]
        cfg.INPUT.CHANNEL_MIX.ENABLED, cfg.INPUT.CHANNEL_MIX.PROB = True, 1.0
        return build_clip_transforms(cfg, is_train=True)(frames)

    def test_a_visible_clip_becomes_gray_with_one_draw_for_all_frames(self):
        frame = torch.tensor([200, 100, 20], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
        clip = self.mixed([frame, frame])
        assert torch.equal(clip, clip[0, 0, 0, 0].expand_as(clip))
        assert 20 <= clip[0, 0, 0, 0] <= 200

    def test_another_draw_weighs_the_colors_otherwise(self):
        frame = torch.tensor([200, 100, 20], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
        assert len({float(self.mixed([frame])[0, 0, 0, 0]) for _ in range(8)}) > 1

    def test_an_infrared_clip_stays_as_it_is(self):
        frame = torch.arange(16, dtype=torch.uint8).view(1, 4, 4).expand(3, 4, 4)
        assert torch.equal(self.mixed([frame])[0], frame)


@pytest.mark.parametrize("is_train", [True, False])
def test_workers_that_are_not_forked_can_be_sent_the_transform(is_train):
    transform = build_clip_transforms(config(*RANDOM_PARTS, "CHANNEL_MIX"), is_train)
    sent = pickle.loads(pickle.dumps(transform))
    clips = []
    for each in (transform, sent):
        torch.manual_seed(0)
        clips.append(each([frame(0), frame(1, 50, 20)]))
    assert torch.equal(*clips)
