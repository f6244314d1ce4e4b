"""A text, as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST = 10


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Its text."""
    return {"text": str(row["text"])}
