"""Slots filled by a generator that is not a diffusion model: the interface is all it needs."""

import pytest
import torch
from PIL import Image

from plugins.balancing.filling import acceptance_table, fill_slots
from plugins.balancing.filters import CandidateFilter
from plugins.balancing.pictures import (
    COLORS,
    HEADER,
    HEIGHT,
    MARGIN,
    draw_charts,
    draw_sheet,
    tally,
)
from plugins.balancing.planner import FEW, ONE_CAMERA, Slot
from plugins.balancing.tables import (
    MADE_WITH,
    MANIFEST,
    PLAN,
    Outcome,
    read_table,
    write_table,
)
from plugins.data.frames import read_frame
from plugins.errors import InputError
from tests.helpers.balancing_toys import CAMERAS, PEOPLE, Painter, picture, write_photographs

SLOTS = [
    Slot(0, "ann", "1", FEW),
    Slot(1, "ann", "2", ONE_CAMERA),
    Slot(2, "ann", "1", FEW),
    Slot(3, "cid", "2", ONE_CAMERA),
]


def color(images):
    return images[:, :, 4:].float().mean(dim=(2, 3))


@pytest.fixture
def judges():
    prototypes = color(torch.stack([picture(person, "1") for person in PEOPLE]))

    def probabilities(images):
        light = images[:, 0, :4].float().mean(dim=(1, 2)) / 255
        return torch.stack([light, 1 - light], dim=1)

    return CandidateFilter(color, prototypes, list(PEOPLE), probabilities, list(CAMERAS), top=1)


def fill(slots, judges, folder, generator=None, seed=7, **made_with):
    generator, made_with = generator or Painter(), {"GUIDANCE": 1.0, **made_with}
    return fill_slots(
        slots, generator, lambda: judges, folder, candidates=3, seed=seed, made_with=made_with
    )


def test_each_slot_gets_its_image_and_one_without_stays_empty(judges, tmp_path):
    outcomes = fill(SLOTS, judges, tmp_path)
    assert [row[:4] for row in outcomes] == SLOTS
    assert [row.path for row in outcomes] == [*(f"images/00000{i}.png" for i in range(3)), ""]
    assert [row.accepted for row in outcomes] == [3, 3, 3, 0]
    assert all((row.is_pseudo, row.seed, row.candidates) == (1, 7, 3) for row in outcomes)
    assert read_table(tmp_path / MANIFEST, Outcome) == outcomes
    for row in outcomes[:3]:
        image = read_frame(str(tmp_path / row.path))
        shades = [picture(row.person, row.camera, 5 * number) for number in range(6)]
        assert any(torch.equal(image, shade) for shade in shades)
    first, third = (read_frame(str(tmp_path / outcomes[place].path)) for place in (0, 2))
    assert not torch.equal(first, third)


def test_filling_goes_on_where_it_stopped(judges, tmp_path):
    whole = fill(SLOTS, judges, tmp_path / "whole")

    class Stopping(Painter):
        def generate(self, person, camera, n):
            if person == "cid":
                raise KeyboardInterrupt
            return super().generate(person, camera, n)

    with pytest.raises(KeyboardInterrupt):
        fill(SLOTS, judges, tmp_path / "stopped", Stopping())
    generator = Painter()
    assert fill(SLOTS, judges, tmp_path / "stopped", generator) == whole
    assert generator.asked == [("cid", "2", 3)]
    for path in (tmp_path / "whole").rglob("*.*"):
        other = tmp_path / "stopped" / path.relative_to(tmp_path / "whole")
        assert path.read_bytes() == other.read_bytes()


def test_no_judge_is_made_where_no_slot_is_missing(judges, tmp_path):
    outcomes = fill(SLOTS, judges, tmp_path)
    options = {"candidates": 3, "seed": 7, "made_with": {"GUIDANCE": 1.0}}
    asked = []
    assert fill_slots(SLOTS, Painter(), lambda: asked.append(1), tmp_path, **options) == outcomes
    assert asked == []


@pytest.mark.parametrize("change", ["plan", "seed"])
def test_another_plan_or_seed_does_not_mix_with_what_is_there(change, judges, tmp_path):
    fill(SLOTS, judges, tmp_path)
    slots = [SLOTS[0]._replace(camera="2"), *SLOTS[1:]] if change == "plan" else SLOTS
    with pytest.raises(InputError, match="slot 0 was filled for another plan"):
        fill(slots, judges, tmp_path, seed=8 if change == "seed" else 7)


def test_images_of_another_making_do_not_mix_with_what_is_there(judges, tmp_path):
    fill(SLOTS[:2], judges, tmp_path)
    with pytest.raises(InputError, match=r"made_with\.json: GUIDANCE was 1\.0, now it is 2\.5"):
        fill(SLOTS, judges, tmp_path, GUIDANCE=2.5)
    (tmp_path / MADE_WITH).unlink()
    with pytest.raises(InputError, match="GUIDANCE was not recorded, now it is"):
        fill(SLOTS, judges, tmp_path)
    assert len(read_table(tmp_path / MANIFEST, Outcome)) == 2


