"""Render a stand-in data set: walking people in visible light and infrared, as HITSZ-VCM on disk.

python tools/make_synthetic.py --preset quick --out datasets/HITSZ-VCM --seed 0
python tools/make_synthetic.py --layout bupt-campus --out datasets/BUPTCampus
python tools/make_synthetic.py --layout market1501 --out datasets/Market-1501-v15.09.15

The same people at another site (--sheet-site shows both), and people whom gait alone tells apart:

python tools/make_synthetic.py --site-seed 7 --out other/HITSZ-VCM --sheet two.png --sheet-site 0
python tools/make_synthetic.py --gait-only --gait-speed --likeness 0.4 --out gait/HITSZ-VCM
"""

import argparse
import dataclasses
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_workers, check_workers, command, new_parser, without_torch

if TYPE_CHECKING:
    from plugins.synthetic.settings import SyntheticSettings

LAYOUTS = ("hitsz-vcm", "bupt-campus", "market1501")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line; an option for each setting overrides the preset."""
    with without_torch("plugins.synthetic"):
        from plugins.synthetic.settings import PRESETS, SyntheticSettings, kind_of
    parser = new_parser(__doc__)
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="quick",
        help="values of all settings below; quick by default",
    )
    parser.add_argument("--layout", choices=LAYOUTS, default="hitsz-vcm", help="on disk")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    about = SyntheticSettings.__doc__ or ""
    for field in dataclasses.fields(SyntheticSettings):
        values = {name: getattr(preset, field.name) for name, preset in PRESETS.items()}
        add_option(parser, field, kind_of(field), about, values)
    parser.add_argument("--sheet", type=Path, help="also save a contact sheet, a PNG file")
    parser.add_argument(
        "--sheet-site", type=int, help="site_seed of a second site on the contact sheet"
    )
    parser.add_argument(
        "--ceiling",
        action="store_true",
        help="also print what an oracle reaches on the test people that sees their joints, located "
        "to a pixel: a bound for what body and gait can tell, by clips of 8 frames at stride 2",
    )
    add_workers(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a rendered data set of other settings"
    )
    return parser.parse_args()


def add_option(
    parser: argparse.ArgumentParser,
    field: dataclasses.Field,
    kind: type,
    about: str,
    values: dict[str, object],
) -> None:
    """Add the option of one setting.

    Args:
        parser: of the command.
        field: the setting.
        kind: type of its values.
        about: docstring of all settings, which holds its meaning.
        values: its value in each preset.
    """
    meaning = re.search(rf"^ +{field.name}: (.*?)(?=^ +\w+: |\Z)", about, re.M | re.S)
    assert meaning, f"SyntheticSettings does not document {field.name}"
    default = ", ".join(f"{name} {value}" for name, value in values.items())
    default = f"{field.default} by default" if len(set(values.values())) == 1 else default
    text = " ".join(f"{meaning[1].replace('``', '')} [{default}]".split()).replace("%", "%%")
    how = {"action": argparse.BooleanOptionalAction} if kind is bool else {"type": kind}
    option = "--" + field.name.replace("_", "-")
    parser.add_argument(option, help=text, default=argparse.SUPPRESS, **how)


def print_counts(counts: dict[str, dict[str, int]]) -> None:
    """Print one line for each split, modality and camera."""
    columns = ("identities", "tracklets", "frames")
    print(f"{'split':11}{'modality':10}{'camera':>6}" + "".join(f"{name:>12}" for name in columns))
    for key, cell in counts.items():
        split, modality, camera = key.split("/")
        cells = "".join(f"{cell[name]:12,}" for name in columns)
        print(f"{split:11}{modality:10}{camera:>6}{cells}")
    totals = (sum(cell[name] for cell in counts.values()) for name in columns[1:])
    print(f"{'total':39}" + "".join(f"{total:12,}" for total in totals))


def print_ceiling(settings: "SyntheticSettings") -> None:
    """Print a line per direction: what walks tell in order, and as sets of frames."""
    from plugins.synthetic.oracle import ceiling

    ordered, unordered = (ceiling(settings, ordered=order) for order in (True, False))
    seen = "gait" if settings.gait_only else "body and gait"
    for direction, scores in ordered.items():
        print(
            f"ceiling of {seen}, {direction}: mAP {scores['mAP']:.1f} in order, "
            f"{unordered[direction]['mAP']:.1f} as a set of frames ({scores['queries']} queries)"
        )


@command(parse_arguments, kept="the data set is not whole; the same command renders it anew")
def main(args: argparse.Namespace) -> None:
    """Render, count, show."""
    from plugins.errors import InputError, require_output
    from plugins.synthetic import layouts
    from plugins.synthetic.settings import PRESETS, SyntheticSettings
    from plugins.synthetic.sheet import save_sheet
    from plugins.synthetic.writers import render_layout

    arguments = vars(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = {field.name for field in dataclasses.fields(SyntheticSettings)}
    chosen = {name: value for name, value in arguments.items() if name in names}
    check_workers(arguments["workers"])
    require_output("--out", arguments["out"])
    if arguments["sheet"]:
        require_output("--sheet", arguments["sheet"], ".png")
    settings = dataclasses.replace(PRESETS[arguments["preset"]], **chosen)
    shown = [settings]
    if arguments["sheet_site"] is not None:
        if not arguments["sheet"]:
            raise InputError(f"--sheet-site {arguments['sheet_site']}: expected --sheet, too")
        shown.append(dataclasses.replace(settings, site_seed=arguments["sheet_site"]))
    counts = render_layout(
        layouts.LAYOUTS[arguments["layout"]],
        arguments["out"],
        settings,
        arguments["workers"],
        arguments["overwrite"],
    )
    print_counts(counts)
    print(f"data set: {arguments['out']}")
    if arguments["ceiling"]:
        print_ceiling(settings)
    if arguments["sheet"]:
        save_sheet(arguments["sheet"], *shown)
        print(f"contact sheet: {arguments['sheet']}")


if __name__ == "__main__":
    main()
