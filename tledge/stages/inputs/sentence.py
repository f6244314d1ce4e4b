"""Texts that become vectors, which are as other texts here."""

from tledge.stages.inputs.text import facts, finish, rows, windows

__all__ = ["facts", "finish", "rows", "windows"]
