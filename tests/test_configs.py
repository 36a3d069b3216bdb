"""Every file of configs/ is built on a small tree of its data set and trains one batch there."""

import csv
import functools
import json
import math
import re
import shlex
from pathlib import Path

import pytest
from fastreid.config import CfgNode
from fastreid.utils.events import EventStorage

import plugins  # noqa: F401  (registers the parts)
from plugins.config import flatten, setup_cfg
from plugins.data import build_dataset
from plugins.data.datasets import HITSZVCM, MODALITIES
from plugins.data.datasets.bupt_campus import OFFICIAL_BATCH
from plugins.data.datasets.manifest import COLUMNS, SPLITS
from plugins.engine import Trainer
from plugins.evaluation.table import COLUMNS as METRICS
from plugins.evaluation.views import options_suffix
from plugins.experiments import Row, read_ablation
from plugins.registry import DATASET, SAMPLER, known
from plugins.synthetic import BUPT_CAMPUS, MARKET1501, SyntheticSettings, render_layout
from tests.helpers import memory
from tests.helpers.hitsz_tree import write_frame
from tests.helpers.image_trees import write_llcm, write_regdb, write_sysu

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FILES = {str(path.relative_to(CONFIGS)): path for path in sorted(CONFIGS.rglob("*.yml"))}
RUNS = {name: path for name, path in FILES.items() if not path.name.startswith("Base-")}
PAGES = CONFIGS.parent / "docs"
# Lines "| set | `check` | `config` | rows |" of the table of published sets.
TABLE_ROWS = re.findall(
    r"^\| [^|`]+ \| `(\w+[^`]*)` \| `(\w+/[^`]*)` \| ([^|]*) \|$",
    (PAGES / "data.md").read_text(),
    re.M,
)
IMAGE_SETS = ("DukeMTMC", "VeRi", "MSMT17")

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def root(tmp_path_factory, datasets) -> Path:
    """A FASTREID_DATASETS folder with a small tree of every data set that a config names."""
    root = tmp_path_factory.mktemp("every-set")
    (root / "HITSZ-VCM").symlink_to(datasets / "HITSZ-VCM")
    settings = SyntheticSettings(train_ids=4, test_ids=3, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", settings)
    render_layout(BUPT_CAMPUS, root / "BUPTCampus", settings)
    add_visible_rows(root / "BUPTCampus")
    write_sysu(root)
    write_regdb(root)
    write_llcm(root)
    for path in root.rglob("*"):
        if path.suffix in (".jpg", ".bmp") and path.stat().st_size == 0:
            write_frame(path, seed=0)
    write_own(root)
    write_image_sets(root)
    return root


def add_visible_rows(folder: Path) -> None:
    """As many more visible tracklets as the official protocol of BUPTCampus needs."""
    index = json.loads((folder / "data_paths.json").read_text())
    for name in ("query", "gallery"):
        row = next(row for row in (folder / f"{name}.txt").read_text().split("\n") if "RGB" in row)
        pid, modality, camera, tracklet = row.split()
        tracklets = index[pid][modality][camera]
        with open(folder / f"{name}.txt", "a") as file:
            for number in range(OFFICIAL_BATCH):
                tracklets[f"{name}{number}"] = tracklets[tracklet]
                file.write(f"{pid} {modality} {camera} {name}{number}\n")
    (folder / "data_paths.json").write_text(json.dumps(index))


def write_own(root: Path) -> None:
    """A folder of pictures, and a table of clips, of what is in the other trees."""
    for number, path in enumerate((root / "Market-1501-v15.09.15").rglob("*.jpg")):
        person, camera = path.name.split("_")[:2]
        (root / "people" / person).mkdir(parents=True, exist_ok=True)
        (root / "people" / person / f"{camera}_{number}.jpg").symlink_to(path)
    data = HITSZVCM(root=str(root))
    with open(root / "manifest.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for split in SPLITS:
            for number, item in enumerate(getattr(data, split)):
                # Both test splits get both modalities, for both directions.
                part = split if split == "train" else SPLITS[1 + number % 2]
                cells = (item.pid, item.camid, MODALITIES[item.modality], number)
                for frame, path in enumerate(item.img_paths):
                    table.writerow([path, *cells, frame, part])


def write_image_sets(root: Path) -> None:
    """Three more of fastreid's image sets, with the pictures of Market-1501."""
    market = root / "Market-1501-v15.09.15"
    (root / "DukeMTMC-reID").symlink_to(market)  # the same folders, and names that it reads too
    lists = {"train": [], "val": [], "query": [], "gallery": []}
    parts = (("train", "train"), ("query", "query"), ("test", "gallery"))
    for part, split in parts:
        source = market / (part if part == "query" else f"bounding_box_{part}")
        for number, path in enumerate(sorted(source.iterdir())):
            person, camera = int(path.name[:4]), int(path.name[6])
            veri = root / "veri" / f"image_{part}" / f"{person:04d}_c{camera:03d}_{number}.jpg"
            name = f"{person:04d}/{split}_{number}_{camera:02d}_000.jpg"
            folder = "mask_train_v2" if split == "train" else "mask_test_v2"
            for link in (veri, root / "MSMT17_V2" / folder / name):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
            lists[split].append(f"{name} {person}")
    for split, lines in lists.items():
        (root / "MSMT17_V2" / f"list_{split}.txt").write_text("\n".join(lines))


def small(path: Path, output: Path, *options: str) -> CfgNode:
    """The config of a file with small frames and batches of two people; the network is as it is."""
    cfg = setup_cfg(str(path), list(options))
    cfg.OUTPUT_DIR = str(output)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.TEMPORAL.STIG.STRIPES = cfg.MODEL.TEMPORAL.STIG.COLUMNS = 2
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [32, 16]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.NUM_INSTANCE = 2
    cfg.SOLVER.IMS_PER_BATCH = 4 * SAMPLER.get(cfg.DATALOADER.SAMPLER_TRAIN).sides
    return cfg


def train_one_batch(cfg: CfgNode) -> float:
    """The loss of the first iteration of the run."""
    trainer = Trainer(cfg)
    with EventStorage(0) as trainer.storage:
        trainer.iter = 0
        trainer.run_step()
        loss = trainer.storage.history("total_loss").latest()
    del trainer
    memory.free()
    return loss


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_every_config_trains_a_batch_and_will_print_the_results_that_it_expects(
    name, root, tmp_path, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    cfg = small(RUNS[name], tmp_path)
    assert math.isfinite(train_one_batch(cfg))
    tasks = set()
    for data in cfg.DATASETS.TESTS:
        for direction, protocol in build_dataset(data, cfg=cfg).directions().items():
            assert all(len(rows) for trial in protocol.trials for rows in trial)
            tasks.add(f"{data}/{direction}{options_suffix(cfg)}")
    for task, metric, expected, tolerance in cfg.TEST.EXPECTED_RESULTS:
        assert task in tasks
        assert metric in METRICS
        assert 0 < tolerance < expected <= 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VVI/bupt_campus.yml", "VVI/images/sysu_mm01.yml"])
def test_sadstrm_trains_where_its_page_says_so(name, root, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    page = (PAGES / "sadstrm.md").read_text()
    (options,) = re.findall(r"`(MODEL.META_ARCHITECTURE SADSTRM [^`]*)`", page)
    assert math.isfinite(train_one_batch(small(RUNS[name], tmp_path, *options.split())))
    whole = dict(flatten(setup_cfg(str(RUNS["VVI/sadstrm.yml"]))))
    added = dict(flatten(setup_cfg(str(RUNS["VVI/baseline.yml"]), options.split())))
    assert [key for key in whole if whole[key] != added[key]] == ["OUTPUT_DIR"]


@functools.cache
def measured_rows() -> dict[str, Row]:
    return read_ablation(Path("projects/dddefense/ablation.yml")).rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("dddefense", "dddefense_with_clean"),
        ("metric_at_disc", "metric_at_disc"),
        ("metric_at_fnes", "metric_at_fnes"),
        ("metric_at_meta", "metric_at_meta"),
    ],
)
def test_a_rendered_run_of_dddefense_trains_what_the_ablation_measured(name, row, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    measured = measured_rows()[row].overrides
    own = dict(flatten(setup_cfg(str(RUNS[f"Defense/synthetic/{name}.yml"]))))
    differing = {key for key, value in measured.items() if own[key] != value}
    # The generated images are a choice of their own.
    assert differing <= {"DATASETS.NAMES", "DATALOADER.SAMPLER_TRAIN"}


def test_a_full_size_run_with_self_meta_has_the_inner_rate_of_the_rendered_one():
    for name in ("dddefense", "metric_at_meta"):
        alphas = [
            setup_cfg(str(RUNS[f"Defense/{folder}{name}.yml"])).DEFENSE.META.ALPHA
            for folder in ("", "synthetic/")
        ]
        assert alphas[0] == alphas[1] > 0


@pytest.mark.parametrize("name", FILES)
def test_a_batch_holds_whole_people(name):
    cfg = setup_cfg(str(FILES[name]))
    sides = SAMPLER.get(cfg.DATALOADER.SAMPLER_TRAIN).sides
    assert cfg.SOLVER.IMS_PER_BATCH % (sides * cfg.DATALOADER.NUM_INSTANCE) == 0


@pytest.mark.parametrize("name", RUNS)
def test_a_run_writes_to_a_folder_of_its_own_name(name):
    output = setup_cfg(str(RUNS[name])).OUTPUT_DIR
    assert output == "logs/" + name.removesuffix(".yml")


@pytest.mark.parametrize(("check", "train", "row"), TABLE_ROWS)
def test_the_words_of_the_table_of_sets_find_their_data_and_print_such_rows(
    check, train, row, root, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    name, *options = shlex.split(check)
    build_dataset(name, cfg=setup_cfg("", options))
    path, *options = shlex.split(train)
    cfg = setup_cfg(path, options)
    assert cfg.DATASETS.NAMES == cfg.DATASETS.TESTS == (name,)
    assert row.split(", ") == list(build_dataset(name, cfg=cfg).directions())


def test_the_table_of_sets_has_every_reader_of_ours():
    readers = {name: DATASET.get(name) for name in known(DATASET)}
    # Those that read a layout; the others wrap another set.
    ours = {name for name in readers if readers[name].__module__.startswith("plugins.data.")}
    ours -= {"HeldOutPeople", "ThinnedDataset"}
    assert ours
    assert ours <= {check.split()[0] for check, _, _ in TABLE_ROWS}


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGE_SETS)
def test_fastreids_image_sets_train_with_the_config_of_market(name, root, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(root))
    path = CONFIGS / "Defense/synthetic/vanilla.yml"
    cfg = small(path, tmp_path, "TEST.EXPECTED_RESULTS", "[]")  # those of Market-1501
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = (name,)
    assert math.isfinite(train_one_batch(cfg))
    data, market = (build_dataset(each, cfg=cfg) for each in (name, "Market1501"))
    assert [len(data.query), len(data.gallery)] == [len(market.query), len(market.gallery)]
    assert list(data.directions()) == ["Q2G"]
