"""Ranked lists with names, as a search gives them and a spreadsheet reads them.

Legend: Q queries, k items of a list.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from plugins.inference.features import Features
from plugins.utils.io import write_text

OF_ITEM = ("name", "path", "person", "camera", "modality")
COLUMNS = (
    *("direction", "query", *(f"query_{name}" for name in OF_ITEM[1:])),
    *("rank", *OF_ITEM, "distance", "same_person", "accepted"),
)


@dataclass(frozen=True, eq=False)
class RankedLists:
    """The list of each query, the nearest item first.

    Attributes:
        query: the queries.
        gallery: the items that were searched.
        rows: (Q, k) int64 rows of ``gallery``; -1 where a list has ended.
        distances: (Q, k) float32; infinite there.
        metric: "cosine" or "euclidean".
        direction: name of the direction, such as "I2V"; empty for none.
    """

    query: Features
    gallery: Features
    rows: np.ndarray
    distances: np.ndarray
    metric: str
    direction: str = ""

    def named(self, direction: str) -> "RankedLists":
        """Return the same lists as those of a direction."""
        return replace(self, direction=direction)

    def names(self, query: int) -> list[str]:
        """Return the names in the list of a query, by its row."""
        return self.gallery.name[self.rows[query][self.rows[query] >= 0]].tolist()

    def entries(self, threshold: float | None = None) -> Iterator[dict[str, object]]:
        """Yield the entries of all lists, see ``COLUMNS``.

        Args:
            threshold: pairs with a smaller distance are accepted as one person; None leaves
                "accepted" empty.
        """
        for number, (rows, distances) in enumerate(zip(self.rows, self.distances, strict=True)):
            about = {
                f"query_{name}": str(getattr(self.query, name)[number]) for name in OF_ITEM[1:]
            }
            query = {"direction": self.direction, "query": str(self.query.name[number]), **about}
            for rank, (row, distance) in enumerate(zip(rows, distances, strict=True), start=1):
                if row < 0:
                    break
                item = {name: str(getattr(self.gallery, name)[row]) for name in OF_ITEM}
                known = item["person"] and about["query_person"]
                yield {
                    **query,
                    "rank": rank,
                    **item,
                    "distance": f"{distance:.6f}",
                    "same_person": yes(item["person"] == known) if known else "",
                    "accepted": "" if threshold is None else yes(distance < threshold),
                }

    def write_csv(self, path: str | Path, threshold: float | None = None) -> None:
        """Write the lists as :func:`write_lists` does."""
        write_lists(path, [self], threshold)


def write_lists(
    path: str | Path, lists: Sequence[RankedLists], threshold: float | None = None
) -> None:
    """Write the lists of one or more directions as CSV in UTF-8, with a header, in one file."""
    text = _Lines()
    table = csv.DictWriter(text, COLUMNS, lineterminator=_Lines.END)
    table.writeheader()
    for each in lists:
        table.writerows(each.entries(threshold))
    write_text(path, text.getvalue())


class _Lines(io.StringIO):
    r"""Ends lines in "\n", and lets ``csv`` quote each name that holds a character of END.

    ``csv`` quotes the characters of the line end that it writes; a reader takes "\r" for one, too.
    """

    END = "\r\n"

    def write(self, row: str) -> int:
        """Write a row, which ends in END."""
        return super().write(row.removesuffix(self.END) + "\n")


def yes(fact: object) -> str:
    """Return "yes" or "no"."""
    return "yes" if fact else "no"
