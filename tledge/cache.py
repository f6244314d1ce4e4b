"""The folder that outlives runs: features of images and texts, and data sets that were downloaded."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tledge.errors import StorageError


def open_cache(name: str) -> Path:
    """A folder in the cache folder, made where it is not there.

    Raises:
        StorageError: it cannot be made or written.
    """
    try:
        folder = cache_folder() / name
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # without a home there is a RuntimeError
        why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        raise StorageError(
            f"the cache folder cannot be written: {why}; set TLEDGE_CACHE to a folder that can"
        ) from error


def cache_folder() -> Path:
    """Where things are kept between runs: `$TLEDGE_CACHE`, else `tledge` in the user's cache folder."""
    if named := os.environ.get("TLEDGE_CACHE"):
        return Path(named)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "tledge" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tledge"
