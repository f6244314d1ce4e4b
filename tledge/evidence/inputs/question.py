"""A question above its context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST = 10


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The question, and the context below it."""
    return {"text": f"{row['question']} ‖\n{row['context']}"}
