"""Attack by the background of another camera, in cells where neither clip shows its person.

OPR-DAAO, of the group of SADSTRM, attacks with obstacles of other images; here the surroundings of
the person attack. Channel statistics cannot exchange these: a panorama is not a color cast.

Legend: B clips of T frames, N = B * T; C channels of h x w maps, whose cells are K = h * w.
"""

import torch
from torch import Tensor

from plugins.modeling.self_attack.base import CleanPass, Losses, Passes
from plugins.modeling.self_attack.channel_statistics import clips_of
from plugins.modeling.self_attack.partners import draw_partners
from plugins.modeling.self_attack.stage_attack import StageAttack


class BackgroundAttack(StageAttack):
    """Replace the cells that show no person by those of a partner of another camera.

    Budget: eps is the share of the cells, from 0 to 1, rounded to whole cells; all frames of a clip
    lose the same cells. Frame t gets those of the partner's frame t. The attack needs no gradient:
    it costs only the attacked pass of the upper layers.
    """

    passes = Passes(lower_forward=1, lower_backward=1, upper_forward=2, upper_backward=2)
    largest_eps = 1.0
    other_camera = True

    def forward(
        self, clean: CleanPass, losses: Losses, generator: torch.Generator | None = None
    ) -> Tensor:
        """See StageAttack."""
        maps, frames = clean.maps, clean.labels.frames
        partners = draw_partners(self.candidates(clean), generator)
        evidence = cell_evidence(maps, clean.labels.modalities)
        cells = least_evidence(evidence, partners, round(self.eps * evidence.shape[1]))
        clips = maps.unflatten(0, (-1, frames))
        cells = cells.view(len(clips), 1, 1, *maps.shape[-2:])
        return torch.where(cells, clips[partners].detach(), clips).flatten(0, 1)


def cell_evidence(maps: Tensor, modalities: Tensor) -> Tensor:
    """Measure how much of a clip's person each cell holds.

    The evidence of a cell is the distance between the clip's map, averaged over its frames, and the
    mean map of the modality's clips in the batch, times a window around the middle. The camera
    follows a person: the person stays in place and the background moves, people differ, and a box
    has its person in the middle. Activations of the last stage are no evidence: in a network that
    has learned that people keep to their cameras, they are largest in the background.

    Args:
        maps: (N, C, h, w).
        modalities: (B,) 0 visible, 1 infrared.

    Returns:
        (B, K), row by row, float32.
    """
    height, width = maps.shape[-2:]
    clips = clips_of(maps, len(maps) // len(modalities)).mean(dim=1)  # (B, C, K)
    deviations = clips.clone()
    for modality in modalities.unique():
        members = modalities == modality
        deviations[members] -= clips[members].mean(dim=0)
    rows, columns = (torch.linspace(-1, 1, size, device=maps.device) for size in (height, width))
    window = torch.exp(-(rows[:, None].square() / 4 + columns.square()))
    return torch.linalg.vector_norm(deviations, dim=1) * window.flatten()


def least_evidence(evidence: Tensor, partners: Tensor, count: int) -> Tensor:
    """Choose the cells that are background both in a clip and in its partner.

    They are the cells whose larger rank of the two, from the least evidence up, is least.

    Args:
        evidence: (B, K).
        partners: (B,) indices of clips.
        count: number of cells, 0 to K.

    Returns:
        (B, K) bool, True for ``count`` cells of each row.
    """
    ranks = evidence.argsort(dim=1).argsort(dim=1)
    # The clip's rank decides between two cells whose larger ranks are equal.
    larger = torch.maximum(ranks, ranks[partners]) * evidence.shape[1] + ranks
    return larger.argsort(dim=1).argsort(dim=1) < count
