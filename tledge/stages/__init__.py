"""What each stage of a run does, one file a stage.

Its function `stage` takes the job and an empty folder, fills it, and gives one line about what came out. `pipeline`
knows their order; here each room is handed what the rooms before it left on disk, and the callables that it needs of
others.
"""

import importlib
from types import ModuleType

from tledge.cache import cache_folder
from tledge.stages.job import Job

__all__ = ["Job", "cache_folder", "load"]


def load(name: str) -> ModuleType:
    """The module of a stage."""
    return importlib.import_module(f"{__name__}.{name}")
