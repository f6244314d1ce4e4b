"""CSV and TSV files."""

from tledge.tables.delimited import SUFFIXES, open_file

__all__ = ["SUFFIXES", "open_file"]
