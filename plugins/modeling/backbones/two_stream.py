"""A stem per modality, one shared trunk: the common backbone of visible-infrared re-ID.

Legend: N frames, H x W their size, C = 512 (depths 18x, 34x) or 2048 (50x, 101x) channels.
"""

import copy

import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones.resnet import ResNet
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones.pretrained import load_pretrained
from plugins.registry import BACKBONE, lookup

DEPTHS = ("18x", "34x", "50x", "101x")
STEM_LAYERS = ("conv1", "bn1", "relu", "maxpool")
STEM_CHANNELS = 64
STAGES = ("layer1", "layer2", "layer3", "layer4")


class TwoStreamBackbone(nn.Module):
    """A ResNet whose first layers exist once per modality and whose four stages are shared.

    Both stems start from the same weights. The trunk is the ResNet itself without its first layers,
    so its forward keeps fastreid's non-local, SE and IBN logic.
    """

    def __init__(self, resnet: ResNet):
        super().__init__()
        stem = nn.Sequential()
        for name in STEM_LAYERS:
            stem.add_module(name, getattr(resnet, name))
            setattr(resnet, name, nn.Identity())
        # Indexed by modality: 0 visible, 1 infrared.
        self.stems = nn.ModuleList([stem, copy.deepcopy(stem)])
        self.trunk = resnet

    def stem(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Each frame through the stem of its modality.

        Args:
            images: (N, 3, H, W), normalised.
            modalities: (N,) 0 visible, 1 infrared; one of the two alone is enough.

        Returns:
            (N, 64, H/4, W/4), rows in the order of ``images``.
        """
        return by_modality(self.stems, images, modalities)

    def stage_maps(
        self, maps: Tensor, first: str = STAGES[0], last: str = STAGES[-1]
    ) -> dict[str, Tensor]:
        """The maps after each stage from ``first`` to ``last``, by the stage's name, in order.

        ``stage_maps(F0)["layer4"]`` equals ``trunk(F0)``; a caller that changes the maps after a
        stage goes on with ``first`` set to the next one.

        Args:
            maps: what enters ``first``; the stem maps (N, 64, H/4, W/4) enter "layer1".
            first: name of a stage.
            last: name of a stage, ``first`` or a later one.

        Returns:
            Stage name to maps (N, C', h, w).
        """
        stages = {}
        for name in STAGES[STAGES.index(first) : STAGES.index(last) + 1]:
            maps = stages[name] = run_stage(self.trunk, name, maps)
        return stages

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Frames (N, 3, H, W) of modalities (N,) to maps (N, C, H/16, W/16) at last stride 1."""
        return self.trunk(self.stem(images, modalities))


def run_stage(resnet: ResNet, name: str, maps: Tensor) -> Tensor:
    """One stage of a fastreid ResNet, "layer1" to "layer4", with its non-local blocks."""
    number = name.removeprefix("layer")
    # [-1] once the ResNet's own forward has run without non-local blocks.
    after = getattr(resnet, f"NL_{number}_idx")
    non_local = iter(getattr(resnet, f"NL_{number}", ()))
    for index, block in enumerate(getattr(resnet, name)):
        maps = block(maps)
        if index in after:
            maps = next(non_local)(maps)
    return maps


def by_modality(modules: nn.ModuleList, frames: Tensor, modalities: Tensor) -> Tensor:
    """Send each row through the module of its modality.

    Args:
        modules: the module of visible rows, then that of infrared rows.
        frames: (N, ...).
        modalities: (N,) 0 visible, 1 infrared. A module without rows is not called.

    Returns:
        The results, rows in the order of ``frames``.
    """
    rows = [(modalities == modality).nonzero().squeeze(1) for modality in range(len(modules))]
    order = torch.cat(rows)
    assert len(order) == len(frames), f"modalities are 0 or 1, found {modalities.unique().tolist()}"
    results = [
        module(frames.index_select(0, index))
        for module, index in zip(modules, rows, strict=True)
        if len(index)
    ]
    return torch.cat(results).index_select(0, order.argsort())


@BACKBONE.register()
def build_two_stream_backbone(cfg: CfgNode) -> TwoStreamBackbone:
    """Build ``MODEL.BACKBONE.TRUNK`` with fastreid and cut it in two stems and a trunk.

    Raises:
        InputError: the depth is unknown, the trunk is not a fastreid ResNet, ``FEAT_DIM`` does not
            fit it, or its ImageNet weights are missing or of another network.
    """
    backbone = cfg.MODEL.BACKBONE
    if backbone.DEPTH not in DEPTHS:
        raise InputError(
            f"MODEL.BACKBONE.DEPTH: no depth '{backbone.DEPTH}'; known: {', '.join(DEPTHS)}"
        )
    # fastreid only logs the keys that its weights lack, so load_pretrained takes its place.
    untrained = cfg.clone()
    untrained.defrost()
    untrained.MODEL.BACKBONE.PRETRAIN = False
    resnet = lookup(BACKBONE, backbone.TRUNK, "MODEL.BACKBONE.TRUNK")(untrained)
    if not isinstance(resnet, ResNet):
        raise InputError(
            f"MODEL.BACKBONE.TRUNK: {backbone.TRUNK} builds a {type(resnet).__name__}; "
            "expected a fastreid ResNet, such as build_resnet_backbone"
        )
    if resnet.inplanes != backbone.FEAT_DIM:
        raise InputError(
            f"MODEL.BACKBONE.FEAT_DIM: found {backbone.FEAT_DIM}, "
            f"but depth {backbone.DEPTH} has {resnet.inplanes}"
        )
    if backbone.PRETRAIN:
        load_pretrained(resnet, cfg)
    return TwoStreamBackbone(resnet)
