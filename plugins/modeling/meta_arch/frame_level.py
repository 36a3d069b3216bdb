"""Helpers of a model whose head classifies frames as well as clips.

Legend: B clips of T frames, N = B * T.
"""

from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.heads.video_head import FRAME


def frame_batch(
    outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Make a batch of N frames out of a head's outputs for the frames of B clips.

    Args:
        outputs: a head's training outputs; those of frames are (B, T, ...).
        targets: (B,) person labels.
        modalities: (B,).

    Returns:
        The outputs of frames, (N, ...), under the names of the outputs of clips, and the frames'
        labels and modalities, (N,).
    """
    frames = {
        name.removeprefix(FRAME): output.flatten(0, 1)
        for name, output in outputs.items()
        if name.startswith(FRAME)
    }
    count = len(frames["features"]) // len(targets)
    return frames, targets.repeat_interleave(count), modalities.repeat_interleave(count)


def check_frame_level(cfg: CfgNode, temporal: nn.Module, losses: nn.ModuleList) -> None:
    """Raise InputError if parts of a model do not agree on whether the BNNeck sees frames."""
    level = cfg.MODEL.HEADS.NECK_LEVEL
    if level == "frame":
        if not hasattr(temporal, "frame_features"):
            raise InputError(
                f"MODEL.HEADS.NECK_LEVEL: frame, but {cfg.MODEL.TEMPORAL.NAME} is no mean over the "
                "frames; expected clip, or another MODEL.TEMPORAL.NAME, such as TemporalMean"
            )
        if cfg.MODEL.CROSS_MODAL_ATTENTION.ENABLED:
            raise InputError(
                "MODEL.HEADS.NECK_LEVEL: frame, but MODEL.CROSS_MODAL_ATTENTION relates clips; "
                "expected clip, or MODEL.CROSS_MODAL_ATTENTION.ENABLED False"
            )
        return
    needed = [type(loss).__name__ for loss in losses if getattr(loss, "needs_frames", False)]
    needed += [f"{name} of MODEL.LOSSES.FRAMES" for name in cfg.MODEL.LOSSES.FRAMES.NAME]
    if needed:
        raise InputError(
            f"MODEL.HEADS.NECK_LEVEL: {level}, but {needed[0]} needs frames; expected frame"
        )
