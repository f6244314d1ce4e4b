"""JSON lines files."""

from tledge.tables.json_lines import SUFFIXES, open_file

__all__ = ["SUFFIXES", "open_file"]
