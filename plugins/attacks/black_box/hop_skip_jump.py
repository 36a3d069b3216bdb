"""HopSkipJump on Rank-1, through foolbox; it sees only who is ranked first.

Chen, Jordan and Wainwright, IEEE S&P 2020. If it succeeds where gradient attacks fail, the
gradients are masked. Legend: R rows, one clip or image each. Pixels are in gray levels, 0 to 255.
"""

from typing import Literal, cast

import torch
from torch import Tensor

from plugins.attacks.features import FeaturesOf, float_images, row_groups, select_clips, undisturbed
from plugins.attacks.guides import Guides
from plugins.attacks.logits import IdentityLogits, labels
from plugins.attacks.objectives import rank_margin
from plugins.attacks.projections import mean_absolute
from plugins.attacks.threat_model import PerturbationSet, ThreatModel
from plugins.attacks.tracker import AttackResult
from plugins.errors import InputError


def hop_skip_jump(
    features_of: FeaturesOf,
    batch: dict,
    guides: Guides,
    threat: ThreatModel,
    *,
    steps: int,
    seed: int = 0,
) -> AttackResult:
    """Follow the border where Rank-1 fails, from another row's image towards the row's own image.

    The border is followed in the threat model's norm only; the final point is then projected into
    the budget, so a row counts as fooled where the projected point still fails.

    Args:
        features_of: batch to features, row by row; no gradient is needed.
        batch: ``images`` (R, T, 3, H, W) or (R, 3, H, W) in [0, 255], each a row of its own. The
            attack starts from other images of the batch, so it should show several persons.
        guides: of these rows.
        threat: norm and budget.
        steps: steps along the border, each of some 100 sqrt(step) queries.
        seed: seed of the draws, which do not depend on the other rows.

    Returns:
        The result of an attack; ``zero_gradient`` marks rows for which no image of the batch makes
        Rank-1 fail. A row without a person in the gallery stays as it is, since its Rank-1 cannot
        fail.

    Raises:
        InputError: foolbox is not installed.
    """
    rows = row_groups(batch)[1]
    assert len(rows) == len(batch["images"]), "several clips of a row"
    batch = float_images(batch)
    allowed, model = PerturbationSet(threat, batch), CountedFeatures(features_of)
    images = batch["images"].clone()
    no_start = torch.zeros(len(rows), dtype=torch.bool, device=images.device)

    def margin_of(candidates: Tensor) -> Tensor:
        features = model({**batch, "images": candidates}).to(guides.clean.device)
        return rank_margin(features, guides).to(images.device)

    with torch.no_grad(), undisturbed(features_of):
        can_fail = (guides.positives.any(dim=1) & guides.negatives.any(dim=1)).to(images.device)
        start = margin_of(images)
        for index in (can_fail & (start <= 0)).nonzero().flatten().tolist():
            row = torch.arange(len(rows)) == index
            row_batch = select_clips(batch, row)
            # Otherwise an adapter averages all attempts as clips of one row.
            row_batch.pop("rows", None)
            row_guides = guides.select(row.to(guides.pids.device))
            classifier = IdentityLogits(model, row_batch, row_guides).eval()
            torch.manual_seed(seed + int(rows[index]))
            norm = cast(Literal["linf", "l2"], threat.norm)
            image = follow_border(classifier, batch["images"], index, norm, steps)
            no_start[index] = image is None
            if image is not None:
                images[index] = image
        clips = images.view(allowed.clean.shape)
        if not allowed.frames_selected:
            allowed = allowed.select_frames(clips - allowed.clean)
        clips = allowed.project(clips)
        margin = margin_of(clips.view(images.shape))
    return AttackResult(
        batch={**batch, "images": clips.view(images.shape)},
        objective=margin,
        start=start,
        margin=margin,
        zero_gradient=no_start,
        change_from_start=mean_absolute(clips - allowed.clean, allowed.groups, len(rows)),
        forwards=model.forwards,
        backwards=0,
    )


def follow_border(
    classifier: IdentityLogits, images: Tensor, index: int, norm: Literal["linf", "l2"], steps: int
) -> Tensor | None:
    """Find the image nearest to ``images[index]`` that has another person at Rank-1.

    Args:
        classifier: of the row at ``index`` alone.
        images: (R, ..., 3, H, W) in [0, 255]; the first that succeeds is the start.
        index: index of the row.
        norm: "linf" or "l2".
        steps: steps of HopSkipJump.

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
    origin = images[index : index + 1] / 255
    found = attack.run(
        model, origin, foolbox.Misclassification(label), starting_points=starts[:1] / 255
    )
    return 255 * found[0]


class CountedFeatures:
    """Gives the same features, and counts the rows.

    Attributes:
        features_of: gives the features.
        forwards: number of rows so far.
    """

    def __init__(self, features_of: FeaturesOf) -> None:
        """Count from 0."""
        self.features_of, self.forwards = features_of, 0

    def __call__(self, batch: dict) -> Tensor:
        """Return the features of a batch."""
        self.forwards += len(batch["images"])
        return self.features_of(batch)
