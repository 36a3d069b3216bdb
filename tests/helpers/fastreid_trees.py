"""Small trees of fastreid's image sets: empty files, for the readers do not open them."""

from pathlib import Path
from typing import NamedTuple

from fastreid.data.datasets import DATASET_REGISTRY

MARKET = "Market-1501-v15.09.15"


class Tree(NamedTuple):
    """A set's files below the folder of all data sets.

    Attributes:
        listed: pictures that its reader lists.
        known: pictures that the set leaves out by its own rules.
        lost: pictures that should be told.
        lists: text files, by path.
    """

    listed: tuple[str, ...]
    known: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    lists: dict[str, str] = {}  # noqa: RUF012  (never changed)


def _split(top: str, folders: tuple[str, str, str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of a training person, and of a query and a gallery item of another."""
    return tuple(f"{top}/{folder}/{name}" for folder, name in zip(folders, names, strict=True))


BOXES = ("bounding_box_train", "query", "bounding_box_test")
VERI = ("image_train", "image_query", "image_test")
TREES = {
    "Market1501": Tree(
        _split(MARKET, BOXES, ("0002_c1s1_1.jpg", "0501_c1s1_1.jpg", "0501_c2s1_1.jpg")),
        (
            f"{MARKET}/bounding_box_test/-1_c1s1_1.jpg",
            f"{MARKET}/gt_bbox/0002_c1s1_9.jpg",
            f"{MARKET}/gt_query/0501_c1s1_9.jpg",
            f"{MARKET}/query/Thumbs.db",
            f"{MARKET}/query/._0501_c1s1_1.jpg",
            f"{MARKET}/readme.png.txt/readme.txt",
        ),
        (
            f"{MARKET}/bounding_box_train/0003_c1s1_1.png",
            f"{MARKET}/query/0502_c1s1_1.JPG",
            f"{MARKET}/bounding_box_test/0502/0502_c2s1_1.jpg",
            f"{MARKET}/bounding_box_test/0502_c2s1_1.jpg.part",
        ),
    ),
    "DukeMTMC": Tree(
        _split("DukeMTMC-reID", BOXES, ("0002_c1_f01.jpg", "0005_c1_f01.jpg", "0005_c8_f01.jpg")),
        ("DukeMTMC-reID/DukeMTMC-reID.png",),
        ("DukeMTMC-reID/query/0006_c1_f01.jpeg",),
    ),
    "VeRi": Tree(
        _split("veri", VERI, ("0001_c001_1_0.jpg", "0002_c001_1_0.jpg", "0002_c020_1_0.jpg")),
        ("veri/name_train.txt",),
        ("veri/image_test/0003_c002_1_0.webp",),
    ),
    "MSMT17": Tree(
        (
            "MSMT17_V1/train/0000/0000_000_01_0303morning_0015_0.jpg",
            "MSMT17_V1/test/0000/0000_000_01_0303morning_0015_0.jpg",
            "MSMT17_V1/test/0000/0000_001_02_0303morning_0015_0.jpg",
        ),
        ("MSMT17_V1/train/0000/0000_002_01_0303morning_0015_0.jpg",),
        ("MSMT17_V1/train/0001/0001_000_01_0303morning_0015_0.jpg",),
        {
            "MSMT17_V1/list_train.txt": "0000/0000_000_01_0303morning_0015_0.jpg 0\n",
            "MSMT17_V1/list_val.txt": "0000/0000_002_01_0303morning_0015_0.jpg 0\n",
            "MSMT17_V1/list_query.txt": "0000/0000_000_01_0303morning_0015_0.jpg 0\n",
            "MSMT17_V1/list_gallery.txt": "0000/0000_001_02_0303morning_0015_0.jpg 0\n",
        },
    ),
    "VehicleID": Tree(
        ("vehicleid/image/1.jpg", "vehicleid/image/2.jpg", "vehicleid/image/3.jpg"),
        ("vehicleid/image/4.jpg",),
        (),
        {
            "vehicleid/train_test_split/train_list.txt": "1 1\n",
            "vehicleid/train_test_split/test_list_13164.txt": "2 2\n3 2\n",
        },
    ),
    "VeRiWild": Tree(
        tuple(f"VERI-Wild/images/{car}/{number}.jpg" for car, number in ((1, 1), (2, 2), (2, 3))),
        ("VERI-Wild/images/9/9.jpg",),
        (),
        {
            "VERI-Wild/train_test_split/vehicle_info.txt": "id;camera\n1/1;1\n2/2;1\n2/3;2\n",
            "VERI-Wild/train_test_split/train_list.txt": "1/1.jpg\n",
            "VERI-Wild/train_test_split/test_10000_query.txt": "2/2.jpg\n",
            "VERI-Wild/train_test_split/test_10000.txt": "2/3.jpg\n",
        },
    ),
    "SYSU_mm": Tree(
        tuple(f"SYSU-MM01/cam{camera}/0001/0001.jpg" for camera in (1, 2, 4, 5)),
        ("SYSU-MM01/cam3/0001/0001.jpg", "SYSU-MM01/cam6/0001/0001.jpg"),
        ("SYSU-MM01/cam1/0002/0001.png", "SYSU-MM01/cam1/0001/0002.JPG"),
    ),
    "SAIVT": Tree(
        ("SAIVT-SoftBio/cropped_images/001/001-a-c1-x.jpeg",),
        ("SAIVT-SoftBio/uncropped/001.jpeg",),
        ("SAIVT-SoftBio/cropped_images/002/002-a-c1-x.jpg",),
    ),
    "AirportALERT": Tree(
        ("AirportALERT/cam1/11001/a.jpg",),
        ("AirportALERT/cam1/00001/a.jpg",),
        ("AirportALERT/cam1/11001/b.jpg",),
        {"AirportALERT/filepath.txt": "cam1\\11001\\a.jpg\ncam1\\00001\\a.jpg\n"},
    ),
    "cuhkSYSU": Tree(
        ("cuhk_sysu/cropped_images/p1_s1_1.jpg",),
        ("cuhk_sysu/Image/s1.jpg",),
        ("cuhk_sysu/cropped_images/p2_s1_1.png",),
    ),
    "iLIDS": Tree(("iLIDS/1/0001_1.png",), (), ("iLIDS/2/0001_2.jpg",)),
    "PKU": Tree(("PKUv1a_128x48/1_2_3.png",), (), ("PKUv1a_128x48/1_2_4.bmp",)),
    "PRAI": Tree(("PRAI-1581/images/1_2_3.jpg",), (), ("PRAI-1581/images/1_2_4.png",)),
    "PRID": Tree(
        ("prid_2011/slim_train/p_1/a_1.png",),
        ("prid_2011/multi_shot/1.png",),
        ("prid_2011/slim_train/p_2/a_1.jpg",),
    ),
    "GRID": Tree(
        ("underground_reid/images/1_2_3.jpeg",), (), ("underground_reid/images/1_2_4.jpg",)
    ),
    "SenseReID": Tree(
        ("SenseReID/test_gallery/1_1.jpg", "SenseReID/test_prob/1_2.jpg"),
        (),
        ("SenseReID/test_prob/1_3.jpeg",),
    ),
    "Thermalworld": Tree(("thermalworld_rgb/1/a.jpg",), (), ("thermalworld_rgb/2/a.tif",)),
    "PeS3D": Tree(("3DPeS/1/a.bmp",), (), ("3DPeS/2/a.jpg",)),
    "CAVIARa": Tree(("CAVIARa/0001001.jpg",), (), ("CAVIARa/0002001.png",)),
    "VIPeR": Tree(("VIPeR/cam_a/1_0.bmp", "VIPeR/cam_b/1_0.bmp"), (), ("VIPeR/cam_b/2_0.png",)),
    "LPW": Tree(
        tuple(f"pep_256x128/data_slim/scen{scene}/view1/1/a.jpg" for scene in (1, 2, 3)),
        ("pep_256x128/data/a.jpg",),
        ("pep_256x128/data_slim/scen3/view1/2/a.png",),
    ),
    "Shinpuhkan": Tree(("shinpuhkan/1/1_2_3.jpg",), (), ("shinpuhkan/2/2_2_3.png",)),
    "WildTrackCrop": Tree(
        ("Wildtrack_crop_dataset/crop/1/C1_1.png",),
        ("Wildtrack_crop_dataset/src/a.png",),
        ("Wildtrack_crop_dataset/crop/2/C1_1.jpg",),
    ),
}
# These read other lists of the same files; CUHK03 needs h5py to write its own.
VARIANTS = {
    f"{size}{name}" for size in ("Small", "Medium", "Large") for name in ("VehicleID", "VeRiWild")
}
VARIANTS.add("CUHK03")


def write_fastreid(root: Path, name: str, *, lost: bool = False) -> Tree:
    """Write a tree below ``root``, with or without the pictures that get lost."""
    tree = TREES[name]
    for file in (*tree.listed, *tree.known, *(tree.lost if lost else ())):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    for file, text in tree.lists.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(text)
    return tree


def fastreid_names() -> set[str]:
    """All sets that fastreid itself registers."""
    registered = DATASET_REGISTRY._obj_map.items()
    return {name for name, kind in registered if kind.__module__.startswith("fastreid.")}
