import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from plugins.config import setup_cfg
from plugins.data import build_test_loader, build_train_loader
from plugins.data.corruptions import KINDS, SEVERITIES, STRENGTHS, Corruption
from plugins.data.datasets.tracklet import INFRARED, VISIBLE
from plugins.data.frame_cache.packing import pack_config
from plugins.data.frames import read_frame, resize_frame
from plugins.errors import InputError
from plugins.evaluation.views import options_suffix
from plugins.evaluation.vvi_evaluator import VVIEvaluator
from plugins.synthetic import SyntheticSettings
from plugins.synthetic.frame import render_walk
from plugins.synthetic.plan import Walk

SIZE = (64, 32)


def picture(modality=VISIBLE):
    """(3, 64, 32) uint8: a walker, with the statistics of the bench's frames."""
    settings = SyntheticSettings(height=SIZE[0], width=SIZE[1])
    walk = Walk(501, modality, 3, number=0, frames=12, reverse=False, light=0.3)
    return torch.from_numpy(np.array(render_walk(settings, walk)[4])).permute(2, 0, 1)


def corrupted(kind, severity, frame, path="/data/a.jpg", seed=0):
    return Corruption(kind, severity, range(1), SIZE, "/data", seed)(path, frame)


def gap(one, other):
    return (one.int() - other.int()).abs().float().mean().item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modality", [VISIBLE, INFRARED])
def test_the_severer_the_further_from_the_clean_frame(kind, modality):
    frame = picture(modality)
    kept = frame.clone()
    gaps = [gap(corrupted(kind, severity, frame), frame) for severity in SEVERITIES]
    assert gaps == sorted(gaps) and gaps[0] > 0 and gaps[-1] > 4
    assert torch.equal(frame, kept)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gray_frame_stays_gray_and_keeps_its_form(kind):
    frame = corrupted(kind, 3, picture(INFRARED))
    assert frame.shape == (3, *SIZE) and frame.dtype == torch.uint8
    assert (frame == frame[:1]).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_is_gaussian_of_the_deviation_told(severity):
    frame = torch.full((3, *SIZE), 128, dtype=torch.uint8)
    frame[0] += 1  # not gray: each channel has noise of its own
    noise = corrupted("noise", severity, frame).double() - frame
    deviation = 255 * STRENGTHS["noise"][severity - 1]
    assert abs(noise.mean()) < 0.05 * deviation
    assert (noise.abs() < deviation).double().mean() == pytest.approx(0.683, abs=0.03)
    channels = torch.corrcoef(noise.flatten(1))
    assert (channels - torch.eye(3)).abs().max() < 0.1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_blur_is_the_one_of_torchvision(severity):
    frame, sigma = picture(), 64 * STRENGTHS["blur"][severity - 1]
    padded = torch.nn.functional.pad(frame.double(), [15] * 4, mode="replicate")
    expected = v2.functional.gaussian_blur(padded, [31, 31], [sigma, sigma])[:, 15:-15, 15:-15]
    assert (corrupted("blur", severity, frame) - expected).abs().max() <= 1


def test_jpeg_is_what_a_file_of_that_quality_holds(tmp_path):
    frame = picture()
    Image.fromarray(frame.permute(1, 2, 0).numpy()).save(tmp_path / "a.jpg", quality=15)
    assert torch.equal(corrupted("jpeg", 4, frame), read_frame(str(tmp_path / "a.jpg")))


def test_gamma_is_a_tone_curve():
    frame = torch.arange(256, dtype=torch.uint8).repeat(3, 8, 1)
    found = Corruption("gamma", 2, range(1), (8, 256), "/data")("/data/a.jpg", frame)
    expected = [round(255 * (level / 255) ** 1.5) for level in range(256)]
    assert found[0, 0].tolist() == expected


def test_noise_depends_on_the_path_below_the_root_and_on_the_seed():
    frame = picture()
    first = corrupted("noise", 2, frame)
    assert torch.equal(corrupted("noise", 2, frame), first)
    elsewhere = Corruption("noise", 2, range(1), SIZE, "/other/place")("/other/place/a.jpg", frame)
    assert torch.equal(elsewhere, first)
    assert not torch.equal(corrupted("noise", 2, frame, path="/data/b.jpg"), first)
    assert not torch.equal(corrupted("noise", 2, frame, seed=1), first)


def test_a_frame_is_corrupted_at_the_size_of_the_input():
    large = resize_frame(picture(), (128, 64))
    small = resize_frame(large, SIZE)
    for kind in KINDS:
        assert torch.equal(corrupted(kind, 3, large), corrupted(kind, 3, small))


# ---- in the loaders ----------------------------------------------------------------------------


def asked(cfg, kind="noise", items="all"):
    cfg.TEST.CORRUPTION.KIND, cfg.TEST.CORRUPTION.ITEMS = kind, items
    cfg.TEST.CORRUPTION.SEVERITY = 5  # of pictures 16 pixels high
    return cfg


