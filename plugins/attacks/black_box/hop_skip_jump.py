"""HopSkipJump on Rank-1, through foolbox: it sees who is found first, no distance, no gradient.

Chen, Jordan and Wainwright, IEEE S&P 2020. Where it finds more than an attack with gradients, these
are masked.

Legend: R rows, one clip or image each. Pixels in 0-255 units.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from plugins.attacks.attack import Outcome, select_clips
from plugins.attacks.features import (
    Adapter,
    attacking,
    float_images,
    preserved_random_state,
    row_groups,
)
from plugins.attacks.guides import Guides
from plugins.attacks.logits import IdentityLogits, labels
from plugins.attacks.objectives import rank_margin
from plugins.attacks.optimizers import Climb
from plugins.attacks.projections import mean_size
from plugins.attacks.threat_model import Region, ThreatModel
from plugins.errors import InputError


def hop_skip_jump(
    features_of: Callable[[dict], Tensor],
    batch: dict,
    guides: Guides,
    threat: ThreatModel,
    *,
    steps: int,
    seed: int = 0,
) -> Outcome:
    """From another row's image, along the border where Rank-1 fails, towards the row's own image.

    The border is followed in the threat's norm only; what is reached is then projected into the
    budget, so that a row counts as fooled where that point still fails.

    Args:
        features_of: batch to features, row by row; no gradient is asked for.
        batch: ``images`` (R, T, 3, H, W) or (R, 3, H, W) in [0, 255], each a row of its own. The
            starts come from it, so several persons should be in it.
        guides: of these rows.
        threat: norm and budget.
        steps: of the search, each of some 100 sqrt(step) queries.
        seed: of the draws, which do not depend on the other rows.

    Returns:
        As of an attack; ``stuck`` where no image of the batch makes Rank-1 fail. Without a person
        in the gallery Rank-1 cannot fail, and the row stays as it is.

    Raises:
        InputError: foolbox is not installed.
    """
    rows = row_groups(batch)[1]
    assert len(rows) == len(batch["images"]), "several clips of a row"
    batch = float_images(batch)
    region, model = Region(threat, batch), Counted(features_of)
    images = batch["images"].clone()
    stuck = torch.zeros(len(rows), dtype=torch.bool, device=images.device)

    def margin_of(some: Tensor) -> Tensor:
        features = model({**batch, "images": some}).to(guides.clean.device)
        return rank_margin(features, guides).to(images.device)

    adapted = isinstance(features_of, Adapter)
    with torch.no_grad(), attacking(features_of.model) if adapted else preserved_random_state():
        counted = (guides.positives.any(dim=1) & guides.negatives.any(dim=1)).to(images.device)
        start = margin_of(images)
        for place in (counted & (start <= 0)).nonzero().flatten().tolist():
            row = torch.arange(len(rows)) == place
            known = guides.select(row.to(guides.pids.device))
            one = select_clips(batch, row)
            one.pop("rows", None)  # or an adapter averages all attempts as clips of one row
            classifier = IdentityLogits(model, one, known).eval()
            torch.manual_seed(seed + int(rows[place]))
            found = search(classifier, batch["images"], place, threat.norm, steps)
            stuck[place] = found is None
            if found is not None:
                images[place] = found
        clips = images.view(region.clean.shape)
        if not region.settled:
            region = region.settle(clips - region.clean)
        clips = region.project(clips)
        margin = margin_of(clips.view(images.shape))
    travelled = mean_size(clips - region.clean, region.groups)
    climb = Climb(clips, margin, start, margin, stuck, model.forwards, 0, travelled)
    return Outcome({**batch, "images": clips.view(images.shape)}, climb)


def search(
    classifier: IdentityLogits, images: Tensor, place: int, norm: str, steps: int
) -> Tensor | None:
    """The image nearest to ``images[place]`` that HopSkipJump finds with another at Rank-1.

    Args:
        classifier: of the row at ``place``, alone.
        images: (R, ..., 3, H, W) in [0, 255]; the first that succeeds is the start.
        place: of the row.
        norm: "linf" or "l2".
        steps: of the search.

    Returns:
        (..., 3, H, W), or None if no image succeeds.
    """
    try:
        import foolbox
    except ImportError as error:
        raise InputError("HopSkipJump needs foolbox: pip install foolbox==3.3.4") from error
    label = labels(classifier.guides)
    starts = images[(classifier(images / 255).argmax(dim=1) != label).to(images.device)]
    if not len(starts):
        return None
    model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device=images.device)
    attack = foolbox.attacks.HopSkipJumpAttack(steps=steps, constraint=norm)
    origin = images[place : place + 1] / 255
    found = attack.run(
        model, origin, foolbox.Misclassification(label), starting_points=starts[:1] / 255
    )
    return 255 * found[0]


class Counted:
    """Features, and how many rows were asked for."""

    def __init__(self, features_of: Callable[[dict], Tensor]) -> None:
        """Nothing is asked for yet."""
        self.features_of, self.forwards = features_of, 0

    def __call__(self, batch: dict) -> Tensor:
        """The same features."""
        self.forwards += len(batch["images"])
        return self.features_of(batch)
