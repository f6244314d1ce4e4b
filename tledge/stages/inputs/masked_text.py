"""Texts in which words are hidden, which are as others here."""

from tledge.stages.inputs.text import facts, finish, rows, windows

__all__ = ["facts", "finish", "rows", "windows"]