def samples_of(cfg, name="HITSZVCM"):
    """Each test sample's modality and images."""
    loader, _ = build_test_loader(cfg, name)
    return [
        (modality, images)
        for batch in loader
        for modality, images in zip(batch["modalities"].tolist(), batch["images"], strict=True)
    ]


@pytest.mark.parametrize("items", ["all", "visible", "infrared"])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_items_asked_for_are_corrupted(cfg, kind, items):
    clean, found = samples_of(cfg), samples_of(asked(cfg, kind, items))
    for (modality, before), (_, after) in zip(clean, found, strict=True):
        hit = items in ("all", ("visible", "infrared")[modality])
        assert torch.equal(before, after) != hit


def test_training_and_the_default_see_clean_frames(cfg):
    clean, first = samples_of(cfg), next(iter(build_train_loader(cfg)))
    corrupt = asked(cfg)
    assert torch.equal(next(iter(build_train_loader(corrupt)))["images"], first["images"])
    for (_, before), (_, after) in zip(clean, samples_of(asked(cfg, "none")), strict=True):
        assert torch.equal(before, after)


@pytest.mark.slow
def test_workers_batches_clips_and_a_frame_cache_change_nothing(cfg, tmp_path):
    alone = samples_of(asked(cfg))
    cfg.DATALOADER.NUM_WORKERS, cfg.TEST.IMS_PER_BATCH = 2, 3
    pack_config(cfg, str(tmp_path / "cache"), workers=0)
    cfg.DATALOADER.FRAME_CACHE = str(tmp_path / "cache")
    for (_, one), (_, other) in zip(alone, samples_of(cfg), strict=True):
        assert torch.equal(one, other)
    cfg.TEST.CLIPS = 0  # every frame
    seen = {}
    for batch in build_test_loader(cfg, "HITSZVCM")[0]:
        for paths, images in zip(batch["img_paths"], batch["images"], strict=True):
            for path, image in zip(paths, images, strict=True):
                assert torch.equal(seen.setdefault(path, image), image)


@pytest.mark.parametrize("items", ["query", "gallery"])
def test_lists_that_change_places_are_refused(cfg, items):
    with pytest.raises(InputError, match=f"ITEMS: '{items}', but in V2I .*expected all, visible"):
        build_test_loader(asked(cfg, items=items), "HITSZVCM")


@pytest.mark.parametrize("items", ["query", "gallery"])
def test_query_or_gallery_of_a_set_with_a_list_of_each(cfg, market, monkeypatch, items):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    cfg.DATASETS.TESTS = ("Market1501",)
    _, data = build_test_loader(cfg, "Market1501")
    clean, found = samples_of(cfg, "Market1501"), samples_of(asked(cfg, items=items), "Market1501")
    changed = [not torch.equal(a, b) for (_, a), (_, b) in zip(clean, found, strict=True)]
    assert changed == [(row < len(data.query)) == (items == "query") for row in range(len(clean))]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("KIND", "nois", "TEST.CORRUPTION.KIND: 'nois'; expected none, noise, .*; nearest: noise"),
        ("ITEMS", "infra", "TEST.CORRUPTION.ITEMS: 'infra'; expected .*; nearest: infrared"),
        ("SEVERITY", 6, "TEST.CORRUPTION.SEVERITY: 6; expected 1 to 5"),
        ("SEED", -1, "TEST.CORRUPTION.SEED: -1; expected 0 or more"),
    ],
)
def test_a_wrong_value_is_named_before_the_data_set_is_read(cfg, monkeypatch, key, value, message):
    monkeypatch.setenv("FASTREID_DATASETS", "nowhere")
    cfg.TEST.CORRUPTION[key] = value
    with pytest.raises(InputError, match=message):
        build_test_loader(cfg, "HITSZVCM")


def test_attacked_images_of_corrupted_ones_are_not_saved(cfg):
    asked(cfg).ATTACK.SAVE_IMAGES = "folder"
    with pytest.raises(InputError, match=r"ATTACK.SAVE_IMAGES: folder; expected none"):
        build_test_loader(cfg, "HITSZVCM")


@pytest.mark.slow
def test_the_name_of_a_result_says_what_was_corrupted(cfg):
    options = ["TEST.CORRUPTION.KIND", "blur", "TEST.CORRUPTION.SEVERITY", "2", "TEST.CLIPS", "3"]
    assert options_suffix(setup_cfg("", options)) == "+clips=3+blur=2"
    asked(cfg, items="infrared")
    _, data = build_test_loader(cfg, "HITSZVCM")
    assert VVIEvaluator(cfg, data).row_names() == ["I2V+noise=5-infrared", "V2I+noise=5-infrared"]
