"""Files that a run writes into OUTPUT_DIR; a new training does not replace those of an older one.

A training holds the folder while it runs, see ``plugins.utils.locks``. An evaluation with
``--eval-only`` may run beside it, because it writes files of its own names and appends to the log.
"""

import logging
import os
import re
import stat
from pathlib import Path

from plugins.errors import InputError

logger = logging.getLogger(__name__)

# What the last evaluation of a training gave, and what --eval-only gave.
RESULTS, EVALUATION = "results.json", "evaluation.json"
# Beside them, what each query found; see plugins.evaluation.queries.
QUERIES, EVALUATION_QUERIES = "queries.npz", "evaluation_queries.npz"
# Folders of ranked clips, see plugins.engine.pictures.
PICTURES, EVALUATION_PICTURES = "pictures", "evaluation_pictures"

CHECKPOINT = re.compile(r"model_(best|final|interrupted|\d{4,})\.pth")
# Files that no training may replace without a word.
SAVED = (RESULTS, QUERIES, "last_checkpoint")
METRICS = "metrics.json"
# Files that a new training appends to, or that would stay beside its own and tell of another one.
OTHERS = re.compile(r"metrics\.json|diverged_\d{7}(_rank\d+)?\.pth|events\.out\.tfevents\..+")
OF_EVALUATIONS = (EVALUATION, EVALUATION_QUERIES)
# Those of older evaluations with other settings, see ``evaluation_files``.
OLDER_EVALUATION = re.compile(r"evaluation(_\d+\.json|_queries_\d+\.npz)")
WRITTEN = (*SAVED, *OF_EVALUATIONS, "config.yaml")
APPENDED = re.compile(r"log\.txt(\.rank\d+)?|metrics\.json")


def saved_files(folder: Path) -> list[Path]:
    """Return the checkpoints and results that a training left in a folder, by name."""
    return [
        path
        for path in _files(folder)
        if path.name in SAVED or CHECKPOINT.fullmatch(path.name) is not None
    ]


def run_files(folder: Path) -> list[Path]:
    """Return all that runs wrote into a folder, but the log and config.yaml; see ``overwrite``."""
    saved = saved_files(folder)
    return saved + [
        path
        for path in _files(folder)
        if path not in saved
        and (
            path.name in OF_EVALUATIONS
            or OTHERS.fullmatch(path.name) is not None
            or OLDER_EVALUATION.fullmatch(path.name) is not None
        )
    ]


def evaluation_files(folder: Path, number: int) -> list[tuple[Path, Path]]:
    """List what an evaluation writes, and its name once it is kept as an older one.

    Args:
        folder: OUTPUT_DIR.
        number: of the older evaluation, from 1.
    """
    names = (*OF_EVALUATIONS, EVALUATION_PICTURES)
    files = [folder / name for name in names]
    return [(file, file.with_stem(f"{file.stem}_{number}")) for file in files]


def require_unused(folder: Path) -> None:
    """Raise InputError if a folder holds what a training saved, before a new one replaces it."""
    if saved := saved_files(folder):
        names = ", ".join(path.name for path in saved[:3]) + (", ..." if saved[3:] else "")
        raise InputError(
            f"OUTPUT_DIR {folder}: holds a training ({names}), which a new one would replace; "
            "expected --resume or --resume FILE to go on with it, --overwrite to remove it, or "
            "another OUTPUT_DIR"
        )


def require_regular(folder: Path) -> None:
    """Raise InputError if a name that a run writes to is no file, before the run works for it.

    A file that a run appends to may be no link either: fastreid would write through it.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for path in (folder / name for name in sorted(names)):
        if APPENDED.fullmatch(path.name):
            fits = stat.S_ISREG(path.lstat().st_mode)
        elif path.name in WRITTEN or CHECKPOINT.fullmatch(path.name):
            fits = path.is_file() or path.is_symlink()  # a link is replaced
        else:
            continue
        if not fits:
            raise InputError(
                f"OUTPUT_DIR {folder}: {path.name} is no regular file, and a run writes to that "
                "name; move it away, or name another OUTPUT_DIR"
            )


def require_apart(folder: Path, key: str, path: str) -> None:
    """Raise InputError if a file that a config reads is one that --overwrite would remove."""
    if path and Path(path).resolve() in [file.resolve() for file in run_files(folder)]:
        raise InputError(
            f"--overwrite: would remove {key} {path}; expected another OUTPUT_DIR, or a copy of "
            "that file elsewhere"
        )


def remove(files: list[Path], folder: Path) -> None:
    """Remove files of an older run; the log, which goes on, says which.

    The new run may hold metrics.json open already, to append to it; so that file becomes empty.
    """
    for path in files:
        if path.name == METRICS:
            os.truncate(path, 0)
        else:
            path.unlink(missing_ok=True)
    if files:
        names = ", ".join(path.name for path in files)
        logger.info("--overwrite: removed from %s: %s", folder, names)


def tell_appended(folder: Path) -> None:
    """Warn where metrics of a training that saved nothing stand before those of a new one."""
    if (folder / METRICS).is_file() and not saved_files(folder):
        logger.warning(
            "OUTPUT_DIR %s: holds metrics.json of a training that saved no checkpoint; those of "
            "this training are appended; --overwrite removes older ones",
            folder,
        )


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_file())
    except OSError:  # there is no such folder, or make_folder will say what is wrong with it
        return []
