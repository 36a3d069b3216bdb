"""A small network that classifies images by camera or by person."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plugins.utils.random import item_generator

CHANNELS = (16, 32, 64)
BATCH, LEARNING_RATE = 64, 2e-3
CAMERA_STEPS = 300
HELD_OUT = 0.2  # share of the (person, camera) pairs on which a camera classifier is tested
EVALUATED_AT_ONCE = 256


class ImageClassifier(nn.Module):
    """Strided convolutions, a mean over each horizontal stripe, and one linear layer."""

    def __init__(self, classes: int, stripes: int = 1) -> None:
        """Draw random weights from torch's global generator."""
        super().__init__()
        blocks: list[nn.Module] = []
        width = 3
        for channels in CHANNELS:
            blocks += [
                nn.Conv2d(width, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            width = channels
        self.body = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d((stripes, 1)), nn.Flatten())
        self.head = nn.Linear(width * stripes, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, C) of images (B, 3, H, W) uint8."""
        return self.head(self.body(images.float() / 127.5 - 1))

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Compute probabilities (B, C), on the CPU, of images (B, 3, H, W) uint8 on any device."""
        device = self.head.weight.device
        parts = images.split(EVALUATED_AT_ONCE)
        return torch.cat([self(part.to(device)).softmax(dim=1).cpu() for part in parts])


def train_classifier(
    images: Tensor,
    targets: Tensor,
    classes: int,
    *,
    steps: int,
    seed: int,
    device: str,
    stripes: int = 1,
) -> ImageClassifier:
    """Train on all given images, and return the classifier in evaluation mode.

    Args:
        images: (N, 3, H, W) uint8.
        targets: (N,) int64, below ``classes``.
        classes: C.
        steps: steps of Adam.
        seed: seed of the weights and the batches.
        device: device to train on.
        stripes: see :class:`ImageClassifier`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = ImageClassifier(classes, stripes).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        chosen = torch.randint(len(images), (BATCH,), generator=item_generator(seed, step))
        loss = F.cross_entropy(model(images[chosen].to(device)), targets[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def train_camera_classifier(
    images: Tensor, pairs: Sequence[tuple[str, str]], cameras: Sequence[str], seed: int, device: str
) -> tuple[ImageClassifier, float]:
    """Train on some (person, camera) pairs and test on the others, because new pairs will follow.

    Args:
        images: (N, 3, H, W) uint8.
        pairs: (person, camera) of each image.
        cameras: all cameras; a label is an index in this list.
        seed: seed of the weights, the split and the batches.
        device: device to train on.

    Returns:
        The classifier in evaluation mode, and its accuracy on unseen pairs, NaN if there are none.
        The last pair of a camera is not held out.
    """
    targets = torch.tensor([cameras.index(camera) for _, camera in pairs])
    held = hold_out(pairs, seed)
    tested = torch.tensor([pair in held for pair in pairs])
    model = train_classifier(
        images[~tested],
        targets[~tested],
        len(cameras),
        steps=CAMERA_STEPS,
        seed=seed,
        device=device,
    )
    if not held:
        return model, float("nan")
    right = model.probabilities(images[tested]).argmax(dim=1) == targets[tested]
    return model, right.double().mean().item()


def hold_out(pairs: Sequence[tuple[str, str]], seed: int) -> set[tuple[str, str]]:
    """Draw a share of the distinct pairs, such that each camera keeps one."""
    distinct = sorted(set(pairs))
    remaining = Counter(camera for _, camera in distinct)
    held: set[tuple[str, str]] = set()
    for index in np.random.default_rng(seed).permutation(len(distinct)):
        pair = distinct[index]
        if len(held) < HELD_OUT * len(distinct) and remaining[pair[1]] > 1:
            remaining[pair[1]] -= 1
            held.add(pair)
    return held
