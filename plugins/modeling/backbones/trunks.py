"""Describe where fastreid's networks are cut: a stem, one per modality or shared, and four stages.

The stages bear the names of a ResNet's in every network, so that a setting such as the source of a
temporal part means a similar depth everywhere. Channels of the widest network and share of the
image's height:

| network     | depths       | stem     | layer1    | layer2    | layer3    | layer4            |
|-------------|--------------|----------|-----------|-----------|-----------|-------------------|
| ResNet      | 18x to 101x  | 64, 1/4  | 256, 1/4  | 512, 1/8  | 1024, 1/16| 2048, 1/16 or 1/32|
| MobileNetV2 | 0.1x to 1.0x | 32, 1/2  | 24, 1/4   | 32, 1/8   | 96, 1/16  | 1280, 1/16 or 1/32|
| OSNet       | x0_25 to x1_0| 64, 1/4  | 256, 1/8  | 384, 1/16 | 512, 1/16 | 512, 1/16         |

Legend: N frames, h x w the size of a map.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fastreid.config import CfgNode
from fastreid.modeling.backbones.mobilenet import MobileNetV2
from fastreid.modeling.backbones.osnet import OSNet
from fastreid.modeling.backbones.resnet import ResNet
from torch import Tensor, nn

from plugins.errors import InputError

STAGES = ("layer1", "layer2", "layer3", "layer4")
OPTIONS = ("WITH_NL", "WITH_SE", "WITH_IBN")


@dataclass(frozen=True, eq=False)
class TrunkKind:
    """Describes one of fastreid's networks.

    Attributes:
        network: class of the network.
        builder: name in the BACKBONE registry.
        channels: depth -> channels of the stem and of the four stages, in this order.
        stem: paths of the modules before the first stage.
        blocks: (network, stage) -> modules of that stage, in the order in which they run.
        options: the OPTIONS that the builder reads.
    """

    network: type[nn.Module]
    builder: str
    channels: dict[str, tuple[int, ...]]
    stem: tuple[str, ...]
    blocks: Callable[[nn.Module, str], list[nn.Module]]
    options: tuple[str, ...]


def resnet_blocks(trunk: ResNet, stage: str) -> list[nn.Module]:
    """List the residual blocks of a stage, each followed by its non-local block if it has one."""
    number = stage.removeprefix("layer")
    # [-1] once the ResNet's forward has run without non-local blocks.
    after = getattr(trunk, f"NL_{number}_idx")
    non_local = iter(getattr(trunk, f"NL_{number}", ()))
    blocks = []
    for index, block in enumerate(getattr(trunk, stage)):
        blocks.append(block)
        if index in after:
            blocks.append(next(non_local))
    return blocks


def mobilenet_blocks(trunk: MobileNetV2, stage: str) -> list[nn.Module]:
    """List the inverted residuals of a stage; layer4 ends with the convolution to the feature."""
    first, end = MOBILENET_STAGES[stage]
    last_layer = [trunk.conv] if stage == STAGES[-1] else []
    return [*trunk.features[first:end], *last_layer]


def osnet_blocks(trunk: OSNet, stage: str) -> list[nn.Module]:
    """List the part that is a stage: omni-scale blocks and a halving of maps, or a convolution."""
    return [getattr(trunk, f"conv{STAGES.index(stage) + 2}")]


def resnet_channels(expansion: int) -> tuple[int, ...]:
    """Return the channels of a ResNet's stem and stages, by the expansion of its blocks."""
    return (64, *(expansion * width for width in (64, 128, 256, 512)))


# Rows of ``features``; 0 is the stem.
MOBILENET_STAGES = {"layer1": (1, 4), "layer2": (4, 7), "layer3": (7, 14), "layer4": (14, 18)}
# The first block of layer4, whose depthwise convolution has the last stride.
MOBILENET_LAST_STRIDE = (14, 3)

