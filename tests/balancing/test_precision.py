"""How many generated images are right, against counts made by hand."""

import pytest
import torch

from plugins.balancing.filters import Verdict
from plugins.balancing.photographs import Photograph, read_photographs
from plugins.balancing.precision import (
    Judge,
    Precision,
    choose_pairs,
    measure_precision,
    precision_table,
    train_judge,
)
from tests.helpers.balancing_toys import (
    CAMERAS,
    HEIGHT,
    PEOPLE,
    WIDTH,
    Painter,
    picture,
    write_photographs,
)

PAIRS = [(person, camera) for person in PEOPLE for camera in CAMERAS]


class AcceptsTheFirst:
    """A filter that accepts the first image of each pair."""

    def judge(self, images, person, camera):
        first = torch.arange(len(images)) == 0
        return Verdict(torch.ones(len(images)), torch.ones(len(images)), first)


@pytest.mark.slow
def test_a_judge_that_learns_from_real_images_knows_others(tmp_path):
    photographs = write_photographs(tmp_path / "photographs", PAIRS, number=5)
    images = read_photographs(photographs, (HEIGHT, WIDTH))
    before = torch.random.get_rng_state()
    judge = train_judge(images, photographs, 0, "cpu", steps=100)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert judge.accuracy == 1.0
    assert judge.name_of(torch.stack([picture(*pair, shade=7) for pair in PAIRS])) == PAIRS


def test_counts_are_those_made_by_hand():
    # The painter shows ann where cid is asked for, and the judge sees what is there.
    shown = {bytes(picture(*pair, 5 * n).numpy()): pair for pair in PAIRS for n in range(3)}
    judge = Judge(lambda images: [shown[bytes(image.numpy())] for image in images], 1.0)
    asked = {"seen": [("ann", "1"), ("cid", "2")], "unseen": []}
    rows = measure_precision(Painter(), judge, AcceptsTheFirst(), asked, 3)
    assert rows == [
        Precision("seen", images=6, person=3, camera=6, both=3, accepted=2, accepted_both=1),
        Precision("unseen"),
    ]
    table = precision_table(rows).splitlines()
    assert "| 50.0 %   | 100.0 %  | 50.0 % | 33.3 %     | 50.0 %" in table[2]
    assert table[3].count("| - ") == 5


@pytest.mark.slow
def test_pairs_are_spread_over_all():
    photographs = [Photograph("", str(p), str(c)) for p in range(10) for c in range(p % 3 + 1)]
    everything = choose_pairs(photographs, 100)
    assert len(everything["seen"]) == 19 and len(everything["unseen"]) == 11
    assert not set(everything["seen"]) & set(everything["unseen"])
    few = choose_pairs(photographs, 5)
    assert {kind: len(pairs) for kind, pairs in few.items()} == {"seen": 5, "unseen": 5}
    assert set(few["seen"]) < set(everything["seen"])
