"""Kinds found by their file's name: a task, a scheme or a loss is one module in its package, and nothing lists them."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from tledge.errors import RecipeError, did_you_mean


def names(package: str) -> list[str]:
    """The kinds in a package, e.g. `names("tledge.tasks")`, sorted; neither packages nor names with a leading `_`."""
    paths = importlib.import_module(package).__path__
    return sorted(info.name for info in pkgutil.iter_modules(paths) if not (info.ispkg or info.name.startswith("_")))


def load(package: str, kind: str) -> ModuleType:
    """The module of one kind.

    Raises:
        RecipeError: no file of that name is in the package; the message lists the known kinds.
    """
    known = names(package)
    if kind not in known:
        noun = package.rpartition(".")[2]
        raise RecipeError(f"{kind!r} is not among the {noun}: known are {', '.join(known)}{did_you_mean(kind, known)}")
    return importlib.import_module(f"{package}.{kind}")
