"""Verify pairs: is it the same person? Rates of a threshold, and the threshold of a rate.

A pair is accepted if its distance is below a threshold. Of the pairs that a query sees, the false
accept rate (FAR) is the share of those of two people that are accepted, and the true accept rate
(TAR) the share of those of one person. fastreid's TEST.ROC gives "TPR@FPR" with pairs of two people
as the positive class, which is the share of them that is rejected where so many pairs of one person
are; so the names here are others.

Legend: Q queries, G gallery items, M pairs of one person, N pairs of two people, P people, R draws.
"""

import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation.distance import CHUNK, distance_blocks
from plugins.evaluation.ranks import match_blocks
from plugins.evaluation.side import Side
from plugins.utils.resampling import percentiles, resampled_counts

logger = logging.getLogger(__name__)

RATES = (1e-4, 1e-3, 1e-2)  # false accept rates of TEST.ROC, those of fastreid
# Pairs of two people that are kept beyond those that a rate accepts: a draw may need more.
SPARE = 20_000


class Pairs(NamedTuple):
    """The pairs that queries see.

    Attributes:
        genuine: (M,) distances of pairs of one person, ascending.
        people: (M,) int64, the person.
        impostor: (K,) the smallest distances of pairs of two people, ascending; K is N or fewer.
        first: (K,) int64, the query's person.
        second: (K,) int64, the item's person.
        number: (P, P) int64, the pairs of two people by person of query and item; N is the sum.
    """

    genuine: Tensor
    people: Tensor
    impostor: Tensor
    first: Tensor
    second: Tensor
    number: Tensor

    @property
    def whole(self) -> bool:
        """Whether all pairs of two people are kept."""
        return len(self.impostor) == int(self.number.sum())


class Verification(NamedTuple):
    """A threshold and its rates, with 95 % intervals over people.

    Attributes:
        threshold: pairs with a smaller distance are accepted.
        threshold_interval: of the threshold, had other people been measured.
        true_accept_rate: a fraction, TAR.
        true_accept_interval: likewise, each with the threshold of its people.
        false_accept_rate: the measured FAR, at most that wanted.
        false_accept_interval: the FAR of this threshold for other people.
        genuine: M.
        impostors: N.
        people: P.
    """

    threshold: float
    threshold_interval: tuple[float, float]
    true_accept_rate: float
    true_accept_interval: tuple[float, float]
    false_accept_rate: float
    false_accept_interval: tuple[float, float]
    genuine: int
    impostors: int
    people: int


def column(rate: float) -> str:
    """Name the column of the table.

    >>> column(1e-4)
    'TAR@FAR=1e-04'
    """
    return f"TAR@FAR={rate:.0e}"


def collect_pairs(
    query: Side,
    gallery: Side,
    *,
    metric: str,
    junk: str,
    keep: int,
    same: bool = False,
    chunk: int = CHUNK,
) -> Pairs:
    """Collect the distances of all pairs that the junk rule leaves; never holds a Q x G matrix.

    Args:
        query: Q items; persons are numbered from 0.
        gallery: G items, likewise.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.
        keep: how many of the pairs of two people are kept, those of the smallest distances.
        same: whether both are the same items in one order; then each pair counts once, as the
            earlier item sees the later one, and no item is a pair with itself.
        chunk: queries at a time; changes memory and speed, no result.
    """
    people = 1 + int(torch.cat([query.pids, gallery.pids]).max())
    number = torch.zeros(people * people, dtype=torch.int64)
    genuine: list[tuple[Tensor, ...]] = []
    empty = query.pids.new_empty(0)
    nearest = (torch.empty(0), empty, empty)
    blocks = distance_blocks(query.features, gallery.features, metric, chunk)
    matches = match_blocks(query, gallery, junk, chunk)
    rows = torch.arange(len(query)).split(chunk)
    for block_rows, block, (positive, unseen) in zip(rows, blocks, matches, strict=True):
        if same:
            earlier = torch.arange(len(gallery)) <= block_rows[:, None]
            positive, unseen = positive & ~earlier, unseen | earlier
        pids = query.pids[block_rows]
        first = pids[:, None].expand_as(positive)
        second = gallery.pids.expand_as(positive)
        genuine.append((block[positive], first[positive]))
        other = ~(positive | unseen)
        number += (first[other] * people + second[other]).bincount(minlength=people * people)
        found = (block[other], first[other], second[other])
        joined = [torch.cat(both) for both in zip(nearest, found, strict=True)]
        chosen = joined[0].topk(min(keep, len(joined[0])), largest=False, sorted=False).indices
        nearest = (joined[0][chosen], joined[1][chosen], joined[2][chosen])
    order = nearest[0].argsort(stable=True)
    distances, persons = (torch.cat(parts) for parts in zip(*genuine, strict=True))
    ascending = distances.argsort(stable=True)
    return Pairs(
        distances[ascending],
        persons[ascending],
        nearest[0][order],
        nearest[1][order],
        nearest[2][order],
        number.view(people, people),
    )


