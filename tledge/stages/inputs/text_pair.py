"""Pairs of texts, which are as single ones here."""

from tledge.stages.inputs.text import facts, finish, rows, windows

__all__ = ["facts", "finish", "rows", "windows"]
