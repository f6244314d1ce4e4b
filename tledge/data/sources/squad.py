"""SQuAD files."""

from tledge.tables.squad import SUFFIXES, open_file

__all__ = ["SUFFIXES", "open_file"]
