"""A stem per modality, one shared trunk: the common backbone of visible-infrared re-ID.

Legend: N frames, H x W their size, S channels of a stem (64 in a ResNet), C channels of the last
stage: 512 (depths 18x, 34x), 2048 (50x, 101x), 1280 (MobileNetV2), 128 to 512 (OSNet).
"""

import copy

import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones.resnet import ResNet
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones.pretrained import load_pretrained, without_pretraining
from plugins.modeling.backbones.trunks import (
    KINDS,
    STAGES,
    check_trunk,
    kind_of,
    run_stage,
    set_last_stride,
    stage_channels,
)
from plugins.registry import BACKBONE, lookup


class TwoStreamBackbone(nn.Module):
    """A network whose first layers exist once per modality and whose four stages are shared.

    Both stems start from the same weights. The trunk is the network itself without its first
    layers, so its forward keeps fastreid's non-local, SE and IBN logic.

    Args:
        network: one of the KINDS of ``plugins.modeling.backbones.trunks``; its first layers are
            moved into the stems.
        shared_stem: one stem for both modalities instead of two.
    """

    def __init__(self, network: nn.Module, shared_stem: bool = False):
        super().__init__()
        kind = kind_of(network)
        assert kind is not None, f"{type(network).__name__} is no network of KINDS"
        stem = nn.Sequential()
        for path in kind.stem:
            owner, _, name = path.rpartition(".")
            stem.add_module(path.replace(".", "_"), network.get_submodule(path))
            setattr(network.get_submodule(owner), name, nn.Identity())
        # Indexed by modality: 0 visible, 1 infrared.
        self.stems = nn.ModuleList([stem] if shared_stem else [stem, copy.deepcopy(stem)])
        self.trunk = network

    def stem(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Send each frame through the stem of its modality.

        Args:
            images: (N, 3, H, W), normalized.
            modalities: (N,) 0 visible, 1 infrared; one of the two alone is enough.

        Returns:
            (N, S, H/4, W/4), H/2 and W/2 for a MobileNetV2; rows in the order of ``images``.
        """
        if len(self.stems) == 1:
            return self.stems[0](images)
        return by_modality(self.stems, images, modalities)

    def check_weights(self, names: set[str], path: str) -> None:
        """Raise InputError if a file holds a stem that this backbone would leave out.

        Args:
            names: names of the tensors that the file holds for this backbone.
            path: the file.
        """
        if len(self.stems) == 1 and any(name.startswith("stems.1.") for name in names):
            raise InputError(
                f"{path}: it holds a stem for each modality, but MODEL.BACKBONE.SHARED_STEM is "
                "True; expected False, or weights of one stem"
            )

    def stage_maps(
        self, maps: Tensor, first: str = STAGES[0], last: str = STAGES[-1]
    ) -> dict[str, Tensor]:
        """Compute the maps after each stage from ``first`` to ``last``, in order.

        ``stage_maps(F0)["layer4"]`` equals ``trunk(F0)``; a caller that changes the maps after a
        stage continues with ``first`` set to the next one.

        Args:
            maps: input of ``first``; the stem maps enter "layer1".
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
        """Turn frames (N, 3, H, W) of modalities (N,) into maps (N, C, H/16, W/16) at stride 1."""
        return self.trunk(self.stem(images, modalities))


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
    """Build ``MODEL.BACKBONE.TRUNK`` with fastreid and cut it into stems and a trunk.

    Raises:
        InputError: the trunk is not of a known kind, has no such depth or option, ``FEAT_DIM`` does
            not fit it, or its ImageNet weights are missing or of another network.
    """
    backbone = cfg.MODEL.BACKBONE
    check_trunk(cfg)
    # fastreid only logs the keys that its weights lack, so load_pretrained takes its place.
    build = lookup(BACKBONE, backbone.TRUNK, "MODEL.BACKBONE.TRUNK")
    network = build(without_pretraining(cfg))
    if kind_of(network) is None:
        raise InputError(
            f"MODEL.BACKBONE.TRUNK: {backbone.TRUNK} builds a {type(network).__name__}; "
            f"expected a fastreid {' or '.join(kind.network.__name__ for kind in KINDS)}, such as "
            f"{', '.join(kind.builder for kind in KINDS)}"
        )
    # A ResNet of another builder may be wider than fastreid's.
    width = network.inplanes if isinstance(network, ResNet) else stage_channels(cfg)[STAGES[-1]]
    if width != backbone.FEAT_DIM:
        raise InputError(
            f"MODEL.BACKBONE.FEAT_DIM: found {backbone.FEAT_DIM}, "
            f"but depth {backbone.DEPTH} has {width}"
        )
    set_last_stride(network, backbone.LAST_STRIDE)
    if backbone.PRETRAIN:
        load_pretrained(network, cfg)
    return TwoStreamBackbone(network, shared_stem=backbone.SHARED_STEM)
