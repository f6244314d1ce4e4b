"""How the chosen variant of a language model goes on with texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge import artifacts
from tledge.artifacts import read_json


def read(folder: Path) -> dict[str, Any]:
    """The fields of `report.Facts` that follow from what a run's language model wrote."""
    from tledge.report import Sample

    path = folder / "quantize" / "samples.json"
    if not path.exists():
        return {}
    return {"samples": tuple(artifacts.from_dict(Sample, each) for each in read_json(path))}
