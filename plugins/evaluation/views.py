"""Average the features of several views of an item: its mirror images and its further clips.

Legend: M clips, N items, D feature length.
"""

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor, nn

# Clips whose features are converted to float64 at a time.
CLIPS = 4096


def viewed(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Return the model as it is evaluated under TEST.FLIP and TEST.METRIC."""
    return FlipAverage(model, cfg.TEST.METRIC) if cfg.TEST.FLIP.ENABLED else model


class FlipAverage(nn.Module):
    """A model whose features are averaged over the images and their mirror images.

    fastreid's ``inference_on_dataset(flip_test=True)`` flips dimension 3, in a clip the height, and
    replaces the images of the batch; here the width is flipped and the batch is left as it is.
    """

    def __init__(self, model: nn.Module, metric: str = "cosine"):
        """Wrap ``model``, whose forward takes a batch and gives (B, D) features.

        Args:
            model: gives the features that are averaged.
            metric: "cosine", for which the mean gets length 1, or "euclidean".
        """
        super().__init__()
        self.model, self.metric = model, metric
        # inference_on_dataset puts back the mode that it reads from the wrapper.
        self.training = model.training

    def forward(self, batch: dict) -> Tensor:
        """Return the mean feature (B, D) of both views; its length is 1 if the metric is cosine."""
        mirrored = {**batch, "images": batch["images"].flip(dims=[-1])}
        mean = (self.model(batch) + self.model(mirrored)) / 2
        return F.normalize(mean, dim=1) if self.metric == "cosine" else mean


def average_clips(features: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """Average the features of the clips of each item; a single clip keeps its feature's bits.

    Args:
        features: (M, D) float32 of M clips.
        rows: (M,) int64, the item of each clip.
        counts: (N,) int64, the number of clips of each item, 1 or more.

    Returns:
        (N, D) float32.
    """
    if len(rows) == len(counts) and bool((counts == 1).all()):
        return torch.empty_like(features).index_copy_(0, rows, features)
    # In float64 and in the order of the clips, so that batches and processes change nothing.
    sums = features.new_zeros(len(counts), features.shape[1], dtype=torch.float64)
    for part_rows, part in zip(rows.split(CLIPS), features.split(CLIPS), strict=True):
        sums.index_add_(0, part_rows, part.double())
    return (sums / counts[:, None]).float()


def item_features(features: Tensor, rows: Tensor, counts: Tensor, cfg: CfgNode) -> Tensor:
    """Turn the features of clips into those of their items, as TEST.CLIPS and TEST.METRIC say.

    Args:
        features: (M, D) float32, of M clips.
        rows: (M,) int64, the item of each clip.
        counts: (N,) int64, the number of clips of each item, 1 or more.
        cfg: of the run.

    Returns:
        (N, D) float32; means over several clips have length 1 if the metric is cosine.
    """
    features = average_clips(features, rows, counts)
    several = cfg.TEST.CLIPS != 1 and cfg.TEST.METRIC == "cosine"
    return F.normalize(features, dim=1) if several else features


def options_suffix(cfg: CfgNode) -> str:
    """Say for the name of a result how the options of TEST differ from their defaults.

    The parts are "+flip"; "+clips=3", or "+clips=all" for whole tracklets; "+noise=3" for kind and
    severity, or "+noise=3-infrared" if only these items are corrupted; "+feature=relation".
    """
    flip = "+flip" if cfg.TEST.FLIP.ENABLED else ""
    clips = "" if cfg.TEST.CLIPS == 1 else f"+clips={cfg.TEST.CLIPS or 'all'}"
    keys = cfg.TEST.CORRUPTION
    only = "" if keys.ITEMS == "all" else f"-{keys.ITEMS}"
    corruption = "" if keys.KIND == "none" else f"+{keys.KIND}={keys.SEVERITY}{only}"
    feature = "" if cfg.TEST.FEATURE == "fused" else f"+feature={cfg.TEST.FEATURE}"
    return flip + clips + corruption + feature
