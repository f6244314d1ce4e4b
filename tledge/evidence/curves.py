"""Learning curves, as the stages that train leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tledge.report import Epoch


def curve(phases: Sequence[Mapping[str, Any]]) -> tuple[Epoch, ...]:
    """The epochs of all phases of a training, with the phase's name where there are several."""
    from tledge.report import Epoch

    several = len(phases) > 1
    return tuple(
        Epoch(**point, phase=phase["phase"] if several else "") for phase in phases for point in phase["curve"]
    )
