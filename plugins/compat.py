"""Make fastreid 1.4.0 importable on today's Python, torch and torchvision.

No other file knows about version drift. ``install()`` runs once, when ``plugins`` is imported.
Names that fastreid misses are lent to it while its modules are first imported, then taken away:
nothing stays patched in ``collections``, ``sys.modules`` or site-packages. Repairs that belong to a
subject live there instead: the optimizer, launcher and mixed precision in ``plugins.engine``, the
loaders in ``plugins.data``, ranking in ``plugins.evaluation``.
"""

import collections
import collections.abc
import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

FASTREID_VERSION = "1.4.0"
INSTALL_FASTREID = f"pip install --no-deps fastreid=={FASTREID_VERSION}"

# torch.library forgets a schema when its Library object dies, so ours must outlive this module's
# functions.
_TORCHVISION_SCHEMAS: list[torch.library.Library] = []


def install() -> None:
    """Check fastreid's version and import its packages, with the names that they miss.

    Raises:
        ImportError: fastreid is missing or of another version; one sentence says what to run.
    """
    require_fastreid()
    import_torchvision()
    # fastreid/utils/comm.py:106 gathers by torch.ByteStorage, in each process of a run.
    warnings.filterwarnings("ignore", "TypedStorage is deprecated", module=r"fastreid\.utils\.comm")
    # fastreid/evaluation/reid_evaluation.py:15 imports sklearn, 1.5 s, for its ROC alone.
    with lent_names(), imported_late("sklearn", "sklearn.metrics"), warnings.catch_warnings():
        # fastreid/evaluation/rank.py:14 recommends its Cython ranking, which plugins.evaluation
        # replaces.
        warnings.filterwarnings("ignore", message="Cython rank evaluation")
        for package in ("data", "evaluation", "modeling", "engine"):
            importlib.import_module(f"fastreid.{package}")


def require_fastreid() -> None:
    """Raise ImportError unless fastreid has the version that this package was built against.

    ``fastreid.__version__`` says 1.3 in the 1.4.0 wheel, so the version is read from its metadata.

    Raises:
        ImportError: fastreid is missing or of another version.
    """
    try:
        version = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"fastreid is not installed: run `{INSTALL_FASTREID}`") from None
    if version != FASTREID_VERSION:
        raise ImportError(
            f"fastreid {version} is installed but {FASTREID_VERSION} is needed: "
            f"run `{INSTALL_FASTREID}`"
        )


def import_torchvision() -> types.ModuleType:
    """Import torchvision, also a build whose compiled operators do not fit the installed torch.

    Such a build dies at torchvision/_meta_registrations.py, "operator torchvision::nms does not
    exist", and takes fastreid down with it, although transforms and models need no compiled
    operator. Only in that case are the two schemas declared by hand.
    """
    try:
        with imported_late("torch._dynamo.utils"):  # torchvision/ops/roi_align.py:7, 1.2 s
            return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    schemas = torch.library.Library("torchvision", "DEF")
    schemas.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    schemas.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _TORCHVISION_SCHEMAS.append(schemas)
    with imported_late("torch._dynamo.utils"):
        return importlib.import_module("torchvision")


def torchvision_is_mended() -> bool:
    """Say whether this process declared torchvision's schemas by hand."""
    return bool(_TORCHVISION_SCHEMAS)


@contextlib.contextmanager
def lent_names() -> Iterator[None]:
    """Lend ``collections.Mapping`` and ``torch._six.string_classes`` during an import.

    fastreid/data/build.py:11-12 and fastreid/evaluation/testing.py:5 import them; Python 3.10 and
    torch 2.0 no longer have them. A name that exists is left alone.
    """
    lend_mapping = not hasattr(collections, "Mapping")
    lend_six = importlib.util.find_spec("torch._six") is None
    if lend_mapping:
        setattr(collections, "Mapping", collections.abc.Mapping)  # noqa: B010
    if lend_six:
        six = sys.modules["torch._six"] = types.ModuleType("torch._six")
        setattr(six, "string_classes", str)  # noqa: B010
    try:
        yield
    finally:
        if lend_mapping:
            delattr(collections, "Mapping")
        if lend_six:
            del sys.modules["torch._six"]


@contextlib.contextmanager
def imported_late(*names: str) -> Iterator[None]:
    """Let modules that are imported inside be loaded when one of their functions is first called.

    Nothing stays in ``sys.modules``, and a module that is loaded already is left alone.

    Args:
        names: full names of the modules, a package before what is imported ``from`` it.
    """
    lent: dict[str, types.ModuleType] = {}
    for name in names:
        if name not in sys.modules:
            lent[name] = sys.modules[name] = _LateModule(name)
            package, _, attribute = name.rpartition(".")
            if package in lent:
                setattr(lent[package], attribute, lent[name])
    try:
        yield
    finally:
        for name, module in lent.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


class _LateModule(types.ModuleType):
    """Stand in for a module: its attributes are functions that import it when called."""

    def __getattr__(self, attribute: str) -> Callable:
        if attribute.startswith("__"):
            raise AttributeError(f"module '{self.__name__}' has no attribute '{attribute}'")

        def call(*args: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), attribute)(*args, **options)

        return call


def protect_input(model: nn.Module) -> nn.Module:
    """Keep a stock fastreid model from writing into the batch it is given.

    fastreid/modeling/meta_arch/baseline.py:125 normalizes ``images`` in place: a second forward
    normalizes twice, and images that require a gradient raise. The model gets a copy instead,
    through which gradients flow. Models of this package normalize out of place and are left alone.

    Args:
        model: meta-architecture of fastreid or of this package.

    Returns:
        The same model.
    """
    if type(model).__module__.split(".")[0] == "fastreid":
        model.register_forward_pre_hook(_copy_images)
    return model


def _copy_images(_: nn.Module, args: tuple) -> tuple:
    batch, *rest = args
    if isinstance(batch, torch.Tensor):
        return (batch.clone(), *rest)
    return ({**batch, "images": batch["images"].clone()}, *rest)