KINDS = (
    TrunkKind(
        network=ResNet,
        builder="build_resnet_backbone",
        channels={
            "18x": resnet_channels(1),
            "34x": resnet_channels(1),
            "50x": resnet_channels(4),
            "101x": resnet_channels(4),
        },
        stem=("conv1", "bn1", "relu", "maxpool"),
        blocks=resnet_blocks,
        options=OPTIONS,
    ),
    TrunkKind(
        network=MobileNetV2,
        builder="build_mobilenetv2_backbone",
        channels={
            "1.0x": (32, 24, 32, 96, 1280),
            "0.75x": (24, 24, 24, 72, 1280),
            "0.5x": (16, 16, 16, 48, 1280),
            "0.35x": (16, 8, 16, 32, 1280),
            "0.25x": (8, 8, 8, 24, 1280),
            "0.1x": (4, 4, 4, 12, 1280),
        },
        stem=("features.0",),
        blocks=mobilenet_blocks,
        options=(),
    ),
    TrunkKind(
        network=OSNet,
        builder="build_osnet_backbone",
        channels={
            "x1_0": (64, 256, 384, 512, 512),
            "x0_75": (48, 192, 288, 384, 384),
            "x0_5": (32, 128, 192, 256, 256),
            "x0_25": (16, 64, 96, 128, 128),
        },
        stem=("conv1", "maxpool"),
        blocks=osnet_blocks,
        options=("WITH_IBN",),
    ),
)
RESNET, MOBILENET, OSNET = KINDS


def kind_of(trunk: nn.Module) -> TrunkKind | None:
    """Return the kind of a network; None if it is none of KINDS."""
    return next((kind for kind in KINDS if isinstance(trunk, kind.network)), None)


def configured_kind(cfg: CfgNode) -> TrunkKind:
    """Return the kind that ``MODEL.BACKBONE.TRUNK`` builds; a ResNet for an unknown builder."""
    name = cfg.MODEL.BACKBONE.TRUNK
    return next((kind for kind in KINDS if kind.builder == name), RESNET)


def stage_channels(cfg: CfgNode) -> dict[str, int]:
    """Return the channels of the configured trunk's maps, by "stem" and the names of the stages.

    Raises:
        InputError: the trunk has no such depth.
    """
    kind, depth = configured_kind(cfg), cfg.MODEL.BACKBONE.DEPTH
    if depth not in kind.channels:
        raise InputError(
            f"MODEL.BACKBONE.DEPTH: no depth '{depth}'; known: {', '.join(kind.channels)}"
        )
    return dict(zip(("stem", *STAGES), kind.channels[depth], strict=True))


def check_trunk(cfg: CfgNode) -> None:
    """Raise InputError if MODEL.BACKBONE has a setting that the trunk's builder would ignore."""
    backbone, kind = cfg.MODEL.BACKBONE, configured_kind(cfg)
    stage_channels(cfg)
    for option in OPTIONS:
        if backbone[option] and option not in kind.options:
            raise InputError(
                f"MODEL.BACKBONE.{option}: True, but {kind.builder} ignores it; expected False"
            )
    # fastreid silently builds no non-local block among its basic blocks.
    deep = [depth for depth, channels in RESNET.channels.items() if channels[-1] > 512]
    if backbone.WITH_NL and backbone.DEPTH not in deep:
        raise InputError(
            f"MODEL.BACKBONE.WITH_NL: True, but depth {backbone.DEPTH} has no non-local blocks; "
            f"expected False, or MODEL.BACKBONE.DEPTH {' or '.join(deep)}"
        )
    if kind is OSNET and backbone.LAST_STRIDE != 1:
        raise InputError(
            f"MODEL.BACKBONE.LAST_STRIDE: {backbone.LAST_STRIDE}, but the last stage of OSNet has "
            "no stride; expected 1"
        )


def set_last_stride(trunk: nn.Module, stride: int) -> None:
    """Give a MobileNetV2 the last stride, which its builder does not read; the others read it."""
    if isinstance(trunk, MobileNetV2):
        block, layer = MOBILENET_LAST_STRIDE
        trunk.features[block].conv[layer].stride = (stride, stride)


def run_stage(trunk: nn.Module, name: str, maps: Tensor) -> Tensor:
    """Run one stage of a trunk, with the non-local blocks of a ResNet.

    Args:
        trunk: a network of KINDS.
        name: name of the stage, "layer1" to "layer4".
        maps: (N, C, h, w), output of the stage before it.

    Returns:
        (N, C', h', w').
    """
    kind = kind_of(trunk)
    assert kind is not None, f"{type(trunk).__name__} is no network of KINDS"
    for block in kind.blocks(trunk, name):
        maps = block(maps)
    return maps
