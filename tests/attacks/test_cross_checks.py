"""Our attacks beside those of others, and beside each other on trained networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from plugins.attacks import Guides, PerturbationSet, Recipe, ThreatModel
from plugins.attacks.logits import IdentityLogits, labels
from plugins.attacks.objectives import rank_margin
from plugins.attacks.per_query import FNA, RankMargin, Square
from plugins.synthetic import MARKET1501, SyntheticSettings, render_layout
from tests.helpers.attack_toys import GRAY, maximize_once, recorded, waves

QUERIES = 20


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8.0), ("l2", 24.0)])
def test_apgd_is_that_of_its_authors(norm, eps):
    """Step for step up to the first checkpoint; after that their code differs from their paper.

    It halves at exactly RHO of the steps too, and counts the first rise after a halving from the
    images it left. Their loss is the softplus of ours, which rises with it.
    """
    autopgd = pytest.importorskip("pyautoattack.autopgd_base")
    images = GRAY.double() + torch.arange(len(GRAY)).view(-1, 1, 1, 1, 1)
    score = waves(1, images, sharpness=0.5)
    recording, ours = recorded(score)
    region = PerturbationSet(ThreatModel(norm, eps), {"images": images})
    result = maximize_once(recording, region, Recipe("apgd", steps=100), seed=0)
    theirs = []

    def logits(points):
        theirs.append(255 * points.detach())
        values = score(255 * points)[0]
        return torch.stack([torch.zeros_like(values), values], dim=1)

    attack = autopgd.APGDAttack(logits, 100, {"linf": "Linf", "l2": "L2"}[norm], eps=eps / 255)
    attack.init_hyperparam(images / 255)
    labels = torch.zeros(len(images), dtype=torch.long)
    best = attack.attack_single_run(images / 255, labels, x_init=images / 255)[0]
    for mine, reference in zip(ours[:23], theirs[:23], strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5 * 255, rtol=0)
    start, end = score(images)[0], score(255 * best)[0]
    assert ((result.objective - end).abs() < 0.1 * (end - start)).all()


class Network(nn.Module):
    """A small convolutional network, in float64."""

    def __init__(self, people):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 4 * 2, 32),
        )  # fmt: skip
        self.last = nn.Linear(32, people)
        self.double()

    def forward(self, batch):
        return self.body((batch["images"] - 120) / 60)


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """Images, persons and cameras of a rendered Market-1501's training half."""
    root = tmp_path_factory.mktemp("market")
    settings = SyntheticSettings(train_ids=10, test_ids=2, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, root / "set", settings)
    files = sorted(Path(root / "set" / "bounding_box_train").glob("*.jpg"))
    images = np.stack([np.array(Image.open(file)) for file in files])
    names = [file.name.split("_") for file in files]
    pids = torch.tensor([int(name[0]) for name in names])
    cameras = torch.tensor([int(name[1][1]) for name in names])
    return torch.from_numpy(images).permute(0, 3, 1, 2).double(), pids, cameras


@pytest.fixture(scope="module")
def search(market):
    """A network trained for some steps, 20 queries drawn from its images, and their guides."""
    images, pids, cameras = market
    people, targets = pids.unique(return_inverse=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Network(len(people))
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(60):
            some = torch.randint(len(images), (32,))
            optimizer.zero_grad()
            predicted = network.last(network({"images": images[some]}))
            F.cross_entropy(predicted, targets[some]).backward()
            optimizer.step()
        order = torch.randperm(len(images))
    network.requires_grad_(False)
    query, gallery = order[:QUERIES], order[QUERIES:]
    features = network({"images": images})
    labels = [labels[half] for labels in (pids, cameras) for half in (query, gallery)]
    guides = Guides.from_features(
        features[query], features[gallery], *labels, metric="cosine", junk="none"
    )
    assert (rank_margin(guides.clean, guides) <= 0).double().mean() > 0.5
    return network, {"images": images[query]}, guides


@pytest.mark.slow
@pytest.mark.parametrize("eps", [4.0, 8.0])
def test_squares_succeed_as_often_as_those_of_their_authors(search, eps):
    """Through identity logits, at equal queries, with other draws: within 3 of 20 queries."""
    theirs = pytest.importorskip("pyautoattack.square")
    network, batch, guides = search
    queries = 60
    recipe = Recipe("square", queries, early_stop=True, skip_successful=True)
    own = Square(ThreatModel(eps=eps), recipe).run(network, batch, guides).margin > 0
    found = []
    for row in range(QUERIES):
        known = guides.select(torch.tensor([row]))
        image = batch["images"][row : row + 1]
        classifier = IdentityLogits(network, {"images": image}, known)
        attack = theirs.SquareAttack(classifier, n_queries=queries, eps=eps / 255, device="cpu")
        attacked = 255 * attack.perturb(image / 255, labels(known))
        assert (attacked - image).abs().max() <= eps + 1e-6
        found.append(bool(rank_margin(network({"images": attacked}), known) > 0))
    clean = int((rank_margin(guides.clean, guides) > 0).sum())
    assert min(sum(found), int(own.sum())) > clean
    assert abs(sum(found) - int(own.sum())) <= 3


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), [("linf", 2.0), ("linf", 4.0), ("l2", 40.0)])
@pytest.mark.parametrize("kind", [RankMargin, FNA])
def test_apgd_needs_no_step_size_to_reach_pgd_at_equal_gradient_calls(search, kind, norm, eps):
    """On 20 queries: no more survive than with PGD's best step size, and the mean is as high.

    A single query may end lower than with PGD, by less than 1 % of what the attack gains.
    """
    network, batch, guides = search
    clean = kind.objective(guides.clean, guides)

    def climb(optimizer, **options):
        recipe = Recipe(optimizer, steps=30, random_start=True, **options)
        return kind(ThreatModel(norm, eps), recipe).run(network, batch, guides)

    own = climb("apgd")
    gain = (own.objective - clean).clamp_min(1e-9)
    leads = {}
    for share in (1, 1 / 4, 1 / 10, 1 / 20):
        fixed = climb("sign", step_size=share * eps)
        assert fixed.backwards == own.backwards == QUERIES * 30
        assert (own.margin <= 0).sum() <= (fixed.margin <= 0).sum()
        leads[share] = (own.objective - fixed.objective) / gain
    assert min(lead.min() for lead in leads.values()) > -0.01
    assert min(lead.mean() for lead in leads.values()) > -0.001
    assert sum(lead.mean() for lead in leads.values()) > 0
