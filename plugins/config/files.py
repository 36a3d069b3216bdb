"""Find a config: here, or among those that come with the package."""

import os
from pathlib import Path

from plugins.errors import InputError
from plugins.utils.io import require_file
from plugins.utils.names import closest_names

OPTION = "--config-file"
CONFIGS = "configs"
HOME = Path(__file__).resolve().parents[2]
# In a checkout they lie in its folder, in site-packages in the package of the commands.
SHIPPED = next(
    (folder for folder in (HOME / CONFIGS, HOME / "fastreid_plugins" / CONFIGS) if folder.is_dir()),
    HOME / CONFIGS,
)


def find_config(name: str) -> str:
    """Find a config by its path, or by its place in ``configs``, as in "VVI/sadstrm.yml".

    A file of the working folder wins, then one of the folder ``configs`` there, then the one that
    comes with the package.

    Raises:
        InputError: there is no such file, or it is a folder; the message names the places and the
            nearest configs.
    """
    if os.path.exists(name) or not _may_be_shipped(name):
        _suggest_ending(name, f"{OPTION} {name}: no such file")
        require_file(name, OPTION, "*.y*ml")
        return name
    place = _place(name)
    for folder in (Path(CONFIGS), SHIPPED):
        if (folder / place).is_file():
            return str(folder / place)
    raise InputError(
        f"{OPTION} {name}: no such file, neither here nor in {SHIPPED}; nearest there: "
        f"{_nearest(place)}"
    )


def find_base(name: str, config: str) -> str:
    """Find the base that a config names: from the config's folder on, or among the package's.

    Raises:
        InputError: there is no such file, or it is a folder; the message names the nearest configs.
    """
    path = os.path.join(os.path.dirname(config), os.path.expanduser(name))
    if os.path.isfile(path):
        return path
    what = "is a folder" if os.path.isdir(path) else "does not exist"
    expected = "expected a file"
    _suggest_ending(name, f"{config}: its _BASE_ {path} {what}")
    if _may_be_shipped(name):
        # A copy of a config at the same place here has its base in the package.
        for place in (_place(name), _place(os.path.normpath(path))):
            if (SHIPPED / place).is_file():
                return str(SHIPPED / place)
        expected += f" or a config of the package; nearest there: {_nearest(_place(name))}"
    raise InputError(f"{config}: its _BASE_ {path} {what}; {expected}")


def shipped_configs() -> list[str]:
    """List the configs that come with the package, as in "VVI/sadstrm.yml"."""
    return sorted(path.relative_to(SHIPPED).as_posix() for path in SHIPPED.rglob("*.yml"))


def _place(name: str) -> Path:
    """Return the path below ``configs``."""
    return Path(name).relative_to(CONFIGS) if Path(name).parts[0] == CONFIGS else Path(name)


def _nearest(place: Path) -> str:
    return ", ".join(closest_names(place.as_posix(), shipped_configs())[:3])


def _suggest_ending(name: str, problem: str) -> None:
    """Raise InputError for the place of a config without its ".yml", as in "VVI/sadstrm"."""
    full = f"{name}.yml"
    if not os.path.exists(name) and _may_be_shipped(full) and (SHIPPED / _place(full)).is_file():
        raise InputError(f"{problem}; did you mean {full}?")


def _may_be_shipped(name: str) -> bool:
    """Tell whether a path has the form of a config's place: a YAML file below this folder."""
    path = Path(name)
    known = SHIPPED.is_dir() and path.suffix == ".yml"
    return known and not path.is_absolute() and ".." not in path.parts