def accept_rates(
    query: Side,
    gallery: Side,
    *,
    metric: str,
    junk: str,
    rates: Sequence[float] = RATES,
    name: str = "",
) -> dict[str, float]:
    """Compute the true accept rate in percent at each false accept rate, by its column's name.

    Where a rate is finer than the pairs can tell, no pair of two people is accepted.

    Args:
        query: Q items.
        gallery: G items.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.
        rates: false accept rates.
        name: of the direction, for the warning of a rate that is too fine.
    """
    keep = math.floor(max(rates) * len(query) * len(gallery)) + 1
    query, gallery = number_people(query, gallery)
    pairs = collect_pairs(query, gallery, metric=metric, junk=junk, keep=keep)
    number = int(pairs.number.sum())
    if number * min(rates) < 1:
        logger.warning(
            "%s%s: there are %d pairs of different people, which cannot show so small a rate; its "
            "threshold accepts none of them",
            name and f"{name}: ",
            column(min(rates)),
            number,
        )
    found = {}
    for rate in rates:
        allowed = math.floor(round(rate * number, 6))
        threshold = pairs.impostor[allowed] if allowed < number else torch.tensor(torch.inf)
        accepted = (pairs.genuine < threshold).double()
        found[column(rate)] = 100 * float(accepted.mean()) if len(accepted) else 0.0
    return found


def find_threshold(
    query: Side,
    gallery: Side,
    rate: float,
    *,
    metric: str,
    junk: str,
    same: bool = False,
    seed: int = 0,
) -> Verification:
    """Find the largest threshold that accepts no more than a share of the pairs of two people.

    People are drawn with replacement and a pair counts as often as both its people are drawn, since
    pairs that share a person are not independent (Bolle et al., "Error analysis of pattern
    recognition systems: the subsets bootstrap", CVIU 93, 2004).

    Args:
        query: Q items.
        gallery: G items.
        rate: wanted false accept rate, above 0 and below 1.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.
        same: whether both are the same items, see ``collect_pairs``.
        seed: of the draws.

    Raises:
        InputError: the rate is no share, there is no pair of one person, or so few of two people
            that the rate cannot be shown.
    """
    if not 0 < rate < 1:
        raise InputError(f"false accept rate {rate:g}: expected more than 0, below 1")
    query, gallery = number_people(query, gallery)
    keep = math.ceil(4 * rate * len(query) * len(gallery)) + SPARE
    while True:
        pairs = collect_pairs(query, gallery, metric=metric, junk=junk, keep=keep, same=same)
        number = int(pairs.number.sum())
        if number * rate < 1:
            raise InputError(
                f"false accept rate {rate:g}: there are {number} pairs of different people; "
                f"expected {math.ceil(1 / rate)} or more, or a larger rate"
            )
        if not len(pairs.genuine):
            raise InputError("no query sees another item of its person; expected pairs of one")
        people = len(pairs.number)
        counts = torch.cat([torch.ones(1, people), resampled_counts(people, seed).float()])
        rows = rates_of_draws(pairs, counts.double(), rate)
        if rows is not None:
            break
        keep *= 4
    (threshold, true, false), drawn = rows[0].tolist(), rows[1:]
    kept = drawn[~drawn.isnan().any(dim=1)]
    intervals = [percentiles(values) for values in kept.T] if len(kept) else [(math.nan,) * 2] * 3
    return Verification(
        *(threshold, intervals[0], true, intervals[1], false, intervals[2]),
        genuine=len(pairs.genuine),
        impostors=number,
        people=people,
    )


def rates_of_draws(pairs: Pairs, counts: Tensor, rate: float) -> Tensor | None:
    """Compute threshold, TAR, and FAR at the first draw's threshold, of each draw of people.

    Args:
        pairs: the pairs.
        counts: (R, P) how often each person is drawn.
        rate: wanted false accept rate.

    Returns:
        (R, 3); NaN where a draw has no pair of one or of two people; None if a draw needs more of
        the pairs of two people than are kept.
    """
    totals = ((counts @ pairs.number.double()) * counts).sum(dim=1)
    rows, first = [], math.nan
    for drawn, total in zip(counts, totals.tolist(), strict=True):
        impostors = (drawn[pairs.first] * drawn[pairs.second]).cumsum(0)
        genuine = drawn[pairs.people].cumsum(0)
        if not total or not float(genuine[-1]):
            rows.append([math.nan] * 3)
            continue
        allowed = math.floor(round(rate * total, 6))
        index = int(torch.searchsorted(impostors, allowed, right=True))
        if index == len(impostors):
            if not pairs.whole:
                return None
            index -= 1
        threshold = float(pairs.impostor[index])
        first = threshold if math.isnan(first) else first
        below = int(torch.searchsorted(pairs.genuine, threshold))
        true = float(genuine[below - 1] / genuine[-1]) if below else 0.0
        accepted = int(torch.searchsorted(pairs.impostor, first))
        if accepted == len(pairs.impostor) and not pairs.whole:
            return None
        false = float(impostors[accepted - 1]) / total if accepted else 0.0
        rows.append([threshold, true, false])
    return torch.tensor(rows, dtype=torch.float64)


def number_people(query: Side, gallery: Side) -> tuple[Side, Side]:
    """Number the people of both sides together, from 0."""
    _, numbers = torch.cat([query.pids, gallery.pids]).unique(return_inverse=True)
    first, second = numbers.cpu().split([len(query), len(gallery)])
    one, other = query.cpu(), gallery.cpu()
    return Side(one.features, first, one.camids), Side(other.features, second, other.camids)
