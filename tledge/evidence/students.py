"""What the stage `distill` found out: the student beside its teacher, and beside the same one without."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tledge import artifacts
from tledge.artifacts import read_json
from tledge.evidence.curves import curve

if TYPE_CHECKING:
    from tledge.report import Distillation


def read(folder: Path) -> Distillation | None:
    """The distillation of a run; `None` where its recipe asks for none."""
    from tledge.report import Distillation

    path = folder / "distill" / "distill.json"
    if not path.exists():
        return None
    found = {name: value for name, value in read_json(path).items() if value is not None}
    told = artifacts.from_dict(Distillation, {"student": ""} | found)
    return dataclasses.replace(told, curve=curve(found["phases"]), alone_curve=curve(found["alone_phases"]))
