"""What an adaptation to another domain found out: each method beside source only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tledge import artifacts
from tledge.artifacts import read_json

if TYPE_CHECKING:
    from tledge.report import Adaptation


def read(folder: Path) -> Adaptation | None:
    """The adaptation of a run; `None` where its recipe asks for none."""
    from tledge.report import Adaptation

    path = folder / "train" / "adapt.json"
    if not path.exists():
        return None
    found = read_json(path)
    rows = [row | {"p_value": (row.get("paired") or {}).get("p_value")} for row in found["rows"]]
    for row in rows:
        row.pop("paired", None)
    return artifacts.from_dict(Adaptation, found | {"rows": rows})
