"""The protocol written down once more, query by query, in plain Python and float64."""


def brute_force(distances, query_pids, gallery_pids, query_camids, gallery_camids, max_rank=20):
    """CMC, AP, INP per query (None without a positive) and the list without junk of each query."""
    cmc = [0] * max_rank
    precisions, penalties, lists = [], [], []
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        kept = [
            (distance, index)
            for index, distance in enumerate(row)
            if not (gallery_pids[index] == pid and gallery_camids[index] == camid)
        ]
        order = [index for _, index in sorted(kept)]
        lists.append(order)
        ranks = [rank for rank, index in enumerate(order, start=1) if gallery_pids[index] == pid]
        if not ranks:
            precisions.append(None)
            penalties.append(None)
            continue
        precisions.append(sum(k / rank for k, rank in enumerate(ranks, start=1)) / len(ranks))
        penalties.append(len(ranks) / ranks[-1])
        for rank in range(ranks[0], max_rank + 1):
            cmc[rank - 1] += 1
    number = sum(precision is not None for precision in precisions)
    return [hits / max(number, 1) for hits in cmc], precisions, penalties, lists
