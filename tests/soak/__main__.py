"""``python -m tests.soak``: all of it, about 20 minutes on two cores; figures go to soak.json."""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from plugins.synthetic import MARKET1501, SyntheticSettings, render_hitsz_vcm, render_layout
from plugins.utils.io import write_json
from tests.soak.accidents import full_disk, lost_rank, two_runs
from tests.soak.inputs import hostile_inputs
from tests.soak.kills import kill_and_resume, subjects
from tests.soak.mutations import mutate_checkpoints


def parse_arguments() -> argparse.Namespace:
    """How much, and where the figures go."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="shared by four kinds of runs")
    parser.add_argument("--mutations", type=int, default=3000, help="of a checkpoint")
    parser.add_argument("--inputs", type=int, default=500, help="configs, tables, images: of each")
    parser.add_argument("--seed", type=int, default=0, help="of every draw")
    parser.add_argument("--out", type=Path, default=Path("soak.json"), help="file of the figures")
    return parser.parse_args()


def render(root: Path) -> tuple[Path, Path]:
    """Two FASTREID_DATASETS folders: a small HITSZ-VCM and a small Market-1501."""
    small = SyntheticSettings(train_ids=6, test_ids=4, height=32, width=16)
    render_hitsz_vcm(root / "videos/HITSZ-VCM", small, workers=1)
    render_layout(MARKET1501, root / "images/Market-1501-v15.09.15", small)
    return root / "videos", root / "images"


def soak(arguments: argparse.Namespace, root: Path) -> dict:
    """All figures by kind."""
    generator = random.Random(arguments.seed)
    videos, images = render(root)
    found: dict = {"kills": {}}
    kinds = subjects(videos, images, root)
    for number, subject in enumerate(kinds):
        kills = arguments.kills // len(kinds) + (number < arguments.kills % len(kinds))
        found["kills"][subject.name] = kill_and_resume(
            subject, root / subject.name, kills, generator
        )
        print(subject.name, json.dumps(found["kills"][subject.name]), flush=True)
    folders = {name: root / name for name in ("mutations", "inputs", "disk", "accidents")}
    for folder in folders.values():
        folder.mkdir()
    found["mutations"] = mutate_checkpoints(folders["mutations"], arguments.mutations, generator)
    found["inputs"] = hostile_inputs(folders["inputs"], arguments.inputs, generator)
    found["full disk"] = full_disk(videos, folders["disk"], generator)
    found["two runs"] = two_runs(videos, folders["accidents"])
    found["lost rank"] = lost_rank(videos, folders["accidents"])
    return found


def faults(found: dict) -> list[str]:
    """What is not as it should be."""
    wrong = [f"{name}: {run['different']}" for name, run in found["kills"].items()]
    wrong = [line for line in wrong if not line.endswith("[]")]
    for name in ("silently different", "tracebacks", "payloads run"):
        if found["mutations"][name]:
            wrong.append(f"mutations: {name} {found['mutations'][name]}")
    wrong += [f"input: {line}" for line in found["inputs"]["tracebacks"]]
    if found["inputs"]["payloads run"]:
        wrong.append("a payload of an input ran")
    disk, two, lost = found["full disk"], found["two runs"], found["lost rank"]
    if disk and not (disk["status"] and disk["tells"] and disk["whole"] and not disk["damaged"]):
        wrong.append(f"full disk: {disk}")
    if two["statuses"] != [0, 2] or not two["tells"]:
        wrong.append(f"two runs: {two}")
    if not (lost["status"] and lost["tells"]):
        wrong.append(f"lost rank: {lost}")
    return wrong


def main() -> int:
    """Soak, print and write the figures; exit status 1 if anything is wrong."""
    arguments = parse_arguments()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        found = soak(arguments, Path(root).resolve())
    found["minutes"] = round((time.monotonic() - began) / 60, 1)
    wrong = found["faults"] = faults(found)
    write_json(arguments.out, found)
    kills = sum(run["kills"] for run in found["kills"].values())
    different = sum(len(run["different"]) for run in found["kills"].values())
    mutations, inputs = found["mutations"], found["inputs"]
    print(f"kills {kills}, different tensors {different}")
    print(
        f"mutations {mutations['mutations']}, tracebacks {mutations['tracebacks']}, silently "
        f"different contents {mutations['silently different']}"
    )
    print(
        f"hostile inputs {inputs['inputs']}, tracebacks {len(inputs['tracebacks'])}, payloads run "
        f"{mutations['payloads run'] + inputs['payloads run']}"
    )
    for name in ("full disk", "two runs", "lost rank"):
        print(f"{name}: {json.dumps(found[name])}")
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    print(f"{found['minutes']} minutes; figures: {arguments.out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
