"""CoNLL files."""

from tledge.tables.conll import SUFFIXES, open_file

__all__ = ["SUFFIXES", "open_file"]