@pytest.mark.parametrize(("slot", "asked"), [(1, ("ann", "2", 3)), (2, ("ann", "1", 6))])
def test_a_lost_image_is_made_again(judges, tmp_path, slot, asked):
    outcomes, generator = fill(SLOTS, judges, tmp_path), Painter()
    picture_file = tmp_path / outcomes[slot].path
    content = picture_file.read_bytes()
    picture_file.unlink()
    assert fill(SLOTS, judges, tmp_path, generator) == outcomes
    assert generator.asked == [asked] and picture_file.read_bytes() == content


def test_acceptance_is_counted_for_each_reason(judges, tmp_path):
    lines = acceptance_table(fill(SLOTS, judges, tmp_path)).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [
        [FEW, "2", "2", "6", "6", "100.0 %"],
        [ONE_CAMERA, "2", "1", "6", "3", "50.0 %"],
        ["total", "4", "3", "12", "9", "75.0 %"],
    ]


def test_an_empty_plan_has_an_empty_manifest(judges, tmp_path):
    assert fill([], judges, tmp_path) == read_table(tmp_path / MANIFEST, Outcome) == []


@pytest.mark.slow
def test_the_pictures_show_what_the_manifest_lists(judges, tmp_path):
    photographs = write_photographs(tmp_path / "real", [("ann", "1"), ("bob", "2"), ("cid", "1")])
    outcomes = fill(SLOTS, judges, tmp_path)
    real, added = tally(photographs, outcomes, part=0)
    assert real == {"ann": 2, "bob": 2, "cid": 2}
    assert (added[FEW], added[ONE_CAMERA]) == ({"ann": 2}, {"ann": 1})
    assert tally(photographs, outcomes, part=1)[1][ONE_CAMERA] == {"2": 1}
    draw_sheet(tmp_path / "sheet.png", photographs, outcomes, tmp_path)
    draw_charts(tmp_path / "charts.png", photographs, outcomes)
    with Image.open(tmp_path / "sheet.png") as sheet:
        colors = {color for _, color in sheet.convert("RGB").getcolors(2**24)}
    assert {PEOPLE["ann"], PEOPLE["cid"], CAMERAS["2"]} <= colors


@pytest.mark.parametrize("reasons", [(FEW,), (ONE_CAMERA,), (FEW, ONE_CAMERA), (ONE_CAMERA, FEW)])
def test_a_pair_is_named_by_all_its_reasons(reasons, judges, tmp_path):
    photographs = write_photographs(tmp_path / "real", [("ann", "1")])
    slots = [Slot(number, "ann", "1", reason) for number, reason in enumerate(reasons)]
    draw_sheet(tmp_path / "sheet.png", photographs, fill(slots, judges, tmp_path), tmp_path)
    with Image.open(tmp_path / "sheet.png") as sheet:
        bar = [sheet.getpixel((MARGIN, HEADER + row)) for row in range(HEIGHT)]
    found = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in bar]
    expected = [COLORS[reason] for reason in sorted(reasons)]
    assert list(dict.fromkeys(found)) == expected
    assert found.count(expected[0]) == HEIGHT // len(expected)


def test_a_sheet_without_an_image_names_it(judges, tmp_path):
    outcomes = fill(SLOTS, judges, tmp_path)
    (tmp_path / outcomes[2].path).unlink()
    with pytest.raises(
        InputError, match=r"02\.png: no such file; python tools/balance_data\.py gen"
    ):
        draw_sheet(tmp_path / "sheet.png", [], outcomes, tmp_path)


def test_tables_survive_and_name_their_faults(tmp_path):
    path = tmp_path / PLAN
    slots = [Slot(0, 'a "b", c', "1", FEW)]
    write_table(path, Slot, slots)
    assert read_table(path, Slot) == slots
    with pytest.raises(InputError, match=r"plan\.csv:1: found the columns"):
        read_table(path, Outcome)
    path.write_text(path.read_text().replace("0,", "x,"))
    with pytest.raises(InputError, match=r"plan\.csv:2: invalid literal"):
        read_table(path, Slot)
    with pytest.raises(InputError, match=r"no such file; python tools/balance_data\.py generate"):
        read_table(tmp_path / MANIFEST, Outcome)
    header, row = "slot,person,camera,reason\n", "0,a,b,few\n"
    for text, fault in (
        ("", ":1: found the columns"),
        (header + row + "1,a,b\n", ":3: found 3 cells; expected 4, as in the header"),
        (header + row + '1,"a,b,few\n', ":3: found 2 cells; expected 4, as in the header"),
        (header + row + f'1,"a,b,few\n{row * 20_000}', ":3: no row: field larger than"),
        (header + "1,a,b,few\n" + "\0" * 5, ":3: found 1 cells"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=f"plan\\.csv{fault}") as told:
            read_table(path, Slot)
        assert "\n" not in str(told.value)
