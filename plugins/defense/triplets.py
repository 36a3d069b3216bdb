"""Triplets of a training batch: drawing them, their hardness, their loss.

Legend: B clips in the batch, N triplets, D feature length; a, p, n the features of a triplet's
anchor, positive and negative. Distances d are Euclidean, between features as the metric compares
them: normalized for "cosine" (``attacks.guides.compared``).
"""

import torch
from torch import Tensor


def distance(rows: Tensor, others: Tensor) -> Tensor:
    """Compute d row by row, of (N, D) and (N, D); 0 with gradient 0 where both are identical."""
    squares = (rows - others).square().sum(dim=1)
    apart = squares > 0
    return torch.where(apart, torch.where(apart, squares, 1).sqrt(), 0)


def hardness(anchors: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Compute H = d(a, p) - d(a, n), of (N, D) each: (N,), in [-2, 2] for normalized features.

    Zhou and Patel, CVPR 2022, section 3.1.
    """
    return distance(anchors, positives) - distance(anchors, negatives)


def triplet_hinge(anchors: Tensor, positives: Tensor, negatives: Tensor, margin: float) -> Tensor:
    """Average max(0, H + margin) over the triplets: L_T; with none 0 that still carries a graph.

    Args:
        anchors: (N, D).
        positives: (N, D).
        negatives: (N, D).
        margin: gamma, feature units.
    """
    hinges = (hardness(anchors, positives, negatives) + margin).relu()
    return hinges.sum() / max(len(hinges), 1)


def mirrored_triplets(pids: Tensor, generator: torch.Generator) -> Tensor:
    """Draw triplets whose positives and negatives are pairs of two people's clips, in both orders.

    Each clip is in one pair at most, so that it can be moved towards its partner. If no person has
    more than half of the clips, only the last of an odd number of clips has no partner.

    Args:
        pids: (B,) people, at least one.
        generator: on the CPU.

    Returns:
        (N, 3) indices in the batch of anchor, positive and negative; the anchor is drawn from the
        other clips of the positive's person, and a positive without any such clip is left out.
    """
    pids = pids.cpu()
    people, member = pids.unique(return_inverse=True)
    block = torch.randperm(len(people), generator=generator)[member]
    order = torch.randperm(len(pids), generator=generator)
    order = order[block[order].argsort(stable=True)]  # a person's clips side by side
    half = len(order) // 2
    # Partners are so far apart that both show one person only if it has over half of the clips.
    first, second = order[:half], order[half : 2 * half]
    differ = pids[first] != pids[second]
    first, second = first[differ], second[differ]
    positives, negatives = torch.cat([first, second]), torch.cat([second, first])
    mates = pids[positives, None] == pids
    mates &= positives[:, None] != torch.arange(len(pids))
    scores = torch.rand(mates.shape, generator=generator).masked_fill(~mates, -1)
    return torch.stack([scores.argmax(dim=1), positives, negatives], dim=1)[mates.any(dim=1)]


def softhard_triplets(distances: Tensor, pids: Tensor, generator: torch.Generator) -> Tensor:
    """Draw soft-hard triplets, each clip in one at most, so that one triplet alone moves a clip.

    In random order each free clip becomes an anchor. Its positive is drawn from the free positives
    farther than its nearest negative, its negative from the free negatives nearer than its farthest
    positive; if there are none, from all that are free (Roth et al., "Revisiting Training
    Strategies and Generalization Performance in Deep Metric Learning", ICML 2020; here no clip
    comes twice).

    Args:
        distances: (B, B) between all clips.
        pids: (B,) people, at least one.
        generator: on the CPU.

    Returns:
        (N, 3) indices in the batch of anchor, positive and negative.
    """
    distances, pids = distances.detach().cpu(), pids.cpu()
    negative = pids[:, None] != pids
    positive = ~negative & ~torch.eye(len(pids), dtype=torch.bool)
    farthest = distances.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
    nearest = distances.masked_fill(~negative, torch.inf).amin(dim=1, keepdim=True)
    hard_positive, hard_negative = (
        positive & (distances > nearest),
        negative & (distances < farthest),
    )
    free = torch.ones(len(pids), dtype=torch.bool)
    triplets: list[list[int]] = []
    for anchor in torch.randperm(len(pids), generator=generator).tolist():
        if not free[anchor]:
            continue
        mates = draw_index(hard_positive[anchor] & free, positive[anchor] & free, generator)
        others = draw_index(hard_negative[anchor] & free, negative[anchor] & free, generator)
        if mates and others:
            triplet = [anchor, *mates, *others]
            triplets.append(triplet)
            free[triplet] = False
    return torch.tensor(triplets, dtype=torch.long).view(-1, 3)


def draw_index(preferred: Tensor, possible: Tensor, generator: torch.Generator) -> list[int]:
    """Draw an index where ``preferred`` (B,) is True, or else ``possible``; [] if there is none."""
    indices = (preferred if preferred.any() else possible).nonzero().flatten()
    if not len(indices):
        return []
    return [int(indices[torch.randint(len(indices), (), generator=generator)])]
