"""A report from Python: of a function, of a module; what it says when the input is wrong."""

import json

import pytest
import torch
from torch import nn

from plugins import robustness_report
from plugins.data import build_test_loader
from plugins.errors import InputError
from plugins.robustness.levels import LEVELS
from tests.helpers.robust_subjects import HEIGHT, TINY, WIDTH, Undefended, runner_of, tiny_cfg
from tests.helpers.small_market import render_market


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(LEVELS, "quick", TINY)


def sides(people=6, frames=None, seed=0):
    """Images of people: the same pattern in query and gallery, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (3, HEIGHT, WIDTH) if frames is None else (frames, 3, HEIGHT, WIDTH)
    patterns = torch.rand(people, *shape, generator=generator) * 200
    made = []
    for camera in (0, 1):
        noise = torch.rand(patterns.shape, generator=generator) * 20
        targets = torch.arange(people)
        made.append({"images": patterns + noise, "targets": targets,
                     "camids": torch.full((people,), camera)})  # fmt: skip
    return made


def stripes(images):
    """Give the mean color of each of 4 stripes, of an image or of the mean frame of a clip."""
    if images.dim() == 5:
        images = images.mean(dim=1)
    return images.unflatten(2, (4, -1)).mean(dim=(3, 4)).flatten(1) - 110


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.scale * stripes(images)


@pytest.mark.slow
def test_a_function_and_a_module_get_the_same_card(tmp_path):
    queries, gallery = sides()
    card = robustness_report(stripes, queries, gallery, out=tmp_path)
    other = robustness_report(Module(), queries, gallery, name="stripes")
    assert card["model"]["architecture"] == other["model"]["architecture"] == "stripes"
    for entry in ("clean", "worst", "people", "status", "data"):
        assert card[entry] == other[entry]
    assert card["clean"]["Rank-1"]["value"] == 100
    assert card["worst"]["mAP"]["value"] < 100
    assert json.loads((tmp_path / "memory_Q2G.json").read_text()) == json.loads(json.dumps(card))
    assert (tmp_path / "memory_Q2G.html").is_file()
    states = {check["id"]: check["state"] for check in card["checks"]}
    assert states["training_people"] == states["training_seeds"] == "SKIPPED"
    for check in ("zero_budget", "within_budget", "same_features", "right_gradient"):
        assert states[check] == "PASS", check


@pytest.mark.slow
def test_it_is_the_report_of_the_same_images_in_a_data_set(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(render_market(tmp_path / "data", test_ids=4)))
        runner = runner_of(Undefended(), tmp_path)
        loader, dataset = build_test_loader(tiny_cfg(tmp_path), "Market1501")
        batches = list(loader)
        whole = {
            key: torch.cat([batch[key] for batch in batches])
            for key in ("images", "targets", "camids")
        }
        expected = runner.worst_scores()
    number = len(dataset.query)
    queries = {key: values[:number] for key, values in whole.items()}
    gallery = {key: values[number:] for key, values in whole.items()}

    model = Undefended()
    card = robustness_report(
        lambda images: model({"images": images}), queries, gallery, name="Undefended", batch=24
    )
    assert card["worst"]["Rank-1"]["value"] == 100 * float(expected.hit.double().mean())
    assert card["worst"]["mAP"]["value"] == pytest.approx(100 * float(expected.ap.mean()))


@pytest.mark.slow
def test_some_of_the_queries_are_attacked():
    card = robustness_report(stripes, *sides(), attacked=4)
    assert card["data"]["queries"] == 4 < card["data"]["queries_of_set"] == 6


@pytest.mark.slow
def test_clips_and_other_budgets_are_alive():
    queries, gallery = sides(frames=2)
    weak, strong = (
        robustness_report(stripes, queries, gallery, eps=eps)["worst"]["mAP"]["value"]
        for eps in (0.5, 60.0)
    )
    assert strong < weak


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": None}, "queries have no 'targets'; found images, camids"),
        ({"camids": None}, "'camids' is on one side only; expected on both"),
        ({"images": torch.rand(6, 3, 8, 8) * 255}, r"expected the same but for the first number"),
        ({"images": torch.rand(6, 3, HEIGHT, WIDTH) * 300}, r"expected \[0, 255\]"),
        ({"camids": torch.ones(6)}, "no query has its person in the gallery, seen by another cam"),
        ({"camid": torch.ones(6)}, "queries: no key 'camid'; known: camids, "),
        (
            {"modalities": torch.full((6,), 2)},
            r"modalities of the queries hold 2; expected 0 \(vis",
        ),
        ({"modalities": [0, 1, 0, 1, 0, 0.5]}, r"modalities of the queries hold 0.5; expected 0"),
        ({"camids": torch.full((6,), float("nan"))}, "camids of the queries hold nan; expected wh"),
        ({"targets": torch.arange(6) > 3}, r"targets of the queries are torch.bool \(6,\); expect"),
        ({"targets": torch.zeros(6) + 1j}, "targets of the queries are torch.complex64"),
        ({"targets": torch.zeros(6, 1)}, r"targets of the queries are torch.float32 \(6, 1\)"),
        ({"targets": ["a"] * 6}, r"targets of the queries are \['a'.*; expected whole numbers"),
        ({"images": torch.zeros(6, 3, HEIGHT, WIDTH) > 1}, "images are of torch.bool; expected"),
        ({"images": torch.zeros(6, 3, HEIGHT, WIDTH) + 1j}, "images are of torch.complex64"),
        ({"targets": torch.arange(6) + 50}, "no query has its person in the gallery"),
    ],
)
def test_wrong_sides_are_named(change, message):
    queries, gallery = sides()
    queries = {key: value for key, value in {**queries, **change}.items() if value is not None}
    with pytest.raises(InputError, match=message):
        robustness_report(stripes, queries, gallery)


@pytest.mark.parametrize("side", [0, 1])
def test_a_side_that_is_no_mapping_is_named(side):
    both = sides()
    both[side] = [both[side]["images"], both[side]["targets"]]
    name = ("queries", "gallery")[side]
    with pytest.raises(InputError, match=f"{name}: found list; expected a mapping with images, "):
        robustness_report(stripes, *both)


@pytest.mark.parametrize("change", [lambda each: each + 0j, lambda each: each > 0])
def test_features_that_are_no_real_numbers_are_told(change):
    with pytest.raises(InputError, match=r"the model returned features of torch\.(complex64|bool)"):
        robustness_report(lambda images: change(stripes(images)), *sides())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "quik"}, "--level: 'quik'; expected quick"),
        ({"eps": -1.0}, r"ATTACK\.EPS"),
        ({"metric": "cosin"}, r"TEST\.METRIC"),
        ({"nrom": "l2"}, "no option 'nrom'; known: norm"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        robustness_report(stripes, *sides(), **options)
