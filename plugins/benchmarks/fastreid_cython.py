"""fastreid's compiled ranking: its Cython source, built once in a folder of the user's cache."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import fastreid
import numpy as np

from plugins.errors import InputError

NAME = "rank_cy"
SOURCE = Path(fastreid.__file__).parent / "evaluation" / "rank_cylib" / f"{NAME}.pyx"


def compiled_ranking() -> ModuleType:
    """Import fastreid's ``rank_cy``, and compile it first where that was not done yet.

    Raises:
        InputError: Cython or a C compiler is missing, or the source does not compile.
    """
    file = cache_folder() / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not file.is_file():
        _compile(file)
    spec = importlib.util.spec_from_file_location(NAME, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cache_folder() -> Path:
    """Return the folder of what was compiled with this Python and this numpy."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root, "fastreid-plugins", f"{sys.implementation.cache_tag}-numpy{np.__version__}")


def _compile(file: Path) -> None:
    if importlib.util.find_spec("Cython") is None:
        raise InputError("fastreid's ranking needs Cython to be compiled: pip install cython")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        shutil.copy(SOURCE, folder)
        done = subprocess.run(
            [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", f"{NAME}.pyx"],
            cwd=folder,
            env={**os.environ, "CFLAGS": f"-I{np.get_include()}"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(f"{SOURCE}: does not compile: {last}")
        os.replace(Path(folder, file.name), file)
