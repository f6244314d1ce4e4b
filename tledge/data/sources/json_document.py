"""JSON files: SQuAD's, and those of boxes in pictures as COCO's."""

from tledge.tables.json_document import SUFFIXES, open_file

__all__ = ["SUFFIXES", "open_file"]
