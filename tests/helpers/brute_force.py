"""The protocol written down once more, query by query, in plain Python and float64."""


def is_junk(rule, pid, gallery_pid, camid, gallery_camid):
    same_person_and_camera = gallery_pid == pid and gallery_camid == camid
    camera_2_for_camera_3 = (camid, gallery_camid) == (3, 2)
    return {"camera": same_person_and_camera, "sysu": camera_2_for_camera_3, "none": False}[rule]


def brute_force(
    distances,
    query_pids,
    gallery_pids,
    query_camids,
    gallery_camids,
    max_rank=20,
    junk="camera",
    cmc="item",
):
    """CMC, AP, INP per query (None without a positive) and the list without junk of each query."""
    counted = [0] * max_rank
    precisions, penalties, lists = [], [], []
    for row, pid, camid in zip(distances, query_pids, query_camids, strict=True):
        kept = [
            (distance, index)
            for index, distance in enumerate(row)
            if not is_junk(junk, pid, gallery_pids[index], camid, gallery_camids[index])
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
        people = [gallery_pids[index] for index in order]
        if cmc == "identity":
            people = list(dict.fromkeys(people))
        for rank in range(people.index(pid) + 1, max_rank + 1):
            counted[rank - 1] += 1
    number = sum(precision is not None for precision in precisions)
    return [hits / max(number, 1) for hits in counted], precisions, penalties, lists
