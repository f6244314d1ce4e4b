"""Texts that become vectors, as they are."""

from tledge.cli.values.text import STOPS, expanded

__all__ = ["STOPS", "expanded"]
