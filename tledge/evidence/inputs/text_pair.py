"""Both texts of a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST = 10


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """One text above the other."""
    return {"text": f"{row['text']} ‖\n{row['text_pair']}"}
