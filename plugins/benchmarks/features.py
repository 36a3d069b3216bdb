"""Features of clips from their files: the Embedder beside a bare loop over the same network.

Legend: N clips of T frames, D feature length.
"""

import contextlib
import io
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor

from plugins.benchmarks.comparison import Comparison, Work
from plugins.benchmarks.loader import LENGTH, drawn_clips, read_clip
from plugins.benchmarks.settings import Settings
from plugins.config import setup_cfg
from plugins.engine.trainer import Trainer
from plugins.inference import Embedder

BATCH = 8  # clips
APART = 0.01  # largest cosine distance of two features; two decoders of JPEG differ a little


def features(settings: Settings) -> list[Comparison]:
    """List the comparisons of feature extraction, in processor time."""
    small = settings.quick or settings.tiny
    config = "VVI/synthetic/baseline.yml" if small else "VVI/baseline.yml"
    clips = 3 if settings.tiny else 40 if settings.quick else 16
    cfg = read(config)
    about = f"ResNet-{cfg.MODEL.BACKBONE.DEPTH.removesuffix('x')} at " + "x".join(
        map(str, cfg.INPUT.SIZE_TEST)
    )
    return [
        Comparison(
            f"features of {clips * LENGTH} JPEG frames, {about}",
            partial(features_work, config, clips),
            target=1.0,
            note="Pillow and torchvision per frame, then the same network",
            rounds=settings.rounds,
            clock="cpu",
            frames=clips * LENGTH,
        )
    ]


def read(config: str) -> CfgNode:
    """Read the config of the run whose network computes the features."""
    own = {
        "DATALOADER.NUM_WORKERS": "0",  # whose time would not be this process's
        "INPUT.CLIP.LENGTH": str(LENGTH),
        "MODEL.BACKBONE.PRETRAIN": "False",
        "MODEL.DEVICE": "cuda" if torch.cuda.is_available() else "cpu",
        "MODEL.HEADS.NUM_CLASSES": "2",
        "TEST.IMS_PER_BATCH": str(BATCH),
    }
    return setup_cfg(config, [word for pair in own.items() for word in pair])


def features_work(config: str, clips: int, seed: int = 0) -> Work:
    """Prepare drawn clips and a run with drawn weights, both on disk."""
    folder = tempfile.TemporaryDirectory()
    root, cfg = Path(folder.name), read(config)
    items = drawn_clips(root / "clips", clips, seed)
    torch.manual_seed(seed)
    (root / "config.yaml").write_text(cfg.dump())
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, root / "model_final.pth")
    embedder = Embedder(root)

    def ours() -> Tensor:
        with contextlib.redirect_stderr(io.StringIO()):  # a second progress bar
            return torch.from_numpy(embedder.clips(root / "clips").features)

    def theirs() -> Tensor:
        assert folder.name  # the folder lives as long as the work
        found = []
        for start in range(0, clips, BATCH):
            part = items[start : start + BATCH]
            images = torch.stack([read_clip(item.img_paths, cfg.INPUT.SIZE_TEST) for item in part])
            modalities = torch.zeros(len(part), dtype=torch.int64)
            with torch.no_grad():
                given = {"images": images, "modalities": modalities}
                found.append(F.normalize(embedder.model(given).float()).cpu())
        return torch.cat(found)

    return Work(ours, theirs, check_features)


def check_features(ours: Tensor, theirs: Tensor) -> None:
    """Compare features (N, D) of length 1 by their cosine distances."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
    largest = float((1 - (ours * theirs).sum(dim=1)).max())
    assert largest < APART, f"features are up to {largest:.3g} apart"
