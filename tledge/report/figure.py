"""A key figure, as reports show it on top."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One key figure: what it is, its value, and a line or two that say how sure and where."""

    name: str
    value: str
    details: tuple[str, ...] = ()
