"""Choose the partner of a clip: the clip of the batch whose interference it gets.

Legend: B clips.
"""

import torch
from torch import Tensor

from plugins.modeling.self_attack.labels import Labels


def partner_candidates(
    labels: Labels, partner: str, modality: str = "any", other_camera: bool = False
) -> Tensor:
    """Tell which clips may be the partner of each clip.

    Args:
        labels: labels of the batch.
        partner: "same_person": another camera or modality of the same person, whose clips differ by
            interference alone; "other_person": any clip of anyone else.
        modality: modality of the partner: "any", the "same" as the clip's, or the "other" one.
        other_camera: only clips of another camera may be partners.

    Returns:
        (B, B) bool, a row for each clip. A clip is never a partner of itself; a row may be empty.
    """
    persons, modalities, cameras = labels.targets, labels.modalities, labels.cameras
    same_person = persons[:, None] == persons
    new_modality = modalities[:, None] != modalities
    new_camera = cameras[:, None] != cameras
    allowed = (
        same_person & (new_camera | new_modality) if partner == "same_person" else ~same_person
    )
    if modality != "any":
        allowed = allowed & (new_modality if modality == "other" else ~new_modality)
    return allowed & new_camera if other_camera else allowed


def best_partners(
    scores: Tensor, candidates: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Choose the candidate of the lowest score, and draw one where several share it.

    Args:
        scores: (B, B), a row for each clip.
        candidates: (B, B) bool.
        generator: source of the draws; None for torch's global one, seeded by ``SEED``.

    Returns:
        (B,) indices of clips; a clip without a candidate gets its index.
    """
    scores = scores.masked_fill(~candidates, torch.inf)
    lowest = candidates & (scores == scores.amin(dim=1, keepdim=True))
    # Draws are above -1; a row without candidates is -1 everywhere.
    draws = torch.rand(scores.shape, generator=generator, device=scores.device)
    drawn = draws.masked_fill(~lowest, -1).argmax(dim=1)
    clips = torch.arange(len(scores), device=scores.device)
    return torch.where(candidates.any(dim=1), drawn, clips)


def draw_partners(candidates: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a candidate for each clip, all equally likely; returns what ``best_partners`` does."""
    return best_partners(torch.zeros_like(candidates, dtype=torch.float32), candidates, generator)
