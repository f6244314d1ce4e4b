"""A thumbnail of an image, and its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tledge.evidence.images import thumbnail

MOST = 24


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Its name and its picture."""
    return {"text": "", "row": str(row["row"]), "image": thumbnail(row["image"])}
