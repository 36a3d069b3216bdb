"""Mixed precision on a CPU computes what float32 computes, up to rounding."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.modeling.precision import SmallConv2d, compute_small_convolutions

ROUNDING = 0.02  # bfloat16 keeps 8 bits; the rest is the sum over a window


def error(found: Tensor | None, expected: Tensor | None) -> float:
    """Return the largest difference in shares of the largest expected value; inf for a NaN."""
    assert found is not None and expected is not None
    difference = (found.float() - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
    return float(difference.nan_to_num(torch.inf))


def spoil(numel: int) -> None:
    """Fill memory that is free again with NaN, which a read past an input finds."""
    torch.full((numel,), torch.nan)


def errors(conv: nn.Conv2d, images: Tensor, generator: torch.Generator) -> list[float]:
    """Compare output, gradient of the input and gradient of the weight with float32's."""
    results = []
    for enabled in (False, True):
        leaf = images.clone().requires_grad_(True)
        conv.zero_grad()
        spoil(4 * images.numel())
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = conv(leaf)
        if not enabled:
            upstream = torch.randn(output.shape, generator=generator).bfloat16().float()
        spoil(4 * images.numel())
        output.float().backward(upstream)
        results.append((output.detach(), leaf.grad, conv.weight.grad.clone()))
    return [error(found, expected) for expected, found in zip(*results, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolutions_are_right_at_every_size_of_the_output(layout, groups):
    generator = torch.Generator().manual_seed(0)
    wrong = {}
    sizes = itertools.product((4, 16), range(1, 11), (3, 7), (1, 2, 3), (False, True))
    for height, width, kernel, stride, padded in sizes:
        padding = kernel // 2 if padded else 0
        if min(height, width) + 2 * padding < kernel:
            continue
        conv = nn.Conv2d(64, 64, kernel, stride, padding, groups=groups, bias=False)
        conv.weight.data = torch.randn(conv.weight.shape, generator=generator).bfloat16().float()
        compute_small_convolutions(conv)
        conv.to(memory_format=layout)
        shape = (16, 64, height, width)
        images = torch.randn(shape, generator=generator).relu().bfloat16().float()
        found = errors(conv, images.to(memory_format=layout), generator)
        if max(found) > ROUNDING:
            wrong[height, width, kernel, stride, padding] = found
    assert not wrong


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": (3, 1), "padding": (1, 0), "bias": False},
        {"kernel_size": (1, 2), "stride": (2, 1)},
        {"kernel_size": 3, "padding": 2, "dilation": (2, 3)},
        {"kernel_size": 2, "stride": (2, 3), "padding": 1, "groups": 2},
    ],
)
def test_a_small_convolution_has_all_settings(settings):
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(8, 4, **settings)
    images = torch.randn(5, 8, 4, 3, generator=generator)
    expected = conv(images)
    compute_small_convolutions(conv)
    assert type(conv) is SmallConv2d
    assert torch.equal(conv(images).detach(), expected.detach())  # in float32 nothing changes
    with torch.autocast("cpu", torch.bfloat16):
        found = conv(images)
    assert found.shape == expected.shape
    assert found.dtype == torch.bfloat16
    assert error(found.detach(), expected.detach()) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("last_stride", [1, 2])
def test_every_convolution_of_a_training_in_bfloat16_is_right(last_stride):
    options = ["MODEL.BACKBONE.LAST_STRIDE", last_stride, "MODEL.BACKBONE.PRETRAIN", False]
    options += ["SOLVER.AMP.ENABLED", True, "MODEL.HEADS.NUM_CLASSES", 4, "MODEL.DEVICE", "cpu"]
    options += ["MODEL.TEMPORAL.STIG.STRIPES", 2]
    cfg = setup_cfg("VVI/synthetic/sadstrm.yml", [str(option) for option in options])
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    found: dict[str, float] = {}

    def compare(name: str):
        def hook(module: nn.Conv2d, inputs: tuple[Tensor], output: Tensor) -> None:
            with torch.autocast("cpu", enabled=False):
                weight = module.weight.bfloat16().float()
                images = inputs[0].bfloat16().float()
                expected = nn.functional.conv2d(
                    images, weight, None, module.stride, module.padding, module.dilation
                )
            found[name] = error(output.detach(), expected.detach())

        return hook

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.bias is None:
            module.register_forward_hook(compare(name))
    numbers = torch.arange(8)
    batch = {
        "images": 255 * torch.rand(8, cfg.INPUT.CLIP.LENGTH, 3, *cfg.INPUT.SIZE_TRAIN),
        "targets": numbers // 4,
        "camids": numbers % 4,
        "modalities": numbers % 2,
    }
    images, labels = model.unpack_labeled(batch)
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.stem_maps(images, labels.modalities)
        spoil(10**7)
        model.labeled_outputs(maps, labels)
    assert len(found) > 15
    assert {name: error for name, error in found.items() if error > ROUNDING} == {}
