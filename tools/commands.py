"""The names of the commands: ``fastreid-plugins NAME`` runs a file of this folder.

A command is one file, however it is called: ``python tools/train_net.py`` in a checkout,
``fastreid-plugins train`` or ``python -m fastreid_plugins train`` where the package is installed.
"""

import re
import sys
from typing import NamedTuple


class Command(NamedTuple):
    """Describe a command.

    Attributes:
        file: module in this folder, without its ending.
        summary: what it does, for the list of all commands.
        words: arguments that the name stands for.
    """

    file: str
    summary: str
    words: tuple[str, ...] = ()


GROUPS = {
    "start": {
        "demo": Command("demo", "render people, train SADSTRM on them, evaluate it"),
        "doctor": Command("doctor", "examine this machine, say what to do"),
    },
    "data": {
        "make-synthetic": Command("make_synthetic", "render walking people as a data set"),
        "check-data": Command("check_data", "count and read a data set, name its defects"),
        "convert-data": Command("convert_data", "write a data set in the layout of another"),
        "extract-frames": Command("extract_frames", "turn videos into frames"),
        "cache-data": Command("cache_data", "decode all frames once, for faster runs"),
        "balance-data": Command("balance_data", "fill a training set with images of a generator"),
    },
    "models": {
        "train": Command("train_net", "train what a config describes, and evaluate it"),
        "eval": Command("train_net", "evaluate trained weights", ("--eval-only",)),
        "export": Command("export", "write a trained model as ONNX or torch.export"),
        "export-onnx": Command("export_onnx", "earlier name of export, with float32 pixels"),
        "import-osnet": Command("import_osnet", "make an ONNX file of OSNet trainable"),
    },
    "search": {
        "extract": Command("extract", "compute features with a trained model"),
        "search": Command("search", "search a gallery of features, write ranked lists"),
        "score": Command("score", "score features on disk, of galleries of any size"),
        "threshold": Command("threshold", "find the distance that tells one person from two"),
        "visualize": Command("visualize", "draw what a trained model finds, sees and confuses"),
    },
    "attacks": {
        "attack": Command("compare_attacks", "attack a model, write a table of all attacks"),
        "report": Command("robust_report", "attack a model, and check whether the numbers hold"),
        "compare-cards": Command("compare_cards", "put reports side by side on one page"),
    },
    "experiments": {
        "ablate": Command("ablate", "train and test every row of an ablation"),
        "compare-runs": Command("compare_runs", "compare runs query by query, with intervals"),
        "compare-temporal": Command("compare_temporal", "compare temporal parts on real sequences"),
        "benchmark": Command("benchmark", "measure speed and memory beside fastreid"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
# Of a file, the name that stands for it alone.
NAMES = {command.file: name for name, command in COMMANDS.items() if not command.words}

SCRIPT = re.compile(r"python tools/(\w+)\.py")


def as_called(text: str) -> str:
    """Write the commands in a text as this process was called: as files, or by their names."""
    program, _, name = sys.argv[0].rpartition(" ")
    if name not in COMMANDS:
        return text
    return SCRIPT.sub(lambda script: f"{program} {NAMES[script[1]]}", text)
