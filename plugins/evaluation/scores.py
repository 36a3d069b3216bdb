"""Turn rankings into a row of the table of results.

Legend: Q queries.
"""

import numpy as np

from plugins.evaluation.ranking import RankingResult

RANKS = (1, 5, 10, 20)


def scores(ranking: RankingResult) -> dict[str, float | int]:
    """Compute a direction's row of the table.

    Returns:
        "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP" and "metric", the mean of mAP and
        Rank-1 as in fastreid, in percent; "queries", the number of valid ones.
    """
    block = {f"Rank-{rank}": 100 * float(ranking.cmc[rank - 1]) for rank in RANKS}
    block["mAP"] = 100 * ranking.mean_average_precision
    block["mINP"] = 100 * ranking.mean_inverse_negative_penalty
    block["metric"] = (block["mAP"] + block["Rank-1"]) / 2
    block["queries"] = ranking.num_valid
    return block


def mean_scores(trials: list[dict[str, float | int]]) -> dict[str, float | int]:
    """Average each entry over the trials; a whole mean of "queries" becomes an int."""
    block = {name: float(np.mean([trial[name] for trial in trials])) for name in trials[0]}
    if block["queries"].is_integer():
        block["queries"] = int(block["queries"])
    return block
