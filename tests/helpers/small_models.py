"""Small configs, models and batches."""

import functools

import numpy as np
import torch

import plugins.modeling  # noqa: F401  (registers what the configs name)
from plugins.config import setup_cfg
from plugins.synthetic import SyntheticSettings
from plugins.synthetic.frame import render_walk
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk

torch.set_num_threads(1)

LOSSES = "('CrossEntropyLoss', 'TripletLoss', 'CrossModalTriplet')"


def small_cfg(*opts):
    """A ResNet-18 on clips of 64 x 32 images of 4 people; ``opts`` override it."""
    small = [
        "MODEL.DEVICE", "cpu",
        "MODEL.BACKBONE.NAME", "build_two_stream_backbone",
        "MODEL.BACKBONE.DEPTH", "18x",
        "MODEL.BACKBONE.FEAT_DIM", "512",
        "MODEL.HEADS.NAME", "VideoHead",
        "MODEL.HEADS.NUM_CLASSES", "4",
        "MODEL.HEADS.WITH_BNNECK", "True",
        "MODEL.TEMPORAL.NAME", "STIG",
        "MODEL.TEMPORAL.STIG.STRIPES", "3",
        "MODEL.TEMPORAL.STIG.DIM", "16",
        "MODEL.LOSSES.NAME", LOSSES,
    ]  # fmt: skip
    return setup_cfg(opts=small + [str(opt) for opt in opts])


def small_batch(frames=2, seed=0):
    """4 people, one clip of each per modality."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "images": torch.rand(8, frames, 3, 64, 32, generator=generator) * 255,
        "targets": torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]),
        "camids": torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]),
        "modalities": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]),
        "img_paths": [f"{row}.png" for row in range(8)],
    }


def copied(batch):
    return {
        key: value.clone() if torch.is_tensor(value) else list(value)
        for key, value in batch.items()
    }


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def differing(before, after):
    """Names of the tensors that are not equal bit for bit."""
    assert before.keys() == after.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]


def maps_of(clips=2, frames=3, channels=8, height=7, width=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clips, frames, channels, height, width, generator=generator)


def awaken(module, seed=0, size=0.3):
    """Move every parameter, so that nothing rests at a zero of its initialization."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return module


def lstm_by_hand(inputs, weights_in, weights_hidden, bias_in, bias_hidden):
    """One direction of an LSTM over a list of vectors, gate by gate."""
    size = weights_hidden.shape[1]
    hidden = cell = torch.zeros(size)
    states = []
    for vector in inputs:
        gates = weights_in @ vector + bias_in + weights_hidden @ hidden + bias_hidden
        enter, forget, candidate, leave = gates.split(size)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        hidden = leave.sigmoid() * cell.tanh()
        states.append(hidden)
    return states


def parameters_of(lstm, suffix=""):
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [getattr(lstm, name + suffix) for name in names]


@functools.cache
def rendered_clips(people=4, frames=3):
    """Clips of people who walk past two cameras; see ``rendered_batch``."""
    settings = SyntheticSettings(difficulty=0.5)
    images, labels = [], []
    for modality in (VISIBLE, INFRARED):
        for person in range(people):
            for number, camera in enumerate((2, 3)):
                walk = Walk(person + 1, modality, camera, number, 4 * frames, False, 0.5)
                images.append(render_walk(settings, walk)[::4])
                labels.append((person, camera, modality))
    return torch.tensor(np.stack(images)).permute(0, 1, 4, 2, 3).float(), torch.tensor(labels).T


def rendered_batch():
    """4 people, two clips of 3 frames of each per modality, by two cameras: as training has them.

    Unlike random images they share nearly all that a network sees of them.
    """
    images, (targets, cameras, modalities) = rendered_clips()
    return {
        "images": images.clone(),
        "targets": targets.clone(),
        "camids": cameras.clone(),
        "modalities": modalities.clone(),
        "img_paths": [f"{row}.png" for row in range(len(images))],
    }


def dual_cfg(deployed="clean"):
    return setup_cfg("", ["MODEL.DUAL_NORM.ENABLED", "True", "MODEL.DUAL_NORM.DEPLOYED", deployed])
