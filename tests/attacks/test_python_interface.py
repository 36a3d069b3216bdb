"""``attack(model, batch, gallery)`` without a config, on any callable that gives features."""

import copy
import logging

import pytest
import torch
from torch import nn

from plugins.attacks import Guides, Recipe, ThreatModel
from plugins.attacks.dataset_level import UAP, CAPlus
from plugins.attacks.per_query import FNA, RankMargin
from plugins.defense.goat import GOAT
from plugins.errors import InputError
from tests.helpers.attack_models import everything

HEIGHT, WIDTH = 8, 6
WEIGHT = torch.ones(1, requires_grad=True)


class Network(nn.Module):
    """A plain module: images in [0, 255] in, features out; it normalizes its input in place."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Dropout(0.5), nn.Flatten()
        )

    def forward(self, images):
        return self.body(images.sub_(128).div_(64))


def network():
    torch.manual_seed(0)
    return Network()


def waves(images):
    """A bare function; images in [0, 255] in, features out."""
    generator = torch.Generator().manual_seed(0)
    pixels = images[0].numel()
    mix = torch.randn(pixels, 12, generator=generator)
    return (images.flatten(1) / 60 @ mix).sin()


def side(people, each, seed, **more):
    generator = torch.Generator().manual_seed(seed)
    number = people * each
    looks = torch.randint(98, 159, (people, 3, HEIGHT, WIDTH), generator=torch.Generator())
    noise = torch.randint(-30, 31, (number, 3, HEIGHT, WIDTH), generator=generator)
    images = (looks.repeat_interleave(each, dim=0) + noise).clamp(0, 255).float()
    return {"images": images, "targets": torch.arange(people).repeat_interleave(each), **more}


@pytest.mark.parametrize("model", [network(), waves], ids=["module", "function"])
def test_rank_1_falls_within_the_budget_without_a_config(model):
    batch, gallery = side(6, 1, seed=1), side(6, 2, seed=2)
    before = copy.deepcopy(batch)
    attack = RankMargin(eps=24)
    adversarial = attack(model, batch, gallery)
    delta = adversarial["images"] - batch["images"]
    assert 1 < delta.abs().max() <= 24 + 1e-4
    assert adversarial["images"].min() >= 0 and adversarial["images"].max() <= 255
    assert all(torch.equal(batch[key], before[key]) for key in before)
    assert adversarial["targets"] is batch["targets"]

    def right(images):
        module = model.eval() if isinstance(model, nn.Module) else model
        with torch.no_grad():
            queries, items = module(images.clone()), module(gallery["images"].clone())
        cosines = torch.cosine_similarity(queries[:, None], items[None], dim=2)
        return (gallery["targets"][cosines.argmax(dim=1)] == batch["targets"]).float().mean()

    assert right(adversarial["images"]) < right(batch["images"])


def test_a_module_is_attacked_in_evaluation_mode_and_left_as_it_was():
    model, batch, gallery = network().train(), side(4, 1, 1), side(4, 2, 2)
    model.body[0].weight.requires_grad_(False)
    before = everything(model)
    first, again = (FNA(eps=8)(model, batch, gallery)["images"] for _ in range(2))
    assert torch.equal(first, again)  # dropout is off
    assert everything(model) == before


def test_it_is_run_with_guides_of_the_same_features():
    batch, gallery = side(4, 2, 1), side(4, 3, 2)
    attack = FNA(eps=8)
    camids = torch.arange(8) % 3, torch.arange(12) % 3
    for junk, cameras in (("none", False), ("camera", True), ("none", True)):
        if cameras:
            batch, gallery = batch | {"camids": camids[0]}, gallery | {"camids": camids[1]}
        known = [side["targets"] for side in (batch, gallery)]
        known += camids if cameras else known
        guides = Guides.from_features(
            waves(batch["images"]), waves(gallery["images"]), *known, metric="euclidean", junk=junk
        )
        expected = attack.run(lambda some: waves(some["images"]), batch, guides).images
        chosen = junk if (junk, cameras) == ("none", True) else None
        found = attack(waves, batch, gallery, metric="euclidean", junk=chosen)["images"]
        assert torch.equal(found, expected)
    features = {"features": waves(gallery["images"]), "targets": gallery["targets"]}
    images = attack(waves, batch, features, metric="euclidean", junk=None)["images"]
    assert torch.equal(
        images, attack(waves, side(4, 2, 1), side(4, 3, 2), metric="euclidean")["images"]
    )


def test_unsigned_bytes_and_clips_are_taken():
    batch, gallery = side(4, 1, 1), side(4, 2, 2)
    expected = FNA(eps=8)(waves, batch, gallery)["images"]
    sides = [{**one, "images": one["images"].to(torch.uint8)} for one in (batch, gallery)]
    assert torch.equal(FNA(eps=8)(waves, *sides)["images"], expected)
    sides = [{**one, "images": one["images"].unsqueeze(1)} for one in (batch, gallery)]
    assert torch.equal(FNA(eps=8)(waves, *sides)["images"][:, 0], expected)


def test_defaults_are_the_published_recipe_and_8_gray_levels():
    attack = FNA()
    assert attack.threat == ThreatModel(eps=8.0) and attack.recipe == FNA.published(8.0)
    assert FNA(eps=4).threat.eps == 4 and FNA(ThreatModel("l2", 99.0)).threat.norm == "l2"
    assert FNA(recipe=FNA.strong(8.0)).recipe.optimizer == "apgd"
    goat = GOAT(eps=8)
    assert (goat.positives, goat.negatives) == (4, 1)
    assert (GOAT(eps=8)(waves, side(4, 1, 1), side(4, 2, 2))["images"] >= 0).all()


@pytest.mark.parametrize(
    ("model", "changed", "message"),
    [
        (waves, {"targets": None}, "the batch has no 'targets'; found images"),
        (waves, {"images": None, "features": torch.ones(4, 12)}, "the batch has no 'images'"),
        (waves, {"images": torch.rand(4, 3, HEIGHT, WIDTH) - 0.5}, r"expected \[0, 255\]"),
        (lambda images: waves(images).detach(), {}, "no gradient with respect to the images"),
        (
            lambda images: waves(images.detach()) * torch.ones(1, requires_grad=True),
            {},
            "no gradient",
        ),
        (lambda images: waves(images)[:2], {}, r"returned \(2, 12\) for 4 images; expected"),
        (lambda images: waves(images).numpy(), {}, "returned ndarray for 4 images"),
        (lambda images: waves(images) / 0, {}, "FNA: the objective is NaN or infinite for rows"),
    ],
)
def test_what_cannot_be_attacked_is_told(model, changed, message):
    batch = {key: value for key, value in (side(4, 1, 1) | changed).items() if value is not None}
    with pytest.raises(InputError, match=message):
        FNA(eps=8)(model, batch, side(4, 2, 2))


@pytest.mark.parametrize(
    ("gallery", "more", "message"),
    [
        ({"images": torch.zeros(1, 3, HEIGHT, WIDTH)}, {}, "the gallery has no 'targets'"),
        ({"targets": torch.zeros(1)}, {}, "the gallery has no 'images'; found targets"),
        ({"features": torch.zeros(0, 12), "targets": torch.zeros(0)}, {}, "expected one or more"),
        ({"features": torch.zeros(3, 5), "targets": torch.zeros(3)}, {}, "of length 12"),
        ({"features": torch.full((3, 12), torch.nan), "targets": torch.zeros(3)}, {}, "are NaN or"),
        ({"features": torch.zeros(3, 12) + 0j, "targets": torch.zeros(3)}, {}, "are complex; exp"),
        (side(4, 2, 2), {"junk": "cameras"}, "no junk rule 'cameras'; known: "),
        (side(4, 2, 2), {"metric": "manhattan"}, "TEST.METRIC: 'manhattan'"),
        (side(4, 2, 2), {"junk": "camera"}, "junk 'camera' needs 'camids'"),
    ],
)
def test_what_cannot_guide_is_told(gallery, more, message):
    with pytest.raises(InputError, match=message):
        FNA(eps=8)(waves, side(4, 1, 1), gallery, **more)


def test_a_budget_is_given_once_and_a_seed_is_one_of_numpys():
    with pytest.raises(InputError, match=r"FNA: eps 8 beside a threat model of eps 4"):
        FNA(ThreatModel(eps=4.0), eps=8)
    with pytest.raises(InputError, match=r"ATTACK\.EPS: -1; expected 0 or more"):
        FNA(eps=-1)
    with pytest.raises(InputError, match=r"ATTACK\.SEED: -1; expected 0 to 4294967295"):
        FNA(eps=8, seed=-1)


@pytest.mark.parametrize("kind", [UAP, CAPlus])
def test_an_attack_that_learns_from_a_data_set_asks_for_it(kind):
    attack, batch, gallery = kind(eps=8), side(4, 1, 1), side(4, 2, 2)
    with pytest.raises(InputError, match=f"{kind.__name__} learns from a whole data set"):
        attack(waves, batch, gallery)

    def features_of(some):
        return waves(some["images"])

    guides = Guides.from_batches(features_of, batch, gallery, metric="cosine")
    prepared = attack.prepare(features_of, [(batch, guides)])
    assert (prepared(waves, batch, gallery)["images"] != batch["images"]).any()


def test_more_steps_are_a_recipe():
    batch, gallery = side(4, 1, 1), side(4, 2, 2)
    results = [
        RankMargin(recipe=Recipe(steps=steps, step_size=1.0), eps=8)(waves, batch, gallery)
        for steps in (1, 20)
    ]
    moved = [(result["images"] - batch["images"]).abs().mean() for result in results]
    assert moved[0] < moved[1]


def test_a_budget_in_shares_of_255_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        FNA(eps=7.5 / 255)(waves, side(4, 1, 1), side(4, 2, 2))
    assert "ATTACK.EPS: 0.0294118 is less than one gray level" in caplog.text
    with pytest.raises(InputError, match=r"FNA: 15 steps of 1 reach 15, less than ATTACK\.EPS 60"):
        FNA(ThreatModel("l2", 60.0))(waves, side(4, 1, 1), side(4, 2, 2))


def shares(one):
    return {**one, "images": one["images"] / 255}


def test_images_in_shares_of_255_are_warned_of_on_either_side_once(caplog):
    batch, gallery = side(4, 1, 1), side(4, 2, 2)
    FNA(eps=8)(waves, batch, gallery)
    assert " lie in " not in caplog.text
    FNA(eps=8)(waves, shares(batch), gallery)
    FNA(eps=8)(waves, batch, shares(gallery))
    FNA(eps=8)(waves, batch, shares(gallery))
    told = [record.getMessage() for record in caplog.records if " lie in " in record.getMessage()]
    assert [line.split(" lie in ")[0] for line in told] == [
        "attack: images",
        "attack: gallery images",
    ]
    assert all("images and budgets are in gray levels, 0 to 255" in line for line in told)


def test_attack_run_warns_of_shares_too(caplog):
    batch, gallery = shares(side(4, 1, 1)), side(4, 2, 2)

    def features_of(some):
        return waves(some["images"])

    known = [one["targets"] for one in (batch, gallery)] * 2
    features = features_of(batch), features_of(gallery)
    guides = Guides.from_features(*features, *known, metric="cosine", junk="none")
    FNA(eps=8).run(features_of, batch, guides)
    assert "at most one gray level" in caplog.text


def test_black_images_are_in_gray_levels(caplog):
    black = {**side(4, 1, 1), "images": torch.zeros(4, 3, HEIGHT, WIDTH)}
    FNA(ThreatModel(eps=8))(waves, black, side(4, 2, 2))
    assert " lie in " not in caplog.text


def test_the_range_of_the_gallery_is_checked_as_that_of_the_batch():
    gallery = side(4, 2, 2)
    for images in (
        gallery["images"] / 127.5 - 1,
        gallery["images"] * 2,
        gallery["images"] * torch.nan,
    ):
        with pytest.raises(
            InputError, match=r"attack: gallery images lie in \[.*expected \[0, 255"
        ):
            FNA(eps=8)(waves, side(4, 1, 1), {**gallery, "images": images})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        *(
            (lambda eps=eps: FNA(eps=eps), rf"ATTACK\.EPS: {found}; expected a number, 0 or m")
            for eps, found in (("8", "'8'"), ([8], r"\[8\]"), (True, "True"))
        ),
        (lambda: FNA(eps=10**400), r"ATTACK\.EPS: 1000.*; expected a number, 0 or more"),
        (lambda: FNA(eps=float("nan")), r"ATTACK\.EPS: nan; expected a finite number"),
        (
            lambda: FNA(eps=8, seed=1.5),
            r"ATTACK\.SEED: 1\.5; expected a whole number, 0 to 4294967295",
        ),
        (lambda: FNA(eps=8, seed=None), r"ATTACK\.SEED: None; expected a whole number"),
        (lambda: FNA(eps=8, seed=2**32), r"ATTACK\.SEED: 4294967296; expected 0 to 4294967295"),
        (
            lambda: ThreatModel(sparse_frames=1.5),
            r"SPARSE_FRAMES: 1\.5; expected a whole number, 1 or more",
        ),
        (lambda: Recipe(restarts=0), r"Recipe: restarts 0; expected 1 or more"),
        (lambda: Recipe(eot=0), r"Recipe: eot 0; expected 1 or more"),
        (lambda: Recipe(steps=-1), r"Recipe: steps -1; expected 0 or more"),
        (lambda: Recipe(steps=1.5), r"Recipe: steps 1\.5; expected 0 or more, a whole number"),
        (lambda: Recipe(step_size=float("nan")), r"Recipe: step_size nan; expected 0 or more"),
    ],
)
def test_a_wrong_argument_is_refused_when_it_is_given(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_an_optimizer_that_does_not_exist_is_refused():
    message = r"Recipe: optimizer 'adam'; expected sign, apgd, square"
    with pytest.raises(InputError, match=message):
        FNA(ThreatModel(eps=8), Recipe("adam"))(waves, side(4, 1, 1), side(4, 2, 2))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": torch.zeros(0, 3, HEIGHT, WIDTH)}, r"images of the {} are \(0, 3, 8, 6\)"),
        ({"images": torch.zeros(3, HEIGHT, WIDTH)}, r"images of the {} are \(3, 8, 6\); expected"),
        ({"images": torch.zeros(4, HEIGHT, WIDTH, 3)}, r"images of the {} are .*; expected 3 chan"),
        ({"images": [1, 2, 3, 4]}, "images of the {} are list; expected a tensor"),
        ({"images": torch.zeros(4, 3, HEIGHT, WIDTH).numpy()}, r"images of the {} are ndarray"),
        ({"targets": torch.zeros(2)}, r"the {} has 2 targets for 4 images; expected one for each"),
        ({"targets": torch.zeros(4, 1)}, r"the {} has targets \(4, 1\) for 4 images; expected one"),
        ({"targets": list("abcd")}, r"targets of the {} are .*'a'.*; expected whole numbers"),
    ],
)
@pytest.mark.parametrize("name", ["batch", "gallery"])
def test_a_side_that_is_none_is_refused(name, changed, message):
    sides = {"batch": side(4, 1, 1), "gallery": side(4, 1, 2)}
    sides[name] |= changed
    with pytest.raises(InputError, match=message.format(name)):
        FNA(eps=8)(waves, sides["batch"], sides["gallery"])


@pytest.mark.parametrize("name", ["batch", "gallery"])
def test_images_alone_are_no_side(name):
    sides = {"batch": side(4, 1, 1), "gallery": side(4, 1, 2)}
    sides[name] = sides[name]["images"]
    message = f"the {name} is Tensor; expected a dict with 'images' and 'targets'"
    with pytest.raises(InputError, match=message):
        FNA(eps=8)(waves, sides["batch"], sides["gallery"])


def test_images_of_inference_mode_are_attacked_as_others_are():
    with torch.inference_mode():
        batch, gallery = side(4, 1, 1), side(4, 1, 2)
    found = FNA(eps=8)(waves, batch, gallery)["images"]
    assert torch.equal(found, FNA(eps=8)(waves, side(4, 1, 1), side(4, 1, 2))["images"])


def test_a_model_that_is_none_is_refused():
    with pytest.raises(InputError, match="the model is int; expected a callable"):
        FNA(eps=8)(3, side(4, 1, 1), side(4, 1, 2))
