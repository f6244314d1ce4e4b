"""Git LFS pointers: what a clone without git-lfs has in the place of large files."""

from __future__ import annotations

from pathlib import Path

_START = b"version https://git-lfs"


def is_pointer(path: Path) -> bool:
    """Whether a file is no more than a note of where the real one is kept."""
    try:
        with path.open("rb") as file:
            return file.read(len(_START)) == _START
    except OSError:
        return False


def advice(path: Path) -> str:
    """What to tell of a pointer: what it is, and what to do."""
    return f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull`, or download the file"
