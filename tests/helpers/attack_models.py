"""Models of every kind that attacks meet, their batches, and all that an attack must restore."""

import random

import numpy as np
import torch
from torch import nn

from plugins.registry import META_ARCH
from tests.helpers.small_models import differing, small_batch, small_cfg

STOCK = (
    "MODEL.BACKBONE.NAME", "build_resnet_backbone",
    "MODEL.HEADS.NAME", "EmbeddingHead",
    "MODEL.HEADS.NORM", "BN",
    "MODEL.HEADS.POOL_LAYER", "GlobalAvgPool",
    "MODEL.LOSSES.NAME", "('CrossEntropyLoss',)",
)  # fmt: skip


# Of MGN, whose parts are ResNet-50's.
DEEP = ("MODEL.BACKBONE.DEPTH", "50x", "MODEL.BACKBONE.FEAT_DIM", "2048")


MODELS = {
    "VVIBaseline": (),
    "SADSTRM": ("MODEL.SELF_ATTACK.NUM_CAMERAS", "3"),
    "LSTM": ("MODEL.TEMPORAL.NAME", "TemporalLSTM", "MODEL.TEMPORAL.LSTM.DIM", "8"),
    "Baseline": STOCK,
    "MGN": (*STOCK, *DEEP),
}


QUICK = [name for name in MODELS if name != "MGN"]


def built(name, *opts):
    """A model with uneven batch statistics, in training mode, and its config."""
    cfg = small_cfg(*MODELS[name], "MODEL.BACKBONE.PRETRAIN", "False", *opts)
    torch.manual_seed(0)
    model = META_ARCH.get("VVIBaseline" if name == "LSTM" else name)(cfg)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return model.train(), cfg


def batch_for(name, clips=1):
    """8 clips, ``clips`` of a row; each person in the first half of the rows and in the second."""
    batch = small_batch()
    if name in ("Baseline", "MGN"):
        batch["images"] = batch["images"][:, 0]
    if name == "MGN":  # a third of a map needs a row
        batch["images"] = torch.cat([batch["images"], batch["images"][:, :, :32]], dim=2)
    rows = torch.arange(8) // clips
    return {**batch, "rows": rows, "targets": rows % 2, "camids": rows}


def everything(model):
    """What must not change, as text and bytes."""
    return {
        "state": {name: value.numpy().tobytes() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "required": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "hooks": [len(module._forward_pre_hooks) for module in model.modules()],
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
    }


def differing_entries(before, after):
    tensors = [key for key in before if torch.is_tensor(before[key])]
    assert before.keys() == after.keys()
    return differing({k: before[k] for k in tensors}, {k: after[k] for k in tensors})
