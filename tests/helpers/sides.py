"""Sides of a search from plain tensors, in the order queries, gallery."""

import torch

from plugins.evaluation import Side


def sides_of(features, others, pids, other_pids, camids, other_camids):
    """The two sides of a search: features, persons and cameras of each."""
    return Side(features, pids, camids), Side(others, other_pids, other_camids)


def labeled(pids, other_pids, camids, other_camids):
    """Two sides without features, for a known distance matrix."""
    empty = (torch.empty(len(ids), 0) for ids in (pids, other_pids))
    return sides_of(*empty, pids, other_pids, camids, other_camids)
