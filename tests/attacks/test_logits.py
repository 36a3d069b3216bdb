import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.attacks.guides import Guides
from plugins.attacks.logits import (
    IdentityLogits,
    classifier_cross_entropy,
    identities,
    identity_logits,
    labels,
)
from plugins.attacks.objectives import rank_margin
from plugins.errors import InputError
from plugins.evaluation import distances, ranked_lists
from plugins.protocol import JUNK
from tests.helpers.retrieval_toys import METRICS, guides_of, search_of, seeds
from tests.helpers.sides import sides_of


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    seed=seeds,
    metric=st.sampled_from(METRICS),
    junk=st.sampled_from(list(JUNK)),
    whole=st.booleans(),
    scale=st.sampled_from([1.0, 0.1, 30.0]),
)
def test_the_greatest_logit_is_the_identity_at_rank_1(seed, metric, junk, whole, scale):
    search = search_of(seed, length=3, cameras=4, whole=whole)
    guides = Guides.from_features(*search, metric=metric, junk=junk)

    logits = identity_logits(search[0], guides, scale)

    first = ranked_lists(*sides_of(*search), length=1, metric=metric, junk=junk)[0][:, 0]
    rows = first >= 0
    assert torch.equal(identities(guides)[logits.argmax(dim=1)][rows], search[3][first][rows])
    # Nothing shares the first place, so any argmax on any device agrees.
    top = logits.topk(2, dim=1).values[rows]
    assert (top[:, 0] > top[:, 1]).all()


@pytest.mark.parametrize("metric", METRICS)
def test_logits_are_the_nearest_item_of_each_person(metric):
    search = search_of(0, people=5)
    guides = Guides.from_features(*search, metric=metric)
    matrix = distances(*search[:2], metric)

    logits = identity_logits(search[0], guides, scale=2.0)

    people = sorted(set(search[3].tolist()))
    for row, values in enumerate(logits.tolist()):
        for person, value in zip(people, values, strict=True):
            seen = [
                float(matrix[row, item])
                for item in range(20)
                if guides.valid[row, item] and search[3][item] == person
            ]
            assert value == pytest.approx(-2 * min(seen))


def test_an_identity_that_is_hidden_comes_last_and_stays_finite():
    search = torch.eye(2), torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 1])
    guides = Guides.from_features(*search, torch.zeros(2), torch.zeros(2), metric="cosine")

    logits = identity_logits(search[0], guides)

    assert logits.argmax(dim=1).tolist() == [1, 0]
    assert logits.isfinite().all()


@pytest.mark.parametrize("metric", METRICS)
def test_logits_are_differentiable(metric):
    features, guides = guides_of(0, metric, whole=True)
    features.requires_grad_()

    identity_logits(features, guides).square().sum().backward()

    assert features.grad.isfinite().all() and (features.grad.abs().sum(dim=1) > 0).all()


def test_labels_are_the_columns_of_the_rows_persons():
    _, guides = guides_of(0, people=3)

    assert torch.equal(identities(guides)[labels(guides)], guides.pids)

    absent = Guides(
        torch.tensor([7]), guides.clean[:1], guides.gallery, guides.gallery_pids,
        guides.valid[:1], "cosine",
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"^1 attacked query has no match in the gallery \(for .* 7"
    ):
        labels(absent)


def test_cross_entropy_is_per_row():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 0, 1])

    values = classifier_cross_entropy(logits, targets)

    expected = [
        float(torch.logsumexp(row, 0) - row[c]) for row, c in zip(logits, targets, strict=True)
    ]
    assert values.tolist() == pytest.approx(expected)
    assert torch.autograd.gradcheck(
        lambda x: classifier_cross_entropy(x, targets), logits.requires_grad_()
    )


class Camera:
    """Features of a batch that depend on its images and on its modality."""

    def __init__(self, size):
        generator = torch.Generator().manual_seed(1)
        self.weights = torch.randn(size, 8, generator=generator)

    def __call__(self, batch):
        assert batch["images"].max() > 1  # in [0, 255]
        return batch["images"].flatten(1) / 255 @ self.weights + batch["modalities"][:, None]


def classifier_of(rows):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(rows + 12, 3, 4, 4, generator=generator)
    pids = torch.arange(rows + 12) % rows
    batch = {
        "images": 255 * images[:rows],
        "modalities": torch.arange(rows) % 2,
        "img_paths": [f"{row}.png" for row in range(rows)],
    }
    features_of = Camera(48)
    gallery = features_of({"images": 255 * images[rows:], "modalities": torch.zeros(12)})
    guides = Guides.from_features(
        features_of(batch), gallery, pids[:rows], pids[rows:], torch.zeros(rows), torch.ones(12),
        metric="cosine",
    )  # fmt: skip
    return images[:rows], features_of, batch, guides


def test_a_suite_for_classifiers_breaks_rank_1():
    """Signed steps on the cross-entropy, knowing nothing of retrieval, make the margin positive."""
    images, features_of, batch, guides = classifier_of(6)
    model = IdentityLogits(features_of, batch, guides, scale=10.0)
    targets = labels(guides)
    attacked = images.clone()
    for _ in range(30):
        attacked.requires_grad_()
        loss = F.cross_entropy(model(attacked), targets)
        gradient = torch.autograd.grad(loss, attacked)[0]
        attacked = (attacked + 0.02 * gradient.sign()).detach()

    margins = rank_margin(features_of({**batch, "images": 255 * attacked}), guides)

    assert torch.equal(margins > 0, model(attacked).argmax(dim=1) != targets)
    assert (margins > 0).all()
    assert batch["images"].max() <= 255 and torch.equal(batch["images"], 255 * images)


@pytest.mark.slow
def test_a_row_alone_takes_any_number_of_images():
    """A suite drops solved images from its batch; the junk rule and the modality stay the row's."""
    images, features_of, batch, guides = classifier_of(6)
    whole = IdentityLogits(features_of, batch, guides)(images)
    one = {
        "images": batch["images"][3:4],
        "modalities": batch["modalities"][3:4],
        "img_paths": ["a"],
    }
    model = IdentityLogits(features_of, one, guides.select(torch.tensor([3])))

    logits = model(images[3:4].expand(5, -1, -1, -1))

    torch.testing.assert_close(logits, whole[3:4].expand(5, -1))
    with pytest.raises(AssertionError, match="4 images for a batch of 6 rows"):
        IdentityLogits(features_of, batch, guides)(images[:4])
