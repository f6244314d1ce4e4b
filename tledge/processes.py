"""Several processes at one training (`torchrun`, `accelerate launch`): which one writes."""

from __future__ import annotations

import os


def count() -> int:
    """How many processes train together, 1 when nobody started several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the only one, or the first of several: the one that writes."""
    return os.environ.get("RANK", "0") == "0"
